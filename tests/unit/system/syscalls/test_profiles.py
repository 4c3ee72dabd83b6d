"""Each profile on this kernel: its process can do its work, and can't do what leads out of it."""

import asyncio
import errno
import fcntl
import json
import mmap
import os
import platform
import signal
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.recorder.files import Files
from pyssh_gateway.system import libc, privileges
from pyssh_gateway.system.heap import _malloc_trim
from pyssh_gateway.system.syscalls import profiles, seccomp
from pyssh_gateway.system.syscalls.profiles import MONITOR, POSTAUTH, PREAUTH, RECORDER, Profile
from tests.support.locked_in import KILLED, Ended, errno_of, in_child

MACHINE = seccomp.MACHINES.get(platform.machine())

pytestmark = [
    pytest.mark.skipif(MACHINE is None, reason=f"there is no filter for {platform.machine()}"),
    # Servers and clients in a filtered child are not closed before its end.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

EACH = pytest.mark.parametrize("profile", profiles.ALL, ids=[profile.name for profile in profiles.ALL])
SPEAKS = [PREAUTH, MONITOR, POSTAUTH]
"""The processes with a loop of asyncio's, and with cryptography."""

BIG = pytest.mark.parametrize("profile", [MONITOR, POSTAUTH], ids=["monitor", "postauth"])

IO_SECONDS = 30.0


def under(profile: Profile, work: Callable[[], object]) -> Ended:
    """Do `work` in a child under `profile`."""

    def locked() -> object:
        privileges.no_new_privileges()
        reason = seccomp.install(profile)
        assert reason == "", reason
        return work()

    return in_child(locked)


def call(name: str, *arguments: int) -> int:
    """The errno of the system call with that name; 0 if it succeeds."""
    assert MACHINE is not None
    number = MACHINE.number(name)
    assert number is not None
    return errno_of(lambda: libc.syscall(number, *arguments))


@pytest.fixture(scope="module", autouse=True)
def _filters_work() -> None:
    """Skip if the kernel, or the container in which this runs, has no seccomp."""

    def try_one() -> object:
        privileges.no_new_privileges()
        return seccomp.install(PREAUTH)

    ended = in_child(try_one)
    if ended.said != "''":
        pytest.skip(f"no filters here: {ended.said}")


async def _echo(ours: socket.socket, theirs: socket.socket) -> bytes:
    """Send a kilobyte to and fro over a pair of sockets, through asyncio's streams."""
    reader, writer = await asyncio.open_connection(sock=ours)
    other_reader, other_writer = await asyncio.open_connection(sock=theirs)
    async with asyncio.timeout(IO_SECONDS):
        writer.write(b"x" * 1024)
        await writer.drain()
        other_writer.write(await other_reader.readexactly(1024))
        answer = await reader.readexactly(1024)
        await asyncio.sleep(0.001)
    writer.close()
    other_writer.close()
    return answer


def _cryptography() -> None:
    """Make a key exchange, a signature and a packet, as for a login."""
    one, other = X25519PrivateKey.generate(), X25519PrivateKey.generate()
    assert one.exchange(other.public_key()) == other.exchange(one.public_key())
    with_lattice = MLKEM768PrivateKey.generate()
    shared, sealed = with_lattice.public_key().encapsulate()
    assert with_lattice.decapsulate(sealed) == shared
    Ed25519PrivateKey.generate().sign(shared)
    assert AESGCM(shared).decrypt(b"\0" * 12, AESGCM(shared).encrypt(b"\0" * 12, b"packet", b""), b"") == b"packet"


@pytest.mark.parametrize("profile", SPEAKS, ids=[profile.name for profile in SPEAKS])
def test_a_connection_is_served(profile: Profile) -> None:
    """All three can work: a new loop, existing sockets, cryptography, memory, time, signals, messages."""
    tcp = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(tcp.getsockname())
    accepted = tcp.accept()[0]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def work() -> object:
        with asyncio.Runner() as runner:
            runner.get_loop().add_signal_handler(signal.SIGTERM, lambda: None)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert runner.run(_echo(client, accepted)) == b"x" * 1024
        _cryptography()
        grown = bytearray(64 * 1024 * 1024)
        del grown
        ours.sendmsg([b"message"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", tcp.fileno()))])
        message, ancillary, _, _ = theirs.recvmsg(100, socket.CMSG_SPACE(4))
        assert ancillary
        return json.dumps({"message": message.decode(), "pid": os.getpid() > 0})

    try:
        assert under(profile, work) == ('\'{"message": "message", "pid": true}\'', 0)
    finally:
        for each in (tcp, client, accepted, ours, theirs):
            each.close()


def test_recordings_are_written_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder can work: it makes, writes, lists and removes files below its directory, and makes no socket."""
    monkeypatch.chdir(tmp_path)

    def work() -> object:
        files = Files(Bounds(session_bytes=1, session_seconds=1, keep_seconds=0, keep_bytes=0), time.time)
        name, file = files.make("amos", "c1.1")
        os.write(file, b"recorded")
        os.close(file)
        files.look()
        files.remove_old()
        return Path(*name).exists()

    assert under(RECORDER, work) == ("False", 0)
    assert under(RECORDER, socket.socket).signal == signal.SIGSYS


@EACH
@pytest.mark.parametrize(
    "name",
    [
        *("execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp"),
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd", "keyctl"),
        *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "init_module", "finit_module", "kexec_load"),
        *("setuid", "setresuid", "setgroups", "capset", "open_by_handle_at", "reboot"),
    ],
)
def test_what_leads_out_kills(profile: Profile, name: str) -> None:
    """The first steps of an exploit kill the process, in all profiles."""
    assert under(profile, lambda: call(name)) == KILLED


@EACH
def test_a_program_is_death_by_pythons_own_functions(profile: Profile) -> None:
    """Running a program through Python's own functions, an attacker's first attempt, kills the process."""
    assert under(profile, lambda: os.execv("/bin/true", ["true"])) == KILLED


@pytest.mark.parametrize("name", ["socket", "connect", "bind", "listen", "accept", "accept4"])
def test_no_new_socket_before_a_login(name: str) -> None:
    """A compromised preauth process can't connect anywhere: neither to the machine's services nor to its network."""
    assert under(PREAUTH, lambda: call(name)) == KILLED


def test_no_file_process_or_code_before_a_login(tmp_path: Path) -> None:
    """Other calls that preauth does not need fail without killing it, as libraries try some of them."""
    file = tmp_path / "file"
    file.touch()
    parent = os.getpid()

    def work() -> object:
        found = {
            "open": errno_of(lambda: os.open(file, os.O_RDONLY)),
            "stat": errno_of(file.stat),
            "unlink": errno_of(file.unlink),
            "kill": errno_of(lambda: os.kill(parent, 0)),
            "fork": errno_of(os.fork),
            "executable": errno_of(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC)),
            "memfd": errno_of(lambda: os.memfd_create("x")),
            "inet pair": errno_of(lambda: socket.socketpair(socket.AF_INET)),
            "typing": errno_of(lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x")),
            "prctl": call("prctl", privileges.PR_SET_DUMPABLE, 1),
            "seccomp": call("seccomp", 1, 0, 0),
        }
        return {name: number for name, number in found.items() if number != errno.EPERM}

    assert under(PREAUTH, work) == ("{}", 0)
    assert file.exists()


@BIG
def test_names_are_looked_up(profile: Profile) -> None:
    """glibc's getaddrinfo works with all that it uses: configuration, modules, netlink, unreachable name servers."""

    def work() -> object:
        found = socket.getaddrinfo("localhost", 22, type=socket.SOCK_STREAM)
        for name in ("host.invalid", "fe80::1%lo"):
            with suppress(OSError):  # without a network, such a name, or IPv6
                socket.getaddrinfo(name, 22)
        return sorted({address[4][0] for address in found} - {"::1"})

    assert under(profile, work) == ("['127.0.0.1']", 0)


@BIG
def test_clients_and_servers_are_opened(profile: Profile, tmp_path: Path) -> None:
    """What forwards, listeners and key sources use works: TCP, UDP and unix sockets, TLS contexts."""

    async def work() -> object:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(4))
            writer.close()

        async with asyncio.timeout(IO_SECONDS):
            server = await asyncio.start_server(serve, "localhost", 0)
            unix_server = await asyncio.start_unix_server(serve, str(tmp_path / "socket"))
            answers = []
            for reader, writer in (
                await asyncio.open_connection(*server.sockets[0].getsockname()[:2]),
                await asyncio.open_unix_connection(str(tmp_path / "socket")),
            ):
                writer.write(b"ping")
                answers.append(await reader.readexactly(4))
                writer.close()
            server.close()
            unix_server.close()
        ssl.create_default_context()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect(("127.0.0.1", 9))
        return answers

    assert under(profile, lambda: asyncio.run(work())) == ("[b'ping', b'ping']", 0)


@BIG
def test_files_are_kept(profile: Profile, tmp_path: Path) -> None:
    """Files can be written, synced, renamed, locked and removed: state and key copies (monitor), sockets (postauth)."""

    def work() -> object:
        directory = tmp_path / "state"
        directory.mkdir(mode=0o700)
        with (directory / "new").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump({"a": 1}, file)
            file.flush()
            os.fsync(file.fileno())
        (directory / "new").chmod(0o600)
        (directory / "new").rename(directory / "kept")
        said = json.loads((directory / "kept").read_text())
        names = [path.name for path in directory.iterdir()]
        (directory / "kept").unlink()
        directory.rmdir()
        shared = os.memfd_create("registry")
        os.ftruncate(shared, 4096)
        with mmap.mmap(shared, 4096) as mapped:
            mapped[:2] = b"ok"
        return said, names, os.pread(shared, 2, 0)

    assert under(profile, work) == ("({'a': 1}, ['kept'], b'ok')", 0)


@BIG
def test_there_are_threads_and_no_processes(profile: Profile) -> None:
    """Work that blocks can use a thread; a forked process would keep all rights of this one, unsupervised."""

    def work() -> object:
        done = []
        thread = threading.Thread(target=lambda: done.append(socket.gethostname() != ""))
        thread.start()
        thread.join(IO_SECONDS)
        return done, errno_of(os.fork) == errno.EPERM, call("clone3", 0, 0) == errno.ENOSYS

    assert under(profile, work) == ("([True], True, True)", 0)


@BIG
def test_odd_kinds_of_sockets_are_refused(profile: Profile) -> None:
    """Rare socket families are refused, as they have most of the kernel's flaws; forwards and look-ups need four."""

    def work() -> object:
        families = [  # 31 is Bluetooth
            socket.AF_PACKET,
            socket.AF_ALG,
            socket.AF_VSOCK,
            31,
            255,
        ]
        return {errno_of(lambda each=family: socket.socket(each)) for family in families}  # type: ignore[misc]

    assert under(profile, work) == (f"{{{errno.EPERM}}}", 0)


def test_a_terminal_is_led() -> None:
    """Postauth can set sizes and modes of its ptys, but not insert input with TIOCSTI."""
    master, slave = os.openpty()

    def work() -> object:
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", 50, 100, 0, 0))
        termios.tcsetattr(master, termios.TCSANOW, termios.tcgetattr(master))
        termios.tcsendbreak(master, 0)
        rows = struct.unpack("4H", fcntl.ioctl(slave, termios.TIOCGWINSZ, bytes(8)))[0]
        return rows, errno_of(lambda: fcntl.ioctl(slave, termios.TIOCSTI, b"x"))

    try:
        assert under(POSTAUTH, work) == (f"(50, {errno.EPERM})", 0)
    finally:
        os.close(master)
        os.close(slave)


def test_signals_are_postauths_alone() -> None:
    """Postauth may send signals, as it runs as the account; the monitor may not."""
    parent = os.getpid()
    assert under(POSTAUTH, lambda: errno_of(lambda: os.kill(parent, 0))) == ("0", 0)
    assert under(MONITOR, lambda: errno_of(lambda: os.kill(parent, 0))) == (str(errno.EPERM), 0)


def test_a_filter_covers_threads_that_were_there() -> None:
    """A thread that existed before the filter is filtered, too (TSYNC)."""

    def work() -> object:
        go = threading.Event()
        found = []

        def older() -> None:
            go.wait(IO_SECONDS)
            found.append(errno_of(os.fork))

        thread = threading.Thread(target=older)
        thread.start()
        privileges.no_new_privileges()
        assert seccomp.install(MONITOR) == ""
        go.set()
        thread.join(IO_SECONDS)
        return found

    assert in_child(work) == (f"[{errno.EPERM}]", 0)


def test_heap_can_be_given_back() -> None:
    """malloc_trim works under the filter, though ctypes is imported only then (`system.heap`)."""

    def work() -> object:
        for name in [name for name in sys.modules if name.partition(".")[0] in {"ctypes", "_ctypes"}]:
            del sys.modules[name]
        return _malloc_trim()(0) in {0, 1}

    assert under(MONITOR, work) == ("True", 0)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel or container without seccomp, and an unknown machine, give a line for the log and no error."""

    def refuse(*_: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(libc, "syscall", refuse)
    assert seccomp.install(PREAUTH) == "seccomp can't be used here: Function not implemented"
    monkeypatch.setattr(seccomp, "MACHINES", {})
    assert seccomp.install(PREAUTH).startswith("there is no filter of system calls for ")
