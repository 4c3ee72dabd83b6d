"""The event log: what is written where, and that no failure of the log reaches the server."""

import contextlib
import fcntl
import json
import os
import re
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from pyssh_gateway import events as ev
from pyssh_gateway.audit.human import human_line
from pyssh_gateway.audit.log import FILE_NAME, SAVED_BYTES, AuditLog, AuditLogError
from pyssh_gateway.audit.log_file import STATE_NAME, LogPlace
from pyssh_gateway.audit.output import MAX_QUEUED_BYTES, MAX_QUEUED_LINES, LineWriter
from pyssh_gateway.audit.writing import MAX_WAITING_LINES
from pyssh_gateway.core.idle.what_if.numbering import OTHERS_NUMBERS
from tests.support.waiting import PATIENCE

# 2026-01-02T03:04:05.678901Z
TIME = 1767323045.678901
# Long enough for any machine: only a failing test waits this long.
# Linux's default size, set here because it depends on the machine.
PIPE_SIZE = 65536

STARTED = ev.ServerStarted(
    version="0.1.0",
    address="0.0.0.0",
    port=2222,
    pid=7,
    generation=1,
    host_keys=("SHA256:example",),
    users=("amos",),
    idle_timeout=60.0,
    addresses=("0.0.0.0:2222",),
)
TICK = ev.IdleTick(idle=5, remaining=55, message="Idle for 5s")


def record(event: ev.AnyEvent, seq: int = 1) -> ev.Record:
    """A record of `event` at the fixed time."""
    return ev.Record(seq, TIME, event)


def command(text: str) -> ev.SessionOpened:
    """A session event whose command, `text`, came from the network."""
    return ev.SessionOpened(conn="c1", session="c1.1", user="amos", kind="exec", command=text, tty="", term="", pid=1)


class Reader(threading.Thread):
    """Reads a descriptor to its end, and closes it."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.data = b""
        self._fd = fd
        self.start()

    def run(self) -> None:
        """Read until the writing end is closed."""
        with os.fdopen(self._fd, "rb") as file:
            self.data = file.read()

    def lines(self) -> list[bytes]:
        """All lines, after the end has been reached."""
        self.join(PATIENCE)
        return self.data.splitlines(keepends=True)


class Bench:
    """An open log over a real directory and a real pipe."""

    def __init__(self, directory: Path, *, human: bool = False) -> None:
        self.directory = directory
        self.problems: list[str] = []
        self.read_fd, self.write_fd = os.pipe()
        fcntl.fcntl(self.write_fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self.log = AuditLog.open(
            directory, stdout_fd=self.write_fd, human=human, colour=False, on_problem=self.problems.append
        )

    def file(self) -> bytes:
        """The content of the log file."""
        return (self.directory / FILE_NAME).read_bytes()

    def events(self) -> list[dict[str, Any]]:
        """The events of the log file, one for each line."""
        return [json.loads(line) for line in self.file().splitlines()]

    def finish(self) -> list[bytes]:
        """Close the log and return the lines that standard output got."""
        reader = Reader(self.read_fd)
        self.log.close(PATIENCE)
        os.close(self.write_fd)
        return reader.lines()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An audit directory that does not exist yet."""
    return tmp_path / "state" / "audit"


def test_a_line_is_the_documented_json(directory: Path) -> None:
    """Collectors parse these lines: the order and the spelling of the fields are a promise."""
    bench = Bench(directory)
    bench.log(record(command("make test")))
    line = (
        b'{"ts":"2026-01-02T03:04:05.678901Z","seq":1,"event":"session.opened","conn":"c1","session":"c1.1",'
        b'"user":"amos","kind":"exec","command":"make test","tty":"","term":"","pid":1,"requested":"",'
        b'"identity":null}\n'
    )
    assert bench.file() == line
    assert bench.finish() == [line]
    assert bench.problems == []


def test_hostile_text_stays_one_line(directory: Path) -> None:
    """A command with newlines, escapes and broken UTF-8 cannot forge a line, in the file or on a terminal."""
    hostile = b'x\n{"event":"server.stopped"}\x1b[2J\xff\xe2\x80\xae'.decode("utf-8", "surrogateescape")
    bench = Bench(directory, human=True)
    bench.log(record(command(hostile)))
    assert bench.events()[0]["command"] == 'x\\n{"event":"server.stopped"}\\x1b[2J\\xff\\u202e'
    (shown,) = bench.finish()
    assert shown.decode().removesuffix("\n").isprintable()


