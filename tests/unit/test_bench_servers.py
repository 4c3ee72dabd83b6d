"""What the benchmark has to know of servers: who may log in, which processes are a server's own, what floods it."""

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
"""A process with two forks. All three run the same program, as what a server forks for a user without an exec does."""


def test_processes_of_a_server() -> None:
    """Memory counts what a server has forked for itself, whatever account it is, and nothing that it runs for users."""
    with subprocess.Popen([sys.executable, "-c", LIKE_A_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdin is not None
        assert root.stdout is not None
        pids = dict(root.stdout.readline().split() for _ in range(2))
        found = family(root.pid, OUR_FAMILY)
        root.stdin.write(b"..")
    assert found == [root.pid, int(pids[b"pyssh-postauth"])]


def test_processes_of_an_account() -> None:
    """An account is removed when none of its processes is left, so each has to be found."""
    assert os.getpid() in owned_by(os.getuid())


def test_logins_of_several_accounts(tmp_path: Path) -> None:
    """Each account logs in with a key of its own, and one account serves the strangers for all."""
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
    """sshd looks for the key by the account's whole name."""
    assert Login("an.account", Path("/keys/an.account")).public_key == Path("/keys/an.account.pub")


def test_usual_floods() -> None:
    """What a usual run floods servers with has a name in the table, and the ways to harm others are among it."""
    assert set(USUAL) <= set(NAMES)
    assert {"ignore", "split", "window-adjust", "forwards", "execs", "signal", "early"} <= set(USUAL)
