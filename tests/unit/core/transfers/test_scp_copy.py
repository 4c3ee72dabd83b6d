"""What is read from a copy by scp's old protocol: files, whatever the peers do, and never an exception."""

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
    """What is told of a copy, `said` in order by the sender (">") and the receiver ("<"), and whether it was lost."""
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
    """The path under the directory that was named, how much of it, and that it worked."""
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
    """What the protocol does not tell, whether the target is a directory, is left open, and the rest is not."""
    told, _ = play(Asked(source=False, words=(words,), into=into), *ONE_FILE)
    assert told == [Copied(path, rest, 5, "ok")]


def test_every_split_of_the_bytes_says_the_same() -> None:
    """Packets end anywhere."""
    bytewise = [(side, bytes((number,))) for side, data in ONE_FILE for number in data]
    assert play(UPLOAD, *bytewise) == play(UPLOAD, *ONE_FILE)


def test_a_program_that_does_not_wait() -> None:
    """Programs that send a file in one go, without waiting for answers, are understood, too."""
    said = (">", b"C0644 2 x\nab\0C0644 0 empty\n\0"), ("<", b"\0\0\0\0\0")
    assert play(UPLOAD, *said) == ([Copied(b"/data/x", b"", 2, "ok"), Copied(b"/data/empty", b"", 0, "ok")], False)


def test_directories() -> None:
    """Names are told with the directories they are in; one that can't be made is left out by the sender."""
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
    """What can't be opened is told as that, and what comes next is the next record."""
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
    """Protects the record of an attempt: a target that the receiver refuses before anything else is named."""
    assert play(UPLOAD, ("<", b"\1scp: /data/: No such file or directory\n")) == (
        [Copied(b"/data/", b"", 0, "scp: /data/: No such file or directory", opened=False)],
        False,
    )


def test_downloads() -> None:
    """The path comes from the words that were asked for; what can't be read is told as well."""
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
    """A client that goes in the middle leaves the name of the file, and how much of it came."""
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
    """At the first thing that can't be, reading ends: nothing is guessed, and nothing grows."""
    flat = [part for entry in said for part in (entry if isinstance(entry[0], tuple) else (entry,))]
    _, lost = play(UPLOAD, *flat)
    assert lost
    copy = Copy(UPLOAD, HOME)
    for side, data in flat:
        (copy.sender if side == ">" else copy.receiver)(data)
    copy.end()
    assert copy.sender(b"C0644 0 g\n\0") == copy.receiver(b"\0\0\0\0") == copy.end() == []


def test_what_is_remembered_of_a_copy_costs_little() -> None:
    """Everybody waits while a record is read along: a path is one that the kernel takes, and few wait for an answer."""
    assert scp_copy.MAX_DEPTH_BYTES <= 4096
    assert scp_copy.MAX_AHEAD <= 100


def test_directories_that_were_left_do_not_count() -> None:
    """A tree of any size is followed: only how deep it is has a limit."""
    name = b"d" * 255
    said = ((">", b"D0755 0 %s\nE\n" % name), ("<", b"\0\0"))
    refused = ((">", b"D0755 0 %s\n" % name), ("<", b"\1no\n"))
    told, lost = play(UPLOAD, ("<", b"\0"), *said * 20, *refused * 20, *ONE_FILE[3:])
    assert ([file.outcome for file in told], lost) == (["ok"], False)


def test_a_command_of_blanks_is_read_at_once() -> None:
    """Everybody waits while a command is looked at: the time that it takes grows with its length, not faster."""
    blanks = b" " * 100_000  # a minute, where each blank is looked at once for each other
    began = time.process_time()
    assert scp_copy.split(b"scp -t x" + blanks + b"y" + blanks) == (b"t", b"x" + blanks + b"y")
    assert scp_copy.split(b"scp -t " + blanks) is None
    assert time.process_time() - began < 10


def test_a_file_is_compared_with_few_and_short_words() -> None:
    """What a command of any length asks for is not compared as a whole with each file's name."""
    name = b"a" * (scp_copy.MAX_PATTERN_BYTES + 1)
    said = ("<", b"\0"), (">", b"C0644 0 " + name + b"\n"), ("<", b"\0"), (">", b"\0"), ("<", b"\0")
    for words in ((b"dir/" + name,), (*(b"b",) * scp_copy.MAX_WORDS, b"dir/a*")):
        told, _ = play(Asked(source=True, words=words), *said)
        assert [file.path for file in told] == [name]


def test_a_sender_that_can_not_go_on_is_no_event_of_an_upload() -> None:
    """A client's own errors are none of a file here; the copy goes on after them."""
    said = ("<", b"\0"), (">", b"\1local: No such file\n"), *ONE_FILE[3:]
    assert play(UPLOAD, *said) == ([Copied(b"/data/a b", b"", 5, "ok")], False)


@given(st.lists(st.tuples(st.sampled_from("<>"), st.binary(max_size=40)), max_size=20), st.booleans())
def test_nothing_raises(said: list[Said], source: bool) -> None:
    """Protects the session: whatever passes through it, reading along does no harm."""
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
    """The same with parts of the protocol in any order."""
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
    """Exactly the far sides of copies are followed."""
    assert split(command) == found


@pytest.mark.parametrize("path", [b"", b".", b"~", b"~/", b"./", b"./././"])
def test_names_of_the_home_directory(path: bytes) -> None:
    """However it is written."""
    assert absolute(path, HOME) == HOME
