"""The options of a forced internal-sftp: they are obeyed, and options that can't be are refused."""

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.transfers import sftp_options
from pyssh_gateway.core.transfers.sftp_options import (
    NO_OPTIONS,
    READS,
    WRITES,
    SftpOptions,
    SftpOptionsError,
    expanded,
    is_internal_sftp,
    parse,
    permits,
    problem_of,
)
from tests.support.sftp import OPENSSH_SERVER
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (b"internal-sftp", NO_OPTIONS),
        (b"internal-sftp  -R ", SftpOptions(read_only=True)),
        (b"internal-sftp\t-R --", SftpOptions(read_only=True)),
        (b"internal-sftp -eR -l VERBOSE -f AUTH -l debug3", SftpOptions(read_only=True)),
        (b"internal-sftp -Rd /data", SftpOptions(read_only=True, directory=b"/data")),
        (b"internal-sftp -d~/in/%u", SftpOptions(directory=b"~/in/%u")),
        (b"internal-sftp -u 0027", SftpOptions(umask=0o27)),
        (b"internal-sftp -p open,read,close", SftpOptions(allowed=frozenset({"open", "read", "close"}))),
        (b"internal-sftp -P remove -P mkdir,rmdir", SftpOptions(denied=frozenset({"remove", "mkdir", "rmdir"}))),
        (b"internal-sftp -d %d/%h/%u/%U/%%", SftpOptions(directory=b"%d/%h/%u/%U/%%")),
    ],
)
def test_what_is_obeyed(command: bytes, options: SftpOptions) -> None:
    """Options are parsed as by getopt(3), bundled and separate."""
    assert is_internal_sftp(command)
    assert parse(command) == options
    assert problem_of(command) == ""


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (b"-X", "no option '-X'"),
        (b"-RX", "no option '-X'"),
        (b"-c", "no option '-c'"),
        (b"-h", "no option '-h'"),
        (b"-Q requests", "no option '-Q'"),
        (b"-\xff", "no option"),
        (b"/data", "no argument '/data'"),
        (b"-R -- -R", "no argument '--'"),
        (b"-", "no argument '-'"),
        (b"-d", "-d needs a value"),
        (b"-u 8", "-u: '8'"),
        (b"-u 1000", "-u: '1000'"),
        (b"-u -1", "-u: '-1'"),
        (b"-P open,opne", "no request 'opne'"),
        (b"-p ,", "no request ''"),
        (b"-p open -p read", "two -p"),
        (b"-l loud", "-l: 'loud'"),
        (b"-f kern", "-f: 'kern'"),
        (b"-d /%x", "-d: '%x'"),
        (b"-d /100%", "-d: '%'"),
    ],
)
def test_what_can_not_be_obeyed(arguments: bytes, part: str) -> None:
    """Protects restrictions from typing errors: the text says what is wrong, and nothing is served."""
    with pytest.raises(SftpOptionsError, match="internal-sftp") as failed:
        parse(b"internal-sftp " + arguments)
    assert part in str(failed.value)
    assert problem_of(b"internal-sftp " + arguments) == str(failed.value)


@pytest.mark.parametrize("command", [b"internal-sftpd", b"/bin/internal-sftp", b"sftp-server -X", b""])
def test_other_commands(command: bytes) -> None:
    """Commands with other names are ordinary programs."""
    assert not is_internal_sftp(command)
    assert problem_of(command) == ""


def test_the_requests_are_opensshs() -> None:
    """Protects lists that were written for sshd: each request that OpenSSH's server knows can be named."""
    if not Path(OPENSSH_SERVER).exists():
        pytest.skip("no sftp-server on this machine")
    done = subprocess.run([OPENSSH_SERVER, "-Q", "requests"], capture_output=True, check=True, timeout=PATIENCE)
    assert set(done.stdout.decode().split()) <= READS | WRITES


def test_what_may_be_asked() -> None:
    """A read-only client may change nothing, a denial overrides a permission, and a list excludes the rest."""
    assert all(permits(NO_OPTIONS, name) for name in READS | WRITES)
    read_only = SftpOptions(read_only=True)
    assert {name for name in READS | WRITES if permits(read_only, name)} == READS
    narrow = SftpOptions(allowed=frozenset({"open", "read"}), denied=frozenset({"read"}))
    assert {name for name in READS | WRITES if permits(narrow, name)} == {"open"}


def test_where_it_starts() -> None:
    """The tokens of sftp-server(8) are expanded."""
    facts = {"user": "dev", "uid": 1000, "home": b"/home/dev"}
    assert expanded(b"%h/%u/%U/%%d/%d", **facts) == b"/home/dev/dev/1000/%d//home/dev"  # type: ignore[arg-type]  # by name


@given(st.binary(max_size=60))
def test_nothing_else_is_raised(arguments: bytes) -> None:
    """Any text in a key's line gives options or a problem, and raises nothing."""
    assert sftp_options.problem_of(b"internal-sftp " + arguments) is not None
