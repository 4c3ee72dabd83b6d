"""Make docs/first-minutes.cast: the first five minutes with the server, by a person who has just cloned it.

`make recording` runs it, as root. It runs the real programs: `make run` and `ssh` in two halves of a tmux on a fresh
Debian that is made for it (tests/support/machines.py), so that it shows nothing of the machine at hand. The result
is an asciicast, version 2 (docs.asciinema.org/manual/asciicast/v2): `asciinema play docs/first-minutes.cast`.
"""

import json
import os
import pty
import re
import select
import shlex
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

from tests.support.machines import INSTALL_SECONDS, Machine, make_debian
from tests.support.places import ROOT
from tests.support.waiting import until

TARGET = ROOT / "docs" / "first-minutes.cast"
COLUMNS, ROWS = 110, 32
TOOLS = "ca-certificates git make openssh-client procps python3 python3-venv tmux"

LONGEST_PAUSE = 1.2
"""Seconds: longer waits are cut to this, or viewers would have to watch the two minutes until the idle stop."""

KEY_SECONDS = 0.01
READING_SECONDS = 1.0
"""Seconds between two keys, and between an answer and the next command: a person's pace."""

STOPPED_SECONDS = 180.0
"""How long the idle stop may take: the idle timeout of two minutes, and the time of a busy machine."""


QUESTIONS = re.compile(r"\x1b\[>?\d*c|\x1b\[>\d*q|\x1b\]1[01];\?(?:\x1b\\|\x07)")
"""The questions that tmux asks its terminal: kind, version, colours. In a playback, the viewer's terminal would answer
them, and the answers would be typed into the viewer's shell."""


class Recording:
    """A terminal that runs `argv`, and whose output is kept with its times."""

    def __init__(self, argv: list[str]) -> None:
        self.events: list[tuple[float, str]] = []
        self._bytes = b""
        self._master, slave = pty.openpty()
        ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        kept = b""
        while True:
            select.select([self._master], [], [])
            try:
                kept += os.read(self._master, 65536)
            except OSError:  # the last process at the terminal has ended
                return
            text = kept.decode(errors="ignore")
            self.events.append((time.monotonic(), text))
            kept = b"" if text.encode() == kept else kept[len(text.encode()) :]

    def end(self) -> None:
        """Wait until the program has ended."""
        self.process.wait()
        self._reader.join()
        os.close(self._master)

    def write(self, path: Path, title: str) -> None:
        """Write the asciicast, with pauses cut to `LONGEST_PAUSE`."""
        header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": title, "env": {"TERM": "xterm-256color"}}
        lines = [json.dumps(header)]
        shown_at, before = 0.0, self.events[0][0]
        for at, written in self.events:
            text = QUESTIONS.sub("", written)
            shown_at += min(at - before, LONGEST_PAUSE)
            before = at
            lines.append(json.dumps([round(shown_at, 3), "o", text], ensure_ascii=False))
        path.write_text("\n".join(lines) + "\n")


class Stage:
    """Two panes of a tmux on `machine`: pane 0 is the server's, pane 1 the client's."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def tmux(self, *arguments: str) -> str:
        """Run that tmux command; returns its output."""
        return self._machine.run(shlex.join(["tmux", *arguments]), user="amos")

    def type(self, pane: int, text: str) -> None:
        """Type `text` and Enter, at a person's pace."""
        time.sleep(READING_SECONDS)
        for key in text:
            self.tmux("send-keys", "-t", f"stage.{pane}", "-l", "--", key)
            time.sleep(KEY_SECONDS)
        self.tmux("send-keys", "-t", f"stage.{pane}", "Enter")

    def wait_for(self, pane: int, text: str, seconds: float = 60.0) -> None:
        """Wait until the pane shows `text`."""
        try:
            until(lambda: text in self.screen(pane), seconds, what=repr(text))
        except AssertionError as error:
            raise AssertionError(f"{error}; what is to be seen:\n{self.screen(pane)}") from None

    def screen(self, pane: int) -> str:
        """The text that the pane shows."""
        return self.tmux("capture-pane", "-p", "-t", f"stage.{pane}")


def play(stage: Stage) -> None:
    """Do what the person does."""
    stage.type(0, "make run")
    stage.wait_for(0, "log in")
    stage.type(1, "ssh -p 2222 amos@localhost")
    stage.wait_for(1, "(yes/no")
    stage.type(1, "yes")
    stage.wait_for(1, "It stops")
    steps: list[tuple[str, str]] = [
        ("pyssh-gateway why", "kept up by"),
        ("pyssh-gateway hold 30m a long build", "hold"),
        ("pyssh-gateway release", "released"),
        ("exit", "closed"),
    ]
    for command, answer in steps:
        stage.type(1, command)
        stage.wait_for(1, answer)
    stage.type(1, "# and now nobody is on")
    stage.wait_for(0, "Goodbye", STOPPED_SECONDS)
    time.sleep(READING_SECONDS)


def perform(machine: Machine, act: Callable[[Stage], None]) -> Recording:
    """Record what `act` does on `machine`."""
    stage = Stage(machine)
    options = "set -g status off; set -g escape-time 0; set -g default-command 'cd ~/pyssh-gateway; exec bash'"
    machine.run(f"printf '%s\\n' {shlex.quote(options)} >.tmux.conf", user="amos")
    started = f"tmux -u new-session -d -s stage -x {COLUMNS} -y {ROWS} \\; split-window -v -l 12"
    machine.run(started, user="amos")
    recording = Recording(machine.command("TERM=xterm-256color exec tmux -u attach -t stage", user="amos"))
    try:
        act(stage)
        shown = len(recording.events)
    finally:
        stage.tmux("kill-server")
        recording.end()
    del recording.events[shown:]  # the recording ends with the last picture that was waited for
    return recording


def main() -> None:
    """Make the machine, and record on it."""
    with tempfile.TemporaryDirectory(prefix="pyssh-gateway-recording-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
        debian, repository = directory / "debian", directory / "repository.git"
        make_debian(debian, "trixie")
        subprocess.run(["git", "clone", "--quiet", "--bare", str(ROOT), str(repository)], check=True)
        with Machine(directory / "machine", [debian], shared={repository: "/srv/pyssh-gateway.git"}) as machine:
            install = f"apt-get -qqy --no-install-recommends install {TOOLS}"
            machine.run(f"apt-get -qq update && DEBIAN_FRONTEND=noninteractive {install}", seconds=INSTALL_SECONDS)
            machine.run(": >/etc/motd")  # Debian's licence notice, which would fill the screen
            machine.run("hostname laptop && echo 127.0.0.1 localhost laptop >/etc/hosts")
            machine.run("git config --system safe.directory '*' && useradd --create-home --shell /bin/bash amos")
            machine.run(
                "mkdir -m 700 .ssh && ssh-keygen -q -t ed25519 -N '' -C amos@laptop -f .ssh/id_ed25519", user="amos"
            )
            clone = f"git clone --quiet /srv/pyssh-gateway.git && git -C pyssh-gateway checkout --quiet {head}"
            machine.run(f"{clone} && cd pyssh-gateway && scripts/venv.sh runtime", user="amos", seconds=INSTALL_SECONDS)
            perform(machine, play).write(TARGET, "pyssh-gateway: the first minutes")


if __name__ == "__main__":
    main()
