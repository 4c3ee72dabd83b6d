"""The benchmark's knowledge of servers: login accounts, a server's own processes, and the floods."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

from bench.floods import NAMES, USUAL
from bench.processes import family, owned_by
from bench.servers import OUR_FAMILY, Login, gateway, make_login, preauth_account

LIKE_A_SERVER = """
import os
from pathlib import Path

for name in ("pyssh-postauth", "a-user's"):
    if os.fork() == 0:
        Path("/proc/self/comm").write_text(name)
        os.write(1, f"{name} {os.getpid()}\\n".encode())
        os.read(0, 1)
        os._exit(0)
os.wait()
os.wait()
"""
"""A process with two forks that run the same program, like a server's fork for a user without an exec."""


def test_processes_of_a_server() -> None:
    """Memory includes what a server forked for itself, as any account, and nothing that it runs for users."""
    with subprocess.Popen([sys.executable, "-c", LIKE_A_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdin is not None
        assert root.stdout is not None
        pids = dict(root.stdout.readline().split() for _ in range(2))
        found = family(root.pid, OUR_FAMILY)
        root.stdin.write(b"..")
    assert found == [root.pid, int(pids[b"pyssh-postauth"])]


def test_processes_of_an_account() -> None:
    """All processes of an account are found, which is removed only when none is left."""
    assert os.getpid() in owned_by(os.getuid())


def test_logins_of_several_accounts(tmp_path: Path) -> None:
    """Each account has its own key, and one account serves the strangers of all."""
    logins = [make_login(tmp_path, user) for user in ("first", "second")]
    gateway(tmp_path, logins, 2222)
    config = tomllib.loads((tmp_path / "config.toml").read_text())
    assert config["preauth_account"] == preauth_account("first")
    assert config["login"] == [
        {"user": user, "keys": [f"file:{tmp_path}/logins/{user}.pub"]} for user in ("first", "second")
    ]
    first, second = (login.public_key.read_text().split()[1] for login in logins)
    assert first != second


def test_key_of_an_account_with_a_dot() -> None:
    """The key file is named by the account's whole name, which is how sshd looks for it."""
    assert Login("an.account", Path("/keys/an.account")).public_key == Path("/keys/an.account.pub")


def test_usual_floods() -> None:
    """The usual floods are all known by name, and include those that harm other clients."""
    assert set(USUAL) <= set(NAMES)
    assert {"ignore", "split", "window-adjust", "forwards", "execs", "signal", "early"} <= set(USUAL)
