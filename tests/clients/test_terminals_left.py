"""People at terminals without an SSH connection: real mosh, whose connection only starts it, and unused terminals."""

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clients.test_background import leave
from tests.clients.test_background import left_behind as left_behind  # noqa: PLC0414 - a fixture
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.commands import as_root
from tests.support.idle_stop import stops_after
from tests.support.reloads import Config
from tests.support.terminal import Terminal

NEEDS_MOSH = pytest.mark.skipif(shutil.which("mosh-server") is None, reason="mosh is not installed")


@contextmanager
def mosh(client: Client, command: str = "echo READY; read line; echo bye") -> Iterator[Terminal]:
    """A mosh window that is up, and whose shell runs `command`."""
    ssh = shlex.join(["ssh", *client.options()])
    argv = ["mosh", f"--ssh={ssh}", f"{client.server.login}@127.0.0.1", "--", "sh", "-c", command]
    with Terminal(argv, client_environment(LANG="C.UTF-8")) as terminal:
        terminal.expect("READY")
        yield terminal


@NEEDS_MOSH
def test_somebody_on_mosh_keeps_the_machine_up(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects active users from a stop: a mosh user counts without SSH; the machine stops after they leave."""
    client = Client(make_server({"idle": {"timeout": "2s", "boot_grace": "1m"}}), user_key.private)
    with mosh(client) as terminal:
        used = client.server.wait_for("terminal.used")
        assert used["what"].startswith(f"{client.server.login} is at pts/")
        assert used["what"].endswith(" (mosh-server)")
        client.server.wait_for("connection.closed")
        assert used["what"] in as_root(client, "why").stdout
        terminal.send("x\n")
        assert terminal.wait() == 0, terminal.screen
    client.server.wait_for("terminal.quiet")
    assert stops_after(client.server, "terminal.quiet", seconds=2)


@NEEDS_MOSH
def test_a_reload_does_not_keep_somebody_at_a_terminal_for_ever(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the bill: after a reload a new watch checks terminals again, and notices that a person has gone."""
    client = Client(make_server({"idle": {"timeout": "2s", "boot_grace": "1m"}}), user_key.private)
    with mosh(client) as terminal:
        client.server.wait_for("terminal.used")
        Config(client.server).reload({"idle": {"timeout": "3s"}})
        client.server.wait_for("terminal.quiet")
        terminal.send("x\n")
        assert terminal.wait() == 0, terminal.screen
    assert client.server.wait() == 0


@pytest.mark.soak
@NEEDS_MOSH
def test_a_forgotten_mosh_does_not(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the bill: with `idle.client_idle`, a window in which nobody types does not count."""
    settings = {"idle": {"timeout": "2s", "boot_grace": "1m", "client_idle": "1s"}}
    client = Client(make_server(settings), user_key.private)
    with mosh(client) as terminal:
        client.server.wait_for("terminal.used")
        client.server.wait_for("terminal.quiet")
        assert client.server.wait() == 0
        terminal.send("x\n")  # mosh does not need our server, and would stay for ever
        assert terminal.wait() == 0, terminal.screen


def test_a_terminal_that_nobody_is_at(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill from a detached screen or tmux: its terminal exists, but nothing has been typed since."""
    if shutil.which("script") is None:
        pytest.skip("no script(1) on this machine")
    server = make_server({"idle": {"timeout": "2s", "boot_grace": "1m"}})
    leave(server, user_key, "script -qfc 'sleep 1000' /dev/null", left_behind)
    assert stops_after(server, seconds=2)
    assert not server.find("terminal.used")
