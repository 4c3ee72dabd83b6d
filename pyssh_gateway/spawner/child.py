"""From the fork of a child to its work: the same straight-line code for everything that the spawner starts.

The spawner has one thread and no event loop, so a fork from it is safe; a child runs Python until it calls exec, or to
its end. `Setup` describes a child as data; this module does not know what the child is for.

The order is the security property: nothing of a user's is touched before the child is the user, and nothing of the
server's is left by then. A child never returns into the spawner's code.
"""

import fcntl
import os
import pwd
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import NoReturn

import msgspec

from pyssh_gateway.spawner.processes import chroot, oom
from pyssh_gateway.system.privileges import become

NULL = -1
"""In `Setup.descriptors`: /dev/null."""

STANDARD = 3
"""The number of standard descriptors: input, output and errors."""

UMASK = 0o022
"""sshd and login(1) both leave the system's default, which is this."""


class Inherited(msgspec.Struct, frozen=True):
    """Process attributes that the server has changed for itself; the programs that it starts get the old values back.

    `open_files` is the RLIMIT_NOFILE, `oom_score` the value of `oom` (None: it was not changed).
    """

    open_files: tuple[int, int]
    oom_score: int | None = None

    def restore(self) -> None:
        """In a forked child, while it has the server's rights: `oom_score` can't be restored without (proc(5))."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files)
        oom.restore(self.oom_score)

    def for_server_process(self) -> "Inherited":
        """For the server's own processes: the maximum of descriptors, and protection when memory runs out."""
        hard = self.open_files[1]
        return Inherited((hard, hard), oom.for_server_process(self.oom_score))

    def for_stranger(self) -> "Inherited":
        """For a preauth process: without that protection, so that it is killed before the server's other processes."""
        hard = self.open_files[1]
        return Inherited((hard, hard), self.oom_score)


Complain = Callable[[BaseException], None]
"""Reports the exception that a child's setup or its work has raised."""


def on_standard_error(before: str) -> Complain:
    """Report with one line on the child's standard error, which begins with `before`."""

    def complain(error: BaseException) -> None:
        os.write(2, f"{before}{error}\n".encode(errors="surrogateescape"))

    return complain


def with_traceback(error: BaseException) -> None:
    """Report with the traceback, on the child's standard error."""
    flush()
    os.write(2, "".join(traceback.format_exception(error)).encode(errors="backslashreplace"))


def flush() -> None:
    """Flush standard output and error: a child ends by os._exit(), which discards their buffers."""
    with suppress(OSError):
        sys.stdout.flush()
    with suppress(OSError):
        sys.stderr.flush()


class Setup(msgspec.Struct, frozen=True):
    """The state of a child before it begins its work; it always leads a session and a process group of its own.

    `descriptors` become 0, 1, 2 and on, with `NULL` for /dev/null; None leaves 0, 1 and 2 as they are. Those in `kept`
    stay open under their numbers; all others are closed. `inherited` is restored. The signals in `ignored` are ignored;
    all others have their defaults. `directory` and `umask` are left as they are if None. `prepare` is called while the
    child has the server's rights. Then `root` becomes its root directory (None: the machine's stays), and the child
    becomes `account` with its groups, if the server is root (None: it stays what it is). If the setup or the work
    raises, `complain` is called and the exit code is `failed`.
    """

    descriptors: tuple[int, ...] | None = None
    kept: frozenset[int] = frozenset()
    inherited: Inherited | None = None
    ignored: frozenset[int] = frozenset()
    umask: int | None = UMASK
    directory: str | None = "/"
    account: pwd.struct_passwd | None = None
    root: bytes | None = None
    prepare: Callable[[], None] | None = None
    failed: int = 1
    complain: Complain = on_standard_error("pyssh-gateway: ")


Work = Callable[[], int]
"""The work of a child; returns its exit code, unless it calls exec."""


def start(setup: Setup, work: Work) -> int:
    """Fork a child that does `work` after `setup`; returns its pid. Raises OSError."""
    return _start(setup, work, -1)


