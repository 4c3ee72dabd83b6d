"""The control socket's server side: identifies the asker, checks permissions, and sends one line of JSON back.

`Handlers` find the answers. This module knows what was asked and by whom, and nothing of keys or sessions.
"""

import asyncio
import socket
import traceback
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

import msgspec

from pyssh_gateway.core import control
from pyssh_gateway.core.control import AnyReply, AnyRequest, RefusedReply
from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import AnyEvent, ControlRequest, InternalError
from pyssh_gateway.ipc.control_socket import peer_of
from pyssh_gateway.system.accepting import accept_each
from pyssh_gateway.system.accounts import name_of

MAX_ASKERS = 16
"""How many connections there may be at a time. A person asks one thing after the other, and scripts are not many."""

MAX_OTHERS = 40
"""The same for each account that people may log in to. A script that begins as many holds as an account may have gets
them all, and no account takes another's places."""

MAX_STRANGERS = 4
"""The same for all accounts together that may ask nothing, with one place each. They are told so, and take no place of
others. Further connections are closed at once."""

STRANGER_SECONDS = 1.0
"""How long the request of such an account may take to arrive. A client that means to ask sends it at once."""

OTHERS_AT_ONCE = 8
"""How many of one account's requests are answered at a time; the rest wait their turn."""

OTHERS_PAUSE_SECONDS = 0.05
"""How long a request keeps its turn after the answer. Each answer is a line in the log, so an account whose script asks
in a loop adds at most 160 lines in a second."""

READ_SECONDS = 5.0
"""How long a request may take to arrive, and a reply to be taken: both sides are on this machine."""

ANSWER_SECONDS = 90.0
"""How long an answer may take to be found: the longest is a look at every source, of 60 s at most (`keys.timeout`)."""

REFUSAL_SECONDS = 1.0
"""How long a refusal is delayed. Each one is a line in the log, and others must not fill the disk with them."""


class Unanswerable(Exception):
    """Why a request can't be answered; one line for a person."""


class Asker(msgspec.Struct, frozen=True):
    """The process that has connected, identified by SO_PEERCRED.

    `user` is the account's name, or its number if it has none. `may_ask_everything`: it is root, or the account that
    started the server; others are told only what they may know.
    """

    pid: int
    uid: int
    user: str
    may_ask_everything: bool


class Handlers(msgspec.Struct, frozen=True):
    """How each request is answered. One that can't be answered raises `Unanswerable`."""

    configuration: Callable[[], control.ConfigReply]
    status: Callable[[Asker], Awaitable[control.StatusReply]]
    keys: Callable[[], control.KeysReply]
    refresh_keys: Callable[[], Awaitable[control.KeysReply]]
    try_key: Callable[[control.TryKey], Awaitable[control.VerdictsReply]]
    accept_account: Callable[[str], Awaitable[control.AcceptedReply]]
    sessions: Callable[[Asker], Awaitable[control.SessionsReply]]
    why: Callable[[], control.WhyReply]
    hold: Callable[[control.HoldUp, Asker], control.HeldReply]
    release: Callable[[control.Release, Asker], control.ReleasedReply]


class _Places:
    """How many connections an account has, and the turns in which its requests are answered."""

    def __init__(self) -> None:
        self.taken = 0
        self.turns = asyncio.Semaphore(OTHERS_AT_ONCE)


