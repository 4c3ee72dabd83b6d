"""The stop of an idle machine, with the real server: hooks, a command, and Fly.io's suspend, refused and granted."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.machine.stop import SETTLE_SECONDS
from pyssh_gateway.monitor.lifetime.holds import TOO_LATE
from tests.conftest import KeyPair, MakeServer
from tests.support import fly_api
from tests.support.client import Client
from tests.support.fly_api import FakeFlyApi
from tests.support.server import Server
from tests.support.suspending import FROZEN_SECONDS, SOON, freeze, suspending
from tests.support.waiting import AT_ONCE, PATIENCE, until

TRIES = 20
"""The number of clients that come between the stop and the resume."""


def steps(server: Server) -> list[tuple[str, str]]:
    """The steps of the stop, and their results. A report of a slow disk, as on a busy machine, is left out."""
    told = [(event["step"], event["outcome"]) for event in server.find("stop.step")]
    return [(step, outcome) for step, outcome in told if outcome != "the disk is slow"]


def stops(server: Server) -> list[dict[str, Any]]:
    """The recorded history of stops."""
    remembered: list[dict[str, Any]] = json.loads((server.keys_dir / "fetched" / "stops.json").read_text())
    return remembered


def ask(server: Server, *words: str) -> "subprocess.CompletedProcess[str]":
    """The result of a `pyssh-gateway` command on the machine."""
    command = [sys.executable, "-m", "pyssh_gateway", *words, "--config", str(server.config)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)


def hold(server: Server) -> "subprocess.CompletedProcess[str]":
    """The result of a `hold` command on the machine."""
    return ask(server, "hold", "1h", "a build")


# -- suspend ------------------------------------------------------------------------------------------------------


def test_a_suspended_machine_goes_on_where_it_was(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects tmux and builds: the same processes go on after the resume, with a new deadline, and suspend again."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api, "2s")
        settings["idle"]["boot_grace"] = "1m"
        server = make_server(settings, environ=api.environ)
        client = Client(server, user_key.private)
        assert client.run("exit 3").status == 3
        server.wait_for("stop.step", step="suspend", outcome="ok")
        freeze(server)
        resumed = server.wait_for("machine.resumed")
        back = time.monotonic()
        assert resumed["seconds"] >= 1
        assert client.run("exit 4").status == 4
        assert server.find("server.started", pid=server.gateway_pid)
        again = server.wait_for("server.stopping", count=2)
        assert time.monotonic() - back >= 2
        server.wait_for("stop.step", step="suspend", outcome="ok", count=2)
        assert server.stop() == 0
        assert [stop["action"] for stop in stops(server)] == ["suspend", "suspend"]
        assert stops(server)[1]["since"] == pytest.approx(stops(server)[0]["time"] + FROZEN_SECONDS, abs=3)
    assert again["reason"] == "idle"
    assert {(request.method, request.path) for request in api.requests} == {("POST", api.suspend_path)}
    assert not server.find("server.stopped")[:-1]
    assert server.find("server.stopped", reason="signal", exit_code=0)


def test_a_crash_after_a_resume_does_not_lengthen_the_time_awake(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects the history and `why`: after a crash the machine still counts as awake since the resume."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api, "1s")
        settings["idle"]["boot_grace"] = "1m"
        server = make_server(settings, environ=api.environ)
        assert Client(server, user_key.private).run("exit 3").status == 3
        server.wait_for("stop.step", step="suspend", outcome="ok")
        freeze(server)
        server.wait_for("machine.resumed")
        before = json.loads(ask(server, "why", "--json").stdout)
        since = datetime.fromisoformat(before["since"]).timestamp()
        assert since > stops(server)[0]["time"]
        os.kill(server.gateway_pid, signal.SIGKILL)
        server.wait_for("gateway.crashed")
        after = json.loads(ask(server, "why", "--json").stdout)
        assert (after["since"], after["woken_by"]) == (before["since"], before["woken_by"])
        assert server.stop() == 0
        assert [stop["since"] for stop in stops(server)][1:] == [pytest.approx(since, abs=1e-5)]


def test_a_resume_is_waited_for_like_a_start(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects a client that wakes the machine, and the bill: `boot_grace` applies, though somebody was on before."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api, "1s")
        settings["idle"]["boot_grace"] = "1m"
        server = make_server(settings, environ=api.environ)
        assert Client(server, user_key.private).run("exit 3").status == 3
        server.wait_for("stop.step", step="suspend", outcome="ok")
        freeze(server)
        server.wait_for("machine.resumed")
        why = json.loads(ask(server, "why", "--json").stdout)
        assert [(one["kind"], one["text"]) for one in why["idle"]["reasons"]] == [
            ("boot", "just started, nobody has logged in yet")
        ]
        assert (why["woken_by"], why["idle"]["stops_in"] > 1) == ("", True)
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fly_api.refused(412, "machine has swap"), "Fly refuses with 412: machine has swap"),
        (fly_api.hang_up(), "the connection was closed without an answer"),
    ],
)
def test_a_refused_suspend_is_an_exit(
    make_server: MakeServer, tmp_path: Path, answer: fly_api.Answer, reason: str
) -> None:
    """Protects the bill: if Fly refuses, the log says why, and the server still ends with exit code 0."""
    with FakeFlyApi(tmp_path / "api", answer) as api:
        server = make_server(suspending(api), environ=api.environ)
        assert server.wait() == 0
    assert steps(server) == [("suspend", reason)]
    assert server.events[-1]["event"] == "server.stopped"


def test_a_suspend_without_an_answer_is_an_exit(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects a deploy during a suspend that hangs: the signal ends the wait, and the stop counts as the signal's."""
    with FakeFlyApi(tmp_path / "api", fly_api.hang()) as api:
        server = make_server(suspending(api), environ=api.environ)
        api.wait_for_requests(1)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < AT_ONCE
    assert steps(server) == [("suspend", "no answer in time")]
    assert server.find("server.stopped", reason="signal")


