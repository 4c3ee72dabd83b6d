"""One postauth process: the messages to it, and what is done about the messages from it.

A process has the rights of its account, and the account's user may have taken it over. It may speak for the connections
that were handed to it and for no others; the monitor knows whose they are. A process that breaks this rule is killed.

A process keeps its reports until it is told that they are in the log, and sends them to the next monitor again. Each is
logged once: the memory file says which of them an earlier monitor has written (`log_progress`).
"""

import asyncio
import secrets
import socket
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import msgspec

from pyssh_gateway.events import (
    AnyEvent,
    ConnectionClosed,
    FileOperation,
    ForwardClosed,
    InternalError,
    Origin,
    RecordingEnded,
    RecordingStarted,
    SessionClosed,
    SessionExited,
)
from pyssh_gateway.events.bus import Publish
from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.ipc.message_socket import MessageSocket
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.ipc.spawner_client import Spawned
from pyssh_gateway.monitor.connected.client import PROCESS_ENDED, PROCESS_SILENT, Client
from pyssh_gateway.monitor.connected.login import Login
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.connected.report_queue import Report, ReportQueue
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.log.writing import LogWriting

SILENT_SECONDS = 30.0
"""How long a process may take for a report before it is killed. Its user may have stopped it, and then it does nothing
of what it has promised its clients."""

REPORT_SECONDS = 30.0
"""How often a report is requested if nobody else asks for one, so that a process that was stopped is noticed."""

MAX_PAST = 256
"""How many connections are remembered after their end: a file server reports its last operations when its client has
gone."""

AFTERWARDS = (FileOperation, ForwardClosed, RecordingEnded, RecordingStarted, SessionExited, SessionClosed)
"""Events that may be reported of a connection that is closed."""

State = Literal["running", "leaving", "ended"]


class Services(msgspec.Struct, frozen=True):
    """What a process needs. `kill` has the spawner end it; `on_change` hears that it may be unused, or has ended."""

    registry: Registry
    signer: HostKeySigner
    publish: Publish
    log: LogWriting
    kill: Callable[[Spawned], None]
    on_change: Callable[["PostauthClient"], None]
    loop: asyncio.AbstractEventLoop


