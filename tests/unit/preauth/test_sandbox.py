"""A process in the sandbox, seen from outside and from inside."""

import ctypes
import errno
import os
import pwd
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyssh_gateway.preauth import sandbox
from pyssh_gateway.spawner.processes import server_process
from pyssh_gateway.startup.empty_directory import open_empty_directory
from pyssh_gateway.system import privileges
from pyssh_gateway.system.syscalls import seccomp
from tests.support.account import PREAUTH_NAME
from tests.support.locked_in import ANSWER, KILLED, Ended, errno_of, in_child

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter as another account")
needs_filters = pytest.mark.skipif(
    os.uname().machine not in seccomp.MACHINES, reason=f"there is no filter for {os.uname().machine}"
)


@pytest.fixture
def stranger(account: pwd.struct_passwd) -> pwd.struct_passwd | None:
    """The account to become; None if we are not root. It is made together with the login account."""
    return pwd.getpwnam(PREAUTH_NAME) if os.geteuid() == 0 else None


@pytest.fixture
def empty() -> Iterator[int | None]:
    """The machine's empty directory, opened as at a start; None if we are not root."""
    if os.geteuid() != 0:
        yield None
        return
    descriptor = open_empty_directory()
    yield descriptor
    os.close(descriptor)


Inside = Callable[..., Ended]

ANSWERING = (0, 1, 2, ANSWER)
"""The descriptors of a child that reports its result: the standard ones, for a traceback, and one for the answer."""


@pytest.fixture
def inside(stranger: pwd.struct_passwd | None, empty: int | None) -> Inside:
    """Runs a function in a child that has entered the sandbox."""

    def run(work: Callable[[], object]) -> Ended:
        def entered() -> object:
            missing = sandbox.enter(stranger, empty, keep=ANSWERING)
            return (missing, work()) if missing else work()

        return in_child(entered)

    return run


@contextmanager
def waiting(stranger: pwd.struct_passwd | None, empty: int | None) -> Iterator[int]:
    """The pid of a process that has entered the sandbox and waits."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            if stranger is not None:
                os.setgroups([1, 2])  # as root's processes may have
            missing = sandbox.enter(stranger, empty, keep=[theirs.fileno()])
            theirs.send(b"; ".join(line.encode() for line in missing) or b"entered")
            theirs.recv(1)
        finally:
            os._exit(0)
    with ours, theirs:
        try:
            assert ours.recv(1000) == b"entered"
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@needs_root
@needs_filters
def test_from_outside_it_has_nothing(stranger: pwd.struct_passwd, empty: int) -> None:
    """The kernel shows no rights: account, groups, capabilities, no_new_privs, filter, root, descriptors, limits."""
    with waiting(stranger, empty) as pid:
        place = Path(f"/proc/{pid}")
        said = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
        assert said["Uid"].split() == [str(stranger.pw_uid)] * 4
        assert said["Gid"].split() == [str(stranger.pw_gid)] * 4
        assert said["Groups"].strip() == ""
        assert {said[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
        assert (place / "mem").stat().st_uid == 0, "it can be dumped"
        for link in ("root", "cwd"):
            assert os.path.samestat((place / link).stat(), os.fstat(empty))
        # Standard input, output and error, which are /dev/null, and the one that is kept; the directory is closed.
        assert len(list((place / "fd").iterdir())) == 4
        assert {str((place / "fd" / number).readlink()) for number in "012"} == {"/dev/null"}
        limits = (place / "limits").read_text()
        for line, most in (
            ("Max core file size", 0),
            ("Max file size", sandbox.MOST_WRITTEN),
            ("Max processes", 0),
        ):
            (row,) = [row for row in limits.splitlines() if row.startswith(line)]
            assert row.removeprefix(line).split()[:2] == [str(most)] * 2


def test_an_ordinary_accounts_process_is_filtered(empty: int | None) -> None:
    """A server of an ordinary account can't change the account, but its processes are filtered all the same."""
    with waiting(None, None) as pid:
        said = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert said["Uid"].split()[0] == str(os.getuid())
        assert (said["NoNewPrivs"], said["CapEff"]) == ("1", "0" * 16)
        assert said["Seccomp"] == ("2" if os.uname().machine in seccomp.MACHINES else "0")


@needs_filters
def test_from_inside_nothing_is_in_reach(inside: Inside, tmp_path: Path) -> None:
    """Files, /proc, other processes and forks are all refused."""
    parent = os.getpid()

    def work() -> object:
        found = {
            "passwd": errno_of(lambda: os.open("/etc/passwd", os.O_RDONLY)),
            "own": errno_of(lambda: os.open("/proc/self/mem", os.O_RDONLY)),
            "parent's": errno_of(lambda: os.open(f"/proc/{parent}/mem", os.O_RDONLY)),
            "new": errno_of(lambda: os.open("new", os.O_WRONLY | os.O_CREAT)),
            "up": errno_of(lambda: os.open("../../etc/passwd", os.O_RDONLY)),
            "directory": errno_of(Path("/new").mkdir),
            "parent": errno_of(lambda: os.kill(parent, 0)),
            "fork": errno_of(os.fork),
        }
        return {name: number for name, number in found.items() if number != errno.EPERM}

    assert inside(work) == ("{}", 0)


