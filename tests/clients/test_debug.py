"""`serve --debug`, beside a server that is in use."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.conftest import KeyPair
from tests.support.client import Client
from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE


def test_a_login_is_watched_beside_the_server_in_use(server: Server, user_key: KeyPair, tmp_path: Path) -> None:
    """The terminal shows why a login fails: same configuration and host key as the server, but nothing is shared."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = sorted(server.keys_dir.rglob("*")), server.config.read_text()
    process = subprocess.Popen(
        [sys.executable, "-m", "pyssh_gateway", "serve", "--debug", "--port", "0", "--config", str(server.config)],
        cwd=ROOT,
        env=os.environ | {"NO_COLOR": "1", "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"accepting on 127\.0\.0\.1:(\d+)", line):
            break
    else:
        raise AssertionError(said)
    client = Client(server, user_key.private)
    port = ("-o", f"Port={found[1]}", "-o", "HostKeyAlias=[127.0.0.1]:" + str(server.port))
    argv = client.argv("true")
    result = subprocess.run([argv[0], *port, *argv[1:]], capture_output=True, timeout=PATIENCE, check=False)
    assert result.returncode == 0, result.stderr
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=PATIENCE)[0]
    assert f"login    {server.login} from 127.0.0.1" in said
    assert not list(temporary.iterdir())
    assert (sorted(server.keys_dir.rglob("*")), server.config.read_text()) == before
    assert Client(server, user_key.private).run("true").status == 0
