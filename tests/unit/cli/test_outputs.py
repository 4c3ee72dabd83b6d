"""How commands end when their output can't be written, and what programs read when something fails."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.cli import main
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.model import Command
from pyssh_gateway.cli.reference.shared_options import JSON
from pyssh_gateway.core import control, control_reports
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

WORDS = {
    "hold": ("1h",),
    "keys test": ("/nowhere/id.pub",),
    "keys accept": ("github:example",),
    "completion": ("bash",),
    "audit search": ("rm -rf",),
    "audit show": ("c1.1",),
}
"""The arguments that commands need in order to run at all."""

RUN = [command for command in COMMANDS if command.run]


@pytest.fixture
def config() -> Iterator[Path]:
    """A configuration whose server is not running."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.toml")
        path.write_text(f'control = "{directory}/control.sock"\nkeys_dir = "{directory}/keys"\n')
        yield path


def shell(script: str, config: Path) -> subprocess.CompletedProcess[str]:
    """The result of a script in which `$GATEWAY` is the program, run by sh(1)."""
    gateway = f"{sys.executable} -m pyssh_gateway"
    return subprocess.run(
        ["sh", "-c", script],
        env={"PATH": os.environ["PATH"], "GATEWAY": gateway, "PYSSH_GATEWAY_CONFIG": str(config)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


# Without `doctor`, which reports a configuration that can't be used as one of its findings.
FAILING = [command for command in RUN if command.option(JSON.name) and command.name != "doctor"]


@pytest.mark.parametrize("command", FAILING, ids=lambda command: str(command.name))
def test_programs_are_told_what_went_wrong(command: Command, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts: with --json, an unusable configuration is reported as an object, with the same exit code."""
    config.write_text("[[[")
    words = (*command.words, *WORDS.get(command.name, ()), "--json", "--config", str(config))
    assert main.run(words, {}) == (1 if command.name == "keys test" else 2)
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    error = json.loads(line)["error"]
    assert error["code"] == ("failed" if command.name == "keys test" else "config")
    assert [f"pyssh-gateway: {problem}" for problem in error["problems"]] == captured.err.splitlines()


def test_every_kind_of_failure_has_its_word(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts from parsing sentences: with --json before `--`, each kind of failure has a code."""
    for words, code, kind in (
        (("status", "--json", "--frob"), 2, "usage"),
        (("status", "--json"), 3, "no-server"),
        (("keys", "refresh", "--json"), 3, "no-server"),
        (("hold", "2", "--json"), 2, "usage"),
        (("hold", "2h", "--json", "--", "true"), 125, "no-server"),
    ):
        assert main.run(words, {"PYSSH_GATEWAY_CONFIG": str(config)}) == code
        assert json.loads(capsys.readouterr().out)["error"]["code"] == kind
    assert main.run(("hold", "--", "echo", "--json"), {"PYSSH_GATEWAY_CONFIG": str(config)}) == 125
    assert capsys.readouterr().out == ""  # here --json belongs to echo


def test_points_in_time_are_known_by_name() -> None:
    """Protects programs: exactly the fields with Unix times are written as times, and those with durations are not."""
    numbers = {
        field
        for one in (*vars(control).values(), *vars(control_reports).values())
        if isinstance(one, type) and issubclass(one, msgspec.Struct) and not issubclass(one, control.Request)
        for field, kind in one.__annotations__.items()
        if "float" in str(kind)
    }
    lengths = {"age", "next_look", "ahead", "seconds", "ends_in", "timeout", "stops_in", "awake"}
    assert numbers - lengths == printing.TIMES


def test_a_full_disk_is_an_error_in_one_line(config: Path) -> None:
    """Protects `pyssh-gateway ... >file` on a full disk: every command ends with one line and exit code 1."""
    for command in ("--help", "--version", "help hold", "completion zsh", "manpage", "status --json", "keys --json"):
        done = shell(f"$GATEWAY {command} >/dev/full", config)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False), command
        assert done.stderr.endswith("pyssh-gateway: standard output: No space left on device\n"), command


def test_closed_descriptors_are_no_surprise(config: Path) -> None:
    """Protects daemons and scripts that close standard input, output or error before they run a command."""
    assert shell("$GATEWAY --version >&-", config).stderr == "pyssh-gateway: standard output: Bad file descriptor\n"
    for script, code in (
        ("$GATEWAY status 2>&-", 3),
        ("$GATEWAY status 2>/dev/full", 3),
        ("$GATEWAY stauts 2>&-", 2),
        ("$GATEWAY --version >&- 2>&-", 1),
        ("$GATEWAY hold 2h >&- 2>&- <&-", 3),
        ("$GATEWAY serve --prot 2>&-", 2),
        ("$GATEWAY serve --config /nowhere 2>/dev/full", 2),
        ("$GATEWAY sftp-server <&- >&- 2>&-", 0),
    ):
        done = shell(script, config)
        assert (done.returncode, done.stdout, done.stderr) == (code, "", ""), script
    done = shell("$GATEWAY keys test - <&-", config)
    assert (done.returncode, done.stderr) == (1, "pyssh-gateway: standard input is closed\n")


def test_a_reader_that_has_had_enough_is_none(config: Path) -> None:
    """Protects `pyssh-gateway ... | head -1`: no traceback and no error message."""
    for command in ("--help", "completion bash", "help keys", "manpage", "keys"):
        done = shell(f"($GATEWAY {command}; echo $? >&2) | true", config)
        assert [line for line in done.stderr.splitlines() if "key files" not in line] in (["0"], ["1"]), command


def test_ctrl_c_is_no_traceback(config: Path) -> None:
    """Protects people who press Ctrl-C: exit code 130, as shells use it, and no traceback."""
    (config.parent / "keys").mkdir()
    fifo = config.parent / "id.pub"
    os.mkfifo(fifo)
    program = subprocess.Popen(
        [sys.executable, "-m", "pyssh_gateway", "keys", "test", str(fifo), "--config", str(config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with fifo.open("wb"):  # opens as soon as the program reads the key
        program.send_signal(signal.SIGINT)
        assert program.communicate(timeout=PATIENCE) == (b"", b"")
    assert program.returncode == 130
