"""Holds, as logged-in people use them over ssh, on a machine that would stop without them."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.commands import as_root, program
from tests.support.idle_stop import stops_after
from tests.support.server import Server, Settings
from tests.support.waiting import PATIENCE, until


class Machine(NamedTuple):
    """A server whose control socket the account can reach, and how to type `pyssh-gateway` in its sessions."""

    server: Server
    client: Client
    program: str

    def run(self, arguments: str) -> str:
        """The output of the command in a session of its own; the command has to succeed."""
        return self.client.output(f"{self.program} {arguments}")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory for a control socket that every account can reach; pytest's directories are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def machine(make_server: MakeServer, user_key: KeyPair, reachable: Path) -> Machine:
    """A machine that stops 2 s after the last reason to stay up."""
    return start(make_server, user_key, reachable, {"idle": {"timeout": "2s", "boot_grace": "1m"}})


def start(make_server: MakeServer, user_key: KeyPair, reachable: Path, settings: Settings) -> Machine:
    """A machine with these settings."""
    server = make_server({"control": str(reachable / "control.sock")} | settings)
    client = Client(server, user_key.private)
    return Machine(server, client, program(client))


def test_a_hold_keeps_the_machine_up_until_it_is_released(machine: Machine) -> None:
    """Protects the purpose of a hold: it keeps the machine up past its idle time; released, it stops on time."""
    said = machine.run("hold 2h training run")
    held = machine.server.wait_for("hold.started", user=machine.server.login, seconds=7200.0, reason="training run")
    assert said.startswith(f"hold {held['hold']} keeps this machine up for 2h, until ")
    with pytest.raises(subprocess.TimeoutExpired):
        machine.server.wait(2.5)
    assert not machine.server.find("idle.reached")
    why = json.loads(machine.run("why --json"))
    assert [(one["hold"], one["reason"]) for one in why["holds"]] == [(held["hold"], "training run")]
    assert [reason["kind"] for reason in why["idle"]["reasons"]] == ["hold", "connection"]
    assert machine.run("release") == f"hold {held['hold']} is released: training run\n"
    assert stops_after(machine.server, seconds=2)
    assert machine.server.find("hold.ended", hold=held["hold"], why="released")


def test_a_hold_expires_by_itself(machine: Machine) -> None:
    """Protects the bill: nobody has to come back to end a hold, and the idle time begins with its end."""
    machine.run("hold 1s")
    assert stops_after(machine.server, "hold.started", seconds=1 + 2)
    assert machine.server.find("hold.ended", why="expired")


def test_a_command_holds_while_it_runs_though_its_client_is_gone(machine: Machine) -> None:
    """Protects a build after the lid is closed: it keeps the machine up to its end, and no longer."""
    machine.client.output(f"nohup env {machine.program} hold -- sleep 1000 >/dev/null 2>&1 </dev/null &")
    held = machine.server.wait_for("hold.started", reason="sleep 1000")
    machine.server.wait_for("connection.closed", conn=machine.server.find("session.opened")[-1]["conn"])
    with pytest.raises(subprocess.TimeoutExpired):
        machine.server.wait(2.5)
    # The program that asked for the hold has replaced itself with the command: no parent is left to miss its death.
    os.kill(held["pid"], signal.SIGKILL)
    assert machine.server.wait() == 0
    assert machine.server.find("hold.ended", hold=held["hold"], why="the command has ended")


def test_exit_status_and_signals_are_the_command_s(machine: Machine) -> None:
    """Protects scripts: `hold -- cmd` ends as `cmd` does, and a signal to it reaches the command."""
    result = machine.client.run(f"{machine.program} hold -- sh -c 'cat; echo oops >&2; exit 7'", input=b"data")
    assert (result.status, result.stdout, result.stderr) == (7, b"data", b"oops\n")
    running = machine.client.popen(f"exec env {machine.program} hold -- sh -c 'trap \"exit 9\" TERM; echo up; cat'")
    assert running.stdout is not None
    assert running.stdout.readline() == b"up\n"
    held = machine.server.find("hold.started")[-1]
    os.kill(held["pid"], signal.SIGTERM)
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 9
    machine.server.wait_for("hold.ended", hold=held["hold"], why="the command has ended")


def test_holds_survive_a_crash_of_the_monitor(make_server: MakeServer, user_key: KeyPair, reachable: Path) -> None:
    """Protects a build from a crash of the monitor: the next one keeps the hold, and sees the command's end."""
    machine = start(make_server, user_key, reachable, {})
    machine.run("hold 2h training run")
    machine.client.output(f"nohup env {machine.program} hold -- sleep 1000 >/dev/null 2>&1 </dev/null &")
    command = machine.server.wait_for("hold.started", reason="sleep 1000")
    # The command starts after its hold has been granted; a crash before that would mean that it never runs.
    until(lambda: Path(f"/proc/{command['pid']}/comm").read_text() == "sleep\n", what="command")
    mark = machine.server.mark()
    os.kill(machine.server.gateway_pid, signal.SIGKILL)
    machine.server.gateway_pid = machine.server.wait_for("server.started", since=mark, generation=2)["pid"]
    holds = json.loads(machine.run("why --json"))["holds"]
    assert [hold["reason"] for hold in holds] == ["training run", "sleep 1000"]
    os.kill(command["pid"], signal.SIGKILL)
    machine.server.wait_for("hold.ended", since=mark, hold=command["hold"], why="the command has ended")
    assert machine.server.stop() == 0
    machine.server.start()
    assert json.loads(machine.run("why --json"))["holds"] == []


def test_what_may_not_be_held_is_refused(make_server: MakeServer, user_key: KeyPair, reachable: Path) -> None:
    """Protects the person who pays: a hold can't exceed the limit, the refusal says so, and the command is not run."""
    machine = start(make_server, user_key, reachable, {"idle": {"timeout": "off", "hold_max": "1h"}})
    refused = machine.client.run(f"{machine.program} hold 2h")
    reason = "a hold may last 1h at most on this machine (idle.hold_max): ask for less, and again later"
    assert (refused.status, refused.stdout, refused.stderr.decode()) == (1, b"", f"pyssh-gateway: {reason}\n")
    result = machine.client.run(f"{machine.program} hold 2h -- echo run")
    assert (result.status, result.stdout) == (125, b"")
    assert not machine.server.find("hold.started")


def test_what_others_hold_is_theirs(
    make_server: MakeServer, user_key: KeyPair, reachable: Path, account: pwd.struct_passwd, is_root: bool
) -> None:
    """Protects a hold from strangers, and accounts from each other: only the account itself and root can end it."""
    if not is_root:
        pytest.skip("only root has other accounts")
    machine = start(make_server, user_key, reachable, {})
    machine.run("hold 2h training run")
    hold = machine.server.wait_for("hold.started")["hold"]
    as_root(machine.client, "hold", "1h", "root's")
    theirs = machine.server.wait_for("hold.started", user="root")["hold"]
    refused = machine.client.run(f"{machine.program} release {theirs}")
    assert (refused.status, refused.stdout) == (1, b"")
    assert f"you have no hold {theirs}" in refused.stderr.decode()
    # An account that people can't log in to.
    stranger = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    typed = f"PYSSH_CONTROL={reachable}/control.sock {machine.program} hold 2h"
    asked = subprocess.run(
        [*stranger, "sh", "-c", typed], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "this is for root and the account that started the server" in asked.stderr
    assert as_root(machine.client, "release", hold).stdout == f"hold {hold} is released: training run\n"
    assert machine.server.wait_for("hold.ended", hold=hold)["why"] == "released by root"
