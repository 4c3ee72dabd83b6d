"""Tests of `audit replay` and `audit watch`: files, pipes and a real terminal."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from pyssh_gateway.audit.recordings.ending import Ending
from pyssh_gateway.audit.recordings.files import parts
from pyssh_gateway.audit.recordings.reading import events
from pyssh_gateway.audit.zstd import ZstdCompressor
from pyssh_gateway.cli import main
from pyssh_gateway.cli.audit import player, replay, watch
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from tests.support.places import ROOT
from tests.support.terminal import Terminal
from tests.support.tmux import Window, gateway
from tests.support.waiting import PATIENCE

HOSTILE = "\x1b]52;c;cm0gLXJm\x07\x1b[c\x1b[6n\x1bP$qm\x1b\\\x1b]0;title\x07\x05\x1b[21t"
"""What would change the clipboard and have the terminal answer."""


class Made:
    """The log's directory with one recording of a session, c1.1."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.path = directory / "recordings" / "amos" / "c1.1.cast.zst"
        self.path.parent.mkdir(parents=True)
        self.to = Encoder()
        self._compressor = ZstdCompressor()
        self.add(self.to.header(Header(cols=60, rows=20, term="xterm")))

    def add(self, line: bytes) -> None:
        """Write, as far as a reader can see it."""
        with self.path.open("ab") as file:
            file.write(self._compressor.compress(line) + self._compressor.flush(ZstdCompressor.FLUSH_BLOCK))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A recording with some output, a command, and what is hostile."""
    made = Made(tmp_path)
    made.add(made.to.output(0.1, b"$ \x1b]133;C;cmdline_url=make%20all\x07first\r\n"))
    made.add(made.to.output(100.0, f"{HOSTILE}\x1b[32mgreen\x1b[m\r\n".encode()))
    made.add(made.to.output(200.0, b"\x1b]133;D;0\x07$ \x1b]133;C;cmdline_url=ls\x07second \xff\r\n"))
    made.add(made.to.resize(201.0, 70, 25) + made.to.output(300.0, b"\x1b[2J\x1b[Hthe end"))
    return made


def run(made: Made, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run a command of `audit`, without a terminal."""
    command = gateway("audit", *arguments, "--dir", str(made.dir))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_a_pipe_gets_all_output_at_once(made: Made) -> None:
    """Only what draws is in it: cat(1) may show it."""
    expected = "$ first\r\n\x1b[32mgreen\x1b[m\r\n$ second \N{REPLACEMENT CHARACTER}\r\n\x1b[2J\x1b[Hthe end"
    assert run(made, "replay", "c1.1").stdout.decode() == expected
    assert run(made, "replay", str(made.path)).stdout.decode() == expected


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_an_export(version: str, made: Made, tmp_path: Path) -> None:
    """It has everything that was recorded, and as JSON none of it acts; the file is for its owner, and new."""
    file = tmp_path / "out.cast"
    printed = run(made, "replay", "c1.1", "--format", version).stdout
    run(made, "replay", "c1.1", "--format", version, "-o", str(file))
    assert file.read_bytes() == printed
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(printed.splitlines()[0])["version"] == int(version[1])
    assert list(events([file])) == list(events(parts(made.dir, "amos", "c1.1")))
    assert b"\x1b" not in printed
    assert b"File exists" in run(made, "replay", "c1.1", "--format", version, "-o", str(file), code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("replay", "c9.9"), 1, "no recording of session c9.9"),
        (("replay", "../x"), 1, "no recording at ../x"),
        (("replay", "x y"), 2, "no session"),
        (("replay", "c1.1", "--speed", "0"), 2, 'from 0.25 to 64, not "0"'),
        (("replay", "c1.1", "--speed", "nan"), 2, "--speed"),
        (("replay", "c1.1", "--idle-limit", "soon"), 2, "--idle-limit"),
        (("replay", "c1.1", "--at", "soon"), 2, 'not "soon"; or 1:30 or 1:02:30'),
        (("replay", "c1.1", "--at", "1:60:00"), 2, "--at"),
        (("replay", "c1.1", "-o", "file"), 2, "--format"),
        (("replay", "c1.1", "--format", "v4"), 2, "v4"),
        (("replay", "c1.1", "--search", "never"), 1, "never shown"),
        (("watch", "c9.9"), 1, "no recording of session c9.9"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], code: int, complaint: str, made: Made) -> None:
    """Each is one line."""
    assert complaint in run(made, *arguments, code=code).stderr.decode()


def test_keys(made: Made) -> None:
    """Search begins paused at the hit; keys jump to commands, step, go to both ends, and show themselves."""
    replay = gateway("audit", "replay", "c1.1", "--dir", str(made.dir), "--search", "green")
    with Window(made.dir, replay, (80, 30), LANG="C.UTF-8") as window:
        window.wait_for("paused  01:40 / 05:00  1x  $ make all  hit 1 of 1")
        assert window.screen()[:3] == ["$ first", "green", ""]
        window.type("]")
        window.wait_for("03:20 / 05:00  1x  $ ls")
        window.type("[")
        window.wait_for("00:00 / 05:00  1x  $ make all")
        window.type(".", "+")
        window.wait_for("01:40 / 05:00  2x")
        window.type("n", "Up")
        window.wait_for("03:20 / 05:00")
        window.type("?")
        window.wait_for("home end")
        window.type("G")
        window.wait_for("05:00 / 05:00")
        assert window.screen()[0] == "the end"
        window.type("Home")
        window.wait_for("00:00 / 05:00")
        window.resize(50, 10)
        window.wait_for("recorded at 60x20, here 50x10")
        window.type("-", "=", "q")
        window.wait_for("")


