"""The recorder's loop: what one account can take from the others, and what a full table of descriptors costs."""

import base64
import errno
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.recorder import Closed, FromRecorder, Opened, RecordAccount, RecordWithin
from pyssh_gateway.ipc.spawner import socket_pair
from pyssh_gateway.recorder.account import CROWDED, MOST_BEGINNINGS
from pyssh_gateway.recorder.files import BLOCK
from pyssh_gateway.recorder.main import Recorder
from pyssh_gateway.recorder.recording import ROOM_TAKEN, Times
from tests.support.recordings import beginning, packet


class Rig:
    """A recorder, for which everything that it will hear is in its sockets before it runs."""

    def __init__(self, stack: ExitStack, blocks: int = 1000) -> None:
        self._stack = stack
        self._control, self.theirs = map(stack.enter_context, socket_pair())
        bounds = Bounds(session_bytes=2**30, session_seconds=3600, keep_seconds=3600, keep_bytes=blocks * BLOCK)
        self._control.send(messages.encode(RecordWithin(bounds)))

    def account(self, number: int, name: str) -> socket.socket:
        """An account's process."""
        ours, process = socket_pair()
        self._stack.enter_context(process)
        with ours:
            socket.send_fds(self._control, [messages.encode(RecordAccount(number, name))], [ours.fileno()])
        process.setblocking(False)
        return process

    def run(self, *processes: socket.socket, most_recordings: int = 100) -> list[list[FromRecorder]]:
        """Run the recorder until it has done everything, and return what each process was answered."""
        for process in processes:
            process.shutdown(socket.SHUT_WR)
        self._control.shutdown(socket.SHUT_WR)
        times = Times(time.monotonic, time.time)
        assert Recorder(self.theirs, times, most_recordings=most_recordings).run() == 0
        return [[messages.decode(each) for each in iter(lambda: process.recv(4096), b"")] for process in processes]  # noqa: B023 - called within the turn of the loop


def noise() -> bytes:
    """Output of 76,000 bytes that zstd makes little less of than 57,000."""
    return base64.b64encode(os.urandom(57_000))


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """For sockets. The directory of recordings is the working directory, as in the process."""
    monkeypatch.chdir(tmp_path)
    with ExitStack() as made:
        yield made


def test_open_sessions_cost_nobody_else_a_recording(stack: ExitStack) -> None:
    """Protects the recordings of others: an account that fills the disk with sessions that go on loses these."""
    victims = [Path("dev", f"c{number}.1.cast.zst") for number in range(3)]
    victims[0].parent.mkdir()
    for path in victims:
        path.write_bytes(b"x")
    rig = Rig(stack, blocks=14)
    amos = rig.account(1, "amos")
    for number in (1, 2):  # more than one block of zstd each, of 128 KiB
        amos.send(packet((number, "begin", 0, beginning(f"c9.{number}")), (number, "output", 0, noise())))
        amos.send(packet((number, "output", 0, noise())))
    (answers,) = rig.run(amos)
    assert all(path.exists() for path in victims)
    ended = [answer.reason for answer in answers if isinstance(answer, Closed)]
    assert (ended[0], len(ended)) == (ROOM_TAKEN, 2)
    assert len(list(Path("amos").iterdir())) == 1


def test_every_account_has_a_share_of_the_places(stack: ExitStack) -> None:
    """Protects the sessions of others: the account with the most recordings gives one up, and nobody takes all."""
    rig = Rig(stack)
    amos, dev = rig.account(1, "amos"), rig.account(2, "dev")
    amos.send(packet(*((number, "begin", 0, beginning(f"c1.{number}")) for number in range(1, 5))))
    for _ in range(10):  # it is still there when the other one comes
        amos.send(packet((1, "resize", 0, messages.terminal_size(80, 24))))
    dev.send(packet(*((number, "begin", 0, beginning(f"c2.{number}")) for number in range(1, 4))))
    of_amos, of_dev = rig.run(amos, dev, most_recordings=4)
    assert [answer.recording for answer in of_amos if isinstance(answer, Closed) and answer.reason == CROWDED] == [4, 3]
    assert of_dev[:3] == [Opened(1, "dev/c2.1.cast.zst"), Opened(2, "dev/c2.2.cast.zst"), Closed(3, CROWDED, 0)]


def test_the_rest_of_a_packet_is_served_without_another_one(stack: ExitStack) -> None:
    """Protects recordings: those whose beginning has to wait for a turn get it."""
    rig = Rig(stack)
    amos = rig.account(1, "amos")
    begun = 3 * MOST_BEGINNINGS
    amos.send(packet(*((number, "begin", 0, beginning(f"c{number}.1")) for number in range(1, begun + 1))))
    (answers,) = rig.run(amos)
    assert sum(isinstance(answer, Opened) for answer in answers) == begun


def test_a_full_table_of_descriptors_costs_one_account_its_recordings(
    stack: ExitStack, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects the recordings of everybody else: the recorder says whose sessions it can't record, and goes on."""
    rig = Rig(stack)
    amos = rig.account(1, "amos")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))  # noqa: PTH208 - the names are numbers, and all that is wanted
    while True:
        try:
            stack.callback(os.close, os.dup(0))
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - the loop ends with it
            break
    assert rig.run(amos) == [[]], "its process is not told that there is no recorder for it"
    assert capsys.readouterr().err == "the sessions of amos are not recorded: no descriptors are left\n"