class PostauthClient:
    """The monitor's end. `clients` are its connections; `in_flight` logins are on their way to it.

    `state` is "leaving" from when it was asked to leave until it has answered; `changed` is set at every change of it,
    and `exited` when the spawner has reaped the process. A process that was `taken_over` from an earlier monitor is not
    read until `adopt` has said which connections are its own, because many of its messages may be waiting.
    """

    def __init__(
        self, user: str, spawned: Spawned, sock: socket.socket, services: Services, *, taken_over: bool = False
    ) -> None:
        self.user = user
        self.spawned = spawned
        self.clients: dict[str, Client] = {}
        self.in_flight = 0
        self.state: State = "running"
        self.changed = asyncio.Event()
        self.exited = asyncio.Event()
        self._services = services
        self._loop = services.loop
        self._past: OrderedDict[str, Login] = OrderedDict()
        self._adopted: set[str] | None = None
        self._logged_before = services.log.progress.logged_of(spawned.id) if taken_over else 0
        self._answer: asyncio.Future[None] | None = None
        self._last_report = secrets.randbits(32)  # no number that an earlier monitor may have used
        self._tick = self._loop.call_later(REPORT_SECONDS, self._look_again)
        self._messages: MessageSocket[ipc.FromPostauth] = MessageSocket(
            sock,
            self._loop,
            decode=ipc.decode_from_postauth,
            on_message=self._heard,
            on_end=self._closed,
        )
        self._reports = ReportQueue(
            self._messages,
            self._loop,
            on_report=self._report_came,
            on_nonsense=self.end,
            acknowledge=lambda number: self.tell(ipc.Logged(number)),
            is_logging=lambda: services.log.has_begun,
            taken_over=taken_over,
        )
        self._taken_over = taken_over
        if taken_over:
            self._messages.pause()
        services.registry.processes.add(self)

    # -- what it is told ----------------------------------------------------------------------------------------

    def tell(self, message: ipc.FromMonitor) -> None:
        """Send it a message. A process that has ended, or does not read, misses it."""
        self._messages.send(ipc.encode(message))

    def take(self, client: Client, message: ipc.TakeConnection, sock: socket.socket) -> None:
        """Hand over a connection that is in the registry. The caller keeps the socket. Raises ProtocolError."""
        packet = ipc.encode(message)
        if self.state == "ended":
            raise ProtocolError(PROCESS_ENDED)
        self.clients[client.id] = client
        self._messages.send(packet, (sock.fileno(),))

    def adopt(self, clients: dict[str, Client]) -> None:
        """It served these for an earlier monitor: its first report says which of them it still has."""
        self.clients = clients
        self._adopted = set(clients)
        self._messages.resume()
        self.report()

    async def until(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done()`, which is called after every change of its state, for at most so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not done():
                    self.changed.clear()
                    await self.changed.wait()

    def leave(self) -> None:
        """Ask it to end, if it has nothing to do."""
        self._set("leaving")
        self.tell(ipc.Leave())

    def report(self) -> "asyncio.Future[None]":
        """Request a report of what its connections have done; done when it has answered, or has ended."""
        if self._answer is None:
            self._answer = self._loop.create_future()
            if self.state == "ended":
                self._answer.set_result(None)
                return self._answer
            self._last_report += 1
            self._tick.cancel()
            self._tick = self._loop.call_later(SILENT_SECONDS, self._end, PROCESS_SILENT)
            self.tell(ipc.Report(self._last_report))
        return self._answer

    def _look_again(self) -> None:
        self.report()

    # -- what it says -------------------------------------------------------------------------------------------

    def _heard(self, message: ipc.FromPostauth) -> None:
        try:
            self._act(message)
        except ProtocolError as error:
            self.end(str(error))

    def _act(self, message: ipc.FromPostauth) -> None:
        match message:
            case ipc.Happened(first=first, events=events):
                self._reports.take(first, *map(ipc.unpack, events))
            case ipc.Crashed() | ipc.Lost() | ipc.Taken():
                self._reports.take(message.number, message)
            case ipc.Sign():
                self._sign(message)
            case ipc.Prove():
                self.tell(ipc.Proved(message.id, self._proofs(message)))
            case ipc.Reported(id=number, connections=connections):
                self._reported(number, connections)
            case ipc.Busy():
                if self.state == "leaving":  # otherwise an earlier monitor has asked
                    self._set("running")
                    self._services.on_change(self)

    def _own(self, conn: str) -> Client | None:
        """The connection; None if it was one of this process, and is over. Raises ProtocolError if it never was."""
        client = self.clients.get(conn)
        if client is None and conn not in self._past:
            raise ProtocolError(f"it names the connection {conn!r}, which it has not been given")
        return client

    def _served(self, conn: str) -> Client | None:
        """As `_own`, for a message that comes after `Taken`, which may have been lost."""
        client = self._own(conn)
        if client is not None and not client.login.taken and self._adopted is not None and conn in self._adopted:
            self._confirm(client)
        return client

    def _confirm(self, client: Client) -> None:
        """The process serves the connection, but has not said so to this monitor."""
        client.taken("", "")
        client.authenticated()
        self._services.registry.keep(client)

    def _sign(self, asked: ipc.Sign) -> None:
        """Sign now, or when it is this connection's turn again."""
        client = self._served(asked.conn)
        blob = self._services.signer.key_for(asked.algorithm)
        seconds = client.seconds_to_signature(blob) if client is not None and client.login.taken else None
        if seconds is None:
            self.tell(ipc.Signed(asked.id, None))
        elif seconds:
            self._loop.call_later(seconds, self._sign_now, asked)
        else:
            self._sign_now(asked)

    def _sign_now(self, asked: ipc.Sign) -> None:
        self.tell(ipc.Signed(asked.id, self._services.signer.sign(asked.algorithm, asked.hash)))

    def _proofs(self, asked: ipc.Prove) -> bytes | None:
        client = self._served(asked.conn)
        if client is None:
            return None
        is_allowed = client.may_be_proved(len(asked.blobs))
        self._services.registry.keep(client)
        if not is_allowed:
            return None
        return self._services.signer.prove(asked.blobs, client.login.session_id, asked.rsa)

    # -- reports of what has happened -----------------------------------------------------------------------------

    def acknowledge(self) -> None:
        """The log is written from now on: say so if reports wait for that."""
        self._reports.acknowledge()

    def _report_came(self, number: int, report: Report) -> None:
        if number <= self._logged_before:
            self._logged_already(report)
        else:
            publish = partial(self._services.publish, origin=Origin(self.spawned.id, number))
            match report:
                case ipc.Taken():
                    self._taken(report, publish)
                case ipc.Lost(count=count):
                    error = f"{count} events of the process of {self.user} were more than it could keep"
                    publish(InternalError(where="postauth", error=error))
                case _:
                    self._happened(report, publish)

    def _logged_already(self, report: Report) -> None:
        """An earlier monitor has logged it, and may have been killed before it did the rest."""
        match report:
            case ConnectionClosed(conn=conn) if conn in self.clients:
                self.clients[conn].is_over()
                self._forget(self.clients[conn])
            case ipc.Taken(conn=conn) if conn in self.clients and not self.clients[conn].login.taken:
                self.clients[conn].taken(report.client, report.cipher, report.algorithms)
                self._services.registry.keep(self.clients[conn])

    def _taken(self, told: ipc.Taken, publish: Callable[[AnyEvent], None]) -> None:
        client = self._own(told.conn)
        if client is None:  # the connection was given up meanwhile, and the process has been told to end it
            return
        is_on = client.login.taken  # if reports were lost, it was concluded from something else
        client.taken(told.client, told.cipher, told.algorithms)
        if not is_on:
            client.authenticated(publish)
        self._services.registry.keep(client)

    def _happened(self, told: ipc.Told | ipc.Crashed, publish: Callable[[AnyEvent], None]) -> None:
        if isinstance(told, ipc.Crashed) and not told.conn:
            publish(InternalError(where=f"postauth of {self.user}", error=told.text))
            return
        if self._taken_over and told.conn not in self.clients and told.conn not in self._past:
            return  # the earlier monitor has logged the connection's end; what is told after it is in no log
        # One that could not be served only ends.
        is_end = isinstance(told, ConnectionClosed)
        client = self._own(told.conn) if is_end else self._served(told.conn)
        past = self._past.get(told.conn)
        if isinstance(told, ipc.Crashed):
            publish(InternalError(where="postauth", error=told.text, conn=told.conn))
        elif client is not None:
            client.happened(told, publish)
            if client.over:
                self._forget(client)
        elif past is not None and isinstance(told, AFTERWARDS):
            publish(msgspec.structs.replace(told, user=past.user, identity=past.identity))

    def give_up(self, client: Client, reason: str) -> None:
        """End a connection, whatever the process does with it."""
        if not client.over:
            client.disconnect(reason)
            self._lose(client, reason)

    def _forget(self, client: Client) -> None:
        """The connection is over."""
        del self.clients[client.id]
        self._services.registry.leave(client)
        self._past[client.id] = client.login
        if len(self._past) > MAX_PAST:
            self._past.popitem(last=False)
        self._services.on_change(self)

    # -- reports ------------------------------------------------------------------------------------------------

    def _reported(self, number: int, connections: tuple[ipc.ConnectionFigures, ...]) -> None:
        if self._answer is None or number != self._last_report:  # an earlier monitor has asked
            return
        self._tick.cancel()
        self._tick = self._loop.call_later(REPORT_SECONDS, self._look_again)
        adopted, self._adopted = self._adopted, None
        for told in connections:
            client = self._own(told.conn)
            if client is None:
                continue
            if adopted is not None:
                self._go_on_with(client, told)
                adopted.discard(client.id)
            client.figures(told)
        for conn in (adopted or set()) & self.clients.keys():
            self._lose(self.clients[conn], PROCESS_ENDED)
        answer, self._answer = self._answer, None
        if not answer.done():
            answer.set_result(None)
        self._services.on_change(self)

    def _go_on_with(self, client: Client, told: ipc.ConnectionFigures) -> None:
        """The process still serves a connection that an earlier monitor handed over."""
        if not client.login.taken:  # the process has lost its report of that
            self._confirm(client)
        for session in told.sessions:
            client.adopt_session(session)

    # -- the end ------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """Kill it, for a reason that goes into the log; its connections are lost."""
        if self.state == "ended":
            return
        self._services.publish(InternalError(where="postauth", error=f"the process of {self.user} is ended: {reason}"))
        self._end()

    def kill(self) -> None:
        """Kill it: it was asked to leave, and does not."""
        self._end()

    def close(self) -> None:
        """The monitor leaves: read no more messages."""
        self._messages.close()
        self._reports.close()
        self._tick.cancel()

    def on_exit(self, _exited: object) -> None:
        """The spawner has reaped it. Its last messages are still in the socket, and are read before its end."""
        self.exited.set()
        self.changed.set()

    def _closed(self, reason: str) -> None:
        """It has closed its end of the socket, or it has broken the rules (`reason`)."""
        if reason:
            self.end(reason)
        else:
            self._end()

    def _end(self, reason: str = PROCESS_ENDED) -> None:
        if self.state == "ended":
            return
        self._set("ended")
        self._messages.close()
        self._tick.cancel()
        self._reports.close()
        self._services.log.progress.forget(self.spawned.id)
        self._services.registry.processes.discard(self)
        self._services.kill(self.spawned)
        for client in tuple(self.clients.values()):
            self._lose(client, reason)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(None)
        self._services.on_change(self)

    def _lose(self, client: Client, reason: str) -> None:
        client.closed(reason, goodbye=False)
        self._forget(client)

    def _set(self, state: State) -> None:
        self.state = state
        self.changed.set()