@needs_filters
def test_a_sibling_is_out_of_reach(inside: Inside, stranger: pwd.struct_passwd | None, empty: int | None) -> None:
    """Another stranger's process, though of the same account, is protected: no signal, ptrace, memory or descriptor."""
    with waiting(stranger, empty) as sibling:
        assert inside(lambda: errno_of(lambda: os.kill(sibling, signal.SIGKILL))) == (str(errno.EPERM), 0)
        c = ctypes.CDLL(None)
        assert inside(lambda: c.ptrace(16, sibling, None, None)) == KILLED  # PTRACE_ATTACH
        assert inside(lambda: c.process_vm_readv(sibling, None, 0, None, 0, 0)) == KILLED
        assert inside(lambda: c.syscall(438, sibling, 0, 0)) == KILLED  # pidfd_getfd
        os.kill(sibling, 0)


@needs_root
def test_without_the_filter_it_is_still_locked_in(
    inside: Inside, stranger: pwd.struct_passwd, empty: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account and the empty directory protect without the filter: a kernel may lack seccomp."""
    monkeypatch.setattr(seccomp, "install", lambda _profile: "not today")
    with pytest.raises(AssertionError, match="not today"), waiting(stranger, empty):
        pass

    def work() -> object:
        return {
            "passwd": errno_of(lambda: os.open("/etc/passwd", os.O_RDONLY)),
            "up": errno_of(lambda: os.open("../../etc/passwd", os.O_RDONLY)),
            "proc": errno_of(lambda: os.open("/proc/self/mem", os.O_RDONLY)),
            "new": errno_of(Path("/new").mkdir),
            "seen": list(Path("/").iterdir()),
            "fork": errno_of(os.fork),
            "root": errno_of(lambda: os.setuid(0)),
            "parent": errno_of(lambda: os.kill(os.getppid(), 0)),
        }

    away = {"passwd": errno.ENOENT, "up": errno.ENOENT, "proc": errno.ENOENT, "new": errno.EACCES, "seen": []}
    refused = {"fork": errno.EAGAIN, "root": errno.EPERM, "parent": errno.EPERM}
    assert inside(work) == (repr((("not today",), away | refused)), 0)


@pytest.mark.parametrize("call", [socket.socket, lambda: os.execv("/bin/true", ["true"])], ids=["socket", "exec"])
@needs_filters
def test_what_no_stranger_needs_is_death(inside: Inside, call: Callable[[], object]) -> None:
    """The filter is active: making a socket or running a program kills the process first."""
    assert inside(call) == KILLED


def test_what_is_not_kept_is_closed(stranger: pwd.struct_passwd | None, empty: int | None) -> None:
    """Descriptors that the spawner has open never reach a stranger's process, whatever their numbers."""
    null = os.open(os.devnull, os.O_RDONLY)
    high = os.dup2(null, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 20_000) - 1)
    ours, theirs = socket.socketpair()

    def work() -> object:
        sandbox.enter(stranger, empty, keep=[2, theirs.fileno()])
        open_ = [number for number in range(high + 1) if errno_of(lambda n=number: os.fstat(n)) == 0]  # type: ignore[misc]
        theirs.send(repr(open_ == [0, 1, 2, theirs.fileno()]).encode())
        return None

    try:
        in_child(work)
        theirs.close()
        assert ours.recv(100) == b"True"
    finally:
        ours.close()
        theirs.close()
        os.close(high)
        os.close(null)


@needs_root
def test_an_account_needs_a_root_directory(stranger: pwd.struct_passwd) -> None:
    """Without a root directory to enter it is an error, so that no stranger gets the whole file system."""

    def work() -> object:
        with pytest.raises(ValueError, match="root directory"):
            sandbox.enter(stranger, None, keep=ANSWERING)
        return os.geteuid()

    assert in_child(work) == ("0", 0)


def test_what_the_machine_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step that the kernel or the container refuses is reported for the log, and the other steps are done."""

    def refuse() -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(privileges, "undumpable", refuse)
    monkeypatch.setattr(seccomp, "install", lambda _profile: "not today")

    said = in_child(lambda: sandbox.enter(None, None, keep=ANSWERING)).said
    assert said == repr(("the process can't be made undumpable: Operation not permitted", "not today"))


def test_its_last_words_are_kept(stranger: pwd.struct_passwd | None, empty: int | None) -> None:
    """A traceback is kept in the memory that is standard error, and a longer text is cut off."""
    words = server_process.LastWords()

    def work() -> object:
        os.dup2(words.fileno(), 2)
        sandbox.enter(stranger, empty, keep=ANSWERING)
        os.write(2, b"Traceback: a bug\n")
        return errno_of(lambda: os.write(2, b"\n" * server_process.WORDS_BYTES)), os.write(2, b"the end\n")

    ended = in_child(work)
    assert ended.signal == 0, ended
    assert words.take()[0] == "Traceback: a bug"
