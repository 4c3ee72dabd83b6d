"""docs/command-line.md agrees with the table of commands and the answers, and its commands work."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.audit.index.queries import SessionRow
from pyssh_gateway.audit.proving.inclusion import Proof
from pyssh_gateway.cli import check, import_sshd_config, server_socket, what_if
from pyssh_gateway.cli.audit import checkpoint, search, sessions, show, verify
from pyssh_gateway.cli.configuration.effective import Value
from pyssh_gateway.cli.configuration.show import ShowReport
from pyssh_gateway.cli.doctor.doctor import DoctorReport
from pyssh_gateway.cli.doctor.finding import Finding
from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.output.printing import OutputFailed
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.program import EXITS
from pyssh_gateway.cli.reference.shared_options import JSON
from pyssh_gateway.core import control, control_reports
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

TEXT = (ROOT / "docs" / "command-line.md").read_text()

ANSWERS: dict[str, type[msgspec.Struct]] = {
    "`status`": control.StatusReply,
    "`sessions`": control.SessionsReply,
    "`why`": control.WhyReply,
    "`hold`": control.HeldReply,
    "`release`": control.ReleasedReply,
    "`idle what-if`": what_if.Answer,
    "`audit sessions`": sessions.Answer,
    "`audit show`": show.Answer,
    "`audit search`": search.Answer,
    "A session of the log": SessionRow,
    "A story": show.Told,
    "A hit": search.Found,
    "`audit checkpoint`": checkpoint.Newest,
    "`audit key`": checkpoint.Keys,
    "`audit prove`": Proof,
    "`audit verify`": verify.Answer,
    "A line that is proved": verify.Point,
    "Something that is wrong": verify.Broken,
    "`keys` and `keys refresh`": control.KeysReply,
    "`keys test`": control.VerdictsReply,
    "`check`": check.CheckReport,
    "`doctor`": DoctorReport,
    "`config show`": ShowReport,
    "A finding": Finding,
    "A value": Value,
    "A way in which it could have gone": what_if.Column,
    "A connection": control.ConnectionReport,
    "A session": control.SessionReport,
    "Idle": control.IdleReport,
    "A hold": control.HoldReport,
    "A stop": control.StopReport,
    "The log": control.LogReport,
    "Awake for nobody": control.ForNobodyReport,
    "A source of wakes": control.SourceOfWakesReport,
    "A login": control.LoginReport,
    "A key": control.KeyReport,
    "A host key": control.HostKeyReport,
    "A host certificate": control_reports.HostCertificateReport,
    "A list of what is revoked": control_reports.RevokedListReport,
    "A source": control.SourceReport,
    "A verdict": control.Verdict,
}
"""The headings of the parts of JSON answers, and the types that make them."""


LINES_OF_THE_LOG = {"audit tail"}
"""Commands whose --json prints what the log has, and no answer."""


def section(heading: str) -> str:
    """The text under a heading, up to the next heading of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{2,3}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/command-line.md has no heading {heading}"
    return found[2]


def rows(text: str) -> list[list[str]]:
    """The rows of the tables in `text`, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row, line in zip(found, lines, strict=True) if "---" not in line and row[0] not in HEADS]


HEADS = {"command", "code", "field"}


def test_every_command_is_in_the_table() -> None:
    """The page lists the commands of `--help`, with the same words and in the same order."""
    before = TEXT.partition("\n## ")[0]
    assert rows(before) == [[f"`{command.name}`", command.summary] for command in COMMANDS]


def test_exit_codes_are_those_of_the_table() -> None:
    """The page lists the same exit codes as `help`."""
    common, _, special = section("Exit codes").partition("Commands whose codes")
    assert rows(common) == [[str(one.code), one.meaning] for one in EXITS]
    assert rows(special) == [
        [f"`{command.name}`", str(one.code), one.meaning] for command in COMMANDS for one in command.exits
    ]


def test_error_codes_are_those_that_there_are() -> None:
    """The page has every code for a kind of failure that programs can get, with its exit code."""
    # Imported so that they are among the subclasses.
    assert issubclass(server_socket.CannotAsk, Failed)
    assert issubclass(import_sshd_config.Unreadable, Failed)
    kinds = {("config", 2), (Failed.kind, Failed.code)}
    left: list[type[Failed]] = [Failed]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if kind is not OutputFailed:  # when output fails, no code can be printed
            kinds.add((kind.kind, kind.code))
    assert {(code.strip("`"), int(exit_code)) for code, exit_code, _ in rows(section("Errors"))} == kinds


@pytest.mark.parametrize("heading", ANSWERS)
def test_every_field_is_described(heading: str) -> None:
    """Protects scripts: the page describes exactly the fields of each answer."""
    named = [name for row in rows(section(heading)) for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(named) == sorted(ANSWERS[heading].__struct_fields__)


def test_every_answer_is_described() -> None:
    """The page describes the answer of every command that takes --json."""
    named = {name for heading in ANSWERS for name in re.findall(r"`([^`]+)`", heading)}
    assert named == {command.name for command in COMMANDS if command.option(JSON.name)} - LINES_OF_THE_LOG


# -- commands that the page tells people to type --------------------------------------------------------------------


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with `pyssh-gateway` on its PATH, and its own home."""
    program = tmp_path / "bin" / "pyssh-gateway"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pyssh_gateway "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}


def commands(heading: str) -> list[str]:
    """The lines of the shell blocks under a heading, without comments, and without sudo, which a test does not need."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", section(heading), re.MULTILINE | re.DOTALL)
    return [line.split("  #")[0].strip().removeprefix("sudo ") for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize(
    ("shell", "asked"),
    [
        (("bash", "--norc", "-c"), "complete -p pyssh-gateway"),
        (("zsh", "-f", "-c"), "echo $_comps[pyssh-gateway]"),
        (("fish", "-c"), "complete -C 'pyssh-gateway wh'"),
    ],
)
def test_completion_is_set_up_as_the_page_says(
    shell: tuple[str, ...], asked: str, environ: dict[str, str], tmp_path: Path
) -> None:
    """Protects newcomers: the page's line for each shell sets up the command's completion."""
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    (tmp_path / ".config" / "fish" / "completions").mkdir(parents=True)
    (line,) = [one for one in commands("Shell completion") if f"completion {shell[0]}" in one and "tee" not in one]
    before = "autoload -U compinit; compinit -D -u; " if shell[0] == "zsh" else ""
    done = subprocess.run(
        [*shell, f"{before}{line}\n{asked}"], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "why" in done.stdout if shell[0] == "fish" else "pyssh" in done.stdout
    assert done.stderr == ""


def test_man_pages_are_installed_as_the_page_says(environ: dict[str, str], tmp_path: Path) -> None:
    """Protects packagers and newcomers: the page's commands write the man pages, and man(1) shows one."""
    if shutil.which("man") is None:
        pytest.skip("man is not installed")
    for line in commands("Man pages"):
        done = subprocess.run(
            ["sh", "-c", line.replace("/usr/local/share/man", f"{tmp_path}/man")],
            env=environ | {"MANPATH": f"{tmp_path}/man", "MANWIDTH": "80"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        assert "PYSSH-GATEWAY-HOLD(1)" in done.stdout or "pages written" in done.stdout
