"""What one account's process may have recorded, and what a process that was taken over can do: spoil its own."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.audit.zstd import ZstdDecompressor, ZstdError
from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.recorder import Closed, FromRecorder, Opened
from pyssh_gateway.ipc.spawner import ProtocolError, socket_pair
from pyssh_gateway.recorder import account as accounts
from pyssh_gateway.recorder.account import MOST_RECORDINGS, Account
from pyssh_gateway.recorder.files import Files
from pyssh_gateway.recorder.recording import Times
from tests.support.recordings import Cast, beginning, packet

MEGABYTE = 1024 * 1024
BOUNDS = Bounds(session_bytes=MEGABYTE, session_seconds=3600, keep_seconds=3600, keep_bytes=10 * MEGABYTE)


class Rig:
    """An account at the recorder, and its process's end of the socket. The clock stands still, unless it is moved."""

    def __init__(self, name: str = "amos", files: Files | None = None) -> None:
        self.now = 1000.0
        self.bounds = BOUNDS
        self.files = files or Files(BOUNDS, lambda: self.now)
        theirs, self.process = socket_pair()
        times = Times(lambda: self.now, lambda: self.now)
        self.account = Account(name, theirs, self.files, lambda: self.bounds, times, has_place=lambda _: True)
        self.process.setblocking(False)

    def send(self, *entries: tuple[int, messages.What, int, bytes]) -> bool:
        """Send a packet and have it served."""
        self.process.send(packet(*entries))
        is_there = self.account.serve()
        while self.account.has_entries:
            is_there = self.account.serve()
        return is_there

    def answers(self) -> list[FromRecorder]:
        """What the recorder has answered."""
        heard: list[FromRecorder] = []
        while True:
            try:
                answer = self.process.recv(4096)
            except BlockingIOError:
                return heard
            if not answer:
                return heard
            heard.append(messages.decode(answer))


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of recordings, which is the working directory as in the process."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An account."""
    made = Rig()
    yield made
    made.account.close("the test is over")
    made.process.close()


def test_a_session_is_recorded_from_its_beginning_to_its_end(rig: Rig) -> None:
    """Protects the record: everything with its time, in a file of the session's name, and the log is told."""
    rig.send((1, "begin", 0, beginning(command=b"ls")), (1, "output", 0, b"$ "))
    rig.now += 3
    rig.send((1, "input", 1_000_000, b"l"), (1, "output", 1_250_000, "ü".encode()[:1]))
    rig.send((1, "output", 2_000_000, "ü".encode()[1:]), (1, "resize", 2_000_000, messages.terminal_size(100, 30)))
    rig.send((1, "missing", 2_500_000, messages.count(7)), (1, "exit", 2_500_000, messages.count(3)))
    rig.send((1, "end", 3, b""))
    assert rig.answers() == [Opened(1, "amos/c1.1.cast.zst"), Closed(1, "session ended", 5)]
    cast = Cast(Path("amos/c1.1.cast.zst"))
    assert cast.header["term"] == {"cols": 80, "rows": 24, "type": "xterm"}
    assert (cast.header["timestamp"], cast.header["command"], cast.header["title"]) == (1000, "ls", "c1.1")
    assert cast.events == [
        *[[0.0, "o", "$ "], [1.0, "i", "l"], [1.0, "o", "ü"], [0.0, "r", "100x30"]],
        *[[0.5, "m", "7 bytes of output are missing here"], [0.0, "x", "3"]],
    ]


def test_no_time_is_later_than_now(rig: Rig) -> None:
    """Protects the times in a recording: a process can't date what it shows into the future."""
    rig.send((1, "begin", 0, beginning()), (1, "output", 2**50, b"x"), (1, "end", 0, b""))
    assert Cast(Path("amos/c1.1.cast.zst")).events == [[0.0, "o", "x"]]


def test_no_recording_is_written_over(rig: Rig) -> None:
    """Protects what was recorded: a name that is taken, or that is claimed twice, gets a file of its own."""
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, b"one"), (1, "end", 0, b""))
    rig.send((2, "begin", 0, beginning(part=2)), (2, "output", 0, b"two"), (2, "end", 0, b""))
    assert [answer.file for answer in rig.answers() if isinstance(answer, Opened)] == [
        "amos/c1.1.cast.zst",
        "amos/c1.1.2.cast.zst",
    ]
    assert Cast(Path("amos/c1.1.cast.zst")).shown == "one"
    second = Cast(Path("amos/c1.1.2.cast.zst"))
    assert second.shown == "two"
    assert second.data("m") == ["the recorder was started again: what was shown just before is missing"]


