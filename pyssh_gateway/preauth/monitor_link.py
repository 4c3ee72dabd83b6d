"""Preauth's end of its socket to the monitor. Each connection has a socket of its own, so messages need no number.

At most one question is open at a time, since the client is not read while there is one.
"""

import asyncio
import socket
from collections.abc import Callable

from pyssh_gateway.ipc import preauth as messages
from pyssh_gateway.ipc.spawner import ProtocolError, receive
from pyssh_gateway.system.descriptors import close_all

ANSWER_SECONDS = 300.0
"""How long an answer may take. The monitor enforces the login timeout; this one is for a monitor that hangs."""


Told = messages.Unwalled | messages.Greeted | messages.CiphersMissing | messages.Ended | messages.State
"""What needs no answer."""


class MonitorGone(Exception):
    """The monitor does not answer: a login that is under way ends."""


class MonitorLink:
    """Asks and tells the monitor.

    `on_disconnect` is called with the reason when the monitor ends the connection; `on_gone` when the monitor is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        on_disconnect: Callable[[str], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._on_disconnect = on_disconnect
        self._on_gone = on_gone
        self._answer: asyncio.Future[messages.Signed | messages.Answer] | None = None
        loop.add_reader(sock, self._read)

    async def sign(self, algorithm: bytes, exchange_hash: bytes) -> bytes:
        """The host key's signature of the exchange hash. The monitor gives only one. Raises `MonitorGone`."""
        answer = await self._ask(messages.Sign(algorithm, exchange_hash))
        if not isinstance(answer, messages.Signed):
            raise MonitorGone("the monitor gave an unexpected answer")
        return answer.signature

    async def attempt(self, attempt: messages.Attempt) -> messages.Answer:
        """The monitor's decision on a request to log in. Raises `MonitorGone`."""
        answer = await self._ask(attempt)
        if not isinstance(answer, messages.Answer):
            raise MonitorGone("the monitor gave an unexpected answer")
        return answer

    def tell(self, message: Told) -> None:
        """Send a message that needs no answer. If the monitor is gone, the message is dropped."""
        try:
            self._socket.send(messages.encode(message))
        except OSError:
            self._gone()

    async def _ask(self, question: messages.Sign | messages.Attempt) -> messages.Signed | messages.Answer:
        if self._answer is not None:
            raise MonitorGone("two questions at once")
        self._answer = self._loop.create_future()
        try:
            self._socket.send(messages.encode(question))
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer
        except (OSError, ProtocolError) as error:  # TimeoutError is an OSError
            raise MonitorGone(str(error)) from error
        finally:
            self._answer = None

    def _read(self) -> None:
        try:
            packet, descriptors = receive(self._socket)
            close_all(descriptors)
            message = messages.decode_from_monitor(packet) if packet else None
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            message = None
        match message:
            case messages.Signed() | messages.Answer() if self._answer is not None and not self._answer.done():
                self._answer.set_result(message)
            case messages.Disconnect(reason=reason):
                self._on_disconnect(reason)
            case _:
                self._gone()

    def _gone(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(MonitorGone("the monitor is gone"))
        self._on_gone()
