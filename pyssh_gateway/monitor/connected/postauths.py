"""The postauth processes: one for each account with clients, started for its first login, ended when unused.

A process is never asked to leave while a login is on its way to it. A login that comes while a process is leaving waits
for that process's answer: either it stays, or another one is started.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from pyssh_gateway.events.bus import Publish
from pyssh_gateway.ipc.spawner_client import OnExit, Spawned, SpawnRefused
from pyssh_gateway.monitor.connected.client import PROCESS_ENDED, Client, ClientServices
from pyssh_gateway.monitor.connected.login import Login
from pyssh_gateway.monitor.connected.postauth_client import PostauthClient, Services
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.log.writing import LogWriting

UNUSED_SECONDS = 60.0
"""How long a process without connections stays, so that a person who works by single commands finds it at the next
login. It has 10 MiB of its own."""

LEAVE_SECONDS = 5.0
"""How long a process may take to leave, or to be gone after a kill, while a login waits. It has nothing left to do."""


class Spawner(Protocol):
    """What is asked of the spawner."""

    async def start_postauth(self, user: str, on_exit: OnExit) -> Spawned:
        """Start the process of the account `user`; its one descriptor is the socket to it. Raises `SpawnRefused`."""

    def kill(self, spawned: Spawned) -> None:
        """Kill a process."""


class Postauths:
    """All postauth processes, by account."""

    def __init__(
        self,
        spawner: Spawner,
        registry: Registry,
        signer: HostKeySigner,
        publish: Publish,
        loop: asyncio.AbstractEventLoop,
        *,
        log: LogWriting,
    ) -> None:
        self._spawner = spawner
        self._loop = loop
        self._services = Services(registry, signer, publish, log, spawner.kill, self._changed, loop)
        self._processes: dict[str, PostauthClient] = {}
        self._starting: dict[str, asyncio.Lock] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}
        self._has_adopted = False

    @asynccontextmanager
    async def process_of(self, user: str) -> AsyncIterator[PostauthClient]:
        """The process of the account, which stays at least until the block ends. Raises SpawnRefused."""
        lock = self._starting.setdefault(user, asyncio.Lock())
        async with lock:
            process = await self._running(user)
            process.in_flight += 1
        try:
            yield process
        finally:
            process.in_flight -= 1
            self._changed(process)

    async def _running(self, user: str) -> PostauthClient:
        """The one that runs, or a new one, once the one before has ended."""
        process = self._processes.get(user)
        if process is None:
            return await self._start(user)
        process.in_flight += 1  # so that it is not asked to leave again if it stays
        try:
            await process.until(lambda: process.state != "leaving", LEAVE_SECONDS)
        finally:
            process.in_flight -= 1
        if process.state == "running":
            return process
        process.kill()
        await process.until(process.exited.is_set, LEAVE_SECONDS)  # the spawner allows one for each account at a time
        if not process.exited.is_set():
            raise SpawnRefused(f"the process of {user} does not end")
        return await self._start(user)

    async def _start(self, user: str) -> PostauthClient:
        started: list[PostauthClient] = []

        def on_exit(exited: object) -> None:
            started[0].on_exit(exited)

        spawned = await self._spawner.start_postauth(user, on_exit)
        started.append(self._add(user, spawned, socket.socket(fileno=spawned.descriptors[0])))
        return started[0]

    def _add(self, user: str, spawned: Spawned, sock: socket.socket, *, taken_over: bool = False) -> PostauthClient:
        process = PostauthClient(user, spawned, sock, self._services, taken_over=taken_over)
        self._processes[user] = process
        return process

    def acknowledge(self) -> None:
        """The log is written from now on: say so to those that wait for that."""
        for process in self._processes.values():
            process.acknowledge()

    # -- out of use ---------------------------------------------------------------------------------------------

    def _changed(self, process: PostauthClient) -> None:
        """A process may be out of use now, or in use, or gone."""
        user = process.user
        is_unused = process.state == "running" and not process.clients and not process.in_flight
        if is_unused and user not in self._leaving:
            self._leaving[user] = self._loop.call_later(UNUSED_SECONDS, self._ask_to_leave, process)
        elif not is_unused and user in self._leaving:
            self._leaving.pop(user).cancel()

    def _ask_to_leave(self, process: PostauthClient) -> None:
        del self._leaving[process.user]
        process.leave()

    # -- another monitor was there before -----------------------------------------------------------------------

    def take_over(self, number: int, user: str, pid: int, sock: socket.socket) -> OnExit:
        """Take over a process that an earlier monitor has left; `adopt` says what it serves."""
        process = self._add(user, Spawned(number, pid, "", []), sock, taken_over=True)
        if self._has_adopted:  # too late for its connections, which are closed by now
            process.adopt({})
        return process.on_exit

    def adopt(self, left_behind: tuple[Login, ...], services: ClientServices) -> None:
        """Go on with these connections, if their processes are still there; the others are closed in the log."""
        self._has_adopted = True
        self._services.log.progress.keep({process.spawned.id for process in self._processes.values()})
        of_process: dict[int, dict[str, Client]] = {}
        processes = {process.spawned.id: process for process in self._processes.values()}
        for login in left_behind:
            process = processes.get(login.process)
            if process is None or process.user != login.user or process.state == "ended":
                Client(login, _Nobody(), services).closed(PROCESS_ENDED, goodbye=False)
                continue
            of_process.setdefault(login.process, {})[login.conn] = Client(login, process, services)
        self._services.registry.adopt(client for clients in of_process.values() for client in clients.values())
        for number, process in processes.items():
            process.adopt(of_process.get(number, {}))

    # -- the end ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The monitor leaves; the spawner ends what is still there."""
        for timer in self._leaving.values():
            timer.cancel()
        self._leaving.clear()
        for process in self._processes.values():
            process.close()


class _Nobody:
    """Stands for a process that is gone."""

    def tell(self, _message: object) -> None:
        """Nobody hears."""
