"""cli.hold and cli.server_socket: `hold` and `release` as people type them, and where they look for a server."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.cli import hold, main, server_socket
from pyssh_gateway.core import control
from pyssh_gateway.core.control import HeldReply, HoldReport, HoldUp, IdleReport, Release, ReleasedReply, StatusReply
from pyssh_gateway.monitor.reporting.control import Asker, Handlers, Unanswerable
from tests.support.control import AnsweringServer, one_answer
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

STATUS = StatusReply("0.1.0", 7, 1.0, "::", 22, (), (), 0, IdleReport(None, False, None), ())
HELD = HoldReport("2e1068", "amos", "training \x1b[2J run", 0.0, 4e9, 0)

Run = Callable[..., "tuple[int, str, str]"]


class Answers(AnsweringServer):
    """A server that accepts holds; `wishes` lists the requests and the processes that sent them."""

    def __init__(self, path: Path) -> None:
        self.wishes: list[tuple[HoldUp | Release, int]] = []
        self.remark = ""
        self.refusal = ""
        self.holds: tuple[HoldReport, ...] = (HELD,)
        nothing = {name: lambda *_: STATUS for name in Handlers.__struct_fields__}
        handlers = Handlers(**nothing)  # type: ignore[arg-type]  # nobody asks for anything else
        super().__init__(path, msgspec.structs.replace(handlers, hold=self._hold, release=self._release))

    def _hold(self, request: HoldUp, asker: Asker) -> HeldReply:
        self.wishes.append((request, asker.pid))
        if self.refusal:
            raise Unanswerable(self.refusal)
        return HeldReply(HELD, self.remark)

    def _release(self, request: Release, asker: Asker) -> ReleasedReply:
        self.wishes.append((request, asker.pid))
        return ReleasedReply(self.holds)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as sockets need one, and with a configuration that points into it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "config.toml").write_text(f'control = "{place}/control.sock"\n')
        yield place


@pytest.fixture
def answers(place: Path) -> Iterator[Answers]:
    """A running server that accepts holds."""
    with Answers(place / "control.sock") as running:
        yield running


@pytest.fixture
def run(place: Path) -> Run:
    """Runs the program; returns its exit code, output and error messages."""

    def command(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "pyssh_gateway", *arguments],
            env=os.environ | {"PYSSH_GATEWAY_CONFIG": str(place / "config.toml"), "TZ": "UTC"} | (environ or {}),
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return command


def test_it_holds_for_a_time(answers: Answers, run: Run) -> None:
    """Protects `hold 2h "training run"`: the request is right, and the hold's name and end are printed."""
    assert run("hold", "2h", "training", "run") == (
        0,
        "hold 2e1068 keeps this machine up for 2h, until Tue Oct 02 07:06 UTC: training \\x1b[2J run\n",
        "",
    )
    answers.remark = "the hold could not be written down"
    code, out, err = run("hold", "90m", "--json")
    assert json.loads(out)["hold"]["hold"] == "2e1068"
    assert (code, err) == (0, "pyssh-gateway: the hold could not be written down\n")
    assert [wish for wish, _ in answers.wishes] == [HoldUp(7200.0, "training run"), HoldUp(5400.0, "")]


def test_a_command_takes_its_place(answers: Answers, run: Run) -> None:
    """Protects `hold -- make`: the command replaces the watched process, with its arguments and its exit status."""
    shell = 'echo $$ "$@"; trap "" TERM; kill -TERM $$; yes | head -1; exit 7'
    code, out, err = run("hold", "--", "sh", "-c", shell, "name", "a b", "--json")
    ((wish, pid),) = answers.wishes
    assert (code, out, err) == (7, f"{pid} a b --json\ny\n", "")
    assert wish == HoldUp(None, f"sh -c '{shell.replace(chr(39), '')}' name 'a b' --json", process=True)
    code, _, _ = run("hold", "5m", "nightly", "build", "--", "sh", "-c", "kill -KILL $$")
    assert code == -signal.SIGKILL
    assert answers.wishes[1][0] == HoldUp(300.0, "nightly build", process=True)


