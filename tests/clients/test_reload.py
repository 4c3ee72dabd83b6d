"""SIGHUP: the configuration and the keys are read again, and connected clients do not notice; with the real ssh."""

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.account import PREAUTH_NAME
from tests.support.client import Client, client_environment
from tests.support.forwards import free_port
from tests.support.places import ROOT
from tests.support.reloads import Config
from tests.support.server import Server
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE, listens, until

MakeKey = Callable[..., KeyPair]

needs_accounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root can let in to two accounts")


@pytest.fixture
def server(make_server: MakeServer) -> Server:
    """A server for this test only."""
    return make_server()


def test_session_goes_on_over_a_reload(server: Server, user_key: KeyPair) -> None:
    """Protects connected clients: a SIGHUP ends neither the session nor the server, and the next login gets in."""
    client = Client(server, user_key.private)
    with client.terminal("read line; echo got $line") as terminal:
        server.wait_for("session.opened")
        assert Config(server).reload() == server.wait_for("config.reloaded", changed=[], restart=[])
        assert client.output("echo new") == "new\n"
        assert terminal.ask("word", r"got (\w+)")[1] == b"word"
        assert terminal.wait() == 0
    assert len(server.find("server.started")) == 1
    assert not server.find("server.stopping")


@needs_accounts
def test_login_added_to_the_file_works(server: Server, user_key: KeyPair) -> None:
    """Protects the administrator's change: another account may log in after SIGHUP, and not before."""
    client = Client(server, user_key.private)
    root = {"user": "root", "keys": [f"file:{user_key.public}"]}
    assert client.run("true", user="root").status == 255
    event = Config(server).reload({"login": [*server.settings["login"], root]})
    assert (event["changed"], event["users"]) == (["login"], [server.login, "root"])
    assert client.run("id -un", user="root").stdout == b"root\n"
    assert client.output("id -un") == f"{server.login}\n"


@needs_accounts
def test_login_removed_from_the_file_ends(server: Server, user_key: KeyPair) -> None:
    """Protects an account that is closed: its session is told and ends, and its next login is refused."""
    client = Client(server, user_key.private)
    with client.terminal("echo on; read line") as terminal:
        terminal.expect("on")
        Config(server).reload({"login": [{"user": "root", "keys": [f"file:{user_key.public}"]}]})
        reason = f"nobody may log in as {server.login} any more"
        assert server.wait_for("connection.revoked")["reason"] == reason
        terminal.expect(f"{reason}. This connection ends in 10 s")
        assert client.run("true").status == 255
        assert client.run("true", user="root").status == 0
        assert terminal.wait() != 0


@needs_accounts
def test_removed_login_may_stay_on_if_so_configured(server: Server, user_key: KeyPair) -> None:
    """Protects `keys.on_revoke = "keep"`: a connected client keeps its sessions, but starts nothing new."""
    client = Client(server, user_key.private)
    with client.terminal("echo on; read line; echo got $line") as terminal:
        terminal.expect("on")
        login = {"user": "root", "keys": [f"file:{user_key.public}"]}
        Config(server).reload({"login": [login], "keys": {"on_revoke": "keep"}})
        assert server.wait_for("connection.revoked")["seconds"] is None
        assert terminal.ask("word", r"got (\w+)")[1] == b"word"
        assert terminal.wait() == 0


def test_source_added_to_the_file_counts(server: Server, user_key: KeyPair, make_key: MakeKey) -> None:
    """Protects people who get a key file of their own: after SIGHUP its keys let in, and a removed file's do not."""
    other = make_key()
    login = {"user": server.login, "keys": [f"file:{other.public}"]}
    assert Client(server, other.private).run("true").status == 255
    Config(server).reload({"login": [login]})
    assert Client(server, other.private).run("true").status == 0
    assert Client(server, user_key.private).run("true").status == 255


