"""The rehearsal of a process that was forked ahead, before it is assigned to an account."""

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
    """Protects the account that gets the process: no descriptor or task of the rehearsal's refused command is left."""
    asyncio.run(rehearsal.rehearse(real))
    before = leaks.own()
    asyncio.run(rehearsal.rehearse(real))
    leaks.check_own(before)


def test_a_rehearsal_gets_as_far_as_the_command() -> None:
    """Protects the rehearsal's use: it must get as far as a request to the spawner to prepare a first command."""
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
    """Protects a login that already waits: a rehearsal that hangs is cancelled, as its process could not serve it."""
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