def test_a_process_is_named_with_its_start(answers: Answers, run: Run) -> None:
    """Protects `hold --pid`: the server gets the process's start, too, so that a later one is not taken for it."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", what="sleep")
        code, out, err = run("hold", "--pid", str(process.pid))
        started = int(Path(f"/proc/{process.pid}/stat").read_text().split()[21])
        run("hold", "2h", "my", "run", "--pid", str(process.pid))
        process.kill()
    said = f"hold 2e1068 keeps this machine up while process {process.pid} runs, until Tue Oct 02 07:06 UTC at most: "
    assert (code, out, err) == (0, said + "training \\x1b[2J run\n", "")
    assert [wish for wish, _ in answers.wishes] == [
        HoldUp(None, "sleep", pid=process.pid, started=started),
        HoldUp(7200.0, "my run", pid=process.pid, started=started),
    ]
    assert run("hold", "--pid", str(process.pid)) == (1, "", f"pyssh-gateway: there is no process {process.pid}\n")
    assert len(answers.wishes) == 2


def test_a_command_that_cannot_run_says_so_with_the_usual_codes(answers: Answers, run: Run, place: Path) -> None:
    """Protects scripts: 127 means not found, 126 can't be run, and 125 no hold, so that the command was not run."""
    assert run("hold", "--", "/no/such")[::2] == (127, "pyssh-gateway: /no/such: No such file or directory\n")
    assert run("hold", "--", str(place))[0] == 126
    answers.refusal = "amos has 32 holds already"
    assert run("hold", "--", "echo", "run") == (125, "", "pyssh-gateway: amos has 32 holds already\n")
    assert run("hold", "soon", "--", "echo", "run")[:2] == (125, "")
    assert run("hold", "2h")[::2] == (1, "pyssh-gateway: amos has 32 holds already\n")


def test_it_releases(answers: Answers, run: Run) -> None:
    """Protects `release`: it ends one hold by name, the only hold, or all."""
    assert run("release", "2e1068")[:2] == (0, "hold 2e1068 is released: training \\x1b[2J run\n")
    assert json.loads(run("release", "--json")[1])["holds"][0]["hold"] == "2e1068"
    answers.holds = ()
    assert run("release", "--all") == (0, "there was no hold\n", "")
    assert [wish for wish, _ in answers.wishes] == [Release("2e1068"), Release(), Release("", every=True)]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("hold",), "for how long?"),
        (("hold", "soon"), '"soon" is not a length of time, such as 30m, 2h, 1h30m or 2 hours'),
        (("hold", "30", "build"), "30 has no unit: write 30m for minutes, 30h for hours, or 30s"),
        (("hold", "2h", "--all"), 'hold has no option "--all"'),
        (("hold", "2h", "--cnofig", "x"), 'hold has no option "--cnofig"; did you mean --config?'),
        (("hold", "2h", "--config"), "--config needs a value"),
        (("hold", "--pid", "make"), '"make" is not the number of a process'),
        (("hold", "--pid", "-7"), '"-7" is not the number of a process'),
        (("hold", "--pid", "12345678"), '"12345678" is not the number of a process'),
        (("release", "a", "b"), '"b" is one word too many for release'),
        (("release", "a", "--all"), "one hold, or --all"),
    ],
)
def test_usage_is_checked(arguments: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects people and scripts: a wrong command line has exit code 2, and the message says what is wrong."""
    assert main.run(arguments, {}) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"pyssh-gateway: {reason}")
    assert f"\nusage: pyssh-gateway {arguments[0]} " in captured.err


def test_a_missing_command_is_a_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts whose command is empty: nothing is held, and 125 is no exit code of a command."""
    assert main.run(("hold", "2h", "--"), {}) == 125
    assert main.run(("hold", "--pid", "7", "--", "make"), {}) == 125
    assert main.run(("hold", "--help"), {}) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("pyssh-gateway: a command is missing")
    assert "\nusage: pyssh-gateway hold LENGTH" in captured.out


def test_what_is_not_text_is_not_sent(answers: Answers, run: Run) -> None:
    """Protects the server: a reason that is not UTF-8 is refused before it is sent."""
    assert run("hold", "2h", "\udcff")[::2] == (1, "pyssh-gateway: what is asked is not UTF-8 text\n")
    assert not answers.wishes


def test_without_a_server_it_says_so(run: Run, place: Path) -> None:
    """Protects against a missing hold: without a server `hold` fails, and does not run the command."""
    reason = f"pyssh-gateway: no server could be asked: nobody listens at {place}/control.sock\n"
    assert run("hold", "2h") == (3, "", reason)
    assert run("hold", "--", "echo", "run") == (125, "", reason)
    (place / "config.toml").write_text("[[[")
    assert run("hold", "2h")[0] == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"no json\n", "does not understand"),
        (b"[]\n", "does not understand"),
        (b'{"reply":"accepted\\u001b","message":"?"}\n', "not what it was asked for"),
        (b"", "closed the connection without an answer"),
    ],
)
def test_a_strange_server_is_an_error(
    place: Path, capsys: pytest.CaptureFixture[str], answer: bytes, reason: str
) -> None:
    """Protects the caller's terminal: any unexpected answer becomes one line of error."""
    with one_answer(place / "control.sock", answer):
        assert main.run(("hold", "2h", "--config", str(place / "config.toml")), {}) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert reason in captured.err
    assert captured.err.rstrip("\n").isprintable()


