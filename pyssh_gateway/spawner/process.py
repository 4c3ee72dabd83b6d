"""A process for a user: fork, become the user, exec. Runs in the spawner, with whatever rights it was started with.

The spawner has one thread and no event loop, so a fork from it is safe; between fork and exec the child runs Python.
What a child can't do (no home directory, no such shell) it says on its own standard error, as sshd does: the session
then ends with an exit status that the person sees, and the spawner never waits for a user's file system.
"""

import fcntl
import grp
import os
import pwd
import resource
import signal
import termios
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.spawner.terminal import open_pty

PIPE_BYTES = 1024 * 1024
"""Room in the pipes of a session: the largest that an unprivileged process gets (pipe(7)). Bulk data then takes a
sixteenth of the wake-ups that the default 64 KiB costs."""

MOTD_FILES = ("/run/motd.dynamic", "/etc/motd")
"""What pam_motd shows at login on Debian and Ubuntu, in its order."""

MOTD_BYTES = 64 * 1024
"""More than this of a message of the day is not read."""

CANNOT_EXEC = 1
"""Exit status when the shell itself can't be run: sshd's (session.c, do_child)."""

_FIRST_OTHER_DESCRIPTOR = 3
_UMASK = 0o022
"""sshd and login(1) both leave the system's default, which is this."""


class SpawnError(Exception):
    """The process can't be started; the text says why."""


class Child(msgspec.Struct, frozen=True):
    """A process that runs for a user. It leads a session and a process group of its own, both numbered `pid`.

    `descriptors` are the gateway's ends: the pty's master, or the pipes of standard input, output and error.
    """

    pid: int
    uid: int
    tty: str
    descriptors: list[int]


def start(plan: LaunchPlan, *, open_files: tuple[int, int]) -> Child:
    """Start the process that `plan` describes, as `plan.user`.

    `open_files` is the RLIMIT_NOFILE that the process gets: the one that the spawner itself was started with.
    """
    try:
        entry = pwd.getpwnam(plan.user)
    except KeyError:
        raise SpawnError(f"there is no account {plan.user} on this machine") from None
    if os.geteuid() not in {0, entry.pw_uid}:
        raise SpawnError(f"the server does not run as root, so it can't start a process as {plan.user}")
    try:
        return _fork(plan, entry, open_files)
    except OSError as error:
        raise SpawnError(f"can't start a process: {error.strerror}") from error


def _fork(plan: LaunchPlan, entry: pwd.struct_passwd, open_files: tuple[int, int]) -> Child:
    ours: list[int] = []
    theirs: list[int] = []
    tty = ""
    try:
        if plan.terminal is None:
            for index in range(3):
                reader, writer = os.pipe2(os.O_CLOEXEC)
                ours.append(writer if index == 0 else reader)
                theirs.append(reader if index == 0 else writer)
                with suppress(OSError):  # the account's share of pipe memory is used up: the default size will do
                    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        else:
            uid = entry.pw_uid if os.geteuid() == 0 else -1
            master, slave, tty = open_pty(plan.terminal, uid, _tty_group(entry.pw_gid))
            ours, theirs = [master], [slave]
        pid = os.fork()
        if pid == 0:
            _child(plan, entry, theirs, tty, open_files)
    except BaseException:
        _close(ours)
        raise
    finally:
        _close(theirs)
    return Child(pid, entry.pw_uid, tty, ours)


def _child(
    plan: LaunchPlan, entry: pwd.struct_passwd, stdio: list[int], tty: str, open_files: tuple[int, int]
) -> NoReturn:
    """Everything between fork and exec.

    The order is the security property: nothing of the user's is touched before the process *is* the user, and nothing
    of the server's is left by then.
    """
    try:
        _default_signals()
        os.setsid()
        if tty:
            fcntl.ioctl(stdio[0], termios.TIOCSCTTY, 0)
            stdio = stdio * 3
        for target, descriptor in enumerate(stdio):
            os.dup2(descriptor, target)
        os.closerange(_FIRST_OTHER_DESCRIPTOR, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        resource.setrlimit(resource.RLIMIT_NOFILE, open_files)
        os.umask(_UMASK)
        if os.geteuid() == 0:
            os.initgroups(plan.user, entry.pw_gid)
            become(entry.pw_uid, entry.pw_gid)
        _enter(plan.cwd)
        if plan.greet and not Path(entry.pw_dir, ".hushlogin").exists():
            _show_motd()
        env = plan.env | {b"SSH_TTY": tty.encode()} if tty else plan.env
        os.execve(plan.executable, plan.argv, env)
    except OSError as error:
        _complain(f"{os.fsdecode(plan.executable)}: {error.strerror}")
    except BaseException as error:  # noqa: BLE001 - a forked copy of the spawner must never get out of here
        _complain(f"pyssh-gateway: can't start the session: {error}")
    finally:
        os._exit(CANNOT_EXEC)


def become(uid: int, gid: int) -> None:
    """Give up every right that is not `uid`'s. The process must not go on if this raises."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError("the process kept rights that it should have lost")


def send_signal(child: Child, number: int) -> None:
    """Send signal `number` to the child's process group, with the account's rights and not with the server's.

    What the account may not signal (a sudo in the foreground) is not signalled: sshd's session process, which is the
    user, can't either.
    """
    if os.geteuid() != 0:
        _kill_group(child.pid, number)
        return
    helper = os.fork()
    if helper == 0:
        try:
            os.setgroups([])
            become(child.uid, child.uid)
            _kill_group(child.pid, number)
        finally:
            os._exit(0)
    os.waitpid(helper, 0)


def hang_up(child: Child) -> None:
    """End a pty's process group as a lost line would: SIGHUP, and SIGCONT so that stopped jobs notice."""
    _kill_group(child.pid, signal.SIGHUP)
    _kill_group(child.pid, signal.SIGCONT)


def _kill_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _default_signals() -> None:
    """Undo the spawner's handlers and Python's ignoring of SIGPIPE and SIGXFSZ; exec would pass ignored ones on."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        with suppress(OSError, ValueError):  # SIGKILL, SIGSTOP and those that the C library keeps for itself
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _enter(directory: bytes) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        _complain(f"Could not chdir to home directory {os.fsdecode(directory)}: {error.strerror}")
        os.chdir("/")


def _show_motd() -> None:
    for path in MOTD_FILES:
        with suppress(OSError), Path(path).open("rb") as file:
            os.write(1, file.read(MOTD_BYTES).replace(b"\r\n", b"\n"))


def _complain(text: str) -> None:
    with suppress(OSError):
        os.write(2, text.encode(errors="surrogateescape") + b"\n")


def _tty_group(fallback: int) -> int:
    try:
        return grp.getgrnam("tty").gr_gid
    except KeyError:
        return fallback


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
