"""A lot through everything that carries bytes: all of it arrives, and the server's memory does not grow.

256 MiB are eight times as much as the memory may grow by; `make soak` sends a gibibyte.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.bulk import Bulk, Memory, memory_directory
from tests.support.client import Client, client_environment
from tests.support.forwards import Master, Target, dial, free_port, read_exactly, socks5
from tests.support.server import Server
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.slow

GIB = 1024 * 1024 * 1024
GROWTH = 32 * 1024 * 1024
"""By how much all the server's processes together may grow, whatever passes through them."""

STOP_AFTER = 64
"""MiB after which a client is stopped: the transfer is in full flow."""

STOPPED = 256
"""MiB of a transfer that is stopped on its way: far more than the buffers on the way can hold."""

ECHOES = 100
ECHO_SECONDS = 0.05
ATTEMPTS = 3
"""A busy machine may delay one attempt; a server that waits for the stopped client is slow every time."""


@pytest.fixture(
    scope="module", params=[pytest.param(GIB // 4, id="256MiB"), pytest.param(GIB, marks=pytest.mark.soak, id="1GiB")]
)
def bulk(request: pytest.FixtureRequest) -> Bulk:
    """The data."""
    return Bulk(request.param)


@pytest.fixture(scope="module")
def place(bulk: Bulk) -> Iterator[Path]:
    """A directory that holds the data in a file that everybody may read."""
    with memory_directory(bulk.size) as directory:
        with (directory / "bulk").open("wb") as file:
            file.writelines(bulk.blocks())
        (directory / "bulk").chmod(0o644)
        yield directory


@pytest.fixture(scope="module")
def checksum(bulk: Bulk) -> bytes:
    """What cksum prints for the data."""
    return bulk.checksum()


@pytest.fixture
def small(server: Server) -> Iterator[None]:
    """Fails a test during which the server's memory grew."""
    with Memory(server) as memory:
        yield
    assert memory.grown < GROWTH, f"the server grew by {memory.grown >> 20} MiB"


def sender(bulk: Bulk) -> Callable[[socket.socket], None]:
    """A handler for a target that sends the data and then closes."""

    def send(sock: socket.socket) -> None:
        for block in bulk.blocks():
            sock.sendall(block)

    return send


def checker(bulk: Bulk, wrong: list[str]) -> Callable[[socket.socket], None]:
    """A handler for a target that checks the data and answers with a byte; mistakes are added to `wrong`."""

    def check(sock: socket.socket) -> None:
        try:
            bulk.check(sock.recv)
        except AssertionError as error:
            wrong.append(str(error))
        sock.sendall(b"." if not wrong else b"!")

    return check


@pytest.mark.usefixtures("small")
def test_output_of_a_command(client: Client, bulk: Bulk, place: Path) -> None:
    """Protects `ssh host cat file`."""
    ssh = client.popen(f"cat {place}/bulk")
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    with ssh.stdin, ssh.stdout, ssh.stderr:
        bulk.check(ssh.stdout.read)
        assert ssh.wait(PATIENCE) == 0


@pytest.mark.usefixtures("small")
def test_input_of_a_command(client: Client, bulk: Bulk, checksum: bytes) -> None:
    """Protects `ssh host cat < file`."""
    ssh = client.popen("cksum")
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    with ssh.stdout, ssh.stderr:
        with ssh.stdin:
            for block in bulk.blocks():
                ssh.stdin.write(block)
        assert ssh.stdout.read().strip() == checksum
        assert ssh.wait(PATIENCE) == 0


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("way", ["local", "remote", "dynamic"])
@pytest.mark.parametrize("direction", ["download", "upload"])
def test_forward(client: Client, bulk: Bulk, tmp_path: Path, way: str, direction: str) -> None:
    """Protects -L, -R and -D; in a download the target sends."""
    wrong: list[str] = []
    handle = sender(bulk) if direction == "download" else checker(bulk, wrong)
    with Target(handle) as target, Master(client, tmp_path) as master:
        if way == "local":
            master.forward("-L", f"{tmp_path}/l:127.0.0.1:{target.port}")
            sock = dial(f"{tmp_path}/l")
        elif way == "remote":
            sock = dial(("127.0.0.1", master.forward("-R", f"0:127.0.0.1:{target.port}")))
        else:
            proxy = free_port()
            master.forward("-D", f"127.0.0.1:{proxy}")
            sock = socks5(proxy, b"127.0.0.1", target.port)
        with sock:
            sock.settimeout(PATIENCE)
            if direction == "download":
                bulk.check(sock.recv)
            else:
                sender(bulk)(sock)
                sock.shutdown(socket.SHUT_WR)
                assert read_exactly(sock, 1) == b".", wrong


@pytest.mark.usefixtures("small")
def test_sftp_get(client: Client, place: Path, checksum: bytes) -> None:
    """Protects `sftp get`."""
    sftp(client, f"get {place}/bulk {place}/got\n")
    with (place / "got").open("rb") as file:
        assert subprocess.run(["cksum"], stdin=file, capture_output=True, check=True).stdout.strip() == checksum
    (place / "got").unlink()


@pytest.mark.usefixtures("small")
def test_sftp_put(client: Client, place: Path, checksum: bytes) -> None:
    """Protects `sftp put`."""
    sftp(client, f"put {place}/bulk {place}/put\n")
    with (place / "put").open("rb") as file:
        assert subprocess.run(["cksum"], stdin=file, capture_output=True, check=True).stdout.strip() == checksum
    (place / "put").unlink()


def sftp(client: Client, batch: str) -> None:
    """Run OpenSSH's sftp with the commands of `batch`, which have to succeed."""
    argv = ["sftp", "-q", "-b", "-", *client.options(), f"{client.server.login}@127.0.0.1"]
    done = subprocess.run(
        argv, input=batch.encode(), capture_output=True, check=False, env=client_environment(), timeout=120
    )
    assert done.returncode == 0, done.stderr


# -- a client that stops ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("way", ["command", "forward"])
def test_stopped_download(client: Client, place: Path, tmp_path: Path, way: str) -> None:
    """Protects others from one stopped client: no memory is taken, echo stays quick, and all data arrives later."""
    part = Bulk(STOPPED << 20)
    with Target(sender(part)) as target:
        if way == "command":
            ssh = client.popen(f"head -c {part.size} {place}/bulk")
        else:
            ssh = client.popen(None, "-W", f"127.0.0.1:{target.port}")
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        assert ssh.stderr is not None
        with ssh.stdin, ssh.stdout, ssh.stderr:

            def stop(count: int) -> None:
                if count == STOP_AFTER:
                    ssh.send_signal(signal.SIGSTOP)
                    try:
                        assert echo_is_quick(client)
                    finally:
                        ssh.send_signal(signal.SIGCONT)

            part.check(partial(os.read, ssh.stdout.fileno()), stop)
            assert ssh.wait(PATIENCE) == 0


@pytest.mark.soak  # of a smaller file all may have arrived before its client is stopped
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("bulk", [pytest.param(GIB, id="1GiB")], indirect=True)
def test_stopped_sftp_get(client: Client, bulk: Bulk, place: Path) -> None:
    """Protects the same for a download by SFTP, which the client requests piece by piece."""
    got = place / "stopped"
    argv = ["sftp", "-q", "-b", "-", *client.options(), f"{client.server.login}@127.0.0.1"]
    ssh = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=client_environment(),
        process_group=0,
    )  # fmt: skip
    assert ssh.stdin is not None
    ssh.stdin.write(f"get {place}/bulk {got}\n".encode())
    ssh.stdin.flush()
    deadline = time.monotonic() + PATIENCE
    while not got.exists() or got.stat().st_size < STOP_AFTER << 20:
        assert time.monotonic() < deadline
        time.sleep(0.001)  # nothing announces that a file has grown; the deadline above ends the loop
    os.killpg(ssh.pid, signal.SIGSTOP)
    try:
        assert got.stat().st_size < bulk.size
        assert echo_is_quick(client)
    finally:
        os.killpg(ssh.pid, signal.SIGCONT)
    ssh.communicate(timeout=PATIENCE)
    assert ssh.returncode == 0
    assert subprocess.run(["cmp", place / "bulk", got], check=False).returncode == 0
    got.unlink()


@pytest.mark.usefixtures("small")
def test_stopped_reader_of_an_upload(client: Client, tmp_path: Path) -> None:
    """Protects the same in the other direction: a stopped command on the server while its client sends."""
    part = Bulk(STOPPED << 20)
    ssh = client.popen("echo $$; exec cksum")
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    with ssh.stdout, ssh.stderr:
        with ssh.stdin:
            pid, sent = int(ssh.stdout.readline()), 0
            for number, block in enumerate(part.blocks()):
                if number == STOP_AFTER:
                    os.kill(pid, signal.SIGSTOP)
                    os.set_blocking(ssh.stdin.fileno(), False)
                    sent += fill(ssh.stdin.fileno(), block)
                    os.set_blocking(ssh.stdin.fileno(), True)
                    try:
                        assert echo_is_quick(client)
                    finally:
                        os.kill(pid, signal.SIGCONT)
                else:
                    ssh.stdin.write(block)
                    ssh.stdin.flush()
                    sent += len(block)
        assert int(ssh.stdout.read().split()[1]) == sent
        assert ssh.wait(PATIENCE) == 0


def fill(descriptor: int, data: bytes) -> int:
    """Write until the other side has taken nothing for a while; returns the number of bytes written."""
    written = 0
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        try:
            written += os.write(descriptor, data)
            deadline = time.monotonic() + 0.5
        except BlockingIOError:
            time.sleep(0.01)  # the pipe is full; see whether it stays so
    return written


def echo_is_quick(client: Client) -> bool:
    """Whether the echo of another login's typing is quick enough for 95 of 100 keys."""
    return any(_slowest(client) < ECHO_SECONDS for _ in range(ATTEMPTS))


def _slowest(client: Client) -> float:
    """The 95th percentile of the time for a line to a command and back, in seconds."""
    ssh = client.popen("cat")
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    assert ssh.stderr is not None
    taken = []
    with ssh.stdout, ssh.stderr:
        with ssh.stdin:
            for number in range(ECHOES + 1):
                began = time.monotonic()
                ssh.stdin.write(b"x\n")
                ssh.stdin.flush()
                assert ssh.stdout.readline() == b"x\n"
                if number:  # the first one includes the login
                    taken.append(time.monotonic() - began)
        assert ssh.wait(PATIENCE) == 0
    return sorted(taken)[ECHOES * 95 // 100]
