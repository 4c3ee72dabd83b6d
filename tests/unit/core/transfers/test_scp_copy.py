"""Following a copy by scp's old protocol: which files it reports, for any peers, without an exception."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.transfers import scp_copy
from pyssh_gateway.core.transfers.scp_copy import Asked, Copied, Copy, absolute, split

HOME = b"/home/dev"
UPLOAD = Asked(source=False, words=(b"/data/",))
DOWNLOAD = Asked(source=True, words=(b"docs/*.txt", b"/etc/ssh"))

Said = tuple[str, bytes]


def play(asked: Asked, *said: Said) -> tuple[list[Copied], bool]:
    """The reports about a copy, `said` by the sender (">") and the receiver ("<"), and whether following it failed."""
    copy = Copy(asked, HOME)
    told = []
    for side, data in said:
        told += copy.sender(data) if side == ">" else copy.receiver(data)
    return told + copy.end(), copy.is_lost


ONE_FILE: tuple[Said, ...] = (
    ("<", b"\0"),
    (">", b"T1600000000 0 1600000000 0\n"),
    ("<", b"\0"),
    (">", b"C0644 5 a b\n"),
    ("<", b"\0"),
    (">", b"hello\0"),
    ("<", b"\0"),
)


def test_an_upload_names_its_file() -> None:
    """An upload is reported with the path under the named directory, its bytes, and its success."""
    assert play(UPLOAD, *ONE_FILE) == ([Copied(b"/data/a b", b"", 5, "ok")], False)


@pytest.mark.parametrize(
    ("words", "into", "path", "rest"),
    [
        (b"/tmp", False, b"/tmp", b"a b"),
        (b"/tmp", True, b"/tmp/a b", b""),
        (b".", False, b"/home/dev/a b", b""),
        (b"~", False, b"/home/dev/a b", b""),
        (b"~/x", False, b"/home/dev/x", b"a b"),
        (b"./x/y", False, b"/home/dev/x/y", b"a b"),
        (b"~other/x", False, b"~other/x", b"a b"),
    ],
)
def test_where_an_upload_goes(words: bytes, into: bool, path: bytes, rest: bytes) -> None:
    """Whether the target is a directory is not in the protocol, so the report leaves that open."""
    told, _ = play(Asked(source=False, words=(words,), into=into), *ONE_FILE)
    assert told == [Copied(path, rest, 5, "ok")]


def test_every_split_of_the_bytes_says_the_same() -> None:
    """The reports do not depend on where packets end."""
    bytewise = [(side, bytes((number,))) for side, data in ONE_FILE for number in data]
    assert play(UPLOAD, *bytewise) == play(UPLOAD, *ONE_FILE)


def test_a_program_that_does_not_wait() -> None:
    """Programs that send a file at once, without waiting for answers, are followed, too."""
    said = (">", b"C0644 2 x\nab\0C0644 0 empty\n\0"), ("<", b"\0\0\0\0\0")
    assert play(UPLOAD, *said) == ([Copied(b"/data/x", b"", 2, "ok"), Copied(b"/data/empty", b"", 0, "ok")], False)


def test_directories() -> None:
    """Paths include their directories; the sender skips a directory that can't be made."""
    said = (
        ("<", b"\0"),
        (">", b"D0755 0 top\n"),
        ("<", b"\0"),
        (">", b"D0755 0 no\n"),
        ("<", b"\1scp: /data/top/no: Permission denied\n"),
        (">", b"C0600 1 f\n"),
        ("<", b"\0"),
        (">", b"x\0"),
        ("<", b"\0"),
        (">", b"E\n"),
        ("<", b"\0"),
        (">", b"C0600 0 g\n"),
        ("<", b"\0"),
        (">", b"\0"),
        ("<", b"\1scp: /data/g: No space left on device\n"),
        (">", b"E\n"),
        ("<", b"\0"),
    )
    assert play(UPLOAD, *said) == (
        [
            Copied(b"/data/top/f", b"", 1, "ok"),
            Copied(b"/data/g", b"", 0, "scp: /data/g: No space left on device"),
        ],
        False,
    )


