"""The command line: what is understood, what is refused, and what it costs to start."""

import subprocess
import sys

import pytest

from pyssh_gateway import __version__


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`pyssh-gateway` with these arguments."""
    command = [sys.executable, "-m", "pyssh_gateway", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


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


def test_binding_needs_nothing_heavy() -> None:
    """The port is open before msgspec, asyncssh or anything like them has been imported: a client may be waiting."""
    script = (
        "import sys\n"
        "from pyssh_gateway import serve\n"
        "sock = serve.listen(('127.0.0.1', 0))\n"
        "heavy = {'msgspec', 'asyncssh', 'asyncio', 'structlog', 'cryptography', 'argparse', 'typing'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    command = [sys.executable, "-S", "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == "[]\n"