def test_a_view_for_people_says_later_what_the_file_has_at_once(directory: Path) -> None:
    """Protects the record: the log file has all lines at once, also those that a terminal omits, merges or delays."""
    bench = Bench(directory, human=True)
    opened = ev.ConnectionOpened(conn="c1", peer="203.0.113.5", peer_port=50022)
    closed = ev.ConnectionClosed(
        conn="c1", peer="203.0.113.5", user="", reason="gone", seconds=1.0, bytes_in=0, bytes_out=0
    )
    bench.log(record(opened))
    assert bench.events()[0]["event"] == "connection.opened"
    assert bench.log.show_overdue(TIME)
    assert not bench.log.show_overdue(TIME + 60)
    bench.log(record(closed, 2))
    bench.log(record(msgspec.structs.replace(opened, conn="c2"), 3))
    assert [each["seq"] for each in bench.events()] == [1, 2, 3]
    assert [line.split()[1:3] for line in bench.finish()] == [
        [b"connect", b"c1"],
        [b"closed", b"c1"],
        [b"connect", b"c2"],
    ]


def test_the_file_has_each_line_at_once(directory: Path) -> None:
    """No line of the log waits in a buffer, where a crash would lose it."""
    bench = Bench(directory)
    for seq in range(1, 4):
        bench.log(record(TICK, seq))
        assert [each["seq"] for each in bench.events()] == list(range(1, seq + 1))
    bench.finish()


def test_nothing_runs_before_the_first_event(directory: Path) -> None:
    """Opening the log starts no thread, as the spawner may fork after it, and leaves structlog alone."""
    threads = threading.active_count()
    bench = Bench(directory)
    assert threading.active_count() == threads
    assert not structlog.is_configured()
    assert bench.finish() == []


def test_the_file_is_private_and_not_inherited(directory: Path) -> None:
    """Command lines are private: only owner and group may read the file, and no user's process gets the descriptor."""
    mask = os.umask(0)
    before = open_files()
    try:
        bench = Bench(directory)
    finally:
        os.umask(mask)
    path = directory / FILE_NAME
    assert path.stat().st_mode & 0o777 == 0o640
    assert directory.stat().st_mode & 0o777 == 0o750
    (file,) = [fd for fd, target in open_files().items() if target == path]
    assert not os.get_inheritable(file)
    bench.finish()
    assert open_files() == before


def test_a_line_cut_by_a_crash_is_ended(directory: Path) -> None:
    """After a crash in the middle of a line, the next event gets a line of its own."""
    directory.mkdir(parents=True)
    (directory / FILE_NAME).write_bytes(b'{"ts":"2026-01-02T03')
    bench = Bench(directory)
    bench.log(record(STARTED))
    broken, whole = bench.file().splitlines()
    assert broken == b'{"ts":"2026-01-02T03'
    assert json.loads(whole)["event"] == "server.started"
    bench.finish()


def test_an_old_log_is_continued(directory: Path) -> None:
    """A restart appends to the log: it changes no old line and adds no empty one."""
    for seq in (1, 2):
        bench = Bench(directory)
        bench.log(record(STARTED, seq))
        bench.finish()
    assert [each["seq"] for each in bench.events()] == [1, 2]


def test_a_start_after_a_death_goes_on_where_the_log_ends(directory: Path) -> None:
    """A server that was killed has written its state a while ago: numbers and names of connections still go on."""
    first = Bench(directory)
    seq = 0
    while first.log.size < 3 * SAVED_BYTES:
        seq += 1
        conn = first.log.name_connection()
        first.log(record(ev.ConnectionOpened(conn=conn, peer="203.0.113.5", peer_port=50022), seq))
    beside = Bench(directory)  # the first one still writes
    assert beside.log.seq == seq + OTHERS_NUMBERS
    for fd in Path("/proc/self/fd").iterdir():  # it dies
        if fd.exists() and fd.samefile(directory / STATE_NAME):
            fcntl.flock(int(fd.name), fcntl.LOCK_UN)
    again = Bench(directory)
    assert (again.log.seq, again.log.connections) == (seq, seq)
    assert not again.log.is_counted
    assert again.log.catch_up()
    assert (again.log.tree.size, again.log.is_counted) == (seq, True)
    again.log.knows_connections(["c90", f"c{seq + 5}", "3fa9c1d2e4", "cx"])
    assert again.log.name_connection() == f"c{seq + 6}"
    for bench in (first, beside, again):
        bench.finish()


def test_the_disk_is_waited_for_elsewhere(directory: Path) -> None:
    """What syncs the lines to the disk is a function for a thread, which works even after the file has been left."""
    bench = Bench(directory)
    bench.log(record(TICK))
    sync = bench.log.syncer()
    before = open_files()
    bench.finish()
    sync()
    with pytest.raises((OSError, ValueError), match="descriptor"):
        sync()
    assert len(open_files()) < len(before)


