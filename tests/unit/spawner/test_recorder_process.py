"""The recorder as the spawner sees it: when there is one, to whom it is connected, and what follows from its words."""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator

import pytest

from pyssh_gateway.core.recordings.rules import Bounds, Recording
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.recorder import Misbehaved, RecordAccount, RecordWithin
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.processes.server_process import ServerProcesses
from pyssh_gateway.spawner.recorder_process import PAUSES_SECONDS, Recorder
from pyssh_gateway.system.descriptors import close_all
from tests.support.spawning import INHERITED, ended
from tests.support.waiting import until

BOUNDS = Bounds(session_bytes=1, session_seconds=2, keep_seconds=3, keep_bytes=4)
AMOS = Recording(frozenset({"amos"}), BOUNDS)
NOBODY = Recording(frozenset(), BOUNDS)


def unused(*_arguments: object) -> int:
    """Stands for processes that are not started here."""
    raise AssertionError


def waits(control: socket.socket) -> int:
    """A recorder that obeys until the spawner has closed its socket, and is content."""
    while protocol.receive(control)[0]:
        pass
    return 0


def complains(control: socket.socket) -> int:
    """A recorder that is sent garbage by every account."""
    while packet := protocol.receive(control)[0]:
        order = messages.decode_order(packet)
        if isinstance(order, RecordAccount):
            control.send(messages.encode(Misbehaved(order.id, "garbage")))
    return 0


def babbles(control: socket.socket) -> int:
    """A recorder that was taken over."""
    control.send(b"garbage")
    signal.pause()
    return 0


class Rig:
    """A `Recorder` whose process runs `body`, with amos's and dev's postauth processes; the clock is moved by hand."""

    def __init__(self, body: Callable[[socket.socket], int]) -> None:
        self.now = 1000.0
        self.killed: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.links: dict[str, Link[protocol.PostauthRequest]] = {}
        self.ends: dict[str, socket.socket] = {}
        for user in ("amos", "dev"):
            ours, self.ends[user] = protocol.socket_pair()
            self.links[user] = Link(ours, protocol.decode_postauth_request)
            self.ends[user].setblocking(False)
        processes = ServerProcesses(unused, unused, unused, body, lambda: None, frozenset)
        self.recorder = Recorder(
            processes, INHERITED, self.links.items, lambda user, why: self.killed.append((user, why)), self.said.append
        )

    def permit(self, recording: Recording) -> None:
        """What a configuration says."""
        self.recorder.permit(recording, self.now)
        self.recorder.tick(self.now)

    @property
    def pid(self) -> int:
        """The recorder."""
        (pid,) = self.recorder.pids
        return pid

    def connected(self, user: str) -> int:
        """How many sockets to a recorder the account's process has been sent since the last call."""
        count = 0
        while True:
            try:
                packet, descriptors = protocol.receive(self.ends[user])
            except BlockingIOError:
                return count
            assert protocol.decode_report(packet) == protocol.NewRecorder()
            count += len(descriptors)
            close_all(descriptors)

    def turn(self) -> None:
        """Wait for the recorder's next word."""
        ((descriptor, events, act),) = self.recorder.watched()
        poller = select.poll()
        poller.register(descriptor, events)
        for _, happened in poller.poll(10_000):
            act(happened)

    def reap(self) -> None:
        """Wait for the recorder's end."""
        pid = self.pid
        status = until(lambda: os.waitpid(pid, os.WNOHANG), what="end of the recorder")[1]
        assert self.recorder.reaped(pid, status, self.now)

    def close(self) -> None:
        """Leave nothing behind."""
        self.recorder.leave()
        for pid in self.recorder.pids:
            self.recorder.kill()
            ended(pid)
        self.recorder.give_up()
        for end in self.ends.values():
            end.close()
        for link in self.links.values():
            link.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    """Makes a rig."""
    made: list[Rig] = []

    def begin(body: Callable[[socket.socket], int] = waits) -> Rig:
        made.append(Rig(body))
        return made[-1]

    yield begin
    for rig in made:
        rig.close()


def test_there_is_a_recorder_once_somebody_may_be_recorded(make: Callable[..., Rig]) -> None:
    """Protects machines that record nothing from a process; who is recorded after a reload is connected then."""
    rig = make()
    rig.permit(NOBODY)
    assert rig.recorder.pids == set()
    rig.permit(AMOS)
    assert rig.recorder.pids != set()
    assert (rig.connected("amos"), rig.connected("dev")) == (1, 0)
    rig.permit(Recording(frozenset({"amos", "dev"}), BOUNDS))
    assert (rig.connected("amos"), rig.connected("dev")) == (0, 1)
    rig.recorder.forget("amos")
    rig.recorder.introduce("amos", rig.links["amos"])
    assert rig.connected("amos") == 1, "the account's next process was not connected"


def test_the_recorder_knows_its_bounds_before_its_first_account(make: Callable[..., Rig]) -> None:
    """Protects what is kept: nothing is recorded or removed by other bounds than the configured ones."""

    def checks(control: socket.socket) -> int:
        first, second = (messages.decode_order(protocol.receive(control)[0]) for _ in range(2))
        is_right = first == RecordWithin(BOUNDS) and second == RecordAccount(1, "amos")
        control.send(messages.encode(Misbehaved(1, "right" if is_right else f"{first}, {second}")))
        return waits(control)

    rig = make(checks)
    rig.permit(AMOS)
    rig.turn()
    assert rig.killed[0][1].endswith(": right")


def test_a_recorder_that_dies_is_replaced(make: Callable[..., Rig]) -> None:
    """Protects recordings: the next one is there at once; if that dies, too, it takes longer each time."""
    rig = make()
    rig.permit(AMOS)
    for pause in PAUSES_SECONDS[:3]:
        rig.connected("amos")
        os.kill(rig.pid, signal.SIGKILL)
        rig.reap()
        assert rig.recorder.next_at() == rig.now + pause
        rig.recorder.tick(rig.now + pause - 0.01)
        assert rig.recorder.pids == set() or not pause
        rig.now += pause
        rig.recorder.tick(rig.now)
        assert rig.connected("amos") == 1
    assert "sessions go on" in rig.said[0]


def test_what_misbehaves_at_the_recorder_is_killed(make: Callable[..., Rig]) -> None:
    """Protects the recorder: a process that breaks its rules is ended, as one that breaks the spawner's is."""
    rig = make(complains)
    rig.permit(AMOS)
    rig.turn()
    assert rig.killed == [("amos", "it has sent the recorder what it may not: garbage")]


def test_a_recorder_that_was_taken_over_is_killed(make: Callable[..., Rig]) -> None:
    """Protects the spawner: anything but its one message ends the recorder, and nobody else."""
    rig = make(babbles)
    rig.permit(AMOS)
    rig.turn()
    rig.reap()
    assert rig.killed == []
    assert rig.recorder.next_at() is not None


def test_the_recorder_ends_when_all_is_written(make: Callable[..., Rig]) -> None:
    """Protects the end of recordings at a stop: the recorder is not killed, but told that nobody is left."""
    rig = make()
    rig.permit(AMOS)
    rig.recorder.leave()
    rig.reap()
    assert rig.recorder.next_at() is None
    assert rig.recorder.pids == set()
    assert rig.said == []
