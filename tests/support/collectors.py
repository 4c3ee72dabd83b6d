"""Receivers of the log that run in the test's process: for syslog over a stream or datagrams, and for OTLP."""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import HTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.local_http import Handler, LocalServer, Played
from tests.support.waiting import PATIENCE


class SyslogReceiver:
    """Takes messages at `listening`, until its `with` block ends, and then leaves like a program that is killed.

    Octet-counted over TCP and TLS, a line each over a local stream, or datagrams. With `reads` false it accepts
    connections and reads nothing.
    """

    def __init__(
        self,
        listening: socket.socket,
        *,
        context: ssl.SSLContext | None = None,
        reads: bool = True,
        lines: bool = False,
    ) -> None:
        self._listening = listening
        self.port = 0 if listening.family == socket.AF_UNIX else int(listening.getsockname()[1])
        self._context = context
        self._reads = reads
        self._lines = lines
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.messages: list[bytes] = []
        self.failures: list[str] = []

    @property
    def connections(self) -> int:
        """How many connections it has had."""
        with self._changed:
            return len(self._connections)

    def wait_for(self, wanted: Callable[[list[bytes]], bool]) -> list[bytes]:
        """The messages, once they are as wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: wanted(self.messages), PATIENCE), self.messages[-3:]
            return list(self.messages)

    def __enter__(self) -> Self:
        is_stream = self._listening.type == socket.SOCK_STREAM
        self._begin(self._accept if is_stream else self._take_datagrams)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes a datagram reader, too
        self._listening.close()
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in connections:
            connection.close()

    def _begin(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="syslog receiver")
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                with self._changed:
                    self._connections.append(connection)
                    self._changed.notify_all()
                if self._reads:
                    self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            stream = connection
            if self._context is not None:
                stream = self._context.wrap_socket(connection, server_side=True)
                with self._changed:
                    self._connections[self._connections.index(connection)] = stream
            with stream.makefile("rb") as file:
                while self._lines and (line := file.readline()):
                    self._take(line.removesuffix(b"\n"))
                while not self._lines and (length := _length(file)):
                    self._take(file.read(length))
        except (OSError, ValueError) as error:
            with self._changed:
                self.failures.append(str(error))
                self._changed.notify_all()

    def _take_datagrams(self) -> None:
        with suppress(OSError):
            while message := self._listening.recv(1024 * 1024):
                self._take(message)

    def _take(self, message: bytes) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()


def _length(file: Any) -> int:  # noqa: ANN401 - a socket's file
    """The digits before a message, and the space after them; 0 at the end."""
    digits = b""
    while (byte := file.read(1)) not in {b" ", b""}:
        digits += byte
    return int(digits) if digits else 0


def at_port(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """A listening TCP socket; at a port that a receiver had before, it takes that one's place."""
    return socket.create_server((host, port))


def at_path(path: Path, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    """A local socket, of datagrams or listening, that everybody may write to, as /dev/log is."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    path.chmod(0o666)
    if kind == socket.SOCK_STREAM:
        sock.listen()
    return sock


class OtlpCollector(Played):
    """Takes OTLP requests over HTTP; `answers` are given in turn (status, headers, body), the last one for ever."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes], port: int = 0) -> None:
        server = _Server(("127.0.0.1", port), list(answers) or [(200, {}, b"{}")])
        super().__init__(server)
        self._of = server
        self.url = f"http://127.0.0.1:{server.server_port}"

    def wait_for(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The records of all requests so far, once they are as wanted."""
        with self._of.changed:
            assert self._of.changed.wait_for(lambda: wanted(self.records), PATIENCE), self.records[-3:]
            return self.records

    @property
    def connections(self) -> int:
        """How many connections it has had."""
        return len(self._of.connections)

    def hang_up(self) -> None:
        """Close the connections that are open."""
        for connection in self._of.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def requests(self) -> list[tuple[str, dict[str, str], bytes]]:
        """Path, headers and body of each request."""
        return self._of.requests

    @property
    def records(self) -> list[dict[str, Any]]:
        """The log records of the requests that were answered with success."""
        return [
            record
            for (_, _, body), status in zip(self._of.requests, self._of.given, strict=False)
            if status == 200
            for resource in json.loads(body)["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]


class _Server(LocalServer, HTTPServer):
    def __init__(self, address: tuple[str, int], answers: list[tuple[int, dict[str, str], bytes]]) -> None:
        super().__init__(address, _Collecting)
        self.answers = answers
        self.changed = threading.Condition()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.given: list[int] = []
        self.connections: list[socket.socket] = []


class _Collecting(Handler):
    """Keeps the connection open, as collectors do."""

    server: _Server

    def setup(self) -> None:
        """Remember the connection."""
        super().setup()
        self.server.connections.append(self.connection)

    def do_POST(self) -> None:  # noqa: N802 - the base class's name for it
        """Answer, and wait for the next request."""
        self.answer()

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, headers, text = self.server.answers[0]
        if len(self.server.answers) > 1:
            del self.server.answers[0]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(text))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)
        with self.server.changed:
            self.server.requests.append((self.path, dict(self.headers), body))
            self.server.given.append(status)
            self.server.changed.notify_all()
