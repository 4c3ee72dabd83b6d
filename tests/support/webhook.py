"""A webhook on loopback that keeps what was sent to it, and answers as the test says."""

import json
from collections.abc import Callable
from http.server import HTTPServer
from typing import Any

from tests.support.local_http import Handler, LocalServer, Played
from tests.support.waiting import until

SECRET = "T0/B0/secret-of-the-webhook"

Answer = Callable[[Handler], None]


def status(code: int, location: str = "") -> Answer:
    """Answer with this status, and without a text."""

    def answer(handler: Handler) -> None:
        handler.send_response(code)
        if location:
            handler.send_header("Location", location)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


class _Handler(Handler):
    server: "_Server"

    def answer(self) -> None:
        """Keep the request, and answer."""
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.received.append((self.command, self.path, json.loads(text)))
        self.server.answer(self)


class _Server(LocalServer, HTTPServer):
    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.received: list[tuple[str, str, dict[str, Any]]] = []


class Webhook(Played):
    """The webhook; `url` has a secret in it, `named` is what may be seen of it."""

    def __init__(self, answer: Answer | None = None) -> None:
        self._listening = _Server(answer or status(200))
        super().__init__(self._listening)
        self.named = f"http://127.0.0.1:{self._listening.server_address[1]}"
        self.url = f"{self.named}/{SECRET}?token={SECRET}"

    @property
    def received(self) -> list[dict[str, Any]]:
        """The JSON of all requests, which were POSTs to the right address."""
        assert {(command, path) for command, path, _ in self._listening.received} <= {
            ("POST", f"/{SECRET}?token={SECRET}")
        }
        return [told for _, _, told in self._listening.received]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The first `count` requests, once they have come."""
        until(lambda: len(self._listening.received) >= count, what="requests to the webhook")
        return self.received[:count]
