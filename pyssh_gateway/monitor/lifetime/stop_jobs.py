"""Steps of a stop that the spawner runs: started, read, waited for and killed."""

import asyncio
import os

from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.ipc.spawner_client import Spawned, SpawnRefused
from pyssh_gateway.machine.stop import OK, NotStarted
from pyssh_gateway.system.signals import unix_name

KEPT_BYTES = 16 * 1024
"""How many bytes of a job's output are kept: a whole answer of Fly's, or the last lines of a command."""

READ_BYTES = 4096

PIPE_BYTES = 64 * 1024
"""How many bytes a full pipe of the default size has (pipe(7))."""


class SpawnerJobs:
    """A `machine.stop.Starter`, and one of `warnings`."""

    def __init__(self, spawner: MonitorSpawnerClient, loop: asyncio.AbstractEventLoop) -> None:
        self._spawner = spawner
        self._loop = loop

    async def command(self, index: int) -> "SpawnerJob":
        """Run a command of the configuration, as the account that started the server."""
        job = SpawnerJob(self._spawner, self._loop)
        try:
            job.attach(await self._spawner.run_hook(index, job.exited))
        except SpawnRefused as error:
            raise NotStarted(str(error)) from error
        return job

    async def warning(self, index: int, seconds: int, people: tuple[str, ...]) -> "SpawnerJob":
        """Run a command of `stop.warn`, as the account that started the server."""
        job = SpawnerJob(self._spawner, self._loop)
        try:
            job.attach(await self._spawner.run_warning(index, seconds, people, job.exited))
        except SpawnRefused as error:
            raise NotStarted(str(error)) from error
        return job

    async def suspend(self) -> "SpawnerJob":
        """Ask Fly's API."""
        job = SpawnerJob(self._spawner, self._loop)
        try:
            job.attach(await self._spawner.suspend(job.exited))
        except SpawnRefused as error:
            raise NotStarted(str(error)) from error
        return job


class SpawnerJob:
    """A `machine.stop.Job`: a process whose only descriptor is that of its output."""

    def __init__(self, spawner: MonitorSpawnerClient, loop: asyncio.AbstractEventLoop) -> None:
        self.output = b""
        self.outcome: str | None = None
        self._spawner = spawner
        self._loop = loop
        self._process: Spawned
        self._descriptor: int | None = None
        self._changed = asyncio.Event()

    def attach(self, process: Spawned) -> None:
        """The process runs: read what it writes."""
        self._process = process
        self._descriptor = process.descriptors[0]
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._read)

    def exited(self, exit_: Exited) -> None:
        """The process has been reaped. What it had written before is in the pipe."""
        for _ in range(PIPE_BYTES // READ_BYTES):  # no more: a process that it left behind may write for ever
            if not self._read():
                break
        if exit_.signal is not None:
            self.outcome = f"ended by {unix_name(exit_.signal)}"
        else:
            self.outcome = f"exit code {exit_.status}" if exit_.status else OK
        self._changed.set()

    async def wait(self) -> None:
        """Wait for more output, or the end."""
        await self._changed.wait()
        self._changed.clear()

    def kill(self) -> None:
        """End its process group."""
        self._spawner.kill(self._process)

    def close(self) -> None:
        """Stop reading."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self) -> bool:
        """Read once, without waiting; returns whether there may be more.

        A process that was left behind may hold the pipe open.
        """
        if self._descriptor is None:
            return False
        try:
            chunk = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        if not chunk:
            self._loop.remove_reader(self._descriptor)
            return False
        self.output = (self.output + chunk)[-KEPT_BYTES:]
        self._changed.set()
        return True
