"""monitor.reporting.metrics: each connection gets one answer, and no client can delay others."""

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator

import pytest

from pyssh_gateway.events import AnyEvent, InternalError
from pyssh_gateway.monitor.reporting import metrics
from pyssh_gateway.monitor.reporting.metrics import MetricsServer
from tests.support.waiting import PATIENCE


class Served:
    """A running server at `path`, its published events, and how often it was asked."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events: list[AnyEvent] = []
        self.asked = 0

    def render(self) -> bytes:
        """Return a figure."""
        self.asked += 1
        return b"figure 1\n"

    async def ask(self, request: bytes, *, end: bool = False) -> bytes:
        """Send `request` and read until the server closes; `end` shuts down the sending side."""
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(self.path)
            try:
                with contextlib.suppress(ConnectionError):
                    writer.write(request)
                    await writer.drain()
                    if end:
                        writer.write_eof()
                    return await reader.read()
                return b""
            finally:
                writer.close()


Scenario = Callable[[Served], Awaitable[None]]


@pytest.fixture
def serve() -> Iterator[Callable[[Scenario], None]]:
    """Runs a scenario with a server."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        path = f"{directory}/metrics.sock"
        listening.bind(path)
        listening.listen()

        def play(scenario: Scenario) -> None:
            async def run() -> None:
                served = Served(path)

                async def render() -> bytes:
                    return served.render()

                server = MetricsServer(listening, render=render, publish=served.events.append)
                async with asyncio.TaskGroup() as tasks:
                    serving = tasks.create_task(server.run())
                    await scenario(served)
                    serving.cancel()

            asyncio.run(run())

        yield play


GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"

Play = Callable[[Scenario], None]


class TestServer:
    """One request and one answer for each connection, within limits."""

    def test_figures_are_served(self, serve: Play) -> None:
        """Prometheus' request gets the figures in its format."""

        async def scenario(served: Served) -> None:
            head, _, body = (await served.ask(GET)).partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            assert lines[0] == b"HTTP/1.1 200 OK"
            assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in lines
            assert b"Content-Length: %d" % len(body) in lines
            assert b"Connection: close" in lines
            assert body == b"figure 1\n"
            assert (await served.ask(GET.replace(b"/metrics", b"/metrics?name=x"))).startswith(b"HTTP/1.1 200 ")
            assert served.asked == 2

        serve(scenario)

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", b"404"),
            (b"GET /metrics/ HTTP/1.1\r\n\r\n", b"404"),
            (b"GET /metricsandmore HTTP/1.0\r\n\r\n", b"404"),
            (b"GET http://elsewhere/metrics HTTP/1.1\r\n\r\n", b"404"),
            (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
            (b"POST / HTTP/1.1\r\n\r\n", b"404"),
            (b"GET /metrics\r\n\r\n", b"400"),
            (b"GET /metrics HTTP/2.0\r\n\r\n", b"400"),
            (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", b"400"),
            (b"\x16\x03\x01\x00\r\n\r\n", b"400"),
            (b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 9000 + b"\r\n\r\n", b"400"),
        ],
    )
    def test_nothing_else_is(self, serve: Play, request_: bytes, status: bytes) -> None:
        """Every other request is refused, and is not read further than needed."""

        async def scenario(served: Served) -> None:
            answer = await served.ask(request_)
            # Of a request that is too long the rest is not read, so its answer may be lost, but no figures are made.
            assert answer.startswith(b"HTTP/1.1 " + status) or len(request_) > metrics.MAX_REQUEST_BYTES
            assert not served.asked

        serve(scenario)

    def test_a_request_that_ends_in_the_middle_is_none(self, serve: Play) -> None:
        """A request that ends early is refused."""

        async def scenario(served: Served) -> None:
            assert (await served.ask(GET[:-2], end=True)).startswith(b"HTTP/1.1 400 ")
            assert not served.asked

        serve(scenario)

    def test_who_says_nothing_is_closed(self, serve: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        """A connection that sends nothing, or an incomplete request, holds its slot only briefly."""
        monkeypatch.setattr(metrics, "READ_SECONDS", 0.05)

        async def scenario(served: Served) -> None:
            assert await served.ask(b"") == b""
            assert await served.ask(GET[:-1]) == b""

        serve(scenario)

    def test_those_on_top_are_closed(self, serve: Play) -> None:
        """Connections above the limit are closed at once, and when others have gone the next ones are served."""

        async def scenario(served: Served) -> None:
            holding = [await asyncio.open_unix_connection(served.path) for _ in range(metrics.MAX_SCRAPERS)]
            assert await served.ask(b"") == b""
            for _, writer in holding:
                writer.write(GET)
            for reader, writer in holding:
                assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
                writer.close()
            assert (await served.ask(GET)).startswith(b"HTTP/1.1 200 ")

        serve(scenario)

    def test_a_bug_in_a_figure_ends_nothing(self, serve: Play) -> None:
        """A bug in a figure gives status 500 and a log line, and the next request is answered."""

        async def scenario(served: Served) -> None:
            served.render = lambda: bytes(1 // 0)  # type: ignore[method-assign]  # a bug
            assert (await served.ask(GET)).startswith(b"HTTP/1.1 500 ")
            assert [type(event) for event in served.events] == [InternalError]
            assert (await served.ask(GET)).startswith(b"HTTP/1.1 500 ")

        serve(scenario)
