"""Sleeping without a hypervisor: a connection starts the server, which exits when idle, and the next starts it again.

Meanwhile the test holds the socket, or systemd's own systemd-socket-activate; a test can't run a service manager.
"""

import shutil
import socket
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import KeyPair
from tests.support.activation import MakeActivated
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import PATIENCE

FIRST = ("-o", "StrictHostKeyChecking=accept-new")
"""For a client that comes before the host key exists."""


def served(client: subprocess.Popen[bytes]) -> str:
    """The client's output; the client has to succeed."""
    stdout, stderr = client.communicate(timeout=PATIENCE)
    assert client.returncode == 0, stderr
    return stdout.decode()


def test_each_connection_wakes_the_server_and_is_served(make_activated: MakeActivated, user_key: KeyPair) -> None:
    """Protects sleep without a hypervisor: the client that wakes the server is served; idle, the server exits again."""
    server = make_activated({"idle": {"timeout": "1s"}})
    client = Client(server, user_key.private)
    for options in (FIRST, ()):
        ssh = client.popen("echo served; echo $SSH_CONNECTION", *options)
        server.wait_for_client()
        server.start()
        answer, endpoints = served(ssh).splitlines()
        assert answer == "served"
        opened = server.find("connection.opened")
        assert [str(event["peer_port"]) for event in opened] == [endpoints.split()[1]]
        assert (server.port, server.wait()) == (server.listening.getsockname()[1], 0)
        assert server.find("server.stopped", reason="idle", exit_code=0)
        assert f"accepts connections at 127.0.0.1:{server.port}" in server.stderr


def test_who_comes_during_a_stop_waits_for_the_next_server(make_activated: MakeActivated, user_key: KeyPair) -> None:
    """Protects clients at a restart: the socket stays open, so their connections are not refused but served later."""
    server = make_activated({"stop": {"drain": "1s"}})
    client = Client(server, user_key.private)
    stubborn = client.popen("trap '' HUP TERM; echo on; while :; do sleep 0.1; done", *FIRST)
    server.wait_for_client()
    server.start()
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"on\n"
    server.signal(15)
    server.wait_for("server.stopping")
    late = client.popen("echo served")
    server.wait_for_client()
    assert server.wait() == 0
    assert late.poll() is None
    stubborn.communicate(timeout=PATIENCE)
    server.start()
    assert served(late) == "served\n"


def test_each_of_several_sockets_is_served(make_activated: MakeActivated, user_key: KeyPair) -> None:
    """Protects a unit with several `ListenStream=` lines: each socket serves a connection, and all stay open."""
    server = make_activated({"idle": {"timeout": "1s"}})
    with socket.create_server(("127.0.0.1", 0)) as other:
        server.others = (other,)
        ports = [server.port, other.getsockname()[1]]
        server.start()
        assert server.find("server.started", addresses=[f"127.0.0.1:{port}" for port in ports])
        for port in ports:
            server.port = port
            assert served(Client(server, user_key.private).popen("echo served", *FIRST)) == "served\n"
        assert server.wait() == 0
        for port in ports:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()


def test_sessions_see_nothing_of_the_socket(make_activated: MakeActivated, user_key: KeyPair) -> None:
    """Protects the socket from users: sessions get neither the socket nor the variables about it."""
    server = make_activated()
    server.start()
    shown = Client(server, user_key.private).output("env; ls -l /proc/self/fd; echo /proc/self/fd/*")
    assert "SSH_CONNECTION=" in shown
    assert "LISTEN_" not in shown
    assert "socket:" not in shown


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (socket.SOCK_STREAM, "does not listen; the unit needs Accept=no"),
        (socket.SOCK_DGRAM, "is no TCP socket; the unit needs ListenStream="),
    ],
)
def test_a_socket_that_will_not_do_is_named(make_activated: MakeActivated, kind: socket.SocketKind, says: str) -> None:
    """Protects the author of a unit: the server exits with code 2 and says what to change, without binding anything."""
    server = make_activated(sock=socket.socket(socket.AF_INET, kind))
    server.launch()
    assert server.wait() == 2
    assert says in server.stderr
    assert "LISTEN_FDS" in server.stderr
    assert not server.events


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="needs systemd-socket-activate")
def test_systemd_starts_it(make_activated: MakeActivated, user_key: KeyPair) -> None:
    """Protects the protocol as systemd speaks it: a login through systemd-socket-activate, and the exit when idle."""
    server = make_activated({"idle": {"timeout": "1s"}})
    server.listening.close()  # systemd has the port now
    program = "systemd-socket-activate"
    server.launch_by(program, "--listen", f"127.0.0.1:{server.port}", "--fdname=ssh")
    server.wait_for_stderr("Listening on")
    client = Client(server, user_key.private).popen("echo served", *FIRST)
    server.wait_until_started()
    assert served(client) == "served\n"
    assert server.wait() == 0
    assert server.find("server.stopped", reason="idle", exit_code=0)


def test_a_service_has_no_home(make_server: Callable[..., Server], user_key: KeyPair) -> None:
    """systemd gives a service of the machine no HOME: logins work all the same."""
    server = make_server(start=False)
    server.wrapper = ["env", "-u", "HOME"]
    server.start()
    assert Client(server, user_key.private).run("true").status == 0
