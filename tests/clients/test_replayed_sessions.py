"""Recordings by the real server of the real ssh, as people read them: live, replayed, searched, command by command."""

from pathlib import Path

import pytest

from pyssh_gateway.audit.recordings.commands import commands
from pyssh_gateway.audit.recordings.files import parts
from pyssh_gateway.cli.main import run
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.tmux import Window, gateway
from tests.support.waiting import until

SIZE = (80, 24)


@pytest.mark.soak
def test_a_session_is_watched_and_replayed(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """vim over ssh: who watches sees the same screen, who replays it later, too; the shell's commands are known."""
    server = make_server({"audit": {"record": "pty"}})
    client = Client(server, user_key.private)
    assert run(["shell-marks", "bash"], {}) == 0
    home = client.output("mktemp -d").strip()
    lines = "".join(f"line {number} of the file\n" for number in range(200))
    for name, text in (("lines", lines), ("marks", capsys.readouterr().out + "PS1='> '\n")):
        assert client.run(f"cat >{home}/{name}", input=text.encode()).status == 0
    shell = f"exec bash --noprofile --rcfile {home}/marks"
    place = ("--dir", str(server.audit_dir))
    with Window(tmp_path, client.argv(shell, "-t"), SIZE, HOME=str(tmp_path)) as person:
        person.wait_for(">")
        person.type(f"cd {home}", "Enter", "false", "Enter", "vim -u NONE -N lines", "Enter")
        person.wait_for("line 1")
        started = server.wait_for("recording.started", since=0)
        session, account = started["session"], started["user"]
        watch = gateway("audit", "watch", session, *place)
        with Window(tmp_path, watch, (SIZE[0], SIZE[1] + 1), LANG="C.UTF-8") as auditor:
            person.type("100G", "A", " changed", "Escape")
            person.wait_for("changed")
            until(lambda: auditor.screen()[: SIZE[1]] == person.screen(), what="the same screen")
            seen = person.screen()
            person.type(":wq", "Enter")
            person.wait_for("> vim -u NONE -N lines")
            person.type("exit 3", "Enter")
            server.wait_for("recording.ended")
            until(lambda: "watching" not in "".join(auditor.screen()), what="the end")
    found = list(commands(*parts(server.audit_dir, account, session)))
    assert [(each.text, each.status) for each in found] == [
        *[(f"cd {home}", 0), ("false", 1), ("vim -u NONE -N lines", 0), ("exit 3", None)],
    ]
    # It stood for as long as it took to be watched. The last row is vim's, which said another thing a moment later.
    replay = gateway("audit", "replay", session, *place, "--search", "file changed")
    with Window(tmp_path, replay, (SIZE[0], SIZE[1] + 1), LANG="C.UTF-8") as auditor:
        auditor.wait_for("$ vim -u NONE -N lines")
        assert auditor.screen()[: SIZE[1] - 1] == seen[:-1]
        auditor.type("q")
    client.output(f"rm -r {home}")
