"""Lines of sshd_config(5): words, quotes, comments, blocks and included files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.sshd_config.lines import (
    MAX_DEPTH,
    MAX_DIRECTIVES,
    Criterion,
    SshdConfigError,
    directives,
    split,
)
from tests.support.sshd_configs import read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("a b\t c", ("a", "b", "c")),
        ("a # b", ("a",)),
        ("a#b", ("a#b",)),
        ("'a b' \"c d\"", ("a b", "c d")),
        ("a'b c'd", ("ab cd",)),
        ("'' a", ("", "a")),
        (r"a\ b '\ ' \\ \" \' \x", ("a b", "\\ ", "\\", '"', "'", "\\x")),
        ("\"it's\" '\"'", ("it's", '"')),
        ("a\\", ("a\\",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    """Arguments are split as by OpenSSH's argv_split, with its escapes and quotes."""
    assert split(text) == words


@pytest.mark.parametrize("text", ["'a", 'a "b', "\"a'", '"\\"'])
def test_quotes_that_are_not_closed(text: str) -> None:
    """An unclosed quote is refused, as by sshd, so that no line is understood in another way."""
    with pytest.raises(ValueError, match="invalid quotes"):
        split(text)
    with pytest.raises(SshdConfigError, match="f line 1: invalid quotes"):
        read(f"Banner {text}")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r")), min_size=1))
def test_what_is_quoted_is_one_word(words: list[str]) -> None:
    """A quoted argument is one word, whatever characters it has."""
    quoted = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    assert split(" ".join(quoted)) == tuple(words)


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(" \t\n\"'\\#="), max_size=200))
def test_any_text_is_lines_or_an_error(text: str) -> None:
    """Any file gives lines or an error, and never a traceback."""
    try:
        lines = read(text)
    except SshdConfigError:
        return
    assert all(line.keyword and line.rest for line in lines)


@pytest.mark.parametrize(
    "line",
    [
        "Port 22",
        "port=22",
        "PORT = 22",
        " \tport\t=22 \f",
        'port"22"',
        '"Port" 22',
        "Port 22 # the usual",
        "Port '22'\r",
    ],
)
def test_one_line_in_many_ways(line: str) -> None:
    """Keywords may be in any case, with one equals sign, white space and a comment (misc.c, strdelim)."""
    (found,) = read(f"# nothing\n\n   # nothing\n{line}\n")
    assert (found.keyword, found.arguments, found.file, found.line) == ("port", ("22",), "f", 4)


def test_the_rest_is_as_it_was_written() -> None:
    """Protects commands for a shell: quotes and number signs in them are kept."""
    (found,) = read('ForceCommand  sh -c "echo #1"')
    assert (found.rest, found.text) == ('sh -c "echo #1"', 'forcecommand sh -c "echo #1"')


def test_a_keyword_with_nothing_but_a_comment() -> None:
    """Protects the import: a comment is no argument, except to a keyword that takes the rest of its line."""
    with pytest.raises(SshdConfigError, match="f line 1: no argument after keyword persourcemaxstartups"):
        read("PerSourceMaxStartups # none yet")
    (found,) = read("ForceCommand #1")
    assert (found.arguments, found.rest) == ((), "#1")


def test_a_keyword_alone() -> None:
    """A keyword without an argument is refused, with its line, as by sshd."""
    with pytest.raises(SshdConfigError, match="f line 2: no argument after keyword port"):
        read("\nPort\n")


# -- blocks -----------------------------------------------------------------------------------------------------------


def test_blocks() -> None:
    """A line belongs to the block before it, which reaches to the next block or the end."""
    lines = read("Port 1\nMatch user=amos Group a,b\nX11Forwarding no\nBanner x\nMatch All\nBanner y\n")
    amos = (Criterion("user", "amos"), Criterion("group", "a,b"))
    assert [[block.criteria for block in line.blocks] for line in lines] == [
        [],
        [amos],
        [amos],
        [(Criterion("all"),)],
    ]
    block = lines[1].blocks[0]
    assert (block.text, block.file, block.line) == ("user=amos Group a,b", "f", 2)


@pytest.mark.parametrize("criteria", ["User", "User=", "All User amos", "User amos all", "#", "''"])
def test_blocks_that_are_none(criteria: str) -> None:
    """Faulty Match lines are refused, as by sshd, since a misread block would apply to other people."""
    with pytest.raises(SshdConfigError, match="Match"):
        read(f"Match {criteria}\n")


def test_a_block_for_nobody() -> None:
    """OpenSSH 10's criterion `invalid-user` needs no argument."""
    (line,) = read("Match invalid-user\nBanner x\n")
    assert line.blocks[0].criteria == (Criterion("invalid-user"),)


# -- included files ---------------------------------------------------------------------------------------------------


def test_files_stand_where_they_are_included() -> None:
    """Included lines stand at their Include, since order decides which value counts, and keep their file's name."""
    lines = read("Port 1\nInclude d/* none\nPort 4\n", **{"d/a": "Port 2\n", "d/b": "Port 3\n"})
    assert [(line.file, line.line, line.arguments[0]) for line in lines] == [
        ("f", 1, "1"),
        ("d/a", 1, "2"),
        ("d/b", 1, "3"),
        ("f", 3, "4"),
    ]


def test_a_block_ends_with_its_file() -> None:
    """A block in an included file ends with the file, and its lines also keep the block around the Include."""
    lines = read("Include a\nPort 1\nMatch User x\nInclude a\nBanner z\n", a="Banner x\nMatch User y\nBanner y\n")
    blocks = [[block.text for block in line.blocks] for line in lines]
    assert blocks == [[], ["User y"], [], ["User x"], ["User x", "User y"], ["User x"]]


def test_files_without_end() -> None:
    """Protects memory and time from a file that includes itself."""
    with pytest.raises(SshdConfigError, match=f"more than {MAX_DEPTH} deep"):
        read("Include f", f="Include f")
    with pytest.raises(
        SshdConfigError, match=f"f line {MAX_DIRECTIVES + 1}: these are more than {MAX_DIRECTIVES} lines"
    ):
        directives("f", "Port 1\n" * (MAX_DIRECTIVES + 5), lambda _pattern: [])