def open_files() -> dict[int, Path]:
    """This process's descriptors, and what each is open on."""
    return {int(link.name): link.readlink() for link in Path("/proc/self/fd").iterdir() if link.exists()}


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit the size of files of this process to `size`, which looks like a full disk to the log."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_file_that_is_gone_is_trouble_until_there_is_another(directory: Path) -> None:
    """Lines that go to a file which nobody finds are in trouble, too, since the first failure to open another one."""
    bench = Bench(directory)
    (directory / FILE_NAME).unlink()
    bench.log(record(TICK))
    bench.log.misplaced("no room", TIME)
    bench.log.misplaced("no room", TIME + 60)
    assert bench.log.trouble == "no room, since 2026-01-02T03:04:05.678901Z"
    assert bench.log.reopen(*LogPlace(directory).open_all())
    assert_no_trouble(bench.log)
    assert [each["seq"] for each in bench.events()] == [1]
    bench.finish()


def assert_no_trouble(log: AuditLog) -> None:
    """Nothing waits or is lost."""
    assert log.trouble is None
    assert (log.waiting, log.lost["file"]) == (0, 0)


def test_a_full_disk_is_told_once_and_survived(directory: Path) -> None:
    """On a full disk the server goes on and says so once; when there is room again, the lines are written in order."""
    bench = Bench(directory)
    bench.log(record(TICK, 1))
    with file_size_limit(len(bench.file()) + 10):
        bench.log(record(TICK, 2))
        bench.log(record(TICK, 3))
        assert [each["seq"] for each in bench.events()] == [1]
        assert bench.log.trouble == f"{directory / FILE_NAME}: File too large, since 2026-01-02T03:04:05.678901Z"
        assert bench.log.waiting == 2
    bench.log(record(TICK, 4))
    assert [each["seq"] for each in bench.events()] == [1, 2, 3, 4]
    assert_no_trouble(bench.log)
    (told,) = bench.problems
    assert str(directory / FILE_NAME) in told
    assert len(bench.finish()) == 4
    assert len(bench.problems) == 1


def test_only_what_exceeds_the_bound_is_lost_on_a_full_disk(directory: Path) -> None:
    """The lines that wait for room are bounded: later ones are lost, counted and told; none is cut or out of order."""
    bench = Bench(directory)
    with file_size_limit(10):
        for seq in range(1, MAX_WAITING_LINES + 4):
            bench.log(record(TICK, seq))
    assert bench.log.write_waiting()
    assert [each["seq"] for each in bench.events()] == list(range(1, MAX_WAITING_LINES + 1))
    assert bench.log.lost["file"] == 3
    bench.finish()
    assert bench.problems[1:] == [f"audit log: 3 events are missing in {directory / FILE_NAME}"]


