"""The Unix account that tests log in to, and the one that their servers serve strangers as.

Root has both made for the tests; anybody else can only log in to their own account, and the server allows no more.
Several test runs on one machine may share the account: the run that ends last removes it.
"""

import contextlib
import fcntl
import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import PATIENCE

NAME = "pyssh-test"
PREAUTH_NAME = "pyssh-test-preauth"
"""The account under which servers of root serve strangers: made and removed together with the account to log in to."""

EXTRA_GROUP = "pyssh-test-extra"
COMMENT = "made by the tests of pyssh-gateway"
"""Marks an account as made by the tests, so that they may remove it."""

LOCKS = Path("/run/pyssh-test")


@contextlib.contextmanager
def login_account() -> Iterator[pwd.struct_passwd]:
    """The account's passwd entry; made and removed if we are root."""
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid())
        return
    LOCKS.mkdir(exist_ok=True)
    # `using` is held shared by every run for as long as it lasts, `changing` only while the account is made or removed.
    with (LOCKS / "using").open("w") as using, (LOCKS / "changing").open("w") as changing:
        fcntl.flock(changing, fcntl.LOCK_EX)
        _create()
        fcntl.flock(using, fcntl.LOCK_SH)
        fcntl.flock(changing, fcntl.LOCK_UN)
        try:
            yield pwd.getpwnam(NAME)
        finally:
            fcntl.flock(changing, fcntl.LOCK_EX)
            with contextlib.suppress(BlockingIOError):  # another run still uses the account
                fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove()


def _create() -> None:
    there = {entry.pw_name for entry in pwd.getpwall()}
    if PREAUTH_NAME not in there:
        _admin(
            *("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"),
            *("--comment", COMMENT, PREAUTH_NAME),
        )
    if NAME in there:
        return
    if EXTRA_GROUP not in {entry.gr_name for entry in grp.getgrall()}:
        _admin("groupadd", EXTRA_GROUP)
    _admin("useradd", "--create-home", "--shell", "/bin/bash", "--groups", EXTRA_GROUP, "--comment", COMMENT, NAME)


def _remove() -> None:
    if pwd.getpwnam(PREAUTH_NAME).pw_gecos == COMMENT:
        subprocess.run(["pkill", "-KILL", "-u", PREAUTH_NAME], check=False, timeout=PATIENCE)
        _admin("userdel", "--force", PREAUTH_NAME)
    if pwd.getpwnam(NAME).pw_gecos != COMMENT:
        return
    # Processes that a failed test has left running; the account has no others.
    subprocess.run(["pkill", "-KILL", "-u", NAME], check=False, timeout=PATIENCE)
    _admin("userdel", "--remove", "--force", NAME)
    if EXTRA_GROUP in {entry.gr_name for entry in grp.getgrall()}:
        _admin("groupdel", EXTRA_GROUP)


def _admin(program: str, *arguments: str) -> None:
    # An ordinary PATH has no sbin, and `su` without a dash keeps that PATH for root.
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    command = [shutil.which(program, path=path) or program, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)


@contextlib.contextmanager
def scratch_directory(account: pwd.struct_passwd) -> Iterator[Path]:
    """A directory that the account owns. pytest's directories are closed to everybody but the user who runs it."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-test-"))
    os.chown(directory, account.pw_uid, account.pw_gid)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def other_account(role: str, *options: str) -> Iterator[pwd.struct_passwd]:
    """One more account, for this process alone, whose processes a test may stop or kill. For root only.

    `options` are useradd's. Processes that still run as it afterwards are killed, unless another account has its uid.
    """
    name = f"pyssh-{role}-{os.getpid()}"
    _admin_in_turn("useradd", "--create-home", "--shell", "/bin/bash", "--comment", COMMENT, *options, name)
    entry = pwd.getpwnam(name)
    try:
        yield entry
    finally:
        if "--non-unique" not in options:
            subprocess.run(["pkill", "-KILL", "-u", str(entry.pw_uid)], check=False, timeout=PATIENCE)
        _admin_in_turn("userdel", "--remove", "--force", name)


def _admin_in_turn(program: str, *arguments: str) -> None:
    """Run a program that locks the account files; waits for other test runs that do so at the moment."""
    LOCKS.mkdir(exist_ok=True)
    with (LOCKS / "changing").open("w") as changing:
        fcntl.flock(changing, fcntl.LOCK_EX)
        _admin(program, *arguments)
