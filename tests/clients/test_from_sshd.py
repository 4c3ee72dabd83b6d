"""One sshd_config, used by sshd and, translated, by us: people find the same behaviour on both."""

import os
import pwd
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.servers import PRIVILEGE_SEPARATION
from tests.conftest import KeyPair, MakeServer
from tests.support.chroots import roots_own_directory
from tests.support.client import Client, Result
from tests.support.forwards import Target, echo, free_port
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    SSHD is None or os.geteuid() != 0, reason="there is no sshd here, or it can't be root's"
)

CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
AllowUsers {user}
AuthorizedKeysFile {keys}/%u
AcceptEnv "APP_*"
SetEnv FIRST=1 FIRST=2
AllowTcpForwarding yes
Match User nobody
    ForceCommand false
Match User {user}
    AllowTcpForwarding remote
    PermitListen localhost:{listen}
    AllowAgentForwarding no
"""


class Both:
    """sshd with a configuration file, and our server with the translation of that file."""

    def __init__(self, client: Client, port: int) -> None:
        self._client = client
        self._port = port

    def run(self, command: str | None, *options: str) -> tuple[Result, Result]:
        """The results of the same command, from sshd and from us."""
        there = ("-o", f"Port={self._port}", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
        ran = [self._client.run(command, "-q", *more, *options, environ={"APP_A": "a", "OTHER": "b"})
               for more in (there, ())]  # fmt: skip
        return ran[0], ran[1]


@pytest.fixture
def listen() -> int:
    """A port that clients may listen on."""
    return free_port()


@pytest.fixture
def both(
    make_server: MakeServer, user_key: KeyPair, account: pwd.struct_passwd, tmp_path: Path, listen: int
) -> Iterator[Both]:
    """Both servers."""
    with roots_own_directory() as keys:
        (keys / account.pw_name).write_text(user_key.public.read_text())
        host_key, config, log = tmp_path / "host_ed25519_key", tmp_path / "sshd_config", tmp_path / "log"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host_key], check=True, timeout=PATIENCE)
        port = free_port()
        config.write_text(CONFIG.format(port=port, host_key=host_key, user=account.pw_name, keys=keys, listen=listen))
        argv = [sys.executable, "-m", "pyssh_gateway", "import-sshd-config", str(config)]
        done = subprocess.run(argv, capture_output=True, check=False, timeout=PATIENCE, cwd=ROOT)
        made = tomllib.loads(done.stdout.decode())
        assert made.pop("listen") == {"address": [f"127.0.0.1:{port}"]}
        server = make_server(made)
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        with log.open("wb") as errors:
            sshd = subprocess.Popen([str(SSHD), "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=errors)
        try:
            until(lambda: b"Server listening" in log.read_bytes(), what="sshd")
            yield Both(Client(server, user_key.private), port)
        finally:
            sshd.terminate()
            sshd.wait(PATIENCE)


def test_the_same_on_both(both: Both, listen: int, tmp_path: Path) -> None:
    """Protects people who move from sshd: variables, the agent, and each kind of forwarding work as before."""
    with Target(echo, str(tmp_path / "agent")):
        options = ("-o", "SendEnv=APP_A", "-o", "SendEnv=OTHER", "-A", "-o", f"IdentityAgent={tmp_path}/agent")
        seen = both.run('echo "$APP_A-$OTHER-$FIRST-${SSH_AUTH_SOCK-none}"', *options)
    assert [each.stdout for each in seen] == [b"a--1-none\n"] * 2
    for port, permitted in ((listen, True), (0, False)):
        ended = both.run("true", "-o", "ExitOnForwardFailure=yes", "-R", f"{port}:127.0.0.1:1")
        assert [each.status == 0 for each in ended] == [permitted] * 2, (port, ended)
    with Target(lambda sock: sock.sendall(b"reached")) as target:
        ended = both.run(None, "-W", f"127.0.0.1:{target.port}")
    assert [each.stdout for each in ended] == [b""] * 2