def test_a_refused_file_has_no_data() -> None:
    """A file that can't be opened is reported as that, and has no data in the protocol."""
    said = (
        ("<", b"\0"),
        (">", b"C0600 9 f\n"),
        ("<", b"\1scp: /data/f: Permission denied\n"),
        (">", b"C0600 1 g\n"),
        ("<", b"\0"),
        (">", b"x"),
        (">", b"\1read failed\n"),
        ("<", b"\0"),
    )
    assert play(UPLOAD, *said) == (
        [
            Copied(b"/data/f", b"", 0, "scp: /data/f: Permission denied", opened=False),
            Copied(b"/data/g", b"", 1, "read failed"),
        ],
        False,
    )


def test_a_target_that_is_none() -> None:
    """Protects the record of an attempt: a target that the receiver refuses at the start is reported."""
    assert play(UPLOAD, ("<", b"\1scp: /data/: No such file or directory\n")) == (
        [Copied(b"/data/", b"", 0, "scp: /data/: No such file or directory", opened=False)],
        False,
    )


def test_downloads() -> None:
    """A download's paths come from the requested words, and files that can't be read are reported as well."""
    said = (
        ("<", b"\0"),
        (">", b"C0644 1 a.txt\n"),
        ("<", b"\0"),
        (">", b"x\0"),
        ("<", b"\0"),
        (">", b"\1scp: docs/b.txt: Permission denied\n"),
        (">", b"D0755 0 ssh\n"),
        ("<", b"\0"),
        (">", b"C0644 0 moduli\n"),
        ("<", b"\0"),
        (">", b"\0"),
        ("<", b"\0"),
        (">", b"E\n"),
        ("<", b"\0"),
        (">", b"C0644 0 unasked\n"),
        ("<", b"\1no\n"),
    )
    assert play(DOWNLOAD, *said) == (
        [
            Copied(b"/home/dev/docs/a.txt", b"", 1, "ok"),
            Copied(b"/home/dev/docs/b.txt", b"", 0, "scp: docs/b.txt: Permission denied", opened=False),
            Copied(b"/etc/ssh/moduli", b"", 0, "ok"),
            Copied(b"unasked", b"", 0, "no", opened=False),
        ],
        False,
    )


@pytest.mark.parametrize("count", range(3, len(ONE_FILE)))
def test_what_was_under_way_is_told(count: int) -> None:
    """If the client leaves in the middle, the file is reported, with the bytes that arrived."""
    told, lost = play(UPLOAD, *ONE_FILE[: count + 1])
    outcome = "ok" if count == len(ONE_FILE) - 1 else "unfinished"
    assert (told, lost) == ([Copied(b"/data/a b", b"", 5 if count >= 5 else 0, outcome)], False)


