"""Many logins, one after the other and at once: none fails, and nothing is left of them."""

import concurrent.futures
import time

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import leaks, processes
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, until

IN_A_ROW = 200
TOGETHER = 50
GROWTH_BYTES = 4 * 1024 * 1024
"""By how much memory may grow after the warm-up: a leak of 20 KiB for each login would be more."""


def memory(server: Server) -> tuple[int, int]:
    """The private memory of the spawner and of the gateway, in bytes."""
    return processes.resident_bytes(server.pid), processes.resident_bytes(server.gateway_pid)


@pytest.mark.soak
def test_many_logins_leave_nothing_behind(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects long-lived machines: after 200 logins in a row, 50 at once, no descriptors, children or memory leak."""
    server = make_server()
    client = Client(server, user_key.private)
    # The first logins fill caches and the allocator's arenas, so the same load runs once before the comparison.
    at_once(client)
    until(lambda: not server.find("connection.opened")[len(server.find("connection.closed")) :], what="all closed")
    held = leaks.footprint(server)
    before = memory(server)
    for number in range(IN_A_ROW):
        result = client.run(f"exit {number}")
        assert result.status == number, (number, result)
    at_once(client)
    leaks.check_server(server, held)
    grown = [now - then for now, then in zip(memory(server), before, strict=True)]
    assert max(grown) < GROWTH_BYTES, grown
    assert server.find("connection.refused") == []


def at_once(client: Client) -> None:
    """50 logins at the same time, each with a status of its own."""
    with concurrent.futures.ThreadPoolExecutor(TOGETHER) as pool:
        results = list(pool.map(lambda number: client.run(f"exit {number}", seconds=60), range(TOGETHER)))
    failed = {number: result for number, result in enumerate(results) if result.status != number}
    assert not failed, (len(failed), next(iter(failed.values())))


@pytest.mark.slow
def test_terminals_at_once_leave_nothing_behind(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects ptys in the same way: 20 terminals at once, each with its own pty, all given back."""
    server = make_server()
    client = Client(server, user_key.private)
    assert client.run("true", "-tt").status == 0
    held = leaks.footprint(server)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: client.run(f"tty; exit {number}", "-tt"), range(40)))
    assert [result.status for result in results] == list(range(40))
    leaks.check_server(server, held)


def test_start_is_quick(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the cold start: a client that comes before the server is ready is served once it is, not refused."""
    server = make_server()
    client = Client(server, user_key.private)
    port = server.port
    server.stop()
    # The same port again, and a client that retries until the kernel accepts its connection.
    server.config.write_text(server.config.read_text().replace("port = 0", f"port = {port}"))
    began = time.monotonic()
    server.launch()
    until(lambda: client.run("exit 3").status == 3, what="first login")
    assert time.monotonic() - began < AT_ONCE
    server.wait_until_started()
    # Every attempt either found no listener, or was served: none was taken and then dropped.
    assert len(server.find("connection.opened")) == 1
