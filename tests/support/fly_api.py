"""A real HTTP server on a unix socket that plays the API inside a Fly.io machine, with any failure that a test wants.

    with FakeFlyApi(directory / "api", accepted()) as fly:
        ...  # a server with stop.fly_api = fly.path and the environment fly.environ
        fly.wait_for_requests(1)

An answer is a function that writes a response. Answers are used one after the other, the last one for ever. The end
of the `with` block releases every answer that hangs, and waits for every thread.
"""

import collections
import json
import socketserver
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support import local_http
from tests.support.local_http import LocalServer, Played
from tests.support.waiting import PATIENCE

APP = "my-box"
MACHINE = "3d8d9014b32d89"


class Request(NamedTuple):
    """A request, recorded for the test."""

    method: str
    path: str
    headers: dict[str, str]


class FakeFlyApi(Played):
    """The server. `path` is its socket, which only its owner may connect to; `requests` are those received so far."""

    def __init__(self, path: Path, *answers: "Answer") -> None:
        self.path = str(path)
        self.environ = {"FLY_APP_NAME": APP, "FLY_MACHINE_ID": MACHINE}
        self.suspend_path = f"/v1/apps/{APP}/machines/{MACHINE}/suspend"
        self.requests: list[Request] = []
        self._answers = collections.deque(answers)
        super().__init__(_Server(self))
        path.chmod(0o600)

    def wait_for_requests(self, count: int) -> None:
        """Return as soon as `count` requests have arrived; AssertionError if they do not. Blocks."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, PATIENCE), (
                f"{len(self.requests)} of {count} requests within {PATIENCE} s"
            )

    def take_answer(self, request: Request) -> "Answer":
        """Record a request and return its answer: Fly's own error if the request is not for this machine."""
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            if (request.method, request.path) != ("POST", self.suspend_path):
                return refused(404, "machine not found")
            return self._answers.popleft() if len(self._answers) > 1 else self._answers[0]


class _Server(LocalServer, socketserver.UnixStreamServer):
    def __init__(self, fly: FakeFlyApi) -> None:
        super().__init__(fly.path, Handler)
        self.fly = fly


class Handler(local_http.Handler):
    """Answers as the API does."""

    server: _Server

    def answer(self) -> None:
        """Answer as scripted."""
        self.server.fly.take_answer(Request(self.command, self.path, dict(self.headers)))(self)

    def respond(self, code: int, body: bytes) -> None:
        """Send a complete response."""
        self.send_response(code)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


Answer = Callable[[Handler], None]

hang, hang_up = local_http.hang, local_http.hang_up


def accepted() -> Answer:
    """Fly accepts, and suspends the machine soon."""
    return lambda handler: handler.respond(200, b'{"ok":true}')


def refused(code: int, error: str) -> Answer:
    """Fly refuses, with a JSON object that has an error, as Fly sends it."""
    return lambda handler: handler.respond(code, json.dumps({"error": error, "status": "failed"}).encode())


def in_chunks(code: int, error: str) -> Answer:
    """The same in a chunked answer."""

    def answer(handler: Handler) -> None:
        body = json.dumps({"error": error}).encode()
        handler.send_response(code)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")

    return answer


def page(code: int) -> Answer:
    """An error from a proxy in between, in HTML."""
    return lambda handler: handler.respond(code, b"<html><body>upstream {connect} error</body></html>")


def garbage() -> Answer:
    """Another program listens there, which does not speak HTTP."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(b"\x00\xff SSH-2.0-example\r\n\r\n")

    return answer
