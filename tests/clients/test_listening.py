"""Several addresses and ports: each lets in, all open and close together, and an address that is taken is named."""

import os
import signal
import socket

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.forwards import free_port
from tests.support.server import Server
from tests.support.waiting import PATIENCE

needs_ipv6 = pytest.mark.skipif(not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"), reason="needs IPv6")  # noqa: PTH110 - one call


def reached(server: Server, key: KeyPair, host: str, port: int) -> list[str]:
    """The connection as a session sees it when it comes by this address."""
    client = Client(server, key.private)
    options = ["-o", f"Port={port}", "-o", "StrictHostKeyChecking=no", "-o", f"Hostname={host}"]
    result = client.run("echo $SSH_CONNECTION", *options)
    assert result.status == 0, result.stderr
    return result.stdout.decode().split()


def is_open(host: str, port: int) -> bool:
    """Whether a connection to it succeeds."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host, port)) == 0


@needs_ipv6
def test_each_address_lets_in(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects people who need IPv4 and IPv6, or a second port: all work, and a session knows its own address."""
    port, other = free_port(), free_port()
    addresses = [f"0.0.0.0:{port}", f"[::]:{port}", f"127.0.0.1:{other}"]
    server = make_server({"listen": {"address": addresses}}, start=False)
    server.launch()
    started = server.wait_for("server.started")
    assert (started["address"], started["port"], started["addresses"]) == ("0.0.0.0", port, addresses)
    assert f"listens on {', '.join(addresses)}" in server.stderr
    server.port = port
    for host, at in (("127.0.0.1", port), ("::1", port), ("127.0.0.1", other)):
        _, _, local, local_port = reached(server, user_key, host, at)
        assert (local, local_port) == (host, str(at))
    peers = [event["peer"] for event in server.find("connection.authenticated")]
    assert peers == ["127.0.0.1", "::1", "127.0.0.1"]


@needs_ipv6
def test_ipv6_alone_takes_both_kinds_of_clients(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the present meaning of `::`: without an IPv4 address at that port, it accepts IPv4 clients."""
    port = free_port()
    server = make_server({"listen": {"address": [f"[::]:{port}", f"127.0.0.1:{free_port()}"]}}, start=False)
    server.launch()
    server.wait_until_started()
    assert reached(server, user_key, "127.0.0.1", port)[0] == "127.0.0.1"
    assert reached(server, user_key, "::1", port)[0] == "::1"


def test_all_that_cannot_be_had_is_named(make_server: MakeServer) -> None:
    """Protects the administrator: all addresses that are taken or not ours are named at once, with their ports."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, free = taken.getsockname()[1], free_port()
        addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{free}", "192.0.2.1:22"]
        server = make_server({"listen": {"address": addresses}, "limits": {"auth_attempts": 0}}, start=False)
        server.launch()
        assert server.wait() == 2
    lines = server.stderr.splitlines()
    assert f"pyssh-gateway: can't listen on 127.0.0.1:{port}: Address already in use" in lines
    assert "pyssh-gateway: can't listen on 192.0.2.1:22: Cannot assign requested address" in lines
    assert any(line.startswith("pyssh-gateway: limits.auth_attempts") for line in lines)
    assert not any(str(free) in line for line in lines)


def test_all_of_them_close_at_a_stop(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects clients from connections that nobody answers: after a stop none of the ports takes a connection."""
    ports = [free_port(), free_port()]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    server = make_server({"listen": {"address": addresses}, "stop": {"drain": "1m"}}, start=False)
    server.launch()
    server.wait_until_started()
    stubborn = Client(server, user_key.private).popen(
        "trap '' HUP TERM; echo on; while :; do sleep 0.1; done", "-o", "StrictHostKeyChecking=no"
    )
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"on\n"
    assert all(is_open("127.0.0.1", port) for port in ports)
    server.signal(signal.SIGTERM)
    server.wait_for("server.stopping")
    assert not any(is_open("127.0.0.1", port) for port in ports)
    stubborn.terminate()
    stubborn.communicate(timeout=PATIENCE)
    assert server.wait() == 0


def test_idle_machine_is_woken_at_any_of_them(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects clients at the second port: their use keeps the machine up as at the first."""
    ports = [free_port(), free_port()]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    server = make_server({"listen": {"address": addresses}, "idle": {"timeout": "2s"}}, start=False)
    server.launch()
    server.wait_until_started()
    assert reached(server, user_key, "127.0.0.1", ports[1])[3] == str(ports[1])
    assert server.wait() == 0
    assert server.find("idle.reached", outcome="stop")
