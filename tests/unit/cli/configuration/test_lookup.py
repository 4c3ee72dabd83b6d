"""Which configuration a command uses: the one that is named, or else that of the running server."""

from pathlib import Path

import pytest

from pyssh_gateway.cli.configuration.lookup import look_up
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.request import Answer, NoServer
from pyssh_gateway.cli.server_socket import Server as Asked
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import read
from pyssh_gateway.config.types import Idle
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.control import ConfigReply
from pyssh_gateway.ipc.config_origin import ConfigOrigin
from pyssh_gateway.ipc.reread import digest

SERVER = Asked("/run/pyssh-gateway/control.sock", 4711, 0)


class Server:
    """A server that reports the configuration that it has read, with `environ` as its environment."""

    def __init__(self, directory: Path, *, file: str = "", **environ: str) -> None:
        (directory / "server.toml").write_text(file)
        self.asked = 0
        self._origin = ConfigOrigin(str(directory), "server.toml", environ, {"listen.port": 2022})
        config = parse(read(str(directory / "server.toml"), environ, {"listen.port": 2022}))
        self.answer = ConfigReply(self._origin.pack(), digest(config), 4711)

    def ask(self) -> Answer[ConfigReply]:
        """The server's answer."""
        self.asked += 1
        return Answer(self.answer, SERVER)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the person who asks, which differs from the server's."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def test_the_servers_own_is_read_as_it_reads_it(tmp_path: Path, elsewhere: Path) -> None:
    """Protects `sudo pyssh-gateway check` in a container, where sudo does not pass the server's environment on."""
    server = Server(tmp_path, file='keys_dir = "keys"\n', PYSSH_GATEWAY_IDLE__TIMEOUT="5m")
    found = look_up(None, {"PATH": "/bin", "https_proxy": "http://mine.example"}, server.ask)
    assert found.config is not None
    assert found.config.idle == Idle(timeout=Duration(300))
    assert found.config.listen.port == 2022
    assert not found.config.keys.https_proxy
    assert (found.server, found.pid, found.in_force, found.remark) == (SERVER, 4711, True, "")
    expected = "server.toml; environment: PYSSH_GATEWAY_IDLE__TIMEOUT, of the server that runs (process 4711)"
    assert found.described == expected
    assert Path(found.config.keys_dir).absolute() == tmp_path / "keys"


def test_a_file_that_has_changed_since_is_told(tmp_path: Path, elsewhere: Path) -> None:
    """A person who has just edited the file learns that the server has not read it yet, and what is wrong in it."""
    server = Server(tmp_path, file='keys_dir = "keys"\n')
    (tmp_path / "server.toml").write_text('keys_dir = "other"\n')
    assert not look_up(None, {}, server.ask).in_force
    (tmp_path / "server.toml").write_text("idle.timeout = 'soon'\n")
    found = look_up(None, {}, server.ask)
    assert found.config is None
    assert found.problems[0].startswith("idle.timeout: expected a duration")


@pytest.mark.parametrize("environ", [{}, {"PYSSH_GATEWAY_LISTEN__PORT": "22"}])
def test_one_that_was_named_is_the_one(tmp_path: Path, elsewhere: Path, environ: dict[str, str]) -> None:
    """A file that is named, or a variable of ours that is set, is used even while a server runs."""
    server = Server(tmp_path)
    (elsewhere / "mine.toml").write_text("")
    path = None if environ else "mine.toml"
    found = look_up(path, environ, server.ask)
    assert (server.asked, found.server, found.pid) == (0, None, 0)
    assert found.described == ("environment: PYSSH_GATEWAY_LISTEN__PORT" if environ else "mine.toml").replace(
        "environment", "no file; environment"
    )


def test_without_a_server_ones_own_is_read(elsewhere: Path) -> None:
    """Before the first start there is no server to ask, so the command reads its own configuration without a remark."""

    def ask() -> Answer[ConfigReply]:
        raise NoServer("no server could be asked")

    found = look_up(None, {}, ask)
    assert (found.remark, found.described) == ("", "no file")


def test_a_server_that_may_not_be_asked_is_told_of(elsewhere: Path) -> None:
    """An account that may not ask the server is warned that the server's configuration may differ."""

    def ask() -> Answer[ConfigReply]:
        raise Failed("this is for root and the account that started the server")

    found = look_up(None, {}, ask)
    assert "may have another one, was not asked: this is for root" in found.remark
    assert found.config is not None


def test_a_server_whose_directory_is_gone_is_told_of(tmp_path: Path, elsewhere: Path) -> None:
    """A server whose working directory is gone is reported, since relative paths cannot be resolved there any more."""
    origin = ConfigOrigin(str(tmp_path / "gone"), None, {}, {})
    found = look_up(None, {}, lambda: Answer(ConfigReply(origin.pack(), "", 7), SERVER))
    assert f"{tmp_path}/gone, can't be entered: No such file or directory" in found.remark