def test_key_that_moves_to_another_source_stays(server: Server, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects connected clients when files are moved: a key that another source has now is not revoked."""
    moved = tmp_path / "moved.pub"
    moved.write_bytes(user_key.public.read_bytes())
    tmp_path.chmod(0o755)
    client = Client(server, user_key.private)
    with client.terminal("echo on; read line; echo got $line") as terminal:
        terminal.expect("on")
        Config(server).reload({"login": [{"user": server.login, "keys": [f"file:{moved}"]}]})
        server.wait_for("keys.loaded", source=f"file:{moved}")
        assert client.run("true").status == 0
        assert terminal.ask("word", r"got (\w+)")[1] == b"word"
        assert not server.find("connection.revoked")


def test_key_whose_source_is_gone_ends(server: Server, user_key: KeyPair, make_key: MakeKey) -> None:
    """Protects the administrator's change from connected clients: a key without a source loses its connections."""
    with Client(server, user_key.private).terminal("echo on; read line") as terminal:
        terminal.expect("on")
        Config(server).reload({"login": [{"user": server.login, "keys": [f"file:{make_key().public}"]}]})
        assert "has been revoked" in server.wait_for("connection.revoked")["reason"]


@needs_accounts
def test_key_whose_source_is_gone_ends_though_another_source_is_missing(
    make_server: MakeServer, user_key: KeyPair, make_key: MakeKey
) -> None:
    """Protects the same when another key file is missing, perhaps for ever."""
    stays = f"file:{make_key().public}"
    server = make_server(start=False)
    (login,) = server.settings["login"]
    server.write_config({"login": [login | {"keys": [*login["keys"], stays]}]})
    server.start()
    with Client(server, user_key.private).terminal("echo on; read line") as terminal:
        terminal.expect("on")
        missing = {"user": "root", "keys": ["file:/nowhere/missing.pub"]}
        Config(server).reload({"login": [login | {"keys": [stays]}, missing]})
        assert "has been revoked" in server.wait_for("connection.revoked")["reason"]


def test_file_with_a_mistake_changes_nothing(server: Server, user_key: KeyPair) -> None:
    """Protects against a typo: the old configuration stays in force, and the log has every mistake."""
    client = Client(server, user_key.private)
    text = server.config.read_text()
    wrong = text.replace("[limits]\n", '[limits]\nauth_atempts = 3\nlogin_grace = "soon"\n')
    event = Config(server).reload_in_vain(wrong)
    assert [problem.split(":")[0] for problem in event["problems"]] == ["limits.auth_atempts", "limits.login_grace"]
    assert 'did you mean "auth_attempts"?' in event["problems"][0]
    assert client.run("true").status == 0
    assert "not valid TOML" in Config(server).reload_in_vain("[limits\n")["problems"][0]
    server.config.unlink()
    since = server.mark()
    server.signal(signal.SIGHUP)
    assert "cannot be read" in server.wait_for("config.rejected", since=since)["problems"][0]
    assert client.run("true").status == 0


def test_account_that_does_not_exist_changes_nothing(server: Server, user_key: KeyPair) -> None:
    """Protects against a file that a start would refuse: none of it is applied."""
    changes = {"login": [{"user": "nobody-has-this", "keys": [f"file:{user_key.public}"]}]}
    server.write_config(changes)
    server.signal(signal.SIGHUP)
    (problem, *_) = server.wait_for("config.rejected")["problems"]
    assert problem.startswith("login[0].user: there is no account nobody-has-this")
    assert Client(server, user_key.private).run("true").status == 0


def test_what_needs_a_restart_is_said(server: Server, user_key: KeyPair) -> None:
    """Protects against a change that only seems to apply: settings that need a restart are named, the rest apply."""
    event = Config(server).reload({"listen": {"port": free_port()}, "audit_dir": "/nowhere", "idle": {"timeout": "1h"}})
    assert (event["changed"], event["restart"]) == (["idle.timeout"], ["listen.port", "audit_dir"])
    assert Client(server, user_key.private).run("true").status == 0


def test_settings_are_in_force(server: Server, user_key: KeyPair) -> None:
    """Protects the purpose of a reload: a forced command, a limit and the server's name are in force afterwards."""
    client = Client(server, user_key.private)
    (login,) = server.settings["login"]
    Config(server).reload(
        {
            "login": [login | {"force_command": "echo forced"}],
            "listen": {"identification": "Renamed_1"},
            "limits": {"auth_attempts": 1},
        }
    )
    result = client.run("echo mine", "-v")
    assert result.stdout == b"forced\n"
    assert b"remote software version Renamed_1" in result.stderr


def test_idle_timeout_is_in_force(server: Server) -> None:
    """Protects the machine's bill: a server without an idle timeout stops when idle once its file sets one."""
    Config(server).reload({"idle": {"timeout": "1s"}})
    assert server.wait() == 0
    assert server.find("server.stopping", reason="idle")


def test_hooks_and_drain_time_are_in_force(server: Server, tmp_path: Path) -> None:
    """Protects the actions at a stop: they follow the file as it was read last."""
    Config(server).reload({"stop": {"hooks": [f"touch {tmp_path}/done"], "drain": "30s"}})
    assert server.stop() == 0
    assert (tmp_path / "done").exists()


def test_next_gateway_has_the_new_configuration(server: Server, user_key: KeyPair) -> None:
    """Protects a change over a crash of the network side: the next one uses the configuration that was read last."""
    (login,) = server.settings["login"]
    Config(server).reload({"login": [login | {"force_command": "echo forced"}]})
    since = server.mark()
    os.kill(server.gateway_pid, signal.SIGKILL)
    server.wait_for("server.started", since=since, generation=2)
    assert Client(server, user_key.private).output("echo mine") == "forced\n"


def test_signal_to_the_network_side_reloads(server: Server) -> None:
    """Protects people who signal the process that `status` or the log names, or all the server's processes."""
    os.kill(server.gateway_pid, signal.SIGHUP)
    server.wait_for("config.reloaded")
    os.kill(server.gateway_pid, 0)
    assert not server.find("gateway.crashed")


def test_many_signals_are_few_readings(server: Server) -> None:
    """Protects the last change: what was written before the last signal is applied, however many signals came."""
    for minutes in range(1, 30):
        server.write_config({"idle": {"timeout": f"{minutes}m"}})
        server.signal(signal.SIGHUP)
    server.write_config({"idle": {"timeout": "2h"}})
    server.signal(signal.SIGHUP)
    until(lambda: "timeout 2h" in _status(server), what="the last change")
    assert len(server.find("config.reloaded")) <= 31


def _status(server: Server) -> str:
    command = [sys.executable, "-m", "pyssh_gateway", "status", "--config", str(server.config), "--json"]
    asked = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=PATIENCE, check=True)
    return "timeout 2h" if '"timeout":7200' in asked.stdout.replace(" ", "") else asked.stdout


