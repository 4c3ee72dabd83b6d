"""Events about files: their frames and limits, and that they never delay a transfer."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.ipc.file_events import (
    MAX_FRAME,
    AttributesSet,
    DirectoryMade,
    EventError,
    EventSender,
    EventsLost,
    FileClosed,
    FileEvent,
    FileOpenFailed,
    FileRemoved,
    FileRenamed,
    LinkMade,
    decode,
    encode,
)

SAMPLES: list[FileEvent] = [
    FileClosed(path=b"/a\nb\xff", flags="write create", bytes_read=0, bytes_written=2**62, outcome="ok"),
    FileOpenFailed(path=b"/etc/shadow", flags="read", outcome="EACCES"),
    FileRenamed(source=b"/a", target=b"/b", outcome="EEXIST"),
    DirectoryMade(path=b"/d", outcome="ok"),
    LinkMade(path=b"/l", target=b"../x", symbolic=True, outcome="ok"),
    AttributesSet(path=b"/a", which=("mode", "times"), outcome="EPERM"),
    EventsLost(7),
]
REMOVED = FileRemoved(path=b"/x", outcome="ok")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe of the default size; the test may close either end."""
    ends = os.pipe2(os.O_CLOEXEC)
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


@given(st.lists(st.sampled_from(SAMPLES), max_size=8), st.integers(1, 200))
def test_any_split_of_the_stream_gives_the_same_events(events: list[FileEvent], size: int) -> None:
    """A pipe may deliver the bytes in any pieces; the decoded events are the same."""
    stream = b"".join(map(encode, events))
    seen: list[FileEvent] = []
    rest = b""
    for start in range(0, len(stream), size):
        found, rest = decode(rest + stream[start : start + size])
        seen += found
        assert len(rest) < MAX_FRAME
    assert (seen, rest) == (events, b"")


@given(st.binary(max_size=64))
def test_only_events_are_taken_from_the_users_process(data: bytes) -> None:
    """Any bytes of the sender, which is the user's process, are decoded to events, incomplete, or refused."""
    try:
        _, rest = decode(data)
    except EventError:
        return
    assert data.endswith(rest)


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\0\0",
        (MAX_FRAME - 3).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        encode(REMOVED).replace(b"removed", b"remover"),
        encode(REMOVED).replace(b"ok", b"\n\n"),
        (4003).to_bytes(4, "big") + b"\x81\xa1x" + b"\x91" * 3999 + b"\xc0",
    ],
)
def test_a_frame_that_is_no_event_is_refused_at_once(frame: bytes) -> None:
    """A frame with a bad length is refused before its bytes are awaited, and text must look like an outcome."""
    with pytest.raises(EventError):
        decode(frame)


def test_long_paths_lose_their_middle_and_fit() -> None:
    """Long paths are cut in the middle: a frame must fit into PIPE_BUF, and the name at a path's end matters most."""
    long = b"/" + b"\xff" * 300_000 + b"/name"
    event = FileRenamed(source=long, target=long, outcome="ENAMETOOLONG")
    frame = encode(event)
    (cut,), _ = decode(frame)
    assert len(frame) <= MAX_FRAME
    assert isinstance(cut, FileRenamed)
    assert cut.cut
    assert cut.source.startswith(b"/\xff")
    assert cut.target.endswith(b"/name")


def test_a_path_of_the_longest_kind_is_not_cut() -> None:
    """Paths of nearly the kernel's maximum length are not cut."""
    (event,), _ = decode(encode(FileRemoved(path=b"/" + b"x" * 3900, outcome="ok")))
    assert isinstance(event, FileRemoved)
    assert not event.cut


def test_a_full_pipe_costs_events_and_the_count_is_reported(pipe: tuple[int, int]) -> None:
    """A reader that is too slow never delays a transfer, and learns how many events it missed."""
    reader, writer = pipe
    sender = EventSender(writer)
    sent = 5000
    for _ in range(sent):
        sender.send(REMOVED)
    before, rest = decode(os.read(reader, 1 << 20))
    assert rest == b""
    sender.send(DirectoryMade(path=b"/d", outcome="ok"))
    after, _ = decode(os.read(reader, 1 << 20))
    assert after == [EventsLost(sent - len(before)), DirectoryMade(path=b"/d", outcome="ok")]


def test_events_lost_at_the_end_are_reported_by_finish(pipe: tuple[int, int]) -> None:
    """Events lost just before the end are reported by `finish`, as no later event carries their count."""
    reader, writer = pipe
    sender = EventSender(writer)
    while not sender._lost:  # noqa: SLF001 - until the pipe is full, whatever its size
        sender.send(REMOVED)
    os.read(reader, 1 << 20)
    sender.finish()
    assert decode(os.read(reader, 1 << 20))[0] == [EventsLost(1)]


def test_a_gateway_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    """Files are served to the end even if nobody reads the events any more."""
    reader, writer = pipe
    os.close(reader)
    EventSender(writer).send(REMOVED)
