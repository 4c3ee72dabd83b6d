"""One connection on which nobody has logged in: from our identification line to its end, or to its hand-over.

The monitor keeps the client's socket and reads nothing from it. A preauth process speaks with the client, from the
client's first byte on, and the monitor decides what that process asks for. A connection is identified by the socket
pair on which its process asks, so a process can't ask anything about another connection. A process that breaks the
rules is ended, and its connection with it.
"""

import asyncio
import socket
from contextlib import suppress

import msgspec

from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.events import ConnectionClosed, InternalError, RequestDenied
from pyssh_gateway.ipc import preauth as ipc
from pyssh_gateway.ipc.message_socket import MessageSocket
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.arrivals.guest_services import End, GuestServices, Terms, end_told
from pyssh_gateway.monitor.arrivals.handing_over import Accepted, NoLoginError, Prepared
from pyssh_gateway.monitor.arrivals.preauths import Preauth
from pyssh_gateway.monitor.arrivals.strangers import Arrival
from pyssh_gateway.monitor.attempts import Attempts, ViolationError
from pyssh_gateway.system.signals import unix_name

STATE_SECONDS = 5.0
"""How long preauth may take to send the connection's state, once its client was accepted. It has the state ready,
unless bytes of the client are still to be decrypted."""

GOODBYE_SECONDS = 0.5
"""How long preauth may take to say goodbye to its client: as long as a stop waits for connections to close."""

LINGER_SECONDS = 3.0
"""How long a process may stay after it has reported the end of its connection. It reads on for half a second, until the
client has received the last message: closing with unread input would reset the connection, and lose that message."""

EXIT_SECONDS = 1.0
"""How long to wait for the exit status of a process whose socket is closed: the kernel closes the socket just
before."""

CLOSED = "closed by the client without a goodbye"
NOT_SERVED = "This login can't be served at the moment; the server's log says why"
"""The message to a client whose key was accepted but whose login fails."""

BROKE_RULES = "its process broke the rules"


