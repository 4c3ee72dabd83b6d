"""A day on a real server, and what its log answers: docs/audit.md asks, the day's people know what is true.

Three people with a key each, one of them from GitHub; a shared account; strangers; copies, an editor, forwards, a hold,
a lost line, a crash of the process that writes the log, an idle stop and a second start.
"""

import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import KeyPair
from tests.support import github as fake
from tests.support.account import other_account
from tests.support.client import Client, client_environment
from tests.support.commands import as_root
from tests.support.forwards import Target, answer, digest, exchange_at_once, free_port, socks5
from tests.support.places import ROOT
from tests.support.reloads import Config
from tests.support.server import Server
from tests.support.vscode import Connection, install_script
from tests.support.waiting import PATIENCE

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve two accounts"),
]

DOCUMENT = (ROOT / "docs" / "audit.md").read_text()

NUMBER = 583231
"""Of the GitHub account `example`."""


def line_of(pair: KeyPair, comment: str = "") -> str:
    """A key as a line of a key file."""
    kind, blob, *_ = pair.public.read_text().split()
    return f"{kind} {blob} {comment}".strip()


def fingerprint_of(pair: KeyPair) -> str:
    """As ssh-keygen prints it."""
    command = ["ssh-keygen", "-lf", str(pair.public)]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()[1]


def questions() -> dict[str, str]:
    """The questions of the document, each with its command."""
    section = DOCUMENT.partition("## Questions to the log\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^### (.+?)\n.*?^```sh\n(.+?)\n```$", section, re.MULTILINE | re.DOTALL))


class Day:
    """The server, its accounts, and the people with their keys. `values` are what the document has examples for."""

    def __init__(self, server: Server, personal: str, shared: pwd.struct_passwd, place: Path) -> None:
        self.server = server
        self.personal = personal
        self.shared = shared.pw_name
        self.home = Path(shared.pw_dir)
        self.place = place
        self.values = {"dev": self.shared}

    def run(self, who: Client, command: str, **options: str) -> str:
        """Run a command in the shared account."""
        result = who.run(command, user=self.shared)
        assert result.status == 0, result
        return result.stdout.decode()

    def terminal(self, amos: Client) -> None:
        """A shell for a while, with a moment in the middle that is asked about."""
        with amos.terminal(None, "-l", self.shared) as window:
            window.ask("echo shell $((6*7))", "shell 42")  # by the shell: the local terminal echoes the command, too
            self.values["14:00"] = datetime.now(UTC).isoformat(timespec="microseconds")
            window.send("exit\r")
            window.wait()

    def copies(self, amos: Client, dev: Client) -> None:
        """A file each way by scp, and a directory away by rsync."""
        self.run(amos, "echo figures >report.csv; mkdir -p project; echo x >project/one")
        target = f"{self.shared}@127.0.0.1"
        (self.place / "notes.txt").write_text("notes")
        environ = client_environment()
        for argv in (
            ["scp", *amos.options(), f"{target}:report.csv", str(self.place)],
            ["scp", *amos.options(), str(self.place / "notes.txt"), f"{target}:"],
            ["rsync", "-a", "-e", shlex.join(["ssh", *dev.options()]), f"{target}:project/", f"{self.place}/project/"],
        ):
            subprocess.run(argv, check=True, env=environ, timeout=PATIENCE)
        assert (self.place / "report.csv").read_text() == "figures\n"

    def editor(self, example: Client, directory: Path) -> None:
        """VS Code's steps, in the personal account."""
        proxy = free_port()
        with Connection(example, self.place, "bash", "-T", "-D", str(proxy)) as ssh:
            ssh.send(install_script("marker", directory))
            port = int(ssh.expect(r"listeningOn==127\.0\.0\.1:(\d+)=="))
            exchange_at_once(partial(socks5, proxy, b"127.0.0.1", port), 8, 20_000)
            ssh.end_input()
            assert ssh.process.wait(PATIENCE) == 0

    def forwards(self, dev: Client) -> None:
        """The database by -L, and a port here by -R."""
        local = str(self.place / "database")
        with Target(digest) as database:
            self.values["5432"] = str(database.port)
            forward, back = f"{local}:127.0.0.1:{database.port}", f"{free_port()}:127.0.0.1:{database.port}"
            with Connection(dev, self.place, "cat", "-l", self.shared, "-L", forward, "-R", back) as ssh:
                ssh.send("on\n")
                ssh.expect("on\n")
                assert len(answer(local, b"select 1")) == 32
                ssh.end_input()
                assert ssh.process.wait(PATIENCE) == 0

    def lost_line(self, amos: Client) -> None:
        """The client is gone without a word."""
        mark = self.server.mark()
        with Connection(amos, self.place, "cat", "-T", "-l", self.shared) as ssh:
            ssh.send("on\n")
            ssh.expect("on\n")
        self.server.wait_for("connection.closed", since=mark, goodbye=False)

    def crash(self) -> None:
        """kill -9 of the process that writes the log; the next one goes on."""
        mark = self.server.mark()
        os.kill(self.server.gateway_pid, signal.SIGKILL)
        self.server.wait_for("gateway.crashed", since=mark)
        self.server.gateway_pid = self.server.wait_for("server.started", since=mark)["pid"]

    def ask(self, command: str) -> str:
        """The answer to a command of the document, with the names that the examples there stand for."""
        for example, real in self.values.items():
            command = re.sub(rf"(?<![\w/]){re.escape(example)}\b", f"{real}", command)
        program, *words = shlex.split(command)
        assert program == "pyssh-gateway"
        done = subprocess.run(
            [sys.executable, "-m", "pyssh_gateway", *words, "--config", str(self.server.config)],
            env=client_environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), (command, done)
        return done.stdout