@pytest.mark.parametrize(
    "said",
    [
        (("<", b"motd\n"),),
        (("<", b"\0\0"),),
        ((">", b"X\n"),),
        ((">", b"C0644 x y\n"),),
        ((">", b"x" * (scp_copy.MAX_LINE_BYTES + 1)),),
        (("<", b"\1" + b"x" * (scp_copy.MAX_LINE_BYTES + 1)),),
        ((">", b"E\n" * (scp_copy.MAX_AHEAD + 1)),),
        (("<", b"\0"), *((">", b"D0755 0 d\n"), ("<", b"\0")) * (scp_copy.MAX_DEPTH_BYTES // 2 + 1)),
        (("<", b"\0"), (">", b"C0644 5 f\nhe"), ("<", b"\1no\n")),
        (("<", b"\0"), (">", b"D0755 0 d\nC"), ("<", b"\1no\n")),
    ],
    ids=["text", "answer", "record", "size", "line", "complaint", "ahead", "deep", "data", "inside"],
)
def test_what_is_no_copy_is_not_followed(said: tuple[Said, ...]) -> None:
    """At the first impossible message following ends: nothing is guessed, and no memory grows."""
    flat = [part for entry in said for part in (entry if isinstance(entry[0], tuple) else (entry,))]
    _, lost = play(UPLOAD, *flat)
    assert lost
    copy = Copy(UPLOAD, HOME)
    for side, data in flat:
        (copy.sender if side == ">" else copy.receiver)(data)
    copy.end()
    assert copy.sender(b"C0644 0 g\n\0") == copy.receiver(b"\0\0\0\0") == copy.end() == []


def test_what_is_remembered_of_a_copy_costs_little() -> None:
    """Everybody waits while a record is followed: a path has the kernel's limit, and few records wait for an answer."""
    assert scp_copy.MAX_DEPTH_BYTES <= 4096
    assert scp_copy.MAX_AHEAD <= 100


def test_directories_that_were_left_do_not_count() -> None:
    """A tree of any size is followed, and only its depth is limited."""
    name = b"d" * 255
    said = ((">", b"D0755 0 %s\nE\n" % name), ("<", b"\0\0"))
    refused = ((">", b"D0755 0 %s\n" % name), ("<", b"\1no\n"))
    told, lost = play(UPLOAD, ("<", b"\0"), *said * 20, *refused * 20, *ONE_FILE[3:])
    assert ([file.outcome for file in told], lost) == (["ok"], False)


def test_a_command_of_blanks_is_read_at_once() -> None:
    """Everybody waits while a command is parsed: the time for it grows only in proportion to its length."""
    blanks = b" " * 100_000  # a minute, if each blank were compared with each other one
    began = time.process_time()
    assert scp_copy.split(b"scp -t x" + blanks + b"y" + blanks) == (b"t", b"x" + blanks + b"y")
    assert scp_copy.split(b"scp -t " + blanks) is None
    assert time.process_time() - began < 10


def test_a_file_is_compared_with_few_and_short_words() -> None:
    """With a command of any length, a file's name is compared only with few and short words."""
    name = b"a" * (scp_copy.MAX_PATTERN_BYTES + 1)
    said = ("<", b"\0"), (">", b"C0644 0 " + name + b"\n"), ("<", b"\0"), (">", b"\0"), ("<", b"\0")
    for words in ((b"dir/" + name,), (*(b"b",) * scp_copy.MAX_WORDS, b"dir/a*")):
        told, _ = play(Asked(source=True, words=words), *said)
        assert [file.path for file in told] == [name]


def test_a_sender_that_can_not_go_on_is_no_event_of_an_upload() -> None:
    """An upload's own errors at the client are no file events here, and the copy goes on after them."""
    said = ("<", b"\0"), (">", b"\1local: No such file\n"), *ONE_FILE[3:]
    assert play(UPLOAD, *said) == ([Copied(b"/data/a b", b"", 5, "ok")], False)


@given(st.lists(st.tuples(st.sampled_from("<>"), st.binary(max_size=40)), max_size=20), st.booleans())
def test_nothing_raises(said: list[Said], source: bool) -> None:
    """Protects the session: following any data does no harm."""
    play(DOWNLOAD if source else UPLOAD, *said)


@given(
    st.lists(
        st.sampled_from(
            [
                (">", b"C0644 2 x\n"),
                (">", b"C0644 0 x\n"),
                (">", b"D0755 0 d\n"),
                (">", b"E\n"),
                (">", b"ab\0"),
                (">", b"\0"),
                (">", b"\1no\n"),
                ("<", b"\0"),
                ("<", b"\1no\n"),
            ]
        ),
        max_size=30,
    )
)
def test_nothing_that_looks_like_it_raises(said: list[Said]) -> None:
    """Parts of the protocol in any order do no harm either."""
    play(UPLOAD, *said)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (b"scp -t .", (b"t", b".")),
        (b"  /usr/bin/scp -v -r -p -f -- -x y ", (b"vrpf", b"-x y")),
        (b"scp -rt /tmp/a", (b"rt", b"/tmp/a")),
        (b"scp a b", None),
        (b"scp -r a b", None),
        (b"scp -t -f x", None),
        (b"scp -t", None),
        (b"echo scp -t x", None),
        (b"rscp -t x", None),
    ],
)
def test_which_commands_are_copies(command: bytes, found: tuple[bytes, bytes] | None) -> None:
    """Only the remote sides of copies are followed."""
    assert split(command) == found


@pytest.mark.parametrize("path", [b"", b".", b"~", b"~/", b"./", b"./././"])
def test_names_of_the_home_directory(path: bytes) -> None:
    """Every notation for the home directory is recognised."""
    assert absolute(path, HOME) == HOME
