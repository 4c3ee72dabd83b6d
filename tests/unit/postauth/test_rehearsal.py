"""What a process that was forked ahead goes through before it is an account's."""

import asyncio
import os
import socket

import pytest

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.postauth import rehearsal
from pyssh_gateway.postauth.main import LEFT, Postauth
from tests.support import leaks


async def real(monitor: socket.socket, spawner: socket.socket) -> int:
    """The postauth process itself."""
    return await Postauth(monitor, spawner, asyncio.get_running_loop()).run()


def test_a_rehearsal_leaves_nothing_behind() -> None:
    """Protects the account that comes next: a command was refused, and no descriptor or task is left of it."""
    asyncio.run(rehearsal.rehearse(real))
    before = leaks.own()
    asyncio.run(rehearsal.rehearse(real))
    leaks.check_own(before)


def test_a_rehearsal_gets_as_far_as_the_command() -> None:
    """Protects its use: what does not get to the spawner has touched little of what a first command needs."""
    asked: list[bytes] = []

    async def watched(monitor: socket.socket, spawner: socket.socket) -> int:
        ours, theirs = protocol.socket_pair()
        loop = asyncio.get_running_loop()
        for end in (ours, spawner):
            end.setblocking(False)
        serving = asyncio.ensure_future(real(monitor, theirs))
        asked.append(await loop.sock_recv(ours, protocol.MAX_MESSAGE))
        await loop.sock_sendall(spawner, asked[0])
        ours.send(await loop.sock_recv(spawner, protocol.MAX_MESSAGE))
        code = await serving
        ours.close()
        spawner.close()
        return code

    asyncio.run(rehearsal.rehearse(watched))
    (request,) = map(protocol.decode_postauth_request, asked)
    assert request.plan.argv[-1] == b"true"
    assert request.plan.env[b"LANG"] == b"C.UTF-8"


def test_a_rehearsal_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the login that waits by now: a process that is stuck in it would never be anybody's."""
    monkeypatch.setattr(rehearsal, "SECONDS", 0.05)
    ended: list[int] = []

    async def deaf(monitor: socket.socket, spawner: socket.socket) -> int:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            monitor.close()
            spawner.close()
            ended.append(os.getpid())
        return LEFT

    with pytest.raises(TimeoutError):
        asyncio.run(rehearsal.rehearse(deaf))
    assert ended == [os.getpid()]