def test_a_day_answers_what_an_auditor_asks(
    account: pwd.struct_passwd,
    github: fake.FakeGitHub,
    make_key: Callable[..., KeyPair],
    tmp_path: Path,
    started: Path,
) -> None:
    """Each question of docs/audit.md gets its true answer from the command beside it, and from nothing else."""
    keys = {name: make_key() for name in ("example", "amos", "dev", "unknown")}
    github.script("example", fake.keys(line_of(keys["example"])))
    github.account("example", NUMBER)
    key_file = tmp_path / "team_keys"
    key_file.write_text(f"{line_of(keys['amos'], 'amos@laptop')}\n{line_of(keys['dev'], 'dev@desk')}\n")
    with other_account("shared") as shared:
        sources = ["github:example", f"file:{key_file}"]
        settings = {
            "keys": {"github_url": github.url},
            "login": [{"user": account.pw_name, "keys": sources[:1]}, {"user": shared.pw_name, "keys": sources}],
            "idle": {"timeout": "1s", "lost_client_grace": "1s", "boot_grace": "1m"},
        }
        server = Server(tmp_path, login=account.pw_name, keys=sources[:1], settings=settings)
        people = {name: Client(server, pair.private) for name, pair in keys.items()}
        day = Day(server, account.pw_name, shared, tmp_path)
        with server:
            assert as_root(people["amos"], "hold", "1h", "nightly build").returncode == 0
            assert people["unknown"].run("true", user=shared.pw_name).status == 255
            assert people["unknown"].run("true", user="root").status == 255
            day.terminal(people["amos"])
            day.copies(people["amos"], people["dev"])
            day.run(people["dev"], "rm -rf project")
            assert people["example"].run("make --version >/dev/null; true", user=shared.pw_name).status == 0
            day.editor(people["example"], started)
            day.forwards(people["dev"])
            day.crash()
            day.lost_line(people["amos"])
            Config(server).reload({"limits": {"login_grace": "1m"}})
            assert as_root(people["amos"], "release", "--all").returncode == 0
            assert server.wait() == 0
            server.start()
            assert people["example"].run("true").status == 0
            assert server.wait() == 0
        truth = {
            "Who was on at 14:00?": ["file:amos@laptop", "(shell)"],
            "Who has run `rm`?": ["file:dev@desk", "rm -rf project"],
            "Which keys were refused, and from where?": [fingerprint_of(keys["unknown"]), "root from 127.0.0.1"],
            "Who has copied files away, and which?": ["file:amos@laptop", "report.csv"],
            "Who has copied with rsync?": ["file:dev@desk", "project/"],
            "Who has opened forwards to the database?": ["file:dev@desk", day.values["5432"]],
            "Why was the machine awake at night?": ["nightly build", "Stopping machine"],
            "Who has used the shared account?": [f"github:example#{NUMBER}", "file:amos@laptop", "file:dev@desk"],
            "What has `github:example` done since yesterday?": ["bash", "make --version"],
            "Did anybody lose their line?": ["file:amos@laptop", "cat"],
            "Did the server crash, and what happened then?": ["SIGKILL", "start 2", "no longer accepting (idle"],
            "Which host keys and settings have changed?": ["new ssh-ed25519", "limits.login_grace"],
            "Who has held the machine?": ["root", "nightly build", "released"],
        }
        others = {
            "Who was on at 14:00?": ["file:dev@desk", "github:example"],
            "Who has run `rm`?": ["file:amos@laptop", "github:example"],
            "Who has copied files away, and which?": ["notes.txt", "file:dev@desk"],
            "Who has opened forwards to the database?": ["file:amos@laptop"],
            "What has `github:example` done since yesterday?": ["file:"],
            "Did anybody lose their line?": ["file:dev@desk", "github:example"],
        }
        asked = questions()
        assert asked.keys() == truth.keys()
        for question, command in asked.items():
            text = day.ask(command)
            assert [one for one in truth[question] if one not in text] == [], (question, text)
            assert [one for one in others.get(question, []) if one in text] == [], (question, text)
        log, index = [(server.audit_dir / name).stat() for name in ("events.jsonl", "index.sqlite")]
        assert (index.st_mode, index.st_uid, index.st_gid) == (log.st_mode, log.st_uid, log.st_gid)