def is_reached(port: int) -> bool:
    """Whether connections to it are accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_signal_during_the_start_is_kept(make_server: MakeServer) -> None:
    """Protects a service manager that reloads a server just after its start: it starts, and reads the file again."""
    port = free_port()
    server = make_server({"listen": {"port": port}}, start=False)
    server.launch()
    until(lambda: is_reached(port), what="the server's socket")
    server.signal(signal.SIGHUP)
    server.wait_until_started()
    server.wait_for("config.reloaded")


def test_flags_alone_can_be_reloaded(account: pwd.struct_passwd, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects a server without a file: SIGHUP does not end it, and makes it read the keys again."""
    environ = {
        "PYSSH_GATEWAY_KEYS_DIR": str(tmp_path / "keys"),
        "PYSSH_GATEWAY_AUDIT_DIR": str(tmp_path / "audit"),
        "PYSSH_GATEWAY_CONTROL": str(tmp_path / "control"),
        "PYSSH_GATEWAY_LISTEN__ADDRESS": "127.0.0.1",
        "PYSSH_GATEWAY_IDLE__TIMEOUT": "off",
        "PYSSH_GATEWAY_CONFIG": "",
        "PYSSH_GATEWAY_PREAUTH_ACCOUNT": PREAUTH_NAME,
        "HOME": str(tmp_path),
    }
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_bytes(user_key.public.read_bytes())
    user = ["--user", account.pw_name] if os.geteuid() == 0 else []
    process = subprocess.Popen(
        [sys.executable, "-m", "pyssh_gateway", "serve", "--trial", "--port", "0", *user],
        cwd=ROOT,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            _read_until(process.stdout, "server.started")
            process.send_signal(signal.SIGHUP)
            told = _read_until(process.stdout, "config.")
            assert '"config.reloaded"' in told, told
            assert f'"users":["{account.pw_name}"]' in told
            _read_until(process.stdout, "keys.loaded")
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE)


def _read_until(lines: IO[str], text: str) -> str:
    for line in lines:
        if text in line:
            return line
    raise AssertionError(f"no {text}")


# -- terminals ------------------------------------------------------------------------------------------------------


class Foreground:
    """The server in the foreground of a terminal, or started there by a shell with `script`."""

    def __init__(self, server: Server, script: str = 'exec "$@"') -> None:
        (server.directory / "stderr").touch()
        self._log = server.audit_dir / "events.jsonl"
        command = [sys.executable, "-m", "pyssh_gateway", "serve", "--config", str(server.config)]
        self.terminal = Terminal(["sh", "-c", script, "sh", *command], client_environment(PYTHONPATH=str(ROOT)))

    def wait_for(self, text: str) -> None:
        """Wait until `text` is in the log."""
        until(lambda: self._log.exists() and text in self._log.read_text(), what=f"{text} in the log")


def test_closed_terminal_ends_the_server(make_server: MakeServer) -> None:
    """Protects against servers that are left behind: one in the foreground of a terminal ends with the terminal."""
    foreground = Foreground(make_server(start=False))
    with foreground.terminal as terminal:
        foreground.wait_for("server.started")
        terminal.close()
        assert terminal.process.returncode == 0
    foreground.wait_for('"reason":"signal","detail":"SIGHUP"')


def test_terminal_that_closes_during_the_start_ends_the_server(make_server: MakeServer) -> None:
    """Protects against the same when the terminal closes before the server is ready."""
    server = make_server(start=False)
    with Foreground(server).terminal as terminal:
        until(lambda: listens(server.directory / "control.sock"), what="its socket")
        terminal.close()


def test_signal_in_a_terminal_that_is_there_reloads(make_server: MakeServer) -> None:
    """Protects a server in a terminal: a SIGHUP that is meant as a reload does not end it."""
    foreground = Foreground(make_server(start=False))
    with foreground.terminal as terminal:
        foreground.wait_for("server.started")
        terminal.process.send_signal(signal.SIGHUP)
        foreground.wait_for("config.reloaded")
        assert terminal.process.poll() is None


def test_nohup_outlives_its_terminal(make_server: MakeServer) -> None:
    """Protects a server that was started under nohup: to it, the terminal's end is a SIGHUP like any other."""
    foreground = Foreground(make_server(start=False), 'nohup "$@" >/dev/null 2>&1 & echo p=$!; read line')
    pid = int(foreground.terminal.expect(r"p=(\d+)")[1])
    try:
        foreground.wait_for("server.started")
        foreground.terminal.close()
        os.kill(pid, signal.SIGHUP)
        foreground.wait_for("config.reloaded")
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not processes.is_running(pid), what="its end")
