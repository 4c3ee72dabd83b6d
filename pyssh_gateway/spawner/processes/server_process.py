"""The server's own processes, forked: the monitor, the recorder, preauth processes and postauth processes.

`startup` passes in the function that each of them runs, so that the spawner imports none of their code.
"""

import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.crash import Crash
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.system import privileges

IGNORED = frozenset({signal.SIGPIPE, signal.SIGHUP})
"""SIGPIPE: a write to a closed connection returns an error instead. SIGHUP asks the server to reload, and may be sent
to all processes of this program; it is the monitor that passes it on."""

WORDS_BYTES = 16 * 1024
"""How much of a process's standard error is kept, in bytes: a few tracebacks."""

RunMonitor = Callable[[socket.socket, int, tuple[Crash, ...], int], int]
"""The monitor's body: its end of the socket to the spawner, its generation (from 1), the crashes before it and the
descriptor of the registry -> exit code."""

RunPreauth = Callable[[socket.socket], int]
"""A preauth process's body: the socket to the monitor -> exit code. If the spawner is root, so is this at first."""

RunRecorder = Callable[[socket.socket], int]
"""The recorder's body: the socket to the spawner -> exit code. If the spawner is root, so is this at first."""

RunPostauth = Callable[["Assignment"], int]
"""A postauth process's body: its assignment, which may come later -> exit code. If the spawner is root, so is this
until it has taken its assignment."""


class ServerProcesses(msgspec.Struct, frozen=True):
    """The bodies of the server's own processes.

    `import_ssh` is called once, when the first monitor has been forked: it imports the modules that preauth and
    postauth processes need. `monitor_keeps` returns the descriptors that only monitors inherit, beside those that the
    spawner gives them.
    """

    run_monitor: RunMonitor
    run_preauth: RunPreauth
    run_postauth: RunPostauth
    run_recorder: RunRecorder
    import_ssh: Callable[[], None]
    monitor_keeps: Callable[[], frozenset[int]]


class LastWords:
    """The standard error of a process that handles clients' or users' data, kept in memory until it has ended.

    It must not be the server's standard error: a compromised process could fill that, or block it for all processes.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("pyssh-gateway-errors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        seal(self._file, WORDS_BYTES)

    def fileno(self) -> int:
        """The descriptor to write to."""
        return self._file

    def take(self) -> list[str]:
        """The lines that were written, in printable characters. The memory is freed: call it once."""
        said = os.pread(self._file, WORDS_BYTES, 0).partition(b"\0")[0]
        self.close()
        return [line.encode("unicode_escape").decode() for line in said.decode(errors="replace").splitlines()]

    def close(self) -> None:
        """Discard what was written."""
        os.close(self._file)


def seal(memory: int, size: int) -> None:
    """Fix the memory file's size at `size` bytes: shrinking it would kill a process that has mapped it (SIGBUS)."""
    os.ftruncate(memory, size)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)


def start_monitor(
    processes: ServerProcesses,
    control: socket.socket,
    registry: int,
    *,
    generation: int,
    crashes: tuple[Crash, ...],
    inherited: Inherited,
) -> int:
    """Fork a monitor; returns its pid. It is not in the terminal's process group: only the spawner gets Ctrl-C."""
    setup = Setup(
        kept=processes.monitor_keeps() | {control.fileno(), registry},
        inherited=inherited.for_server_process(),
        ignored=IGNORED,
        umask=None,
        directory=None,
        complain=child.with_traceback,
    )

    def work() -> int:
        code = processes.run_monitor(control, generation, crashes, registry)
        child.flush()
        return code

    return child.start(setup, work)


def start_preauth(processes: ServerProcesses, monitor: socket.socket, words: LastWords, inherited: Inherited) -> int:
    """Fork a preauth process for one connection; returns its pid. It gives up its rights itself."""
    setup = Setup(
        descriptors=(NULL, NULL, words.fileno(), monitor.fileno()),
        inherited=inherited.for_stranger(),
        ignored=IGNORED,
        complain=child.with_traceback,
    )
    return child.start(setup, lambda: processes.run_preauth(socket.socket(fileno=3)))


def start_recorder(processes: ServerProcesses, control: socket.socket, words: LastWords, inherited: Inherited) -> int:
    """Fork the recorder; returns its pid. It gives up its rights itself."""
    setup = Setup(
        descriptors=(NULL, NULL, words.fileno(), control.fileno()),
        inherited=inherited.for_server_process(),
        ignored=IGNORED,
        complain=child.with_traceback,
    )
    return child.start(setup, lambda: processes.run_recorder(socket.socket(fileno=3)))


def start_postauth(processes: ServerProcesses, inherited: Inherited, spawner: socket.socket, words: LastWords) -> int:
    """Fork a process that will serve an account; returns its pid. Until it is assigned, it has the spawner's rights.

    It gets its assignment (`BeAccount`) from the socket `spawner`, to which only the spawner can write.
    """
    setup = Setup(
        descriptors=(NULL, NULL, words.fileno(), spawner.fileno()),
        inherited=inherited.for_server_process(),
        ignored=IGNORED,
        complain=child.with_traceback,
    )
    return child.start(setup, lambda: processes.run_postauth(Assignment(socket.socket(fileno=3))))


class Assignment:
    """In a process that will serve an account: which account that is, once the spawner has sent it."""

    def __init__(self, spawner: socket.socket) -> None:
        self._spawner = spawner

    @property
    def is_there(self) -> bool:
        """Whether the assignment has arrived; then a login waits."""
        return bool(select.select([self._spawner], [], [], 0)[0])

    def take(self) -> tuple[socket.socket, socket.socket] | None:
        """Wait for the assignment and become that account for good; returns the sockets to the monitor and the spawner.

        Returns None if the process is not needed any more. The order is the security property, as in `child`: nothing
        of a user's is touched before the process is the user, and nothing of the server's is left by then.
        """
        packet, descriptors = protocol.receive(self._spawner)
        self._spawner.close()
        if not packet:
            return None
        account = protocol.decode_account(packet)
        process.claim_login(account.uid)
        # A server that is not root has nothing to give up; if root can't, the monitor reports it.
        with suppress(OSError):
            privileges.empty_bounding_set()
        child.be_account(account.name, account.uid, account.gid)
        monitor, spawner = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        return monitor, spawner
