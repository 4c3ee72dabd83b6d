"""`check`, `config show` and `doctor` beside a real server: they look at that server's configuration, not another."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import MakeServer
from tests.support.client import client_environment
from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE


def ask(server: Server, directory: Path, *arguments: str) -> tuple[int, Any, str]:
    """The exit code, the JSON and the remarks of a command in an environment without any of the server's variables.

    It is the environment of a session, but for root: only the path of the server's socket is known.
    """
    environ = client_environment() | {"PYSSH_CONTROL": str(server.directory / "control.sock"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "pyssh_gateway", *arguments, "--json"],
        env={name: value for name, value in environ.items() if not name.startswith("PYSSH_GATEWAY_")},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_a_command_in_a_session_looks_at_the_servers_configuration(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects `sudo pyssh-gateway check` in a container: sudo passes on neither the environment nor the directory.

    It reports a changed file until the server has read it again; the server's own port is not an error.
    """
    token = "ghp_of_nobody"
    variables = {"PYSSH_GATEWAY_IDLE__HOLD_MAX": "5m", "PYSSH_GATEWAY_KEYS__GITHUB_TOKEN": token}
    server = make_server(environ=variables)
    code, shown, _ = ask(server, tmp_path, "config", "show", "idle.hold_max")
    (value,) = shown["values"]
    assert (code, value["value"], value["name"]) == (0, "5m", "PYSSH_GATEWAY_IDLE__HOLD_MAX")
    assert (shown["file"], shown["in_force"]) == (str(server.config), True)
    assert (shown["server"]["pid"], shown["server"]["uid"]) == (server.pid, os.geteuid())

    code, checked, said = ask(server, tmp_path, "check")
    assert (code, checked["problems"], said) == (0, [], "")
    assert checked["file"] == str(server.config)
    assert token not in json.dumps([shown, checked])
    assert not any(token.encode() in line for line in server.lines)

    server.write_config({"limits": {"auth_attempts": 3}, "listen": {"port": server.port}})
    code, checked, said = ask(server, tmp_path, "check")
    assert (code, checked["problems"]) == (0, [])
    assert f"kill -HUP {server.pid} has it read this one" in said
    server.write_config({"limits": {"auth_attempts": 3}})
    server.signal(signal.SIGHUP)
    server.wait_for("config.reloaded")
    assert ask(server, tmp_path, "check")[2] == ""


def test_the_doctor_finds_a_server_that_serves(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects people from false alarms: where people can log in, the doctor finds nothing that prevents a login."""
    server = make_server()
    server.write_config({"listen": {"port": server.port}})
    code, report, _ = ask(server, tmp_path, "doctor")
    found = {(each["topic"], each["level"], each["text"]) for each in report["findings"]}
    assert (code, report["problems"]) == (0, 0), found
    assert ("ports", "ok", f"the server that runs listens on 127.0.0.1:{server.port}") in found
    assert ("server", "ok", f"it answers at 127.0.0.1:{server.port}") in found
    assert ("keys", "ok", f"{server.settings['login'][0]['keys'][0]}: 1 key") in found
