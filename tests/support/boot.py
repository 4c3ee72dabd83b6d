"""Accounts that the server makes at boot: gone before and after a test, and no other run at them meanwhile."""

import contextlib
import fcntl
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyssh_gateway.spawner.boot.accounts import SUDOERS
from tests.support.account import LOCKS
from tests.support.waiting import PATIENCE


@contextlib.contextmanager
def volume(name: str, users: Sequence[str], group: str) -> Iterator[Path]:
    """An empty directory that everybody can get to, on a machine that has none of `users` and no `group`."""
    LOCKS.mkdir(exist_ok=True)
    # The lock under which the account of the other tests is made: numbers are found free before they are taken.
    with (LOCKS / "changing").open("w") as changing:
        fcntl.flock(changing, fcntl.LOCK_EX)
        directory = LOCKS / name
        remove(users, group)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        try:
            yield directory
        finally:
            remove(users, group)
            shutil.rmtree(directory)


def remove(users: Sequence[str], group: str) -> None:
    """Take back what boots have made, but for what is on a volume."""
    for user in users:
        _try("pkill", "-KILL", "-u", user)
        _try("userdel", "--force", user)
        _try("groupdel", user)
        with contextlib.suppress(OSError):
            (SUDOERS / f"90-pyssh-gateway-{user.replace('.', ',')}").unlink()
    _try("groupdel", group)


def _try(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