def test_a_signal_before_the_request_means_that_there_is_none(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects a deploy from a machine that falls asleep during it: after the signal Fly is not asked."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api)
        settings["stop"] |= {"hooks": ["sleep 314"], "hook_timeout": "60s", "drain": "0.5s"}
        server = make_server(settings, environ=api.environ)
        server.wait_for("server.stopping")
        assert server.stop() == 0
        assert not api.requests
    assert server.find("server.stopped", reason="signal")


def test_a_hold_at_the_last_moment_keeps_the_machine_up(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects a person whose hold was granted: the stop is called off, and clients are let in again."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api)
        settings["stop"] |= {"hooks": [f"until test -e {tmp_path}/held; do sleep 0.05; done"]}
        server = make_server(settings, environ=api.environ)
        server.wait_for("server.stopping")
        assert hold(server).returncode == 0
        (tmp_path / "held").touch()
        called_off = server.wait_for("stop.step", step="suspend", result="called_off")
        assert called_off["outcome"] == "not asked for: the machine is needed again"
        assert Client(server, user_key.private).run("exit 3").status == 3
        assert not api.requests
        assert server.stop() == 0


def test_a_hold_that_comes_too_late_is_refused(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects a build from a promise that can't be kept: once Fly has been asked, holds are refused with the reason.

    Without an answer the server stops after some time, and a frozen machine sleeps: neither regards holds.
    """
    with FakeFlyApi(tmp_path / "api", fly_api.hang()) as api:
        server = make_server(suspending(api), environ=api.environ)
        api.wait_for_requests(1)
        refused = hold(server)
        assert server.stop() == 0
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"pyssh-gateway: {TOO_LATE}\n"
    assert not server.find("hold.started")


def test_a_hold_counts_again_when_the_machine_did_not_sleep(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects a person whose hold was granted: once clients are let in again, a hold keeps the machine up."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        server = make_server(suspending(api), environ=api.environ)
        server.wait_for("stop.step", step="suspend", outcome="ok")
        until(lambda: hold(server).returncode == 0, what="hold")
        server.wait_for("machine.resumed")
        assert not server.find("connection.opened")
        assert Client(server, user_key.private).run("exit 3").status == 3
        assert not server.find("server.stopped")
        assert server.stop() == 0


def test_elsewhere_suspend_is_an_exit(make_server: MakeServer) -> None:
    """Protects a configuration for Fly that is used elsewhere: the start and the log say so, and the server ends."""
    settings = {"stop": {"action": "suspend"}, "idle": {"timeout": SOON}}
    server = make_server(settings, environ={"FLY_APP_NAME": "", "FLY_MACHINE_ID": ""})
    assert "FLY_APP_NAME is not set" in server.stderr
    assert server.wait() == 0
    assert steps(server) == [("suspend", "FLY_APP_NAME is not set: only a machine of Fly.io can be suspended")]


def test_whoever_is_on_is_seen_off_before_the_suspend(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects a terminal that was left open: it is told, and closed before the hooks run and Fly is asked."""
    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        settings = suspending(api, "1s")
        settings["idle"] |= {"boot_grace": "1m", "client_idle": "1s"}
        settings["stop"]["hooks"] = ["true"]
        server = make_server(settings, environ=api.environ)
        with Client(server, user_key.private).terminal() as terminal:
            terminal.expect("goes to sleep; reconnect to wake it")
            assert terminal.wait() in {129, 255}
        server.wait_for("stop.step", step="suspend", outcome="ok")
        names = [event["event"] for event in server.events]
        assert names.index("server.stopping") < names.index("connection.closed") < names.index("stop.step")
        assert server.stop() == 0


def test_clients_at_the_moment_of_the_suspend(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects against half-open shells here, too: from stop to resume each client is refused, or served fully.

    The machine is not frozen here, so the listener opens by itself, and the next client has woken the machine.
    """

    def attempt(number: int) -> tuple[str, float]:
        moment = stopping + (SETTLE_SECONDS + 1) * number / TRIES
        until(lambda: time.monotonic() >= moment, what="moment")
        began = time.monotonic()
        result = client.run("echo served; exit 7")
        taken = time.monotonic() - began
        if (result.status, result.stdout) == (7, b"served\n"):
            return "served", taken
        assert (result.status, result.stdout) == (255, b""), result
        return "refused", taken

    with FakeFlyApi(tmp_path / "api", fly_api.accepted()) as api:
        server = make_server(suspending(api), environ=api.environ)
        client = Client(server, user_key.private)
        server.wait_for("server.stopping")
        stopping = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(max_workers=5) as pool:
            outcomes = list(pool.map(attempt, range(TRIES)))
        assert max(taken for _, taken in outcomes) < AT_ONCE
        assert (outcomes[0][0], outcomes[-1][0]) == ("refused", "served")
        assert server.find("machine.resumed")
        assert server.stop() == 0


# -- hooks and commands -------------------------------------------------------------------------------------------


def test_hooks_run_when_everybody_is_gone(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects the purpose of hooks: they see the sessions' last writes, as the server's user; failures are logged."""
    seen = tmp_path / "seen"
    settings = {
        "stop": {"hooks": [f"id -u >{seen}", "echo no space >&2; exit 5"]},
        "idle": {"timeout": "1s", "boot_grace": "1m"},
    }
    server = make_server(settings)
    assert Client(server, user_key.private).run("true").status == 0
    assert server.wait() == 0
    assert seen.read_text() == f"{os.geteuid()}\n"
    assert steps(server) == [("hook 1 (id)", "ok"), ("hook 2 (echo)", "exit code 5: no space")]
    assert [stop["reason"] for stop in stops(server)] == ["idle"]


def test_hooks_do_not_get_the_servers_secrets(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects a token in the environment: hooks get the variables about the machine, and none of our settings."""
    seen = tmp_path / "seen"
    environ = {"PYSSH_GATEWAY_KEYS__GITHUB_TOKEN": "secret", "FLY_APP_NAME": "my-box"}
    server = make_server({"stop": {"hooks": [f"env >{seen}"]}}, environ=environ)
    assert server.stop() == 0
    assert "FLY_APP_NAME=my-box\n" in seen.read_text()
    assert "PYSSH_GATEWAY" not in seen.read_text()


def test_after_a_signal_all_fits_into_the_drain_time(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """Protects against the platform's kill: a stubborn session and a hanging hook end in time, and are logged."""
    seen = tmp_path / "seen"
    hooks = [f"echo ran >{seen}", "sleep 314"]
    server = make_server({"stop": {"drain": "2s", "hooks": hooks, "hook_timeout": "60s"}})
    with Client(server, user_key.private).terminal("trap '' HUP TERM; echo p=$$; while :; do sleep 0.1; done") as pty:
        pid = int(pty.expect(r"p=(\d+)")[1])
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        pty.expect("stopping for a deploy, reconnect in a moment")
        assert server.wait() == 0
        taken = time.monotonic() - began
    os.kill(pid, signal.SIGKILL)
    assert 1.8 < taken < 2 + AT_ONCE
    assert seen.read_text() == "ran\n"
    assert steps(server) == [("hook 1 (echo)", "ok"), ("hook 2 (sleep)", "killed: it did not end in time")]
    assert server.events[-1]["event"] == "server.stopped"


def test_a_signal_hurries_the_hooks_of_an_idle_stop(make_server: MakeServer) -> None:
    """Protects a deploy during an idle stop: a long hook is cut short, and the log still has its end."""
    settings = {"stop": {"drain": "1s", "hooks": ["sleep 314"], "hook_timeout": "60s"}, "idle": {"timeout": SOON}}
    server = make_server(settings)
    server.wait_for("server.stopping", reason="idle")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < AT_ONCE
    assert steps(server) == [("hook 1 (sleep)", "killed: it did not end in time")]
    assert server.events[-1]["event"] == "server.stopped"


def test_the_disconnect_message_says_why(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects people without a terminal: ssh shows them the server's reason for the disconnect."""
    server = make_server({"stop": {"drain": "0s"}})
    ssh = Client(server, user_key.private).popen(None, "-N")
    server.wait_for("connection.authenticated")
    assert server.stop() == 0
    _, err = ssh.communicate(timeout=PATIENCE)
    assert b"The server is stopping for a deploy, reconnect in a moment" in err


def test_the_command_is_run_and_the_server_ends(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects machines that must switch off: the command runs after the hooks; if it fails, the server ends, too."""
    order = tmp_path / "order"
    command = f"echo off >>{order}; echo not allowed; exit 1"
    stop = {"action": "command", "command": command, "hooks": [f"echo hook >>{order}"]}
    server = make_server({"stop": stop, "idle": {"timeout": SOON}})
    assert server.wait() == 0
    assert order.read_text() == "hook\noff\n"
    assert steps(server)[-1] == ("command (echo)", "exit code 1: not allowed")
    assert [(stop["reason"], stop["action"]) for stop in stops(server)] == [("idle", "command")]


def test_a_signal_runs_the_hooks_and_no_command(make_server: MakeServer, tmp_path: Path) -> None:
    """Protects a deploy from a machine that is switched off: after a signal the platform itself stops the machine."""
    order = tmp_path / "order"
    stop = {"action": "command", "command": f"echo off >>{order}", "hooks": [f"echo hook >>{order}"]}
    server = make_server({"stop": stop})
    assert server.stop() == 0
    assert order.read_text() == "hook\n"
    assert [(stop["reason"], stop["action"]) for stop in stops(server)] == [("signal", "exit")]


def test_a_command_has_to_be_there(make_server: MakeServer) -> None:
    """Protects against a machine that never switches off: action "command" without a command prevents the start."""
    server = make_server({"stop": {"action": "command"}}, start=False)
    server.launch()
    assert server.wait() == 2
    assert "stop.command: missing" in server.stderr
