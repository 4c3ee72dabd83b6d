"""The one table of live connections: strangers, clients, and the processes that serve clients.

Clients are written into the memory file that the next monitor gets, before their process is told of them. So the next
monitor need not believe any process about who is logged in.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.monitor.clients import Session, Stranger
from pyssh_gateway.monitor.connected.client import Client
from pyssh_gateway.monitor.connected.login import Login
from pyssh_gateway.monitor.connected.registry_file import MOST_BYTES, RegistryFile, RegistryFull

LOOK_SECONDS = 0.25
"""How long to wait for the reports of what clients have done. A process that runs answers within a millisecond. One
that its user has stopped never does, and is killed later (`postauth_client.SILENT_SECONDS`)."""

ACCOUNT_BYTES = MOST_BYTES // 2
"""How much of the memory file one account's connections may take, so that it does not keep the others out."""

_entry = msgspec.msgpack.Encoder()
_entries = msgspec.msgpack.Decoder(tuple[Login, ...])


class Process(Protocol):
    """A postauth process."""

    @property
    def clients(self) -> Mapping[str, Client]:
        """Its connections, by their names in the log."""

    def tell(self, message: ipc.FromMonitor) -> None:
        """Send it a message; nothing waits for it."""

    def report(self) -> "asyncio.Future[None]":
        """Request a report of what its connections have done; done when it has answered, or has ended."""


class Registry:
    """All connections, before their logins and after. Views are copies, because entries may go meanwhile."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file
        self._strangers: dict[str, Stranger] = {}
        self._clients: dict[str, Client] = {}
        self._kept: dict[str, bytes] = {}
        self.processes: set[Process] = set()

    def left_behind(self) -> tuple[Login, ...]:
        """The logins of the earlier monitor; none if there was none. To be called before anybody connects."""
        block = self._file.read()
        try:
            return _entries.decode(block) if block else ()
        except msgspec.MsgspecError:  # of another version of this program, which a restart of the spawner would end
            return ()

    def adopt(self, clients: Iterable[Client]) -> None:
        """Keep these clients, of those that the earlier monitor has left behind, and no others."""
        for client in clients:
            self._clients[client.id] = client
            self._kept[client.id] = _entry.encode(client.login)
        self._write()

    # -- strangers ----------------------------------------------------------------------------------------------

    def add_stranger(self, conn: str, stranger: Stranger) -> None:
        """Add a connection on which nobody has authenticated."""
        self._strangers[conn] = stranger

    def remove_stranger(self, conn: str) -> None:
        """Remove it: it is over, or somebody has authenticated."""
        self._strangers.pop(conn, None)

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        """Connections on which nobody has authenticated yet."""
        return tuple(self._strangers.values())

    # -- clients ------------------------------------------------------------------------------------------------

    def enter(self, client: Client) -> None:
        """Add a client that is logging in. Raises RegistryFull, and then it is not added."""
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
        """Write down what has changed about a client."""
        if client.id in self._clients:
            before, self._kept[client.id] = self._kept[client.id], _entry.encode(client.login)
            try:
                self._write()
            except RegistryFull:  # by the few new bytes: the next monitor does without what they say
                self._kept[client.id] = before

    def count_as_used(self, on_probation: frozenset[str]) -> None:
        """Write down that all clients but these, and those that are just logging in, have shown a person."""
        for client in self.clients:
            if client.login.probation is not None and client.id not in on_probation:
                client.login = msgspec.structs.replace(client.login, probation=None)
                self.keep(client)

    def leave(self, client: Client) -> None:
        """Remove a client whose connection is gone."""
        if self._clients.pop(client.id, None) is not None:
            del self._kept[client.id]
            self._write()

    @property
    def clients(self) -> tuple[Client, ...]:
        """Logged-in clients. A connection counts from when its process has told its client that it has logged in."""
        return tuple(client for client in self._clients.values() if client.user)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """Every session of every connection."""
        return tuple(session for client in self._clients.values() for session in client.sessions.values())

    def _write(self) -> None:
        self._file.write(msgspec.msgpack.encode([msgspec.Raw(kept) for kept in self._kept.values()]))

    # -- their processes ----------------------------------------------------------------------------------------

    async def look(self, seconds: float | None = None) -> frozenset[str]:
        """Ask all processes what their connections have done, and wait for their answers, usually for `LOOK_SECONDS`.

        Returns the connections of the processes that have not answered.
        """
        asked = {process.report(): process for process in self.processes}
        if not asked:
            return frozenset()
        _, silent = await asyncio.wait(asked, timeout=LOOK_SECONDS if seconds is None else seconds)
        return frozenset(conn for answer in silent for conn in asked[answer].clients)

    def announce(self, text: str) -> None:
        """Show a text on every terminal of every session."""
        self._tell_all(ipc.Announce("", text))

    def show_on(self, lines: tuple[str, ...], text: str) -> None:
        """Show a text on these terminals, of which each process takes its own account's."""
        self._tell_all(ipc.ShowOn(lines, text))

    def hang_up(self) -> None:
        """Send SIGHUP to the processes of every terminal: the server stops."""
        self._tell_all(ipc.HangUp())

    def disconnect(self, reason: str) -> None:
        """Say goodbye to all logged-in clients, and close."""
        self._tell_all(ipc.EndConnection("", reason))

    def _tell_all(self, message: ipc.FromMonitor) -> None:
        for process in tuple(self.processes):
            process.tell(message)