def begin(setup: Setup, work: Work) -> tuple[int, int]:
    """As `start`; also returns a descriptor to poll, which reports end of file when `work` begins or the child is dead.

    Until then the child may lead no process group yet, and may still be root, so it must not be signalled for its
    account: the signal would reach nothing, or root's process.
    """
    waiting, ready = os.pipe2(os.O_CLOEXEC)
    try:
        return _start(setup, work, ready), waiting
    except BaseException:
        os.close(waiting)
        raise
    finally:
        os.close(ready)


def _start(setup: Setup, work: Work, ready: int) -> int:
    """Fork, with signals blocked in the child until it has handlers of its own.

    A signal that arrives before would run the spawner's handler, and the spawner would take it as its own.
    """
    count = STANDARD if setup.descriptors is None else len(setup.descriptors)
    if any(number < count for number in setup.kept):
        raise ValueError(f"one of {sorted(setup.kept)} stands where the child's own descriptors go")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            _be(setup, work, ready)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _be(setup: Setup, work: Work, ready: int) -> NoReturn:
    """Everything that the child does, to its end."""
    code = setup.failed
    try:
        let_signals_in(setup.ignored)
        os.setsid()
        ready = arrange(setup.descriptors, setup.kept, ready)
        if setup.inherited is not None:
            setup.inherited.restore()
        if setup.umask is not None:
            os.umask(setup.umask)
        if setup.directory is not None:
            os.chdir(setup.directory)
        if setup.prepare is not None:
            setup.prepare()
        if setup.account is not None:
            be_account(setup.account.pw_name, setup.account.pw_uid, setup.account.pw_gid, setup.root)
        if ready >= 0:
            os.close(ready)
        code = work()
    except BaseException as error:  # noqa: BLE001 - after any exception, the child must not go on as a second spawner
        with suppress(BaseException):
            setup.complain(error)
    finally:
        os._exit(code)


def be_account(name: str, uid: int, gid: int, root: bytes | None = None) -> None:
    """Give up the server's rights for those of the account and its groups, and the machine's root directory for `root`.

    Without root's rights there is no change, and no `root`. The groups are looked up first: in another root directory
    the C library would find other files, and other libraries to load for them.
    """
    if os.geteuid() == 0:
        os.initgroups(name, gid)
        if root is not None:
            chroot.enter(root)
        become(uid, gid)
    elif root is not None:
        raise PermissionError("only a server that runs as root can give a session another root directory")


def let_signals_in(ignored: Collection[int]) -> None:
    """Replace the spawner's handlers by the defaults, ignore the signals in `ignored`, and unblock all.

    SIGPIPE and SIGXFSZ, which Python ignores, get their defaults, too: a program would inherit that over exec.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        # Skip those with the default already, which are most: a user waits for a shell while this runs.
        if signal.getsignal(number) not in {signal.SIG_DFL, None}:
            signal.signal(number, signal.SIG_DFL)
    for each in ignored:
        signal.signal(each, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def arrange(descriptors: tuple[int, ...] | None, kept: frozenset[int], ready: int) -> int:
    """Move `descriptors` to 0 and up, close all others but `kept` and `ready`; returns the new number of `ready`."""
    count = STANDARD if descriptors is None else len(descriptors)
    if ready >= 0:
        ready = _copy_above(count, ready)
    if descriptors is not None:
        # Copy them to higher numbers first: a descriptor may have the number that another one gets.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) if NULL in descriptors else NULL
        copies = [_copy_above(count, null if each == NULL else each) for each in descriptors]
        for target, copy in enumerate(copies):
            os.dup2(copy, target)
    low = count
    for number in sorted(kept | ({ready} if ready >= 0 else set())):
        if low < number:  # os.closerange(0, 0) closes everything
            os.closerange(low, number)
        low = number + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return ready


def _copy_above(count: int, descriptor: int) -> int:
    """A copy of the descriptor with a number of at least `count`."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, count)
