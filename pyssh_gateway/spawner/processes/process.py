"""A process for a user: fork, and become the user. Runs in the spawner, with whatever rights it was started with.

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
import socket
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn

import msgspec

from pyssh_gateway.as_user.sockets import SocketMaker
from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.ipc.spawner import socket_pair
from pyssh_gateway.spawner.processes import account_rules, login_records, oom, program
from pyssh_gateway.spawner.processes.terminal import open_pty

PIPE_BYTES = 1024 * 1024
"""Room in the pipes of a session: the largest that an unprivileged process gets (pipe(7)). Bulk data then takes a
sixteenth of the wake-ups that the default 64 KiB costs."""

READY_SECONDS = 5.0
"""How long a child may take to become the account, before its session counts as started all the same: it reads the
group database, which may be on a network, and the account may stop it. Nobody else's session waits for that."""

FALLBACK_ACCOUNT = "nobody"
"""The account to run as when root started us and the configured one does not exist."""

SECONDS_A_DAY = 86400

_UMASK = 0o022
"""sshd and login(1) both leave the system's default, which is this."""


class SpawnError(Exception):
    """The process can't be started; the text says why."""


class Inherited(msgspec.Struct, frozen=True):
    """What the server was started with and has changed for itself; what it starts for others gets it back.

    `open_files` is the RLIMIT_NOFILE, `oom_score` the value of `oom` (None: it was not changed).
    """

    open_files: tuple[int, int]
    oom_score: int | None = None

    def restore(self) -> None:
        """In a forked child, with the server's rights still: the second can't be had back later (proc(5))."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files)
        oom.restore(self.oom_score)


class Child(msgspec.Struct, frozen=True):
    """A process that runs for a user. It leads a session and a process group of its own, both numbered `pid`.

    `descriptors` are the gateway's ends: the pty's master, or the pipes of standard input, output and error.
    """

    pid: int
    user: str
    uid: int
    tty: str
    descriptors: list[int]

    @property
    def is_session(self) -> bool:
        """Whether it runs for a session; else it makes sockets."""
        return bool(self.tty) or len(self.descriptors) > 1


class Starting(msgspec.Struct, frozen=True):
    """A process that has been forked and is on its way to become what it is to be.

    Until `ready` (a descriptor to poll, whose end comes when it is, or is dead) it may lead no process group yet and be
    root: it must not be signalled. The account may stop it at any moment, so nobody waits for that end.
    """

    child: Child
    ready: int


def start(plan: LaunchPlan, *, inherited: Inherited) -> Starting:
    """Start the process that `plan` describes, as `plan.user`.

    `inherited` is what it gets back.
    """
    entry = _entry(plan.user)
    ours: list[int] = []
    theirs: list[int] = []
    tty = ""
    try:
        if plan.terminal is None:
            for index in range(3):
                reader, writer = _pipe(entry)
                ours.append(writer if index == 0 else reader)
                theirs.append(reader if index == 0 else writer)
            if plan.builtin:
                reader, writer = _pipe(entry)
                ours.append(reader)
                theirs.append(writer)
        else:
            master, slave, tty = _terminal(plan.terminal, entry)
            ours, theirs = [master], [slave] * 3
        pid, ready = _fork_child(entry, theirs, inherited, lambda: program.run(plan, entry, tty))
    except OSError as error:
        close(ours)
        raise SpawnError(f"can't start a process: {error.strerror}") from error
    except BaseException:
        close(ours)
        raise
    finally:
        close(theirs)
    return Starting(Child(pid, entry.pw_name, entry.pw_uid, tty, ours), ready)


def start_socket_maker(user: str, *, inherited: Inherited) -> Starting:
    """Start the process that makes sockets as `user`; its one descriptor is the socket to talk to it."""
    entry = _entry(user)
    try:
        ours, theirs = socket_pair()
        with ours, theirs:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                stdio = [null, null, null, theirs.fileno()]
                pid, ready = _fork_child(entry, stdio, inherited, lambda: SocketMaker(socket.socket(fileno=3)).run())
            finally:
                os.close(null)
            return Starting(Child(pid, entry.pw_name, entry.pw_uid, "", [ours.detach()]), ready)
    except OSError as error:
        raise SpawnError(f"can't start a process: {error.strerror}") from error


def _entry(user: str) -> pwd.struct_passwd:
    """The account `user`, if a process can be started as it."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SpawnError(f"there is no account {user} on this machine") from None
    if os.geteuid() not in {0, entry.pw_uid}:
        raise SpawnError(f"the server does not run as root, so it can't start a process as {user}")
    return entry


def _terminal(wanted: Terminal, entry: pwd.struct_passwd) -> tuple[int, int, str]:
    """A pty for the account: master, slave and the slave's path."""
    uid = entry.pw_uid if os.geteuid() == 0 else -1
    try:
        return open_pty(wanted, uid, _tty_group(entry.pw_gid))
    except OSError as error:
        raise SpawnError(f"there is no terminal to be had: {error.strerror}; ssh -T does without one") from error


