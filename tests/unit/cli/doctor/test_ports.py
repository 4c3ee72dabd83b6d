"""Which process has a port, and what is reported about it."""

import errno
import os
import socket
from pathlib import Path

import pytest

from pyssh_gateway.cli.doctor import ports
from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.cli.doctor.listeners import Listener, listeners_at, name_of_process
from pyssh_gateway.config.source import Endpoint
from pyssh_gateway.config.types import Config, Listen

CONFIG = Config(listen=Listen(address="192.0.2.1", port=22))


def seen(
    monkeypatch: pytest.MonkeyPatch, error: int, *listeners: Listener, own: int = 0, config: Config = CONFIG
) -> Finding:
    """The finding about the one address of `config` when listening fails with `error` (0: it succeeds)."""

    def unavailable(endpoints: tuple[Endpoint, ...]) -> dict[Endpoint, OSError]:
        return {endpoint: OSError(error, os.strerror(error)) for endpoint in endpoints} if error else {}

    monkeypatch.setattr(ports, "unavailable", unavailable)
    (finding,) = ports.look_at_ports(config, {own} - {0}, listeners=lambda _port: listeners)
    return finding


def listener(*pids: int, uid: int = 0) -> Listener:
    """A listener on the port, of these processes."""
    return Listener("0.0.0.0", 22, uid, pids)


def called(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Give every process this name."""
    monkeypatch.setattr(ports, "name_of_process", lambda _pid: name)


def test_a_free_port_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A free port needs no action."""
    assert seen(monkeypatch, 0) == Finding("ports", Level.OK, "192.0.2.1:22 is free")


def test_the_server_that_runs_may_have_its_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server runs, the port being taken by the server itself is fine."""
    finding = seen(monkeypatch, errno.EADDRINUSE, listener(7, 8), own=7)
    assert (finding.level, finding.text) == (Level.OK, "the server that runs listens on 192.0.2.1:22")


def test_sshd_on_port_22_leads_to_the_way_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """sshd on port 22 is the most common case, so the hint names a page about it."""
    called(monkeypatch, "sshd")
    finding = seen(monkeypatch, errno.EADDRINUSE, listener(812), own=7)
    assert (finding.level, finding.text) == (Level.PROBLEM, "sshd (process 812) listens on 192.0.2.1:22")
    assert "docs/platforms.md" in finding.hint


def test_a_socket_unit_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """When systemd listens for the server, the port is taken while nobody is connected, which is only a note."""
    called(monkeypatch, "systemd")
    assert seen(monkeypatch, errno.EADDRINUSE, listener(1)).level is Level.NOTE
    called(monkeypatch, "haproxy")  # process 1 of a container
    assert seen(monkeypatch, errno.EADDRINUSE, listener(1)).level is Level.PROBLEM


def test_somebody_elses_process_is_told_by_its_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary account can't see others' processes, so a foreign listener is named by its account, if at all."""
    finding = seen(monkeypatch, errno.EADDRINUSE, listener(uid=1001))
    assert (finding.level, finding.text) == (
        Level.PROBLEM,
        "another program of the account with uid 1001 listens on 192.0.2.1:22",
    )
    assert "as root" in finding.hint
    assert seen(monkeypatch, errno.EADDRINUSE, listener(), own=7).level is Level.UNKNOWN
    assert "that can't be seen from here" in seen(monkeypatch, errno.EADDRINUSE).text
    elsewhere = Listener("198.51.100.7", 22, 0, (812,))
    assert "that can't be seen from here" in seen(monkeypatch, errno.EADDRINUSE, elsewhere).text


@pytest.mark.parametrize(
    ("error", "port", "hint"),
    [
        (errno.EACCES, 22, "start the server as root, or set listen.port to 1024 or above"),
        (errno.EACCES, 2222, "set listen.address or listen.port to another one"),
        (errno.EADDRNOTAVAIL, 22, "set listen.address to an address that this machine has"),
    ],
)
def test_what_else_keeps_a_port_has_a_remedy(monkeypatch: pytest.MonkeyPatch, error: int, port: int, hint: str) -> None:
    """Each error of bind(2) that is common gets a hint that says what to do."""
    finding = seen(monkeypatch, error, config=Config(listen=Listen(address="192.0.2.1", port=port)))
    assert finding.level is Level.PROBLEM
    assert finding.hint.startswith(hint)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_the_kernel_says_who_listens(family: socket.AddressFamily, address: str) -> None:
    """The kernel's IPv4 and IPv6 tables on this machine are read, and connections are not taken for listeners."""
    try:
        listening = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip("this machine has no such address")
    with listening:
        port = listening.getsockname()[1]
        with socket.create_connection((address, port)):
            assert listeners_at(port) == (Listener(address, port, os.geteuid(), (os.getpid(),)),)
    assert listeners_at(port) == ()
    assert name_of_process(os.getpid()) != ""


def test_without_proc_nobody_is_seen(tmp_path: Path) -> None:
    """A container that hides /proc leads to an empty answer and to no error."""
    assert listeners_at(22, tmp_path) == ()
    assert name_of_process(1, tmp_path) == ""
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text("sl  local_address rem_address\n 0: nonsense\n")
    assert listeners_at(22, tmp_path) == ()
