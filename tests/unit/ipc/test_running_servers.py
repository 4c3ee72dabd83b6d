"""ipc.running_servers: the servers that run on this machine, found by their listening sockets."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pyssh_gateway.ipc.running_servers import running
from tests.support.waiting import PATIENCE

_LISTEN = """
import sys
from pyssh_gateway.ipc.control_socket import bind_control
sock = bind_control(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("name", "words", "found"),
    [
        ("control.sock", ("pyssh-gateway", "serve"), True),
        ("control.sock", ("pyssh-gateway", "why"), False),
        ("control.sock", ("another", "serve"), False),
        ("other.sock", ("pyssh-gateway", "serve"), False),
    ],
)
def test_a_server_is_told_from_other_programs(name: str, words: tuple[str, ...], found: bool) -> None:
    """Protects commands from asking a foreign program: a server must listen at such a name and be called so."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/{name}"
        command = [sys.executable, "-c", _LISTEN, path, *words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == b"ready\n"
            assert (path in running()) == found
            program.communicate(timeout=PATIENCE)
        assert path not in running()


def test_a_list_that_is_none_has_no_servers(tmp_path: Path) -> None:
    """Protects commands where /proc is missing or unreadable: no server is found, and nothing fails."""
    table = tmp_path / "unix"
    assert running(str(table)) == ()
    table.write_text("Num RefCount Protocol Flags Type St Inode Path\nx y\n0: 2 0 10000 1 1 7 /nowhere/control.sock\n")
    assert running(str(table)) == ()
