"""Accounts that the server makes at boot: removed before and after a test, under a lock against other test runs."""

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
    """An empty directory that everybody can reach, on a machine that has none of `users` and no `group`."""
    LOCKS.mkdir(exist_ok=True)
    # The lock that also covers the other tests' account: uids must not be taken between the check and their use.
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
    """Remove what boots have made, except for files on a volume."""
    for user in users:
        _try("pkill", "-KILL", "-u", user)
        _try("userdel", "--force", user)
        _try("groupdel", user)
        with contextlib.suppress(OSError):
            (SUDOERS / f"90-pyssh-gateway-{user.replace('.', ',')}").unlink()
    _try("groupdel", group)


def _try(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE)
