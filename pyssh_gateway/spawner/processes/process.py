"""A process for a user: its terminal or pipes, and a child that runs as the user. Uses the spawner's rights.

A child reports its own problems (no home directory, no such shell) on its standard error, as with sshd: the session
then ends with an exit status that the user sees, and the spawner never waits for a user's file system.
"""

import fcntl
import grp
import os
import pwd
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pyssh_gateway.core.launch import PIPE_BYTES, LaunchPlan, Terminal
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.spawner.processes import account_rules, login_records
from pyssh_gateway.spawner.processes.terminal import open_pty
from pyssh_gateway.system.descriptors import close_all

READY_SECONDS = 5.0
"""How long a child may take to become the account before its session counts as started all the same. It reads the group
database, which may be on a network, and the account may stop it (SIGSTOP). Other sessions do not wait for it."""

SECONDS_A_DAY = 86400

SHOWN = 64
"""How many characters of a requested name are shown in an error; accounts' names have at most 32 (useradd(8))."""


class SpawnError(Exception):
    """The process can't be started; the text says why."""


class Child(msgspec.Struct, frozen=True):
    """A process that runs for a user. It leads a session and a process group of its own, both numbered `pid`.

    `descriptors` are the ends for the process that asked: the pty's master, or the pipes of standard input, output and
    error; or one pipe, for a process that runs for no session.
    """

    pid: int
    user: str
    uid: int
    tty: str
    descriptors: list[int]

    @property
    def is_session(self) -> bool:
        """Whether it runs for a session; otherwise it runs for the server."""
        return bool(self.tty) or len(self.descriptors) > 1


class Starting(msgspec.Struct, frozen=True):
    """A process that has been forked, and is not the account's program yet.

    `ready` is a descriptor to poll, which reports end of file when the process is ready or dead. Until then it may lead
    no process group and may still be root, so it must not be signalled. The account may stop it at any moment, so the
    spawner never blocks on `ready`.
    """

    child: Child
    ready: int


Begin = Callable[[LaunchPlan, pwd.struct_passwd, str, bytes | None, list[int]], tuple[int, int]]
"""Starts a child for a plan: plan, account, the terminal's path, root directory (None: the machine's), the child's
descriptors -> pid and `ready`."""


def start(plan: LaunchPlan, account: pwd.struct_passwd, begin: Begin, chroot: bytes | None = None) -> Starting:
    """Start the process that `plan` describes, as `account`.

    If `chroot` is given, it is the process's root directory, and the process is the SFTP server. Raises `SpawnError`,
    also for a plan that does not fit that.
    """
    if chroot is not None and not serves_in_chroot(plan):
        raise SpawnError("nothing but SFTP is served to this account: log in again if that has changed")
    ours: list[int] = []
    theirs: list[int] = []
    tty = ""
    try:
        if plan.terminal is None:
            for index in range(3):
                reader, writer = _pipe(account)
                ours.append(writer if index == 0 else reader)
                theirs.append(reader if index == 0 else writer)
            if plan.builtin:
                reader, writer = _pipe(account)
                ours.append(reader)
                theirs.append(writer)
        else:
            master, slave, tty = _terminal(plan.terminal, account)
            ours, theirs = [master], [slave] * 3
        pid, ready = begin(plan, account, tty, chroot, theirs)
    except OSError as error:
        close_all(ours)
        raise SpawnError(f"can't start a process: {error.strerror}") from error
    except ProtocolError as error:
        close_all(ours)
        raise SpawnError(f"can't start a process: {error}") from error
    except BaseException:
        close_all(ours)
        raise
    finally:
        close_all(theirs)
    return Starting(Child(pid, account.pw_name, account.pw_uid, tty, ours), ready)


def serves_in_chroot(plan: LaunchPlan) -> bool:
    """Whether an account with a root directory of its own may have this plan: the SFTP server, or a refusal."""
    return bool(plan.refusal) or (plan.builtin == "sftp" and plan.sftp is not None and plan.terminal is None)


def find_account(user: str) -> pwd.struct_passwd:
    """The account `user`, if a process can be started as it. Raises `SpawnError`."""
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):  # ValueError: not a valid name
        raise SpawnError(f"there is no account {user:.{SHOWN}} on this machine") from None
    if os.geteuid() not in {0, entry.pw_uid}:
        raise SpawnError(f"the server does not run as root, so it can't start a process as {user}")
    return entry


def refusal_now(account: pwd.struct_passwd) -> bytes | None:
    """The message for a user who may not use `account` at present; None if the account may be used."""
    return account_rules.refusal(account, today=int(time.time() // SECONDS_A_DAY))


def claim_login(uid: int) -> None:
    """In a forked child, while it is root: mark it and its descendants as a login of the account `uid`."""
    if os.geteuid() == 0:
        login_records.claim_session(uid)


def _terminal(wanted: Terminal, entry: pwd.struct_passwd) -> tuple[int, int, str]:
    """A pty for the account: master, slave and the slave's path."""
    uid = entry.pw_uid if os.geteuid() == 0 else -1
    try:
        return open_pty(wanted, uid, _tty_group(entry.pw_gid))
    except OSError as error:
        raise SpawnError(f"there is no terminal to be had: {error.strerror}; ssh -T does without one") from error


def _pipe(entry: pwd.struct_passwd) -> tuple[int, int]:
    """A pipe that belongs to the account: `echo >/dev/stderr` opens it again, and the kernel then checks its owner."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.geteuid() == 0:
        os.fchown(reader, entry.pw_uid, entry.pw_gid)
    with suppress(OSError):  # the account has used up its pipe memory: the default size is enough
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


def hang_up(child: Child) -> None:
    """End a pty's process group like a lost line: SIGHUP, and SIGCONT so that stopped jobs notice it."""
    signal_group(child.pid, signal.SIGHUP)
    signal_group(child.pid, signal.SIGCONT)


def signal_group(group: int, number: int) -> None:
    """Send `number` to the process group; without the right to, do nothing."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _tty_group(fallback: int) -> int:
    try:
        return grp.getgrnam("tty").gr_gid
    except KeyError:
        return fallback
