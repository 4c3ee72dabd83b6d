"""The clients' queues of requests to the spawner, and the reports that the spawner sends unasked."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc import spawner_client
from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient, OnTakeOver
from pyssh_gateway.ipc.spawner_client import STARTS_AT_ONCE, PostauthSpawnerClient, Spawned, SpawnRefused
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks
from tests.support.waiting import PATIENCE

EXITED = protocol.Exited(1, 0, None, core_dumped=False)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open."""
    with leaks.nothing_left_open():
        yield


def plan(user: str) -> LaunchPlan:
    """The plan of a process of `user`."""
    return LaunchPlan(user, b"/bin/sh", (b"sh",), {}, b"/", None, False)


class Postauth:
    """The client in a postauth process, the spawner's end of its socket, and what the client reported."""

    def __init__(self) -> None:
        ours, self.spawner = protocol.socket_pair()
        self.spawner.setblocking(False)
        self.exited: asyncio.Queue[protocol.Exited] = asyncio.Queue()
        self.monitors: asyncio.Queue[socket.socket] = asyncio.Queue()
        self.lost = asyncio.Event()
        loop = asyncio.get_running_loop()
        self.recorders: asyncio.Queue[socket.socket] = asyncio.Queue()
        put, record = self.monitors.put_nowait, self.recorders.put_nowait
        self.client = PostauthSpawnerClient(ours, loop, self.lost.set, put, record)

    async def spawn(self) -> str:
        """Start a process that will be refused; returns the reason."""
        with pytest.raises(SpawnRefused) as refused:
            await self.client.spawn(plan("amos"), self.exited.put_nowait)
        return str(refused.value)

    async def spawned(self, pid: int) -> Spawned:
        """A process for which the spawner reports the pid `pid`."""
        asked = asyncio.ensure_future(self.client.spawn(plan("amos"), self.exited.put_nowait))
        came = await request(self.spawner)
        self.spawner.send(protocol.encode(protocol.Spawned(came.id, pid, "")))
        return await asked


@asynccontextmanager
async def postauth() -> AsyncIterator[Postauth]:
    """A client that is closed at the end."""
    one = Postauth()
    with one.spawner:
        async with asyncio.timeout(PATIENCE):
            yield one
        one.client.close()


@asynccontextmanager
async def monitor(on_take_over: OnTakeOver | None = None) -> AsyncIterator[tuple[MonitorSpawnerClient, socket.socket]]:
    """The monitor's client, and the spawner's end of its socket."""
    ours, theirs = protocol.socket_pair()
    theirs.setblocking(False)
    loop = asyncio.get_running_loop()
    one = MonitorSpawnerClient(ours, loop, on_lost=lambda: None, on_take_over=on_take_over)
    with theirs:
        async with asyncio.timeout(PATIENCE):
            yield one, theirs
        one.close()


async def request(end: socket.socket) -> protocol.Request:
    """The next request."""
    async with asyncio.timeout(PATIENCE):
        packet = await asyncio.get_running_loop().sock_recv(end, protocol.MAX_MESSAGE)
    try:
        return protocol.decode_monitor_request(packet)
    except protocol.ProtocolError:
        return protocol.decode_postauth_request(packet)


def test_requests_wait_for_their_turn() -> None:
    """Protects the spawner from an account's many sessions: a few requests are sent, one more after each answer."""

    async def go() -> None:
        async with postauth() as one, asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one.spawn()) for _ in range(3 * STARTS_AT_ONCE)]
            for _ in range(STARTS_AT_ONCE):
                assert isinstance(await request(one.spawner), protocol.Spawn)
            with pytest.raises(BlockingIOError):
                one.spawner.recv(1)
            for number in range(1, len(asked) + 1):
                one.spawner.send(protocol.encode(protocol.Refused(number, "no")))
                await asyncio.sleep(0)
            assert await asyncio.gather(*asked) == ["no"] * len(asked)

    asyncio.run(go())


