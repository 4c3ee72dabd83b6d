"""SFTP as a command: which program is named, and that ours works."""

import os
import shlex
import subprocess
from pathlib import Path

from pyssh_gateway.as_user.sftp import wire
from pyssh_gateway.system.sftp_program import for_shell
from tests.support.waiting import PATIENCE


def test_the_machines_own_server_comes_first(tmp_path: Path) -> None:
    """Protects wrappers that match its path: the first executable server in the list is named unchanged."""
    missing, plain, server = tmp_path / "a", tmp_path / "b", tmp_path / "sftp-server"
    plain.touch(0o644)
    server.touch(0o755)
    assert for_shell((str(missing), str(plain), str(server), "/bin/sh")) == os.fsencode(server)


def test_without_one_ours_is_a_command_for_a_shell(tmp_path: Path) -> None:
    """Protects machines without OpenSSH: a shell that runs our command gets a server, in any directory."""
    command = for_shell(())
    assert b"sftp-server" in command
    (tmp_path / "pyssh_gateway.py").write_text("raise SystemExit(9)")
    hello = (5).to_bytes(4, "big") + bytes([wire.FXP_INIT]) + wire.u32(3)
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=tmp_path, input=hello, capture_output=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, b""), shlex.split(os.fsdecode(command))
    assert done.stdout[4:9] == bytes([wire.FXP_VERSION]) + wire.u32(3)