@pytest.mark.parametrize("end", ["q", "\x03", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_left_in_order(end: str | signal.Signals, made: Made) -> None:
    """However a replay ends, the terminal has its settings back, and nothing that acts was written to it."""
    command = gateway("audit", "replay", "c1.1", "--dir", str(made.dir), "--at", "100s", "--idle-limit", "1h")
    script = 'before=$(stty -g); trap : TERM HUP; "$@"; [ "$(stty -g)" = "$before" ] && echo same || echo changed'
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    with Terminal(["sh", "-c", script, "sh", *command], environ, size=(24, 80)) as terminal:
        terminal.expect("green")
        if isinstance(end, str):
            terminal.send(end)
        else:
            (child,) = Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()
            os.kill(int(child), end)
        terminal.expect("same")
        assert b"52;c" not in terminal.screen
        assert b"\x1b[c" not in terminal.screen
        assert b"\x1b[?1049l" in terminal.screen


def test_watching(made: Made) -> None:
    """What comes is shown until the session ends; a pipe gets it, too. A file that is still empty is waited for."""
    whole = made.path.read_bytes()
    made.path.write_bytes(b"")
    watch = gateway("audit", "watch", "c1.1", "--dir", str(made.dir))
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with Window(made.dir, watch, (80, 30), LANG="C.UTF-8") as window:
        made.path.write_bytes(whole)
        window.wait_for("watching c1.1")
        window.wait_for("the end")
        with subprocess.Popen(watch, env=environ, stdout=subprocess.PIPE) as piped:
            assert piped.stdout is not None
            assert b"the end" in os.read(piped.stdout.fileno(), 65536)
            made.add(made.to.output(301.0, f" {HOSTILE}and more".encode()))
            window.wait_for("the end and more")
            made.add(made.to.exit(302.0, 0))
            assert piped.stdout.read() == b" and more"
    assert piped.returncode == 0


def test_a_file_that_stays_empty_is_not_waited_for(
    made: Made, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recorder that died before it wrote anything keeps nobody waiting for ever."""
    made.path.write_bytes(b"")
    monkeypatch.setattr(watch, "BEGIN_SECONDS", 0.0)
    assert main.run(["audit", "watch", "c1.1", "--dir", str(made.dir)], {}) == 1
    assert "nothing has been written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "seconds"), [("01:54", 114.0), ("1:02:03", 3723.0), ("90:00", 5400.0), ("2m", 120.0)]
)
def test_a_time_as_the_player_shows_it(given: str, seconds: float) -> None:
    """What the line about the recording says can be typed, beside lengths."""
    assert replay.moment(given) == seconds


def test_the_keys_fit_into_80_columns() -> None:
    """The way out comes first."""
    assert player.KEYS.startswith("q quit")
    assert len(player.KEYS) < 80


def test_hits_on_one_screen_are_one(made: Made) -> None:
    """`n` would seem to do nothing between them."""
    made.add(made.to.output(301.0, b"\r\nhit 1\r\n") + made.to.output(301.5, b"hit 2\r\n"))
    made.add(made.to.output(310.0, b"hit 3\r\n"))
    assert replay.hits_in([made.path], "hit ") == [301.0, 310.0]


def test_nothing_to_show_is_said(made: Made, tmp_path: Path) -> None:
    """A file without a header is no recording, and one without output is empty."""
    empty = tmp_path / "empty.cast"
    empty.write_bytes(b"")
    assert b"has no header: it is empty" in run(made, "replay", str(empty), code=1).stderr
    empty.write_bytes(Encoder().header(Header(cols=60, rows=20)))
    assert b"nothing was shown" in run(made, "replay", str(empty)).stderr


def test_watching_what_the_log_has_ended(made: Made) -> None:
    """The recording of a client that was killed has no end; the log says that it has ended, and watch with it."""
    line = {"ts": "2026-01-02T03:04:05.000000Z", "seq": 1, "event": "recording.ended", "session": "c1.1"}
    line |= {"user": "eve", "reason": "of somebody else's session"}
    theirs = json.dumps(line) + "\n"
    ours = json.dumps(line | {"user": "amos", "reason": "the connection was lost"}) + "\n"
    (made.dir / "events.jsonl").write_text(theirs)
    ending = Ending(made.path, None)
    assert ending.look() is None
    with (made.dir / "events.jsonl").open("a") as log:
        log.write(ours)
    assert ending.look() == "the connection was lost"
    watched = run(made, "watch", "c1.1")
    assert b"the end" in watched.stdout
    assert b"has ended: the connection was lost" in watched.stderr
    # Another part goes on after the recorder's death; a session without a log is watched as long as its file says.
    with (made.dir / "events.jsonl").open("a") as log:
        log.write(json.dumps({"event": "recording.started", "session": "c1.1", "user": "amos"}) + "\n{c1.1}\n")
    assert ending.look() is None
    assert Ending(made.dir / "elsewhere.cast", None).look() is None