def test_a_turn_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the client of an account whose processes all hang while they start: it gets an error."""

    async def go() -> None:
        async with postauth() as one, asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(one.spawn()) for _ in range(STARTS_AT_ONCE)]
            await asyncio.sleep(0)
            assert await one.spawn() == "too many processes of amos are being started"
            one.client.close()
            await asyncio.gather(*asked)

    monkeypatch.setattr(spawner_client, "TURN_SECONDS", 0.05)
    asyncio.run(go())


def test_signals_reach_a_process_until_its_exit_is_told() -> None:
    """Protects a process that got the pid of one that ended: a signal is only sent to a process known to run."""

    async def go(child: subprocess.Popen[bytes]) -> None:
        async with postauth() as one:
            spawned = await one.spawned(child.pid)
            one.spawner.send(protocol.encode(EXITED))
            assert await one.exited.get() == EXITED
            one.client.signal(spawned, signal.SIGKILL)
            assert child.poll() is None
            spawned = await one.spawned(child.pid)
            one.client.signal(spawned, signal.SIGTERM)
            assert await asyncio.to_thread(child.wait, PATIENCE) == -signal.SIGTERM
            one.client.signal(spawned, signal.SIGTERM)  # it has ended, and its exit is not reported yet

    with subprocess.Popen(["/bin/sleep", "100"], start_new_session=True) as child:
        asyncio.run(go(child))


def test_another_monitor_comes_with_its_socket() -> None:
    """Protects the connection to a new monitor, after the previous one died."""

    async def go() -> None:
        async with postauth() as one:
            here, there = protocol.socket_pair()
            socket.send_fds(one.spawner, [protocol.encode(protocol.NewMonitor())], [there.fileno()])
            there.close()
            with await one.monitors.get() as got, here:
                got.send(b"x")
                assert here.recv(1) == b"x"
            assert not one.lost.is_set()

    asyncio.run(go())


def test_a_process_that_is_taken_over() -> None:
    """Protects a new monitor's control of running postauth processes: it gets socket and exit, and can kill them."""

    async def go() -> None:
        took: asyncio.Queue[tuple[int, str, int, socket.socket]] = asyncio.Queue()
        exited: asyncio.Queue[protocol.Exited] = asyncio.Queue()

        def take(number: int, user: str, pid: int, end: socket.socket) -> spawner_client.OnExit:
            took.put_nowait((number, user, pid, end))
            return exited.put_nowait

        async with monitor(take) as (one, spawner):
            here, there = protocol.socket_pair()
            socket.send_fds(spawner, [protocol.encode(protocol.TakeOver(7, "amos", 4321))], [there.fileno()])
            there.close()
            number, user, pid, end = await took.get()
            with end, here:
                assert (number, user, pid) == (7, "amos", 4321)
                end.send(b"x")
                assert here.recv(1) == b"x"
            one.kill(Spawned(7, pid, "", []))
            asked = await request(spawner)
            assert isinstance(asked, protocol.Kill)
            assert (asked.process, asked.id) == (7, 8)  # request numbers continue after those that are in use
            gone = protocol.Exited(7, None, signal.SIGKILL, core_dumped=False)
            spawner.send(protocol.encode(gone))
            assert await exited.get() == gone
            one.kill(Spawned(7, pid, "", []))
            with pytest.raises(BlockingIOError):
                spawner.recv(1)

    asyncio.run(go())


def test_a_process_that_cannot_be_taken_over_is_killed() -> None:
    """Protects the machine from a process that nobody could ask to leave: it is killed."""

    async def go() -> None:
        async with monitor() as (one, spawner):
            spawner.send(protocol.encode(protocol.TakeOver(7, "amos", 4321)))
            asked = await request(spawner)
            assert isinstance(asked, protocol.Kill)
            assert asked.process == 7
            del one

    asyncio.run(go())


def test_a_monitor_starts_processes_for_strangers_and_accounts() -> None:
    """Protects what the monitor learns of a new process (number, pid, socket), and whether the account may be used."""

    async def go() -> None:
        async with monitor() as (one, spawner):
            reader, writer = os.pipe()
            for asking in (one.start_preauth(lambda _exited: None), one.start_postauth("amos", lambda _exited: None)):
                starting = asyncio.ensure_future(asking)
                asked = await request(spawner)
                assert isinstance(asked, protocol.StartPreauth | protocol.StartPostauth)
                socket.send_fds(spawner, [protocol.encode(protocol.Spawned(asked.id, 77, ""))], [writer])
                spawned = await starting
                assert (spawned.id, spawned.pid, len(spawned.descriptors)) == (asked.id, 77, 1)
                close_all(spawned.descriptors)
            close_all([reader, writer])
            waiting = asyncio.ensure_future(one.await_account("amos"))
            asked = await request(spawner)
            assert isinstance(asked, protocol.AwaitAccount)
            spawner.send(protocol.encode(protocol.AccountReady(asked.id, b"closed for today\n")))
            assert await waiting == b"closed for today\n"

    asyncio.run(go())
