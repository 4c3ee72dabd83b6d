"""Metrics for Prometheus, from a real server with real clients."""

import http.client
import os
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.idle_stop import stops_after
from tests.support.waiting import PATIENCE

SCRAPE_SECONDS = 0.02
"""Time between two scrapes: many fit in an idle time, and the server still has time for its other work."""

Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


class UnixConnection(http.client.HTTPConnection):
    """HTTP at the path of a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        """See the class."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._path))


def scrape(connection: http.client.HTTPConnection) -> Figures:
    """The figures as Prometheus would read them."""
    with closing(connection):
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        families = text_string_to_metric_families(response.read().decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples}


def value(figures: Figures, name: str, **labels: str) -> float:
    """The value of one figure."""
    return figures[f"pyssh_gateway_{name}", frozenset(labels.items())]


def test_figures_are_those_of_the_server(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects the graph: logins, refusals and sessions appear in their figures, and so does a crash."""
    place = tmp_path / "metrics.sock"
    server = make_server({"metrics": {"listen": str(place)}, "idle": {"timeout": "1h"}})
    source = f"file:{user_key.public}"
    before = scrape(UnixConnection(place))
    assert value(before, "keys", source=source) == 1
    assert 3590 < value(before, "idle_stop_seconds") <= 3600

    client = Client(server, user_key.private)
    assert client.run("true", user="nobody-here").status == 255
    ssh = client.popen("cat")
    server.wait_for("session.opened")
    during = scrape(UnixConnection(place))
    assert value(during, "connections", state="authenticated") == value(during, "sessions") == 1
    assert value(during, "logins_total", user=server.login, source=source) == 1
    assert value(during, "auth_attempts_total", result="denied", reason="unknown-account") >= 1
    assert value(during, "idle_stop_seconds") == float("inf")
    assert value(during, "key_age_seconds", source=source) >= 0

    ssh.communicate(b"x" * 100_000, timeout=PATIENCE)
    server.wait_for("connection.closed", user=server.login)
    after = scrape(UnixConnection(place))
    assert value(after, "connections", state="authenticated") == value(after, "sessions") == 0
    assert value(after, "bytes_total", direction="in") > value(during, "bytes_total", direction="in") + 100_000
    assert value(after, "awake_seconds_total") > value(before, "awake_seconds_total")
    assert value(after, "events_dropped_total", output="file") == 0

    os.kill(server.gateway_pid, signal.SIGKILL)
    server.wait_for("gateway.crashed")
    anew = scrape(UnixConnection(place))
    assert value(anew, "events_total", event="gateway.crashed") == 1
    assert value(anew, "awake_seconds_total") > value(after, "awake_seconds_total")


def test_a_scrape_is_not_use(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects the bill: repeated scrapes keep no machine awake, and fill no log."""
    place = tmp_path / "metrics.sock"
    server = make_server({"metrics": {"listen": str(place)}, "idle": {"timeout": "1s"}})
    scrapes, stopped = 0, threading.Event()

    def look() -> None:
        nonlocal scrapes
        while not stopped.wait(SCRAPE_SECONDS):
            try:
                scrape(UnixConnection(place))
            except (OSError, http.client.HTTPException):
                return  # it has stopped
            scrapes += 1

    scraper = threading.Thread(target=look)
    scraper.start()
    try:
        assert stops_after(server, None, seconds=1)
    finally:
        stopped.set()
        scraper.join()
    assert scrapes > 10
    assert len(server.events) < 10


def test_an_address_that_is_taken_stops_nobody(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the login: without its metrics the server works as usual, and says what is missing."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        server = make_server({"metrics": {"listen": place}})
        assert f"metrics.listen: can't listen on {place}" in server.stderr
        assert Client(server, user_key.private).output("echo here") == "here\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_they_are_served_at_an_address(make_server: MakeServer, host: str) -> None:
    """Protects a Prometheus on another machine: metrics are served at an address and a port, for IPv4 and IPv6."""
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        free = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    with free:
        port = free.getsockname()[1]
    make_server({"metrics": {"listen": f"{host}:{port}"}})
    figures = scrape(http.client.HTTPConnection(address, port, timeout=PATIENCE))
    assert value(figures, "connections", state="authenticated") == 0
