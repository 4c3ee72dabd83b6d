"""Warnings before a stop for people without a terminal of ours: commands, webhooks, terminals inside an editor."""

import os
import shlex
import time
from pathlib import Path

import pytest

from pyssh_gateway.core.idle.terminals import CLOCK_SECONDS, tells_who_wants_messages
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, terminate
from tests.support.idle_stop import stops_after
from tests.support.local_http import hang
from tests.support.reloads import Config
from tests.support.server import Server, Settings
from tests.support.vscode import Connection
from tests.support.waiting import AT_ONCE, until
from tests.support.webhook import SECRET, Webhook

IDLE: Settings = {"timeout": "2s", "boot_grace": "1m", "client_idle": "1s", "lost_client_grace": 0}

INNER = "import pty, sys; pty.spawn(['sh', '-c', sys.argv[1]])"
"""What an editor's terminal is: a pty that a process without a terminal opens, and whose output it passes on."""


def in_an_editor(command: str) -> str:
    """A command that runs `command` in such a terminal."""
    return f"python3 -c {shlex.quote(INNER)} {shlex.quote(command)}"


def told(server: Server) -> dict[str, tuple[str, str]]:
    """The warnings in the log: the outcome and its code."""
    steps = {event["step"]: (event["outcome"], event["result"]) for event in server.find("stop.step")}
    return {step: told for step, told in steps.items() if step.startswith("warning ")}


def test_people_without_a_terminal_are_warned(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects a person with an open editor: a webhook and a command get the facts, and the log has no secret."""
    out = tmp_path / "out"
    command = f'echo "$(id -u) $PYSSH_STOPS_IN $PYSSH_PEOPLE $FLY_APP_NAME" >{out}'
    with Webhook() as hook:
        warn = [hook.url, command, f"TOKEN={SECRET} sh -c 'echo no network; exit 3'"]
        server = make_server({"idle": IDLE, "stop": {"warn": warn}}, environ={"FLY_APP_NAME": "my-box"})
        ssh = Client(server, user_key.private).popen(None, "-N")
        try:
            person = server.wait_for("client.quiet")["identity"]["person"]
            (got,) = hook.wait_for(1)
            assert server.wait() == 0
        finally:
            terminate(ssh)
            ssh.communicate()
    assert (got["event"], got["reason"], got["people"]) == ("stop.warning", "idle", [person])
    assert 0 < got["stops_in"] <= 2
    assert got["machine"] == os.uname().nodename
    assert out.read_text() == f"{os.getuid()} {got['stops_in']} {person} my-box\n"
    assert told(server) == {
        f"warning 1 ({hook.named})": ("ok", "done"),
        "warning 2 (echo)": ("ok", "done"),
        "warning 3 (sh)": ("exit code 3: no network", "failed"),
    }
    assert all(SECRET.encode() not in line for line in server.lines)
    assert SECRET not in server.stderr


def test_nothing_waits_for_a_warning(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects the bill: a webhook and a command that hang delay no stop, and the command ends with the server."""
    pid = tmp_path / "pid"
    with Webhook(hang()) as hook:
        server = make_server({"idle": IDLE, "stop": {"warn": [hook.url, f"echo $$ >{pid}; exec sleep 314"]}})
        ssh = Client(server, user_key.private).popen(None, "-N")
        hook.wait_for(1)
        assert stops_after(server, "client.quiet", seconds=2)
        assert time.monotonic() - server.stopped_at < AT_ONCE
        terminate(ssh)
        ssh.communicate()
    until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), what="end of the command")


def test_a_reload_changes_who_is_warned(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects the operator: a webhook and a command that are added while the server runs get the next warning."""
    with Webhook() as hook:
        server = make_server({"idle": IDLE | {"timeout": "1m"}})
        ssh = Client(server, user_key.private).popen(None, "-N")
        server.wait_for("client.quiet")
        stop = {"warn": [f"touch {tmp_path}/warned", hook.url]}
        reloaded = Config(server).reload({"idle": {"timeout": "2s"}, "stop": stop})
        assert set(reloaded["changed"]) == {"idle.timeout", "stop.warn"}
        hook.wait_for(1)
        assert server.wait() == 0
        terminate(ssh)
        ssh.communicate()
    assert set(told(server).values()) == {("ok", "done")}
    assert (tmp_path / "warned").exists()


READY = "chmod g+w $(tty); echo ready; cat"


@pytest.mark.parametrize(
    "shown", [in_an_editor(READY), f"script -qfc {shlex.quote(READY)} /dev/null"], ids=["editor", "script"]
)
def test_a_terminal_inside_an_editor_gets_the_lines(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, shown: str
) -> None:
    """Protects a person in an editor's terminal: the warning and the farewell are shown there."""
    server = make_server({"idle": IDLE})
    with Connection(Client(server, user_key.private), tmp_path, shown, "-T") as ssh:
        ssh.expect("ready")
        ssh.expect(r"nobody is using this machine; it stops in \d s\. Press a key to keep it up\.")
        ssh.expect("so it stops; reconnect to start it again. Goodbye!")
        assert server.wait() == 0
    assert len(server.find("client.quiet")) == 1, "the lines themselves were taken for use"


def test_a_terminal_without_messages_gets_none(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects programs that read what is on a terminal: after `mesg n` there is no line of ours."""
    if not tells_who_wants_messages(Path("/proc/self/mounts").read_text()):
        pytest.skip("new terminals of this machine look like those with mesg n")
    server = make_server({"idle": IDLE})
    silent = in_an_editor("chmod g-w $(tty); echo ready; cat")
    with Connection(Client(server, user_key.private), tmp_path, silent, "-T") as ssh:
        ssh.expect("ready")
        assert server.wait() == 0
        assert b"pyssh-gateway" not in ssh.received


@pytest.mark.parametrize("command", ["cat", in_an_editor(READY)])
def test_nobody_gets_a_line_twice(make_server: MakeServer, user_key: KeyPair, command: str) -> None:
    """Protects the screen: a session's terminal gets each line once, and a terminal inside it as well."""
    server = make_server({"idle": IDLE})
    with Client(server, user_key.private).terminal(f"echo begins; {command}") as terminal:
        terminal.expect("begins")
        terminal.wait()
    assert terminal.screen.count(b"Press a key") == (1 if command == "cat" else 2)
    assert server.wait() == 0


def test_a_key_in_an_editor_s_terminal_keeps_it_up(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects a person who does what the warning says: a key there counts, though it is but a few bytes."""
    server = make_server({"idle": IDLE | {"timeout": "15s"}})
    with Connection(Client(server, user_key.private), tmp_path, in_an_editor(READY), "-T") as ssh:
        ssh.expect("ready")
        began = time.monotonic()
        ssh.expect("Press a key to keep it up")
        # The kernel notes a key only so long after the one before.
        until(lambda: time.monotonic() >= began + CLOCK_SECONDS + 1, what="a key that can be seen")
        assert not server.find("server.stopping")
        ssh.send("\n")
        used = server.wait_for("terminal.used")
        assert "pts/" in used["what"]
        assert not server.find("server.stopping")
        assert not server.find("client.used")
