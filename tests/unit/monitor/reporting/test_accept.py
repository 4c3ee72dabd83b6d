"""monitor.reporting.accept: connections of people and programs on the machine."""

import asyncio
import contextlib
import socket
from pathlib import Path

from pyssh_gateway.monitor.reporting.accept import accept_each


def connected(path: Path) -> socket.socket:
    """A client's end."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(path))
    return sock


def test_a_stop_in_the_moment_of_an_arrival_is_silent(tmp_path: Path) -> None:
    """Protects the log: cancelling while a connection is just arriving is no error, and the next server gets it."""
    path = tmp_path / "sock"
    errors: list[object] = []
    taken: list[socket.socket] = []

    async def story(listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: errors.append(context))
        arrived = asyncio.Event()

        def take(sock: socket.socket) -> None:
            taken.append(sock)
            arrived.set()

        accepting = loop.create_task(accept_each(listening, take))
        first = connected(path)
        await arrived.wait()
        second = connected(path)
        # The loop sees the arrival and the cancellation in the same turn.
        loop.call_soon(accepting.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await accepting
        accepted, _ = listening.accept() if len(taken) == 1 else (taken[1], None)
        for sock in (first, second, accepted, *taken):
            sock.close()

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        asyncio.run(story(listening))
    assert errors == []
