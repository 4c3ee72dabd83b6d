"""What an account may add to the log: honest days fit, floods are counted, and logins and sessions always get in."""

import base64
import hashlib
import random

import msgspec

from pyssh_gateway.events import (
    AnyEvent,
    AuditLimited,
    ConnectionClosed,
    FileOperation,
    ForwardOpened,
    Origin,
    Record,
    SessionClosed,
    SessionOpened,
)
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.monitor.log.shares import AGAIN, CUT, DAY, KEPT, PART, Shares

KEEP_SIZE = 1024**2
SHARE = KEEP_SIZE // PART
FROM_A_PROCESS = Origin(1, 1)


def operation(path: str, user: str = "amos") -> FileOperation:
    """One file was written."""
    return FileOperation(
        conn="c1",
        session="c1.1",
        user=user,
        operation="file.closed",
        path=path,
        target="",
        detail="write create",
        bytes_read=0,
        bytes_written=1,
        outcome="ok",
    )


def noise(number: int, size: int = 4000) -> str:
    """A text that can't be compressed by more than a quarter, of our own making in each run."""
    return base64.b64encode(random.Random(number).randbytes(size * 3 // 4)).decode()


def opened(command: str) -> SessionOpened:
    """A command was started."""
    return SessionOpened(
        conn="c1", session="c1.1", user="amos", kind="exec", command=command, tty="", term="", pid=12, requested=command
    )


class Log:
    """A bus with shares; `lines` are what the log gets, `seen` what everybody else gets."""

    def __init__(self, keep_size: int = KEEP_SIZE) -> None:
        self.now = 1000.0
        self.lines: list[Record] = []
        self.seen: list[Record] = []
        self.bus = EventBus(lambda: self.now, lambda error: None, 0, Shares(lambda: keep_size))
        self.bus.subscribe(self._see)

    def _see(self, record: Record) -> None:
        self.seen.append(record)
        if record.seq:
            self.lines.append(record)

    def report(self, event: AnyEvent) -> None:
        """The process of an account says that this has happened."""
        self.bus.publish(event, FROM_A_PROCESS)

    def notices(self) -> list[int]:
        """How many events of an account are not logged, as the log says."""
        return [line.event.lost for line in self.lines if isinstance(line.event, AuditLimited)]

    def flood(self, user: str = "amos") -> int:
        """Write names of files until no more are logged; returns how many were not."""
        lost = 0
        while not lost:
            self.report(operation(noise(len(self.seen)), user))
            lost = self.seen[-1].seq == 0
        for number in range(500):
            self.report(operation(noise(number), user))
        return lost + 500


def test_a_flood_of_one_account_is_counted_and_takes_its_share_only() -> None:
    """Protects older lines: random names add no more than the share to the compressed log, and the log says so."""
    log = Log()
    lost = log.flood()
    paths = b"".join(msgspec.json.encode(line.event) for line in log.lines)
    assert SHARE / 2 < len(paths) * 3 / 4 < 1.3 * SHARE
    assert log.notices() == [0]
    assert [line.seq for line in log.lines] == list(range(1, len(log.lines) + 1))  # no gap
    assert sum(record.seq == 0 for record in log.seen) == lost
    log.report(ForwardOpened(conn="c1", user="amos", kind="direct-tcpip", target="127.0.0.1:80"))
    log.report(operation("/home/dev/a", "dev"))
    assert [record.seq for record in log.seen[-2:]] == [0, len(log.lines)]  # another account is not affected
    log.now += DAY / AGAIN
    log.report(operation("/home/amos/a"))
    assert log.notices() == [0, lost + 1]
    assert log.lines[-1].event == operation("/home/amos/a")


def test_the_count_is_told_when_the_client_leaves() -> None:
    """Protects the record of what is missing, also if the account never comes back."""
    log = Log()
    lost = log.flood()
    closed = ConnectionClosed(
        conn="c1", peer="203.0.113.9", user="amos", reason="", seconds=1.0, bytes_in=0, bytes_out=0
    )
    log.report(closed)
    log.report(closed)
    assert log.notices() == [0, lost]
    assert [line.event for line in log.lines[-2:]] == [closed, closed]


def test_sessions_are_always_logged_with_short_commands() -> None:
    """Protects who did what: above the share a command keeps its two ends, and its session its beginning and end."""
    log = Log()
    log.report(opened("x" * 1000))
    assert log.lines[-1].event == opened("x" * 1000)
    log.flood()
    for number in range(100):
        log.report(opened("rm -rf " + noise(number)))
        told = log.lines[-1].event
        assert isinstance(told, SessionOpened)
        assert told.command.startswith("rm -rf ")
        assert CUT in told.command
        assert len(told.command) == len(told.requested) == KEPT + len(CUT)
        log.report(opened("ls"))
        assert log.lines[-1].event == opened("ls")
        over: AnyEvent = SessionClosed(
            conn="c1",
            session="c1.1",
            user="amos",
            reason="exited",
            exit_status=0,
            exit_signal=None,
            bytes_in=0,
            bytes_out=0,
            seconds=1.0,
        )
        log.report(over)
        assert log.lines[-1].event == over


def test_an_honest_day_is_logged_whole() -> None:
    """A checkout of 100,000 files over SFTP takes less than a third of the default share: here a hundredth of both."""
    log = Log(1024**3 // 300)
    for number in range(1000):  # and 300 times as much in the whole share
        name = hashlib.sha256(b"%d" % number).hexdigest()[:12]
        log.report(operation(f"/home/amos/src/project/node_modules/package-{number // 20}/lib/{name}.js"))
        log.report(operation(f"/home/amos/src/project/node_modules/package-{number // 20}/lib/{name}.js"))
    assert all(record.seq for record in log.seen)
    assert log.notices() == []


def test_our_own_events_are_not_counted() -> None:
    """Only what a process of an account reports has a share."""
    log = Log()
    log.flood()
    log.bus.publish(operation("/home/amos/a"))
    assert log.lines[-1].event == operation("/home/amos/a")
