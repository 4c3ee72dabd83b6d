"""Commands of docs/troubleshooting.md, run exactly as written, against a server that is in use."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import KeyPair
from tests.support.client import client_environment
from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE

BLOCKS = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_page_works(command: str, server: Server, user_key: KeyPair, tmp_path: Path) -> None:
    """The server accepts and answers the commands that the page recommends."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(user_key.public.read_text())
    words = [word for word in shlex.split(command) if word != "sudo"]
    assert words[0] == "pyssh-gateway"
    places = {"~/.ssh/id_ed25519.pub": str(tmp_path / ".ssh" / "id_ed25519.pub"), "amos": server.login}
    result = subprocess.run(
        [sys.executable, "-m", "pyssh_gateway", *(places.get(word, word) for word in words[1:])],
        cwd=ROOT,
        env=client_environment(PYSSH_GATEWAY_CONFIG=str(server.config)),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_there_are_commands_to_run() -> None:
    """The page has command blocks that this module finds, also after somebody has rewritten it."""
    assert len(COMMANDS) >= 5