def test_a_partial_write_is_completed() -> None:
    """A line longer than a pipe takes at once is written completely, also to a descriptor that is non-blocking."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    reader = Reader(read_fd)
    line = b"x" * 300_000 + b"\n"
    LineWriter(write_fd, patient=True).write(line)
    os.close(write_fd)
    assert reader.lines() == [line]


def test_a_stuck_reader_blocks_nobody(directory: Path) -> None:
    """When nobody reads standard output, the file gets every line, and the reader later learns how many it missed."""
    bench = Bench(directory)
    total = 2 * MAX_QUEUED_LINES
    for seq in range(1, total + 1):
        bench.log(record(TICK, seq))
    assert [each["seq"] for each in bench.events()] == list(range(1, total + 1))
    *seen, gap = [json.loads(line) for line in bench.finish()]
    assert [each["seq"] for each in seen] == list(range(1, len(seen) + 1))
    assert gap == {"ts": "2026-01-02T03:04:05.678901Z", "event": "log.dropped", "lines": total - len(seen)}
    assert bench.problems == []


def test_a_gap_is_shown_where_it_is(directory: Path) -> None:
    """The line about the gap stands between the lines before the gap and those after it."""
    bench = Bench(directory, human=True)
    total = 2 * MAX_QUEUED_LINES
    event = command("x" * 100)
    for seq in range(1, total + 1):
        bench.log(record(event, seq))
    # The queue holds over ten times as many of these lines as a pipe: after a queueful is read, there is room again.
    wanted = MAX_QUEUED_LINES * (len(human_line(record(event), colour=False)) + 1)
    while wanted > 0:
        wanted -= len(os.read(bench.read_fd, PIPE_SIZE))
    bench.log(record(command("after"), total + 1))
    *_, before, gap, after = bench.finish()
    assert b"exec xxx" in before
    assert re.search(rb"log +\d+ lines dropped here", gap)
    assert b"exec after" in after


def test_a_huge_line_does_not_break_the_bound(directory: Path) -> None:
    """The queue is limited in bytes, too, since a few lines may be very long."""
    bench = Bench(directory)
    # Each of these characters takes ten in its escape.
    big = command("\U000e0041" * 4096)
    total = 2 * MAX_QUEUED_BYTES // 40_960
    for seq in range(1, total + 1):
        bench.log(record(big, seq))
    lines = bench.finish()
    assert sum(map(len, lines)) < MAX_QUEUED_BYTES + 2 * PIPE_SIZE
    assert json.loads(lines[-1])["event"] == "log.dropped"


def test_close_keeps_its_deadline(directory: Path) -> None:
    """A stuck collector cannot delay the stop: the file is complete, and the unread lines are counted."""
    bench = Bench(directory)
    for seq in range(1, MAX_QUEUED_LINES):
        bench.log(record(TICK, seq))
    bench.log.close(0.01)
    assert len(bench.events()) == MAX_QUEUED_LINES - 1
    (told,) = bench.problems
    assert re.search(r"\d+ lines for standard output were not read in time", told)
    # The writer thread is still blocked in its write; closing the pipe ends it.
    os.close(bench.read_fd)
    for thread in threading.enumerate():
        if thread.name == "audit-stdout":
            thread.join(PATIENCE)
    os.close(bench.write_fd)


def test_standard_output_can_go_away(directory: Path) -> None:
    """A collector that dies costs one message; the file still has everything."""
    bench = Bench(directory)
    os.close(bench.read_fd)
    for seq in (1, 2):
        bench.log(record(TICK, seq))
    bench.log.close(PATIENCE)
    os.close(bench.write_fd)
    assert len(bench.events()) == 2
    assert bench.problems == [
        f"audit log: standard output: Broken pipe; {directory / FILE_NAME} still has every event",
        "audit log: 2 lines could not be written to standard output",
    ]


def test_a_full_standard_output_is_told(directory: Path) -> None:
    """A full disk is reported when standard output is a file on it."""
    problems: list[str] = []
    with Path("/dev/full").open("wb", buffering=0) as full:
        log = AuditLog.open(directory, stdout_fd=full.fileno(), human=False, colour=False, on_problem=problems.append)
        log(record(STARTED))
        log.close(PATIENCE)
    assert problems[0].startswith("audit log: standard output: No space left on device")


def test_nothing_is_raised(directory: Path) -> None:
    """No failure while logging reaches the login that is being logged, not even a failing report."""
    problems: list[str] = []

    def on_problem(text: str) -> None:
        problems.append(text)
        raise OSError(text)

    read_fd, write_fd = os.pipe()
    log = AuditLog.open(directory, stdout_fd=write_fd, human=False, colour=False, on_problem=on_problem)
    log(ev.Record(1, float("nan"), STARTED))
    log(record(STARTED, 2))
    log.close(PATIENCE)
    log.close(PATIENCE)
    log(record(STARTED, 3))
    os.close(write_fd)
    assert len(Reader(read_fd).lines()) == 1
    assert [text.split(",")[0] for text in problems] == [
        "audit log: event 1",
        "audit log: server.started came after the end and is not logged",
    ]


def open_error(directory: Path) -> str:
    """The message of the error when the log cannot be opened in `directory`."""
    with pytest.raises(AuditLogError) as caught:
        AuditLog.open(directory, stdout_fd=1, human=False, colour=False, on_problem=print)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    """The error message tells the administrator which directory it is, what is wrong, and what to do."""
    tmp_path.chmod(0o500)
    # Root may write anywhere, so as root the test tries this as another account.
    others = os.geteuid() == 0
    if others:
        os.seteuid(65534)
    try:
        told = open_error(tmp_path)
    finally:
        if others:
            os.seteuid(0)
        tmp_path.chmod(0o700)
    assert told.startswith(f"audit_dir {tmp_path}: cannot ")
    assert "Permission denied" in told
    assert told.endswith("set audit_dir to another one")


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    """A path that is a plain file, or goes through one, is reported as not a directory."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "audit"):
        assert open_error(path) == f"audit_dir {path}: not a directory; set audit_dir to one"


def test_the_log_is_not_written_through_a_link(directory: Path, tmp_path: Path) -> None:
    """A server started as root cannot be made to write into another file by an account that may write to audit_dir."""
    directory.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_bytes(b"root:x:0:0")
    (directory / FILE_NAME).symlink_to(victim)
    assert "is not a plain file" in open_error(directory)
    assert victim.read_bytes() == b"root:x:0:0"
    (directory / FILE_NAME).unlink()
    os.mkfifo(directory / FILE_NAME)
    assert "is not a plain file" in open_error(directory)