class ControlServer:
    """Answers at `listening` while `run` runs.

    `owner` is the account that started the server, `users` are the names of the accounts that people may log in to.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        handlers: Handlers,
        owner: int,
        publish: Callable[[AnyEvent], None],
        users: Collection[str] = (),
        refusal_seconds: float = REFUSAL_SECONDS,
    ) -> None:
        self._listening = listening
        self._handlers = handlers
        self._owner = owner
        self._users = users
        self._publish = publish
        self._refusal_seconds = refusal_seconds
        self._askers = 0
        # An account's entry stays when its connections are gone, as its turns may last on: there are no more than
        # `users`.
        self._others: dict[int, _Places] = {}
        self._strangers: set[int] = set()

    def reconfigure(self, handlers: Handlers, users: Collection[str]) -> None:
        """Use these for what is asked from now on."""
        self._handlers = handlers
        self._users = users

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as tasks:

            def take(sock: socket.socket) -> None:
                tasks.create_task(self._serve(sock), name="control")

            await accept_each(self._listening, take)

    async def _serve(self, sock: socket.socket) -> None:
        """One connection, from its first byte to its last."""
        with sock, suppress(OSError, TimeoutError):  # the asker has gone, or takes too long
            sock.setblocking(False)
            pid, uid = peer_of(sock)
            asker = Asker(pid, uid, name_of(uid) or str(uid), control.may_ask_everything(uid, self._owner))
            if asker.may_ask_everything:
                await self._serve_anything(sock, asker)
            elif asker.user in self._users:
                await self._serve_login(sock, asker)
            else:
                await self._serve_stranger(sock, asker)

    async def _serve_anything(self, sock: socket.socket, asker: Asker) -> None:
        if self._askers >= MAX_ASKERS:
            return
        self._askers += 1
        try:
            line = await _read_line(sock, READ_SECONDS)
            if line is not None:
                await self._converse(sock, line, asker)
        finally:
            self._askers -= 1

    async def _serve_login(self, sock: socket.socket, asker: Asker) -> None:
        places = self._others.setdefault(asker.uid, _Places())
        if places.taken >= MAX_OTHERS:
            return
        places.taken += 1
        try:
            line = await _read_line(sock, READ_SECONDS)  # before the turn, so that a silent connection takes none
            if line is not None:
                await places.turns.acquire()
                try:
                    await self._converse(sock, line, asker)
                finally:
                    asyncio.get_running_loop().call_later(OTHERS_PAUSE_SECONDS, places.turns.release)
        finally:
            places.taken -= 1

    async def _serve_stranger(self, sock: socket.socket, asker: Asker) -> None:
        if asker.uid in self._strangers or len(self._strangers) >= MAX_STRANGERS:
            return
        self._strangers.add(asker.uid)
        try:
            line = await _read_line(sock, STRANGER_SECONDS)
            if line is not None:
                await self._converse(sock, line, asker)
        finally:
            self._strangers.discard(asker.uid)

    async def _converse(self, sock: socket.socket, line: bytes, asker: Asker) -> None:
        reply = await self._reply(line, asker)
        async with asyncio.timeout(READ_SECONDS):
            await asyncio.get_running_loop().sock_sendall(sock, reply)

    async def _reply(self, line: bytes, asker: Asker) -> bytes:
        """The reply to a request, as a line. The log has the request before the asker has the reply."""
        try:
            request = control.decode_request(line)
        except control.ControlError as error:
            return await self._refuse(asker, "a line that is no request", str(error))
        command = control.describe(request)
        if not control.may_ask(request, asker.uid, self._owner, can_log_in=asker.user in self._users):
            return await self._refuse(asker, command, "this is for root and the account that started the server")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply = _line(await self._answer(request, asker))
        except Unanswerable as error:
            self._report(asker, command, f"failed: {error}")
            return _line(RefusedReply(str(error)))
        except TimeoutError:
            self._report(asker, command, f"failed: no answer within {ANSWER_SECONDS:.0f} s")
            return _line(RefusedReply(f"no answer was found within {ANSWER_SECONDS:.0f} s"))
        except Exception:  # noqa: BLE001 - a bug in an answer must not end the monitor, and logins with it
            self._publish(InternalError(where="control", error=traceback.format_exc()))
            self._report(asker, command, "failed: internal error")
            return _line(RefusedReply("internal error; the server's log has more"))
        self._report(asker, command, "answered")
        return reply

    async def _answer(self, request: AnyRequest, asker: Asker) -> AnyReply:
        match request:
            case control.Configuration():
                return self._handlers.configuration()
            case control.Status():
                return await self._handlers.status(asker)
            case control.Keys():
                return self._handlers.keys()
            case control.RefreshKeys():
                return await self._handlers.refresh_keys()
            case control.TryKey():
                return await self._handlers.try_key(request)
            case control.AcceptAccount(source=source):
                return await self._handlers.accept_account(source)
            case control.Sessions():
                return await self._handlers.sessions(asker)
            case control.Why():
                return self._handlers.why()
            case control.HoldUp():
                return self._handlers.hold(request, asker)
            case control.Release():
                return self._handlers.release(request, asker)

    async def _refuse(self, asker: Asker, command: str, reason: str) -> bytes:
        self._report(asker, command, f"refused: {reason}")
        await asyncio.sleep(self._refusal_seconds)
        return _line(RefusedReply(reason))

    def _report(self, asker: Asker, command: str, outcome: str) -> None:
        self._publish(ControlRequest(uid=asker.uid, pid=asker.pid, command=command, outcome=outcome))


def _line(reply: AnyReply) -> bytes:
    return control.encode_clean(reply, printable)


async def _read_line(sock: socket.socket, seconds: float) -> bytes | None:
    """The request without its line feed, cut off if it is too long. None: the asker has gone.

    Raises `TimeoutError` if it is not there within `seconds`.
    """
    loop = asyncio.get_running_loop()
    data = bytearray()
    async with asyncio.timeout(seconds):
        while b"\n" not in data and len(data) <= control.MAX_REQUEST_BYTES:
            received = await loop.sock_recv(sock, control.MAX_REQUEST_BYTES + 1 - len(data))
            if not received:
                return None
            data += received
    return bytes(data.partition(b"\n")[0])
