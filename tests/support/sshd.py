"""A real sshd to compare with: the one that is installed here, with its defaults where they matter to us."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.servers import PRIVILEGE_SEPARATION, Server, make_key, sshd_path
from tests.support.forwards import free_port


class Sshd(NamedTuple):
    """A running sshd, and the account that it lets in: the account that runs the tests."""

    port: int
    login: str


@contextlib.contextmanager
def sshd(directory: Path, public_key: Path) -> Iterator[Sshd]:
    """An sshd that lets `public_key` in. Raises `bench.servers.CannotBench` if none is installed."""
    program, port = sshd_path(), free_port()
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": make_key(directory / "ssh_host_ed25519_key"),
        "PidFile": "none",
        "AuthorizedKeysFile": public_key,
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "MaxStartups": 1000,
    }
    config = directory / "sshd_config"
    lines = [f"{name} {value}\n" for name, value in options.items()]
    config.write_text("".join(lines))
    # Since 9.8 sshd refuses sources for a while after failures, which these tests cause on purpose.
    patient = [*lines, "PerSourcePenalties no\n"]
    (directory / "sshd_config.9.8").write_text("".join(patient))
    knows = subprocess.run(
        [program, "-t", "-f", directory / "sshd_config.9.8"], capture_output=True, timeout=60, check=False
    )
    if knows.returncode == 0:
        config.write_text("".join(patient))
    if os.geteuid() == 0:
        # sshd needs this directory for every connection. It is not removed, since another run may be using it.
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    server = Server(
        "sshd",
        [program, "-D", "-e", "-f", str(config), "-p", str(port)],
        port,
        {"PATH": os.environ.get("PATH", "")},
        directory / "sshd.log",
        family="sshd",
    )
    with server.running():
        yield Sshd(port, pwd.getpwuid(os.geteuid()).pw_name)