NOT_ALLOWED = {
    "nothing": b"\0",
    "no MessagePack": b"\x04\0\0\0\xc1\xc1\xc1\xc1",
    "a head that is longer than the packet": b"\xff\xff\xff\x7f",
    "data that nobody has announced": packet((1, "begin", 0, beginning())) + b"x",
    "less data than was announced": packet((1, "begin", 0, beginning()))[:-1],
    "something before its beginning": packet((1, "output", 0, b"x")),
    "two beginnings": packet((1, "begin", 0, beginning()), (1, "begin", 0, beginning())),
    "a beginning behind another one": packet((2, "begin", 0, beginning()), (1, "begin", 0, beginning())),
    "an endless command": packet((1, "begin", 0, beginning(command=b"x" * 20_000))),
    "a session of no connection": packet((1, "begin", 0, beginning("x1.1"))),
    "a session with a path": packet((1, "begin", 0, beginning("../c1.1"))),
    "a session with a slash": packet((1, "begin", 0, beginning("c1/1.1"))),
    "a session with a NUL": packet((1, "begin", 0, beginning("c1.1\0"))),
    "a session with a newline": packet((1, "begin", 0, beginning("c1.1\n"))),
    "a size that is none": packet((1, "begin", 0, beginning()), (1, "resize", 0, b"x")),
    "a status that is none": packet((1, "begin", 0, beginning()), (1, "exit", 0, b"")),
    "an unknown entry": msgspec.msgpack.encode([[1, "begone", 0, 0]]),
}


@pytest.mark.parametrize("sent", NOT_ALLOWED.values(), ids=NOT_ALLOWED)
def test_a_process_that_breaks_the_rules_is_ended(rig: Rig, sent: bytes, directory: Path) -> None:
    """Protects the recorder: anything but its messages is refused, and leads to no file outside of the account's."""
    rig.process.send(sent)
    with pytest.raises(ProtocolError):
        rig.account.serve()
    assert {path.relative_to(directory).parts[0] for path in directory.rglob("*")} <= {"amos"}


@settings(max_examples=300)
@given(st.binary(max_size=200), st.booleans())
def test_garbage_is_no_message(tmp_path_factory: pytest.TempPathFactory, garbage: bytes, begun: bool) -> None:
    """Protects the recorder: whatever a packet has in it, it is served or raises ProtocolError, and nothing else."""
    rig = Rig()
    try:
        if begun:
            garbage = packet((1, "begin", 0, beginning())) + garbage
        rig.process.send(garbage or b"\0")
        with suppress(ProtocolError):
            rig.account.serve()
    finally:
        rig.account.close("the test is over")
        rig.process.close()


def test_descriptors_are_not_taken(rig: Rig) -> None:
    """Protects the recorder's table of descriptors: nobody can fill it."""
    socket.send_fds(rig.process, [packet((1, "begin", 0, beginning()))], [0, 1])
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
    with pytest.raises(ProtocolError, match="descriptors"):
        rig.account.serve()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - only their number is wanted


def test_the_number_of_recordings_is_bounded(rig: Rig) -> None:
    """Protects memory and descriptors: of too many sessions the rest is not recorded, and the log says so."""
    for number in range(1, MOST_RECORDINGS + 1):
        rig.send((number, "begin", 0, beginning(f"c1.{number}")))
    rig.answers()
    over = MOST_RECORDINGS + 1
    rig.send((over, "begin", 0, beginning(f"c1.{over}")), (over, "output", 0, b"x"), (over, "end", 0, b""))
    assert rig.answers() == [Closed(over, accounts.TOO_MANY, 0)]
    rig.send((1, "end", 0, b""), (over + 1, "begin", 0, beginning(f"c1.{over + 1}")))
    assert rig.answers() == [Closed(1, "session ended", 0), Opened(over + 1, f"amos/c1.{over + 1}.cast.zst")]


def test_a_recording_ends_at_its_size(rig: Rig) -> None:
    """Protects the disk: a recording that reaches its bound says so at its end; what is sent after that is ignored."""
    rig.bounds = msgspec.structs.replace(BOUNDS, session_bytes=10)
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, b"1234567"), (1, "output", 0, b"890too much"))
    rig.send((1, "output", 0, b"more"), (1, "end", 0, b""))
    assert rig.answers()[1:] == [Closed(1, "audit.record_session_size is reached", 10)]
    cast = Cast(Path("amos/c1.1.cast.zst"))
    assert cast.shown == "1234567890"
    assert cast.data("m") == ["the recording ends here: audit.record_session_size is reached"]


def test_a_flood_of_resizes_ends_the_recording(rig: Rig) -> None:
    """Protects the disk: what is no output has a bound, too."""
    rig.bounds = msgspec.structs.replace(BOUNDS, session_bytes=1000)
    rig.send((1, "begin", 0, beginning()))
    for number in range(2000):
        rig.send((1, "resize", 0, messages.terminal_size(number * 7919 % 1009 + 1, number * 104729 % 997 + 1)))
    rig.account.flush()
    rig.send((1, "resize", 0, messages.terminal_size(1, 1)))
    assert [answer.reason for answer in rig.answers() if isinstance(answer, Closed)] == [
        "audit.record_session_size is reached"
    ]


