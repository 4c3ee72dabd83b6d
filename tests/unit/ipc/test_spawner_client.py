"""The gateway's queue for the spawner: an account's many requests don't stand before another's one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc import spawner_client
from pyssh_gateway.ipc.spawner_client import STARTS_AT_ONCE, SpawnerClient, SpawnRefused
from tests.support.waiting import PATIENCE


def plan(user: str) -> LaunchPlan:
    """A process of `user`."""
    return LaunchPlan(user, b"/bin/sh", (b"sh",), {}, b"/", None, False)


@asynccontextmanager
async def client() -> AsyncIterator[tuple[SpawnerClient, socket.socket]]:
    """A client, and the spawner's end of its socket."""
    ours, theirs = protocol.socket_pair()
    theirs.setblocking(False)
    one = SpawnerClient(ours, asyncio.get_running_loop(), on_lost=lambda: None)
    with ours, theirs:
        yield one, theirs
        one.close()


async def request(end: socket.socket) -> protocol.Request:
    """The next request."""
    async with asyncio.timeout(PATIENCE):
        return protocol.decode_request(await asyncio.get_running_loop().sock_recv(end, protocol.MAX_MESSAGE))


async def spawn(one: SpawnerClient, user: str) -> str:
    """Why a process of `user` was refused."""
    with pytest.raises(SpawnRefused) as refused:
        await one.spawn(plan(user), lambda _exited: None)
    return str(refused.value)


def test_an_accounts_requests_wait_behind_its_own() -> None:
    """Protects a bystander: of another account's many requests a handful are on their way, one more for each answer."""

    async def go() -> None:
        async with client() as (one, spawner), asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(spawn(one, "eve")) for _ in range(3 * STARTS_AT_ONCE)]
            await asyncio.sleep(0)
            asked.append(tasks.create_task(spawn(one, "amos")))
            for _ in range(STARTS_AT_ONCE):
                came = await request(spawner)
                assert isinstance(came, protocol.Spawn)
                assert came.plan.user == "eve"
            came = await request(spawner)
            assert isinstance(came, protocol.Spawn)
            assert came.plan.user == "amos"
            with pytest.raises(BlockingIOError):
                spawner.recv(1)
            for number in range(1, len(asked) + 1):  # answered in the order of their numbers, whoever's they are
                spawner.send(protocol.encode(protocol.Refused(number, "no")))
                await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.gather(*asked) == ["no"] * len(asked)

    asyncio.run(go())


def test_a_turn_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the client of an account whose processes all hang on their way: it is told."""

    async def go() -> None:
        async with client() as (one, _), asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(spawn(one, "eve")) for _ in range(STARTS_AT_ONCE)]
            await asyncio.sleep(0)
            assert await spawn(one, "eve") == "too many processes of eve are being started"
            one.close()
            await asyncio.gather(*asked)

    monkeypatch.setattr(spawner_client, "TURN_SECONDS", 0.05)
    asyncio.run(go())
