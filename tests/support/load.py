"""A person at work on the real server: output of which no byte may be lost, a forward, one login after another.

A test can ask a `Load` whether the work goes on; it checks that new bytes arrive.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncssh

from tests.support.client import Client
from tests.support.waiting import PATIENCE

COUNTING = "i=0; while :; do for k in 1 2 3 4 5 6 7 8; do echo $((i+=1)); done; sleep 0.01; done"
"""Prints 1, 2, 3, ..., some hundred lines a second."""

STEPS = 20
"""Lines and echoes to wait for: more than the client, the network and the server can have had on their way."""


class Load:
    """The work of one account on one connection.

    `lines`, `echoes` and `logins` count what has been done, and `refused` counts failed logins; all received bytes were
    correct. `ended` is set when the connection is over.
    """

    def __init__(self, client: Client, user: str) -> None:
        self.user = user
        self.lines = self.echoes = self.logins = self.refused = 0
        self.ended = asyncio.Event()
        self._client = client
        self._changed = asyncio.Condition()

    async def goes_on(self) -> None:
        """Wait until both session and forward have brought more than could have been on its way; fail if they end."""
        lines, echoes = self.lines + STEPS, self.echoes + STEPS
        await self._until(lambda: self.ended.is_set() or (self.lines >= lines and self.echoes >= echoes))
        assert not self.ended.is_set(), f"{self.user}: ended after {self.lines} lines and {self.echoes} echoes"

    async def logs_in(self) -> None:
        """Wait for a login that has not begun yet to succeed."""
        logins = self.logins + 2
        await self._until(lambda: self.logins >= logins)

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(done)

    async def _step(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def work(self, connection: asyncssh.SSHClientConnection) -> None:
        """Everything at once, until the connection ends or the task is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._read(connection))
                tasks.create_task(self._echo(connection))
        finally:
            self.ended.set()
            await self._step()

    async def _read(self, connection: asyncssh.SSHClientConnection) -> None:
        with suppress(asyncssh.Error, OSError):
            process = await connection.create_process(COUNTING)
            while line := await process.stdout.readline():
                self.lines += 1
                assert line == f"{self.lines}\n", f"{line!r} instead of line {self.lines} of {self.user}"
                await self._step()

    async def _echo(self, connection: asyncssh.SSHClientConnection) -> None:
        async with _echo_server() as port:
            with suppress(asyncssh.Error, OSError):
                reader, writer = await connection.open_connection("127.0.0.1", port)
                while True:
                    sent = b"%08d" % self.echoes
                    writer.write(sent)
                    came = await reader.read(len(sent))
                    if not came:
                        return
                    while len(came) < len(sent):
                        came += await reader.read(len(sent) - len(came))
                    assert came == sent, f"{came!r} instead of {sent!r} on the forward of {self.user}"
                    self.echoes += 1
                    await self._step()

    async def log_in_for_ever(self) -> None:
        """Log in and run a command, again and again."""
        while True:
            try:
                async with (
                    asyncio.timeout(PATIENCE),
                    self._client.connect(username=self.user) as connection,
                ):
                    await connection.run("true", check=True)
                self.logins += 1
            except (asyncssh.Error, OSError):
                self.refused += 1
            await self._step()
            await asyncio.sleep(0)


@asynccontextmanager
async def load(client: Client, user: str) -> AsyncIterator[Load]:
    """Work of `user` that runs until the context ends."""
    working = Load(client, user)
    async with client.connect(username=user) as connection:
        tasks = [
            asyncio.ensure_future(working.work(connection)),
            asyncio.ensure_future(working.log_in_for_ever()),
        ]
        try:
            await working.goes_on()
            await working.logs_in()
            yield working
        finally:
            failed = [task.exception() for task in tasks if task.done() and not task.cancelled()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            connection.abort()
        assert not any(failed), failed


@asynccontextmanager
async def _echo_server() -> AsyncIterator[int]:
    """A TCP server that sends everything back; its port."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            while data := await reader.read(1000):
                writer.write(data)
        except (OSError, asyncio.CancelledError):
            pass  # the connection is over
        finally:
            writer.transport.abort()
            serving.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        while serving:
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)
            await asyncio.sleep(0)  # lets the loop close its socket