def test_nobody_reads_what_is_printed(answers: Answers, place: Path) -> None:
    """Protects `pyssh-gateway hold 2h | true`: it ends without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "pyssh_gateway", "hold", "2h", "--config", str(place / "config.toml")],
            stdout=nobody,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_it_imports_little() -> None:
    """Protects the start of a user's command from delay: `hold` imports none of the slow modules."""
    heavy = {
        "argparse",
        "asyncio",
        "msgspec",
        "typing_extensions",
        "pyssh_gateway.config.parser",
        "pyssh_gateway.core.control",
    }
    script = f"import sys, pyssh_gateway.cli.hold; print({heavy!r} & set(sys.modules))"
    # -S: imports by .pth files of the installation are not the program's.
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- where the server is -------------------------------------------------------------------------------------------


def where(config: str | None, environ: dict[str, str]) -> tuple[str, ...]:
    """The sockets at which a server is looked for."""
    found = server_socket.places(server_socket.read_config(config, environ), config, environ)
    return (*([] if found.session is None else [found.session]), *found.configured)


def test_a_session_finds_its_own_server(place: Path) -> None:
    """Protects `ssh host pyssh-gateway hold`: the session's own server comes first, unless --config names another."""
    own = str(place / "control.sock")
    config = str(place / "config.toml")
    assert where(config, {}) == (own,)
    assert where(None, {"PYSSH_GATEWAY_CONFIG": config, "PYSSH_CONTROL": "/run/other"}) == ("/run/other", own)
    assert where(config, {"PYSSH_CONTROL": "/run/other"}) == (own,)
    assert where(None, {"PYSSH_GATEWAY_CONTROL": "off", "PYSSH_GATEWAY_CONFIG": config}) == ()


def test_a_configuration_that_is_not_for_all_eyes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects login users who may not read root's configuration: the usual place is tried."""
    monkeypatch.setattr("pyssh_gateway.config.source.DEFAULT_PATH", str(place / "config.toml"))
    assert where(None, {}) == (str(place / "control.sock"),)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root could read everything
    assert "/run/pyssh-gateway/control.sock" in where(None, {})


def test_what_is_no_path_is_none(place: Path) -> None:
    """Protects against a traceback when a configuration has mistakes, which other commands explain."""
    (place / "config.toml").write_text("control = 1\nkeys_dir = []\n")
    assert "/run/pyssh-gateway/control.sock" in where(str(place / "config.toml"), {})


def test_the_lines_are_those_of_the_protocol() -> None:
    """Protects the two descriptions of one protocol from drifting apart: names and fields are the same."""
    source = Path(hold.__file__).read_text()
    for request, fields in (("hold", HoldUp.__struct_fields__), ("release", Release.__struct_fields__)):
        (line,) = re.findall(rf'request = (\{{"request": "{request}".*\}})', source)
        assert set(re.findall(r'"(\w+)": ', line)) == {"request", *fields}
    assert control.decode_request(b'{"request":"hold","seconds":60,"reason":"","process":true}') == HoldUp(
        60.0, process=True
    )
