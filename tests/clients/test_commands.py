"""The commands for people, run against a real server: who is on, who can log in, and why somebody can't."""

import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import KeyPair
from tests.support.client import Client
from tests.support.github import FakeGitHub, keys
from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE

Report = dict[str, Any]


class Asked(NamedTuple):
    """The outcome of a command."""

    code: int
    out: str
    err: str


class Machine(NamedTuple):
    """A server that lets in a key file and a GitHub account."""

    server: Server
    github: FakeGitHub
    client: Client

    def command(self, *arguments: str) -> Asked:
        """Run a command for this server."""
        command = [sys.executable, "-m", "pyssh_gateway", *arguments, "--config", str(self.server.config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=ROOT)
        return Asked(done.returncode, done.stdout, done.stderr)

    def report(self, *arguments: str) -> Report:
        """A command's output for programs."""
        asked = self.command(*arguments, "--json")
        assert asked.err == ""
        report: Report = json.loads(asked.out)
        return report


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Machine]:
    """A server to ask. GitHub's `example` has no key at first."""
    directory = tmp_path_factory.mktemp("server")
    with FakeGitHub() as github:
        github.script("example", keys())
        github.account("example", 583231)
        settings = {
            "control": str(directory / "control.sock"),
            "keys": {"github_url": github.url, "timeout": "5s"},
            "host_keys": {"types": ["ed25519", "ecdsa"]},
        }
        sources = [f"file:{user_key.public}", "github:example"]
        with Server(directory, login=account.pw_name, keys=sources, settings=settings) as server:
            yield Machine(server, github, Client(server, user_key.private))


def fingerprint(key: KeyPair) -> str:
    """The fingerprint of a key."""
    command = ["ssh-keygen", "-lf", str(key.public)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout.split()[1]


def test_status_tells_who_is_on(machine: Machine, user_key: KeyPair) -> None:
    """Protects `status`: people appear with their names and commands, and disappear when they leave."""
    mark = machine.server.mark()
    running = machine.client.popen("cat")
    opened = machine.server.wait_for("session.opened", since=mark)
    report = machine.report("status")
    (connection,) = report["connections"]
    assert (connection["conn"], connection["user"]) == (opened["conn"], machine.server.login)
    assert connection["identity"]["fingerprint"] == fingerprint(user_key)
    assert [(one["session"], one["kind"], one["command"]) for one in connection["sessions"]] == [
        (opened["session"], "exec", "cat")
    ]
    assert (report["pid"], report["port"]) == (machine.server.gateway_pid, machine.server.port)
    identity = connection["identity"]["person"]
    reason = f"{identity} is on as {machine.server.login} from 127.0.0.1"
    assert report["idle"] == {
        "timeout": None,
        "in_use": True,
        "stops_in": None,
        "reasons": [{"kind": "connection", "text": reason, "ends_in": None}],
        "quiet": [],
    }
    started = machine.server.find("server.started")[0]
    assert [key["fingerprint"] for key in report["host_keys"]] == started["host_keys"]
    assert f"{machine.server.login}  " in machine.command("status").out
    running.communicate(timeout=PATIENCE)
    machine.server.wait_for("connection.closed", since=mark)
    assert machine.report("status")["connections"] == []
    asked = machine.server.find("control.request", since=mark, command="status")
    assert {(event["uid"], event["outcome"]) for event in asked} == {(os.geteuid(), "answered")}


def test_a_key_is_fetched_tested_and_used(machine: Machine, make_key: Callable[..., KeyPair]) -> None:
    """Protects the life of a new key: unknown, then refreshed, known and used, then removed and unknown."""
    key = make_key()
    before = machine.command("keys", "test", str(key.public))
    assert (before.code, before.err) == (1, "")
    assert "no, key is not known" in before.out
    machine.github.script("example", keys(key.public.read_text().strip()))
    assert machine.command("keys", "refresh").code == 0
    (login,) = machine.report("keys")["logins"]
    (found,) = [one for one in login["keys"] if one["fingerprint"] == fingerprint(key)]
    assert (found["person"], found["source"]) == ("github:example", "github:example")
    verdict = machine.report("keys", "test", str(key.public))["verdicts"][0]
    assert (verdict["accepted"], verdict["identity"]["fingerprint"]) == (True, fingerprint(key))
    assert machine.client.run("exit 3", key=key.private).status == 3
    machine.github.script("example", keys())
    assert machine.command("keys", "refresh").code == 0
    assert machine.command("keys", "test", str(key.public)).code == 1


def test_an_account_that_changed_is_accepted(machine: Machine, make_key: Callable[..., KeyPair]) -> None:
    """Protects `keys accept`: an account that changed hands lets nobody in until somebody confirms it."""
    key = make_key()
    machine.command("keys", "refresh")
    machine.server.wait_for("keys.loaded", source="github:example")
    machine.github.account("example", 7)
    machine.github.script("example", keys(key.public.read_text().strip()))
    changed = machine.command("keys", "refresh")
    assert changed.code == 1
    assert "keys accept github:example" in changed.out
    assert machine.client.run("true", key=key.private).status == 255
    assert machine.command("keys", "accept", "github:example").code == 0
    assert machine.client.run("exit 3", key=key.private).status == 3
    assert machine.command("keys", "accept", "github:nobody").code == 1


def test_a_rotation_is_not_finished_before_clients_could_learn_the_key(machine: Machine) -> None:
    """Protects people from a warning about a changed key: a server that was not restarted has announced no key yet."""
    assert machine.command("keys", "rotate-host").code == 0
    finished = machine.command("keys", "rotate-host", "--finish")
    assert (finished.code, finished.out) == (1, "")
    assert "the running server does not announce SHA256:" in finished.err
    assert machine.command("keys", "rotate-host", "--abort").code == 0


def test_a_new_monitor_answers(machine: Machine) -> None:
    """Protects the commands after a crash: the next monitor answers them."""
    mark = machine.server.mark()
    before = machine.server.gateway_pid
    os.kill(before, signal.SIGKILL)
    started = machine.server.wait_for("server.started", since=mark, generation=2)
    machine.server.gateway_pid = started["pid"]
    assert machine.report("status")["pid"] == started["pid"] != before


def test_a_second_server_leaves_the_first_its_socket(machine: Machine, tmp_path: Path) -> None:
    """Protects commands from reaching the wrong server: one that can't have the socket says so, and serves."""
    settings = {"control": str(machine.server.directory / "control.sock")}
    keys_of = [f"file:{machine.client.key}.pub"]
    with Server(tmp_path, login=machine.server.login, keys=keys_of, settings=settings) as second:
        assert "another server does" in second.stderr
        assert Client(second, machine.client.key).run("exit 3").status == 3
        assert machine.report("status")["pid"] == machine.server.gateway_pid != second.gateway_pid


def test_a_stopped_server_is_nobody_to_ask(tmp_path: Path, account: pwd.struct_passwd, user_key: KeyPair) -> None:
    """Protects against a hang: without a server `status` says so at once, and `keys` reads what is on the disk."""
    settings = {"control": str(tmp_path / "control.sock")}
    with (
        FakeGitHub() as github,
        Server(tmp_path, login=account.pw_name, keys=[f"file:{user_key.public}"], settings=settings) as server,
    ):
        machine = Machine(server, github, Client(server, user_key.private))
        assert machine.command("status").code == 0
        server.stop()
        status = machine.command("status")
        assert (status.code, status.out) == (3, "")
        assert "nobody listens" in status.err
        listed = machine.command("keys")
        assert listed.code == 0
        assert fingerprint(user_key) in listed.out
        assert machine.command("check").code == 0
