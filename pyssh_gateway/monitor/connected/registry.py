"""The one table of live connections: strangers, clients, and the processes that serve clients.

Clients are written into the memory that the next monitor gets, before their process is told of them. So that monitor
need not believe any process about who is on.
"""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import msgspec

from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.monitor.clients import Session, Stranger
from pyssh_gateway.monitor.connected.client import Client
from pyssh_gateway.monitor.connected.login import Login
from pyssh_gateway.monitor.connected.registry_file import MOST_BYTES, RegistryFile, RegistryFull

LOOK_SECONDS = 0.25
"""How long a look at what clients have done may take. A process that is served answers within a millisecond; one that
its user has stopped never does, and that is no use of the machine."""

ACCOUNT_BYTES = MOST_BYTES // 2
"""How much of the memory one account's connections may take, so that it does not keep the others out."""

_entry = msgspec.msgpack.Encoder()
_entries = msgspec.msgpack.Decoder(tuple[Login, ...])


class Process(Protocol):
    """A postauth process."""

    def tell(self, message: ipc.FromMonitor) -> None:
        """Send it a message; nothing waits for it."""

    def report(self) -> "asyncio.Future[None]":
        """Have it tell what its connections have done; done when it has, or has ended."""


class Registry:
    """All connections, before their logins and after. Views are copies: entries go meanwhile."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file
        self._strangers: dict[str, Stranger] = {}
        self._clients: dict[str, Client] = {}
        self._kept: dict[str, bytes] = {}
        self.processes: set[Process] = set()

    def left_behind(self) -> tuple[Login, ...]:
        """The logins of the monitor before; none if there was none. To be asked before anybody comes."""
        block = self._file.read()
        try:
            return _entries.decode(block) if block else ()
        except msgspec.MsgspecError:  # of another version of this program, which a restart of the spawner would end
            return ()

    def adopt(self, clients: Iterable[Client]) -> None:
        """These go on, of those that the monitor before has left behind, and no others."""
        for client in clients:
            self._clients[client.id] = client
            self._kept[client.id] = _entry.encode(client.login)
        self._write()

    # -- strangers ----------------------------------------------------------------------------------------------

    def add_stranger(self, conn: str, stranger: Stranger) -> None:
        """A connection is served on which nobody has authenticated."""
        self._strangers[conn] = stranger

    def remove_stranger(self, conn: str) -> None:
        """It is over, or somebody has authenticated."""
        self._strangers.pop(conn, None)

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """Connections on which nobody has authenticated yet."""
        return tuple(self._strangers.values())

    # -- clients ------------------------------------------------------------------------------------------------

    def enter(self, client: Client) -> None:
        """Somebody is logging in. Raises RegistryFull, and then they are not."""
        kept = _entry.encode(client.login)
        others = [
            len(self._kept[conn]) for conn, other in self._clients.items() if other.login.user == client.login.user
        ]
        if sum(others) + len(kept) > ACCOUNT_BYTES:
            raise RegistryFull
        self._kept[client.id] = kept
        try:
            self._write()
        except RegistryFull:
            del self._kept[client.id]
            raise
        self._clients[client.id] = client

    def keep(self, client: Client) -> None:
        """Something that is known of a client has changed."""
        if client.id in self._clients:
            before, self._kept[client.id] = self._kept[client.id], _entry.encode(client.login)
            try:
                self._write()
            except RegistryFull:  # by the few bytes of what has been told: the next monitor goes without them
                self._kept[client.id] = before

    def leave(self, client: Client) -> None:
        """The connection is gone."""
        if self._clients.pop(client.id, None) is not None:
            del self._kept[client.id]
            self._write()

    @property
    def clients(self) -> tuple[Client, ...]:
        """Those who are on. A connection counts from when its process has told its client so."""
        return tuple(client for client in self._clients.values() if client.user)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Every session of every connection."""
        return tuple(session for client in self._clients.values() for session in client.sessions.values())

    def _write(self) -> None:
        self._file.write(msgspec.msgpack.encode([msgspec.Raw(kept) for kept in self._kept.values()]))

    # -- their processes ----------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Ask all processes what their connections have done, and wait for their answers, for `LOOK_SECONDS`."""
        reports = [process.report() for process in self.processes]
        if reports:
            await asyncio.wait(reports, timeout=LOOK_SECONDS)

    def announce(self, text: str) -> None:
        """Say something on every terminal of every session."""
        self._tell_all(ipc.Announce("", text))

    def hang_up(self) -> None:
        """Send every terminal's processes SIGHUP: the server stops."""
        self._tell_all(ipc.HangUp())

    def disconnect(self, reason: str) -> None:
        """Say goodbye to everybody who is on, and close."""
        self._tell_all(ipc.EndConnection("", reason))

    def _tell_all(self, message: ipc.FromMonitor) -> None:
        for process in tuple(self.processes):
            process.tell(message)