def _pipe(entry: pwd.struct_passwd) -> tuple[int, int]:
    """A pipe that belongs to the account: `echo >/dev/stderr` opens it again, and is asked for its owner then."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    if os.geteuid() == 0:
        os.fchown(reader, entry.pw_uid, entry.pw_gid)
    with suppress(OSError):  # the account's share of pipe memory is used up: the default size will do
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return reader, writer


def fork() -> int:
    """Fork, with signals blocked in the child until it has handlers of its own.

    One that arrives before would run the spawner's, and be counted by the spawner as meant for it.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = -1
    try:
        pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def default_signals(ignored: Collection[int] = ()) -> None:
    """In a forked child: let signals in again, with none of the spawner's handlers; `ignored` are thrown away.

    Python's ignoring of SIGPIPE and SIGXFSZ goes, too: exec would pass that on.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        # Most have the default already, and this runs while somebody waits for a shell.
        if signal.getsignal(number) not in {signal.SIG_DFL, None}:
            signal.signal(number, signal.SIG_DFL)
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def begin(child: Callable[[int], NoReturn]) -> tuple[int, int]:
    """Fork `child`, which gets a descriptor to close when it is ready; its pid, and what to poll for that."""
    waiting, ready = os.pipe2(os.O_CLOEXEC)
    try:
        pid = fork()
        if pid == 0:
            child(ready)
    except BaseException:
        os.close(waiting)
        raise
    finally:
        os.close(ready)
    return pid, waiting


def _fork_child(
    entry: pwd.struct_passwd, descriptors: list[int], inherited: Inherited, run: Callable[[], object]
) -> tuple[int, int]:
    """Fork a process for the account that gets `descriptors` as 0, 1, 2 and on and does `run`; as `begin`.

    It is ready when it leads a process group and is the account, or a signal that the account sends at once would find
    nobody, or find root.
    """
    return begin(lambda ready: _in_child(entry, descriptors, inherited, run, ready))


def _in_child(
    entry: pwd.struct_passwd,
    descriptors: list[int],
    inherited: Inherited,
    run: Callable[[], object],
    ready: int,
) -> NoReturn:
    """Everything between the fork and what the process is for: become the user, with `descriptors` as 0, 1, 2 and on.

    The order is the security property: nothing of the user's is touched before the process *is* the user, and nothing
    of the server's is left by then. A forked copy of the spawner never gets out of here.
    """
    try:
        default_signals()
        os.setsid()
        # To numbers out of the way first: a descriptor may stand where another one goes.
        ready = _keep_above(len(descriptors), ready)
        for target, descriptor in enumerate([os.dup(descriptor) for descriptor in descriptors]):
            os.dup2(descriptor, target)
        os.closerange(len(descriptors), ready)
        os.closerange(ready + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        inherited.restore()
        os.umask(_UMASK)
        refusal = account_rules.refusal(entry, today=int(time.time() // SECONDS_A_DAY))
        if os.geteuid() == 0:
            login_records.claim_session(entry.pw_uid)
            os.initgroups(entry.pw_name, entry.pw_gid)
            become(entry.pw_uid, entry.pw_gid)
        os.close(ready)
        if refusal is not None:
            os.write(2, refusal)
            os._exit(account_rules.NOLOGIN_EXIT_STATUS)
        run()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - a forked copy of the spawner never gets out of here
        program.complain(f"pyssh-gateway: can't start the session: {error}")
    finally:
        os._exit(program.CANNOT_EXEC)


def _keep_above(count: int, descriptor: int) -> int:
    """The descriptor under a number that is not below `count`."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, count)


def become(uid: int, gid: int) -> None:
    """Give up every right that is not `uid`'s. The process must not go on if this raises."""
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PermissionError("the process kept rights that it should have lost")


def gateway_account(name: str) -> pwd.struct_passwd:
    """The unprivileged account that the gateway runs as; KeyError if not even the fallback exists."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return pwd.getpwnam(FALLBACK_ACCOUNT)


def hang_up(child: Child) -> None:
    """End a pty's process group as a lost line would: SIGHUP, and SIGCONT so that stopped jobs notice."""
    signal_group(child.pid, signal.SIGHUP)
    signal_group(child.pid, signal.SIGCONT)


def signal_group(group: int, number: int) -> None:
    """Send `number` to the process group, with the rights that we have."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _tty_group(fallback: int) -> int:
    try:
        return grp.getgrnam("tty").gr_gid
    except KeyError:
        return fallback


def close(descriptors: list[int]) -> None:
    """Close every one of `descriptors`, in which some may be more than once."""
    for descriptor in set(descriptors):
        os.close(descriptor)
