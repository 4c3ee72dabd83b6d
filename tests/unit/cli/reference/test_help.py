"""cli.reference: help, man pages and errors of the commands, and that parsing follows the same table."""

import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from pyssh_gateway import __version__
from pyssh_gateway.cli import main
from pyssh_gateway.cli.reference import help_text, man_pages, parsing
from pyssh_gateway.cli.reference.commands import COMMANDS
from pyssh_gateway.cli.reference.model import Command
from pyssh_gateway.cli.reference.program import HELP
from tests.support.waiting import PATIENCE

NAMES = [command.name for command in COMMANDS]
BIRTHDAY = date(2026, 1, 2)


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, output and error messages of a command line."""
    code = main.run(words, {})
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_overview_has_a_line_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Protects newcomers: `--help`, `-h` and `help` list every command with its summary, in 80 columns."""
    code, out, err = told(capsys, "--help")
    assert (code, err) == (0, "")
    assert told(capsys, "-h") == told(capsys, "help") == (0, out, "")
    assert all(re.search(rf"^  {name}  +[a-z]", out, re.MULTILINE) for name in NAMES)
    assert max(len(line) for line in out.splitlines()) <= help_text.WIDTH
    assert "\nExit codes\n" in out
    assert told(capsys) == (2, "", out)


@pytest.mark.parametrize("command", COMMANDS, ids=NAMES)
def test_every_command_has_a_page(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    """`help NAME`, `NAME --help` and `NAME -h` print the same: usage, every option and argument, and exit codes."""
    code, out, err = told(capsys, "help", *command.words)
    assert (code, err) == (0, "")
    assert told(capsys, *command.words, "--help") == told(capsys, *command.words, "-h") == (0, out, "")
    assert f"usage: pyssh-gateway {command.name}" in out
    for entry in (*(option.name for option in (*command.options, HELP)), *(one.name for one in command.arguments)):
        assert re.search(rf"^  (-\w, )?{entry}\b", out, re.MULTILINE)
    assert max(len(line) for line in out.splitlines()) <= help_text.WIDTH


def test_it_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`-V` and `--version` print the version."""
    assert told(capsys, "-V") == told(capsys, "--version") == (0, f"pyssh-gateway {__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("stauts", 'unknown command "stauts"; did you mean status?'),
        ("conifg", 'unknown command "conifg"; did you mean config?'),
        ("refresh", 'unknown command "refresh"; did you mean keys refresh?'),
        ("frobnicate", 'unknown command "frobnicate"; pyssh-gateway --help lists the commands'),
        ("keys tset", 'unknown command "keys tset"; did you mean keys test?'),
        ("keys x", 'unknown command "keys x"; there is keys test, keys refresh, keys accept'),
        ("status --jsn", 'status has no option "--jsn"; did you mean --json?'),
        ("status --js", 'status has no option "--js"; did you mean --json?'),
        ("status -x", 'status has no option "-x"; it takes --config, --json, --help'),
        ("status now", '"now" is one word too many for status'),
        ("status --config", "--config needs a value: --config FILE"),
        ("status --json=1", "--json takes no value"),
        ("--config x status", '"--config" in front of a command; options stand behind it'),
        ("--hlep", 'unknown option "--hlep"; did you mean --help?'),
        ("-v", 'unknown option "-v"; did you mean --version?'),
        ("-x", 'unknown option "-x"; pyssh-gateway --help says what there is'),
        ("keys test", "keys test needs a FILE: a public key or certificate"),
        ("completion", "completion needs a SHELL: bash or zsh or fish"),
        ("completion bsh", 'SHELL is bash, zsh or fish, not "bsh"; did you mean bash?'),
        ("help keys tset", 'unknown command "keys tset"; did you mean keys test?'),
        ("help status x", 'status has no command "x"'),
        ("manpage --directory /x hold", "a command, or --directory for all of them"),
        ("sftp-server --", "sftp-server stands alone"),
        ("\x1b[2J", 'unknown command "\\x1b[2J"'),
    ],
)
def test_a_mistake_gets_a_suggestion(typed: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects people who mistype: exit code 2, nothing on standard output, a suggestion, and the usage."""
    code, out, err = told(capsys, *typed.split())
    assert (code, out) == (2, "")
    assert err.startswith(f"pyssh-gateway: {said}")
    assert "\nusage: pyssh-gateway" in err
    assert err.replace("\n", "").isprintable()


def test_serve_has_suggestions_too(capsys: pytest.CaptureFixture[str]) -> None:
    """`serve` reads its options itself; errors in them are explained from the table."""
    assert main.refuse_serve(["--prot", "22"], "unknown option --prot") == 2
    assert 'serve has no option "--prot"; did you mean --port?' in capsys.readouterr().err
    assert main.refuse_serve(["--port", "x"], "--port takes a number, not x") == 2
    assert capsys.readouterr().err.startswith("pyssh-gateway: --port takes a number, not x\n")


def test_options_stand_anywhere_behind_the_command() -> None:
    """Protects both habits: options before and after arguments, with a space or `=`, and `--` before odd names."""
    test = next(command for command in COMMANDS if command.name == "keys test")
    for typed in ("--user=amos --json id.pub", "id.pub --user amos --json", "--json --user amos -- id.pub"):
        given = parsing.parse(test, typed.split())
        assert (given.file, given.user, given.json, given.peer, given.config) == ("id.pub", "amos", True, "", None)
    assert parsing.parse(test, ["--", "--odd"]).file == "--odd"
    assert parsing.parse(test, ["-"]).file == "-"


def test_an_option_may_be_repeated() -> None:
    """`keys rotate-host --type rsa --type ecdsa` selects both types."""
    rotate = next(command for command in COMMANDS if command.name == "keys rotate-host")
    assert parsing.parse(rotate, ["--type", "rsa", "--type=ecdsa"]).type == ("rsa", "ecdsa")
    assert parsing.parse(rotate, []).type == ()


# -- man pages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [None, *COMMANDS], ids=["pyssh-gateway", *NAMES])
def test_a_man_page_says_what_help_says(command: Command | None) -> None:
    """A man page has every option and exit code of the table, and no line of text is taken for a troff request."""
    page = man_pages.page(command, BIRTHDAY)
    assert page.startswith(".TH PYSSH\\-GATEWAY")
    shown = page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fP", "")
    for option in () if command is None else command.options:
        assert f"\n{help_text.option_names(option)}\n" in shown
    for exit_code in () if command is None else command.exits:
        assert f"\n{exit_code.code}\n{exit_code.meaning}\n" in shown
    requests = {line.split(" ")[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".B", ".br", ".PP", ".TP"}


@pytest.mark.parametrize("checker", [("mandoc", "-Tlint", "-Wwarning"), ("groff", "-man", "-ww", "-z", "-Tutf8")])
def test_man_pages_are_well_formed(
    checker: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Protects readers from man pages that only one program can read: mandoc and groff report no warning."""
    if shutil.which(checker[0]) is None:
        pytest.skip(f"{checker[0]} is not installed")
    code, out, _ = told(capsys, "manpage", "--directory", str(tmp_path / "man1"))
    pages = sorted((tmp_path / "man1").iterdir())
    assert (code, out) == (0, f"{len(pages)} pages written to {tmp_path}/man1\n")
    assert [page.name for page in pages] == sorted(f"{man_pages.name_of(command)}.1" for command in (None, *COMMANDS))
    done = subprocess.run([*checker, *pages], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_man_page_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`manpage hold | man -l -` gets one page, dated by SOURCE_DATE_EPOCH if a build sets it."""
    assert main.run(("manpage", "keys", "test"), {"SOURCE_DATE_EPOCH": "1767312000"}) == 0
    assert capsys.readouterr().out.startswith(
        f'.TH PYSSH\\-GATEWAY\\-KEYS\\-TEST 1 2026-01-02 "pyssh-gateway {__version__}"'
    )
    assert told(capsys, "manpage")[1].startswith(".TH PYSSH\\-GATEWAY 1 ")


def test_a_directory_that_is_none_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`manpage --directory` with a path that is no directory prints what is wrong, without a traceback."""
    (tmp_path / "file").touch()
    code, _, err = told(capsys, "manpage", "--directory", str(tmp_path / "file"))
    assert (code, err) == (1, f"pyssh-gateway: {tmp_path}/file: File exists\n")