def test_a_recording_ends_at_its_time(rig: Rig) -> None:
    """Protects the bound of time: the session goes on, its recording does not."""
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, b"early"))
    rig.now += BOUNDS.session_seconds
    rig.send((1, "output", 0, b"late"))
    assert rig.answers()[1:] == [Closed(1, "audit.record_session_time is reached", 5)]
    assert Cast(Path("amos/c1.1.cast.zst")).shown == "early"


def test_what_was_flushed_is_there_whatever_happens(rig: Rig) -> None:
    """Protects the last second: a file that was never closed can be read up to the last flush; so can one at rest."""
    path = Path("amos/c1.1.cast.zst")
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, b"one"))
    assert rig.account.flush()
    assert Cast(path).shown == "one"
    rig.now += 120
    assert not rig.account.flush(), "the compressor is kept though nothing happens"
    rig.send((1, "output", 0, b"two"))
    assert rig.account.flush()
    assert Cast(path).shown == "onetwo"
    rig.send((1, "end", 0, b""))
    assert not rig.account.flush()


def test_a_process_that_dies_leaves_recordings_that_say_so(rig: Rig) -> None:
    """Protects the record: what it had sent is in the file, and the end has its reason."""
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, "ü".encode()[:1]))
    rig.answers()
    rig.process.close()
    assert not rig.account.serve()
    rig.account.close(accounts.LEFT)
    cast = Cast(Path("amos/c1.1.cast.zst"))
    assert cast.shown == "\ufffd"
    assert cast.comments == ["the recording ends here: its process ended"]


def test_a_directory_that_was_removed_is_no_error_of_one_recording(rig: Rig, directory: Path) -> None:
    """Protects recordings from being lost for good: only another recorder can make the directory again."""
    directory.rmdir()
    with pytest.raises(accounts.DirectoryGone):
        rig.send((1, "begin", 0, beginning()))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_ends_the_recording_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the session: nothing is raised, and the log is told why there is no more of it."""
    real = os.open

    def full(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_EXCL:
            os.close(real(path, flags, mode, dir_fd=dir_fd))
            return real("/dev/full", os.O_WRONLY)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", full)
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, b"x"))
    rig.account.flush()
    assert rig.answers() == [Opened(1, "amos/c1.1.cast.zst"), Closed(1, "No space left on device", 1)]
    rig.send((1, "output", 0, b"x"), (1, "end", 0, b""))
    assert rig.answers() == []


def test_answers_that_nobody_reads_hold_up_nobody(rig: Rig) -> None:
    """Protects the recorder: it never waits for a process that it serves."""
    for number in range(1, 5000):
        rig.send((number, "begin", 0, beginning(f"c{number}.1")), (number, "end", 0, b""))
    assert len(list(Path("amos").iterdir())) == 4999


def test_a_packet_of_beginnings_takes_many_turns(rig: Rig) -> None:
    """Protects the others: of a packet with as many beginnings as fit, a turn of the recorder's loop does a few."""
    rig.process.send(packet(*((number, "begin", 0, beginning(f"c{number}.1")) for number in range(1, 101))))
    turns = 1
    while rig.account.serve() and rig.account.has_entries:
        assert len(rig.account) == turns * accounts.MOST_BEGINNINGS
        turns += 1
    assert turns >= 10
    assert len(rig.account) == 100


def test_a_damaged_recording_is_found_to_be_one(rig: Rig) -> None:
    """Protects the reader: text that a disk has changed is not shown as if it had been recorded."""
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, os.urandom(1000).hex().encode()), (1, "end", 0, b""))
    whole = Path("amos/c1.1.cast.zst").read_bytes()
    text = ZstdDecompressor().decompress(whole)
    unseen = []
    for place in range(len(whole)):
        frame = ZstdDecompressor()
        with suppress(ZstdError):
            read = frame.decompress(whole[:place] + bytes((whole[place] ^ 1,)) + whole[place + 1 :])
            if frame.eof and read != text:
                unseen.append(place)
    assert unseen == []


def test_a_recording_that_has_to_make_room_says_so(rig: Rig) -> None:
    """Protects the reader and the log: both are told why there is no more, and the session's rest is ignored."""
    rig.send((1, "begin", 0, beginning()), (1, "output", 0, b"x"))
    assert not rig.account.cut(("dev", "c1.1.cast.zst"), "room")
    assert rig.account.cut(("amos", "c1.1.cast.zst"), "room")
    rig.send((1, "output", 0, b"more"), (1, "end", 0, b""))
    assert rig.answers()[1:] == [Closed(1, "room", 1)]
    assert Cast(Path("amos/c1.1.cast.zst")).data("m") == ["the recording ends here: room"]
