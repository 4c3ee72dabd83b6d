"""The common part of the local HTTP servers that play other services: a thread for each connection, and bad answers."""

import socketserver
import ssl
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Self

CLIENT_TIMEOUT = 10.0
"""Seconds after which a server gives up on a silent client."""


class LocalServer(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """A mix-in for a server class: each connection has a thread, and no thread outlives the server."""

    # Not daemons: server_close() then waits for them, so that a test that leaves one behind fails here.
    daemon_threads = False
    released: threading.Event

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that disconnected because of a bad answer, as it should; report all other errors."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError | ssl.SSLError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed wants a pair


class Played:
    """A service that `server` plays while a `with` block lasts; the end releases every answer that hangs."""

    def __init__(self, server: LocalServer) -> None:
        self.released = server.released = threading.Event()
        self._changed = threading.Condition()
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.01,), name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler, ABC):
    """One connection, one request."""

    protocol_version = "HTTP/1.1"
    timeout = CLIENT_TIMEOUT
    server: LocalServer

    @property
    def released(self) -> threading.Event:
        """Set when the server closes, so that answers that hang on purpose go on."""
        return self.server.released

    def do_GET(self) -> None:
        """Answer once."""
        self.close_connection = True
        self.answer()

    def do_POST(self) -> None:
        """Answer once."""
        self.do_GET()

    @abstractmethod
    def answer(self) -> None:
        """Send the answer."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
        """Print nothing: tests look at the server's records."""


def hang_up() -> Callable[[Handler], None]:
    """Close the connection without an answer."""
    return lambda _handler: None


def hang() -> Callable[[Handler], None]:
    """Send nothing until the server closes."""

    def answer(handler: Handler) -> None:
        handler.released.wait()

    return answer
