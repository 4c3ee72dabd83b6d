"""cli.server_socket: which server is asked, and what is said when another one may have been meant."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyssh_gateway.cli import server_socket
from pyssh_gateway.cli.server_socket import CannotAsk, NoServer, Places, Server, reach
from pyssh_gateway.ipc import control_socket
from pyssh_gateway.ipc.control_socket import OutOfReach, bind_control

Listen = Callable[[str], str]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as sockets need one."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
def listen(place: Path) -> Iterator[Listen]:
    """Starts a listener at a name below `place` that lasts until the test ends; returns its path."""
    sockets: list[socket.socket] = []

    def begin(name: str) -> str:
        sockets.append(bind_control(str(place / name)))
        return str(place / name)

    yield begin
    for sock in sockets:
        sock.close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide other servers that run on this machine."""
    monkeypatch.setattr(server_socket, "running", tuple)


def asked(where: Places) -> Server:
    """The server that is reached."""
    sock, server = reach(where)
    sock.close()
    return server


def as_account(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    """Make the command believe that it runs as `uid`; the check of who listens at the socket stays real."""
    monkeypatch.setattr("pyssh_gateway.cli.server_socket.os", SimpleNamespace(geteuid=lambda: uid))


def test_the_first_that_answers_is_asked(listen: Listen, place: Path) -> None:
    """Protects the order: the session's own server, then the configuration's, in both cases without a remark."""
    own, other = listen("own.sock"), listen("other.sock")
    assert asked(Places(own, (other,))) == Server(own, os.getpid(), os.geteuid())
    assert asked(Places(None, (other,))).path == other


def test_a_session_whose_server_has_gone_says_so(listen: Listen, place: Path) -> None:
    """Protects a tmux that outlives its server: another server's answer comes with a remark."""
    other = listen("other.sock")
    server = asked(Places(f"{place}/gone.sock", (other,)))
    assert server.remark == (f"your server at {other} answers: nobody listens at {place}/gone.sock, this session's")


def test_a_server_of_somebody_else_is_named(listen: Listen, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from another account's answer in place of one's own server's: the remark says whose server answers."""
    other = listen("other.sock")
    uid = os.geteuid()
    as_account(monkeypatch, uid + 1)
    places = (f"{place}/keys/control.sock", other)
    assert asked(Places(None, places, elsewhere=True)).remark.endswith(f"'s server answers, at {other}")
    # A server at a path that the configuration names is meant, no matter which account has started it.
    assert asked(Places(None, (other,))).remark == ""


def test_a_server_elsewhere_is_found(listen: Listen, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects `status` outside of the server's directory: the account's own server answers, and not root's."""
    mine, roots = listen("mine.sock"), listen("roots.sock")
    as_account(monkeypatch, 12345)
    monkeypatch.setattr(server_socket, "running", lambda: (mine, roots))
    places = (f"{place}/keys/control.sock", roots)
    assert asked(Places(None, places, elsewhere=True)).path == mine
    assert asked(Places(None, places, elsewhere=False)).path == roots


def test_of_several_servers_none_is_guessed(listen: Listen, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects from the wrong server's answer: several servers are listed, with a way to name one."""
    one, two = listen("one.sock"), listen("two.sock")
    monkeypatch.setattr(server_socket, "running", lambda: (one, two))
    with pytest.raises(CannotAsk) as failure:
        reach(Places(None, (f"{place}/keys/control.sock",), elsewhere=True))
    assert failure.value.reasons[1:] == (one, two)
    assert "say which is meant with PYSSH_CONTROL=PATH" in failure.value.reasons[0]
    assert failure.value.code == 3


def test_what_is_out_of_reach_is_no_answer(listen: Listen, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects login users: a socket that they may not reach is skipped, and named if nothing else answers."""
    other = listen("other.sock")
    closed = f"{place}/closed/control.sock"

    def connect(path: str) -> socket.socket:
        if path == closed:
            raise OutOfReach(f"can't connect to {path}: Permission denied")
        return control_socket.connect(path)

    monkeypatch.setattr(server_socket, "connect", connect)
    assert asked(Places(None, (closed, other))).path == other
    with pytest.raises(CannotAsk) as failure:
        reach(Places(None, (closed, f"{place}/nobody.sock")))
    assert not isinstance(failure.value, NoServer)
    assert str(failure.value) == (
        f"no server could be asked: nobody listens at {place}/nobody.sock; can't connect to {closed}: Permission denied"
    )


def test_only_what_nobody_has_named_is_looked_for(place: Path) -> None:
    """Protects --config and PYSSH_GATEWAY_CONFIG: with a named configuration, no other server is looked for."""
    (place / "config.toml").write_text("")
    config = str(place / "config.toml")

    def found(path: str | None, environ: dict[str, str]) -> Places:
        return server_socket.places(server_socket.read_config(path, environ), path, environ)

    assert found(None, {}).elsewhere
    assert not found(config, {}).elsewhere
    assert not found(None, {"PYSSH_GATEWAY_CONFIG": config}).elsewhere
    assert not found(None, {"PYSSH_GATEWAY_CONTROL": "/run/x.sock"}).elsewhere
    assert found(None, {"PYSSH_CONTROL": ""}).session is None