class Guest:
    """A connection that is served."""

    def __init__(self, arrival: Arrival, terms: Terms, attempts: Attempts, services: GuestServices) -> None:
        self.conn = arrival.conn
        self.endpoints: Endpoints = arrival.endpoints
        self.attempts = attempts
        self._socket = arrival.accepted
        self._is_direct = not arrival.proxy
        self._terms = terms
        self._services = services
        self._loop = services.loop
        self._opened_at = self._loop.time()
        self._opened = services.clock()
        self._bytes_out = 0
        self._task: asyncio.Task[None] | None = None
        self._preauth: Preauth | None = None
        self._messages: MessageSocket[ipc.FromPreauth] | None = None
        self._heard: asyncio.Future[ipc.FromPreauth | None] = self._loop.create_future()
        self._broken = ""
        self._goodbye = ""
        self._greeted: ipc.Greeted | None = None
        self._hurry: asyncio.TimerHandle | None = None
        self._prepared: Prepared | None = None
        self._is_over = False

    @property
    def peer(self) -> str:
        """The client's address."""
        return self.endpoints.peer

    # -- before there is a process ------------------------------------------------------------------------------

    def begin(self) -> None:
        """Send our identification, and wait for the client's first byte. The line fits into the empty send buffer."""
        self._socket.setblocking(False)
        with suppress(OSError):  # the client is gone, which the next read shows
            self._bytes_out = self._socket.send(f"SSH-2.0-{self._terms.identification}\r\n".encode())
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        """The client has sent something: have a preauth process read it."""
        try:
            first = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(End(error.strerror or str(error)))
            return
        if not first:
            self._finish(End(CLOSED, goodbye=True))
            return
        self._loop.remove_reader(self._socket)
        self._services.strangers.spoke(self.conn)
        self._services.room.enter(self)

    def serve(self) -> None:
        """Give the connection a process: its turn has come."""
        self._task = self._services.start(self._be_served(), f"guest {self.conn}")

    # -- the end ------------------------------------------------------------------------------------------------

    def cut_off(self, reason: str) -> None:
        """End the connection at once, whatever its process does."""
        if self._prepared is not None and self._prepared.is_told:
            if not self._prepared.client.user:  # otherwise the client is logged in by now
                self._prepared.cut_off(reason)
        else:
            self._finish(End(reason))

    def disconnect(self, reason: str) -> None:
        """Say goodbye and close; close at once if there is no process to say it."""
        if self._prepared is not None and self._prepared.is_told:
            self._prepared.disconnect(reason)
        elif self._messages is None or self._goodbye:
            self._finish(End(reason, goodbye=True))
        else:
            self._goodbye = reason
            self._messages.send(ipc.encode(ipc.Disconnect(reason)))
            self._hurry = self._loop.call_later(GOODBYE_SECONDS, self._finish, End(reason, goodbye=True))

    def _finish(self, end: End) -> None:
        """The connection is over."""
        if self._is_over:
            return
        if end.crash:
            self._services.publish(InternalError(where=end.where, error=end.crash, conn=self.conn))
        self.attempts.ended()
        self._let_go(lingers=end.is_told)
        self._services.publish(
            ConnectionClosed(
                conn=self.conn,
                peer=self.peer,
                user="",
                reason=self._goodbye or end.reason,
                seconds=round(self._loop.time() - self._opened_at, 3),
                bytes_in=end.bytes_in,
                bytes_out=end.bytes_out if end.is_told else self._bytes_out,
                goodbye=end.goodbye or bool(self._goodbye),
                client="" if self._greeted is None else self._greeted.client.decode("utf-8", "surrogateescape"),
                hassh="" if self._greeted is None else self._greeted.hassh,
            )
        )

    def _let_go(self, *, lingers: bool = False) -> None:
        """Release everything that it holds. The socket is shut down, so that the client sees the end at once.

        Otherwise a process that was stopped would keep its copy of the socket open. A process that `lingers` is about
        to end, and is left the socket until then.
        """
        self._is_over = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        if self._hurry is not None:
            self._hurry.cancel()
        self._dismiss(lingers=lingers)
        self._loop.remove_reader(self._socket)
        is_ours = self._prepared is None or not self._prepared.is_told or self._prepared.client.over
        if is_ours and not lingers:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._services.room.leave(self.conn)
        self._services.strangers.released(self.conn)
        self._services.on_end(self)

    def _dismiss(self, *, lingers: bool = False) -> None:
        """Kill the process; if it `lingers`, only after `LINGER_SECONDS`."""
        if self._messages is not None:
            self._messages.close()
        if self._preauth is not None:
            if lingers:
                self._loop.call_later(LINGER_SECONDS, self._services.preauths.kill, self._preauth)
            else:
                self._services.preauths.kill(self._preauth)

    # -- the process --------------------------------------------------------------------------------------------

    async def _be_served(self) -> None:
        try:
            end = await self._speak_with()
        except ViolationError as error:
            end = End(BROKE_RULES, crash=f"{BROKE_RULES}: {error}")
        except NoLoginError as error:
            end = End(str(error))
        except asyncio.CancelledError:
            if not self._is_over:
                self._let_go()
            raise
        if end is None:
            self._let_go()
        else:
            self._finish(end)

    async def _speak_with(self) -> End | None:
        """Have a process serve it until its end; None: its postauth process reports the end to the log."""
        try:
            self._preauth = await self._services.preauths.take()
        except SpawnRefused as error:
            return End(f"there is no process to serve it: {error}")
        self._messages = MessageSocket(
            self._preauth.socket,
            self._loop,
            decode=ipc.decode_from_preauth,
            on_message=self._hear,
            on_end=self._hear_no_more,
        )
        has_aes, without_gcm = self._services.steering.serve_facts(self.peer)
        serve = ipc.Serve(
            identification=f"SSH-2.0-{self._terms.identification}".encode(),
            host_keys=tuple(ipc.OfferedKey(*key) for key in self._terms.host_keys),
            attempts=self._terms.attempts,
            has_aes=has_aes,
            without_gcm=without_gcm,
            is_direct=self._is_direct,
            banner=self._terms.banner,
        )
        self._messages.send(ipc.encode(serve), (self._socket.fileno(),))
        return await self._converse(self._messages)

    async def _converse(self, messages: MessageSocket[ipc.FromPreauth]) -> End | None:
        """Answer the requests of its process, one after the other, until the process reports the connection's end."""
        is_last = False
        while (message := await self._next()) is not None:
            if isinstance(message, ipc.Ended):
                end, too_many = end_told(message), self.attempts.too_many
                # After the last attempt it is we who end the connection, whatever reason its process gives.
                return end if too_many is None else msgspec.structs.replace(end, reason=too_many.reason)
            if self._goodbye:  # this was on its way when the process was told to say goodbye
                continue
            if is_last:
                raise ViolationError("it goes on after the last attempt")
            match message:
                case ipc.Unwalled() | ipc.Greeted() | ipc.CiphersMissing():
                    self._take_note(message)
                case ipc.Sign():
                    messages.send(ipc.encode(await self.attempts.sign(message)))
                case ipc.Attempt():
                    answer = await self.attempts.attempt(message)
                    if answer.result == "accepted":
                        return await self._log_in(messages)
                    if answer.result == "offered":
                        self._services.room.proved(self.conn)
                    is_last = answer.last
                    messages.send(ipc.encode(answer))
                case ipc.State():
                    raise ViolationError("a state of a connection that nobody has logged in on")
        return await self._died()

    def _take_note(self, message: ipc.Unwalled | ipc.Greeted | ipc.CiphersMissing) -> None:
        """A message that needs no answer."""
        match message:
            case ipc.Unwalled():
                self._services.unwalled(message.missing)
            case ipc.CiphersMissing():
                self._services.steering.failed(self.peer)
            case ipc.Greeted():
                if self._greeted is not None:
                    raise ViolationError("its client is introduced twice")
                self._greeted = message

    async def _log_in(self, messages: MessageSocket[ipc.FromPreauth]) -> End | None:
        """The client is accepted: have its account's process serve it."""
        accepted, user = self.attempts.accepted, self.attempts.user
        if accepted is None or user is None:
            raise ViolationError("accepted without a key")  # there is no other way; another one would be a hole
        login = Accepted(
            conn=self.conn,
            user=user.decode("ascii"),
            key=accepted,
            endpoints=self.endpoints,
            session_id=self.attempts.session_id,
            opened=self._opened,
            in_vain=self.attempts.in_vain,
            proved=self.attempts.proved,
            greeted=self._greeted,
            host_keys=self._terms.host_keys,
        )
        try:
            async with self._services.handing_over.prepare(login) as prepared:
                messages.send(ipc.encode(ipc.Answer("accepted", last=False)))
                state = await self._state()
                if isinstance(state, End):
                    return state
                self._dismiss()
                self._prepared = prepared
                await prepared.hand_over(state.state, self._socket)
                if prepared.client.user:
                    login_of = prepared.client.login
                    self._services.steering.chose(login_of.client, self.peer, login_of.cipher)
                return None
        except NoLoginError as error:
            self._services.publish(
                RequestDenied(conn=self.conn, user=login.user, request="login", reason=str(error), identity=None)
            )
            if messages.closed:
                raise
            messages.send(ipc.encode(ipc.Answer("denied", last=True, message=NOT_SERVED)))
            return await self._last_words(str(error))

    async def _state(self) -> ipc.State | End:
        """The state that postauth needs to continue the connection, or how the connection ended instead."""
        try:
            async with asyncio.timeout(STATE_SECONDS):
                message = await self._next()
        except TimeoutError:
            return End(f"its process gave no state within {STATE_SECONDS:.0f} s")
        match message:
            case ipc.State():
                return message
            case ipc.Ended():
                return end_told(message)
            case None:
                return await self._died()
            case _:
                raise ViolationError("something else than a state after a login")

    async def _last_words(self, reason: str) -> End:
        """How a connection ended whose process has been told to say goodbye."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                message = await self._next()
                if isinstance(message, ipc.Ended):
                    return msgspec.structs.replace(end_told(message), reason=reason)
        return End(reason)

    async def _died(self) -> End:
        """Its process has closed the socket without reporting the connection's end."""
        if self._broken:
            raise ViolationError(self._broken)
        exited: Exited | None = None
        if self._preauth is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_SECONDS):
                    exited = await asyncio.shield(self._preauth.exited)
        if exited is None or (exited.status == 0 and exited.signal is None):
            return End("its process ended")
        how = f"exit code {exited.status}" if exited.signal is None else f"ended by {unix_name(exited.signal)}"
        return End("its process ended", crash=f"the process of a connection has died: {how}")

    # -- its messages -------------------------------------------------------------------------------------------

    def _hear(self, message: ipc.FromPreauth) -> None:
        """A message has come; the next one is read when this one has been answered."""
        if self._messages is not None:
            self._messages.pause()
        if not self._heard.done():  # otherwise it came too late: nobody waits for it
            self._heard.set_result(message)

    def _hear_no_more(self, reason: str) -> None:
        self._broken = reason
        if not self._heard.done():
            self._heard.set_result(None)

    async def _next(self) -> ipc.FromPreauth | None:
        """The next message of its process; None: there will be no more."""
        message = await self._heard
        self._heard = self._loop.create_future()
        if self._messages is None or self._messages.closed:
            self._heard.set_result(None)
        else:
            self._messages.resume()
        return message
