"""The command line: what is understood, what is refused, and what it costs to start."""

import os
import subprocess
import sys

import pytest

from pyssh_gateway import __version__
from tests.support.waiting import PATIENCE


def run(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`pyssh-gateway` with these arguments."""
    command = [sys.executable, "-m", "pyssh_gateway", *arguments]
    env = os.environ | (environ or {})
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, env=env)


def test_version_and_help() -> None:
    """Both are answered on standard output, with status 0."""
    assert run("--version").stdout == f"pyssh-gateway {__version__}\n"
    for arguments in (("--help",), ("-h",), ("serve", "--help")):
        answer = run(*arguments)
        assert answer.returncode == 0
        assert answer.stdout.startswith("usage:")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "expected a command"),
        (("fly",), "unknown command fly"),
        (("serve", "--colour"), "unknown option --colour"),
        (("serve", "--port"), "--port needs a value"),
        (("serve", "--port", "ssh"), "--port takes a number, not ssh"),
        (("serve", "--user", "amos"), "--user and --github go with --trial"),
    ],
)
def test_a_mistake_is_named(arguments: tuple[str, ...], problem: str) -> None:
    """One line says what was wrong, the usage follows, and the status is 2."""
    answer = run(*arguments)
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[0] == f"pyssh-gateway: {problem}"
    assert "usage:" in answer.stderr
    assert not answer.stdout


@pytest.mark.parametrize("command", [("status",), ("check",), ("keys",), ("keys", "test"), ("keys", "rotate-host")])
def test_every_command_helps(command: tuple[str, ...]) -> None:
    """Protects the way into each command: it is found, and says what it takes."""
    answer = run(*command, "--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"usage: pyssh-gateway {' '.join(command)}")


def test_a_command_s_exit_code_is_the_program_s() -> None:
    """Protects scripts: with nobody to ask the answer is no (1), with a configuration that is wrong it is 2."""
    assert run("status", environ={"PYSSH_GATEWAY_CONTROL": "off"}).returncode == 1
    assert run("status", environ={"PYSSH_GATEWAY_CONTROL": "relative"}).returncode == 2


def test_nobody_has_to_read_the_answer() -> None:
    """Protects `pyssh-gateway ... | head`: when nobody reads any more, that is the end, without a traceback."""
    command = [sys.executable, "-m", "pyssh_gateway", "keys"]
    environ = os.environ | {"PYSSH_GATEWAY_CONTROL": "off", "PYSSH_GATEWAY_CONFIG": "/dev/null"}
    read, write = os.pipe()
    os.close(read)
    answer = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False, env=environ
    )
    os.close(write)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "Broken pipe" not in answer.stderr


def test_binding_needs_nothing_heavy() -> None:
    """The port is open before msgspec, asyncssh or anything like them has been imported: a client may be waiting."""
    script = (
        "import sys\n"
        "from pyssh_gateway.startup import listening, serve\n"
        "sock = listening.listen(('127.0.0.1', 0))\n"
        "heavy = {'msgspec', 'asyncssh', 'asyncio', 'structlog', 'cryptography', 'argparse', 'typing'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-S", "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert answer.stdout == "[]\n"
