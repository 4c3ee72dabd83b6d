"""What is reported about the running server."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest

from pyssh_gateway import __version__
from pyssh_gateway.cli.configuration.lookup import Lookup
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.doctor import server
from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.cli.exit_codes import Failed, Refused
from pyssh_gateway.cli.request import Answer, NoServer
from pyssh_gateway.cli.server_socket import Server
from pyssh_gateway.config.types import Config, Listen
from pyssh_gateway.core.control import IdleReport, SourceReport, StatusReply
from tests.support.waiting import PATIENCE

SOURCE = SourceReport("github:example", ("amos",), 0, 0, "none", None, "timed out", None, None, False, None)
STATUS = StatusReply(__version__, 7, 1.0, "127.0.0.1", 22, (), (), 0, IdleReport(None, False, None), ())


def look(
    monkeypatch: pytest.MonkeyPatch,
    answer: StatusReply | Failed,
    *,
    config: Config | None = None,
    in_force: bool = True,
    own: frozenset[int] = frozenset({7}),
) -> list[Finding]:
    """The findings when the server gives this answer; each that needs action must say what to do."""

    def ask(where: Any, *_: object) -> Answer[StatusReply]:  # noqa: ANN401 - places
        assert where.session == "/run/control.sock"
        if isinstance(answer, Failed):
            raise answer
        return Answer(answer, Server("/run/control.sock", 7, 0))

    monkeypatch.setattr(server, "ask", ask)
    found = Lookup(None, config, (), (), Server("/run/control.sock", 7, 0), 7, in_force)
    findings = list(server.look_at_server(Context(None, {}), found, own))
    assert all(each.hint for each in findings if each.level is not Level.OK)
    return findings


@contextmanager
def listening(says: bytes) -> Iterator[Config]:
    """A listener that sends `says` to its one client; yields the configuration of a server that would listen there."""
    with socket.create_server(("127.0.0.1", 0)) as sock:

        def serve() -> None:
            with suppress(OSError):  # no client has come
                client, _ = sock.accept()
                with client:
                    client.sendall(says)

        thread = threading.Thread(target=serve, name="greets")
        thread.start()
        try:
            yield Config(listen=Listen(address="127.0.0.1", port=sock.getsockname()[1]))
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def test_a_server_that_answers_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to the server are tried: the control socket, and the port for logins."""
    with listening(b"SSH-2.0-OpenSSH_9.9 pyssh-gateway\r\n") as config:
        found = look(monkeypatch, STATUS, config=config)
    assert [each.level for each in found] == [Level.OK, Level.OK]


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n"])
def test_something_else_at_its_port_is_a_problem(monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    """Another program on the port is a problem, since clients reach that and not the server."""
    with listening(says) as config:
        *_, found = look(monkeypatch, STATUS, config=config)
    assert (found.level, "does not begin as SSH does" in found.text) == (Level.PROBLEM, True)


def test_a_port_that_nobody_listens_on_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nobody listens on is a problem, reported with the error that a client would get."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    *_, found = look(monkeypatch, STATUS, config=Config(listen=Listen(address="127.0.0.1", port=port)))
    assert found.level is Level.PROBLEM
    assert found.text == f"nobody can connect to 127.0.0.1:{port}: Connection refused"


def test_nobody_is_greeted_who_may_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server's processes are unknown, the port is not tried: a connection to systemd's socket would start it."""
    config = Config(listen=Listen(address="127.0.0.1", port=1))
    assert [each.level for each in look(monkeypatch, STATUS, config=config, own=frozenset())] == [Level.OK]


def test_behind_a_proxy_no_client_is_played(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PROXY headers the port is not tried: a connection without a header would be refused and logged."""
    config = Config(listen=Listen(address="127.0.0.1", port=1, proxy_protocol="any"))
    assert [each.level for each in look(monkeypatch, STATUS, config=config)] == [Level.OK]


def test_what_the_server_has_not_got_yet_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade, a changed file and a source that fails are reported, each with what to do."""
    status = msgspec.structs.replace(STATUS, version="0.0.9", sources=(SOURCE,))
    warnings = [each.text for each in look(monkeypatch, status, in_force=False) if each.level is Level.WARNING]
    assert warnings == [
        f"this program is {__version__}, the server that runs is 0.0.9",
        "it has another configuration in force than there is now",
        "github:example: timed out",
    ]


def test_a_server_that_is_not_there_or_may_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not run is a note, and one that refuses to answer is unknown; neither is a problem."""
    (found,) = look(monkeypatch, NoServer("nobody listens"))
    assert found.level is Level.NOTE
    (found,) = look(monkeypatch, Refused("this is for root"))
    assert (found.level, found.text) == (Level.UNKNOWN, "this is for root")
