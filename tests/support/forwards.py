"""The ends of forwards: listeners with a thread for each connection, connections, SOCKS, and a shared `ssh`."""

import concurrent.futures
import hashlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.client import Client, Result, client_environment, terminate
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE, until

Address = tuple[str, int] | str
Handler = Callable[[socket.socket], None]


class Target:
    """Listens at `address` ((host, port) or a path; port 0: any) and runs `handle` in a thread for each connection.

    `peers` are the uids of the peers of a unix socket's connections, according to the kernel.
    """

    def __init__(self, handle: Handler, address: Address = ("127.0.0.1", 0)) -> None:
        self._handle = handle
        self._threads: list[threading.Thread] = []
        self.peers: list[int] = []
        if isinstance(address, str):
            self._listening = socket.socket(socket.AF_UNIX)
            self._listening.bind(address)
            Path(address).chmod(0o666)
        else:
            self._listening = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            self._listening.bind(address)
        self._listening.listen(256)
        self.port: int = 0 if isinstance(address, str) else self._listening.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, name="target")
        self._accepting.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._accepting.join()
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            if self._listening.family == socket.AF_UNIX:
                credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                self.peers.append(struct.unpack("3i", credentials)[1])
            thread = threading.Thread(target=self._serve, args=(sock,), name="target connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        # Some tests are about connections that are cut; the test checks that at the other end.
        with sock, suppress(OSError):
            sock.settimeout(PATIENCE)
            self._handle(sock)


def echo(sock: socket.socket) -> None:
    """Send everything back until the connection's end."""
    while data := sock.recv(65536):
        sock.sendall(data)


def digest(sock: socket.socket) -> None:
    """Read to the end, then answer with its SHA-256: this needs half-close in both directions."""
    sock.sendall(hashlib.sha256(read_all(sock)).digest())


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    chunks = []
    while data := sock.recv(65536):
        chunks.append(data)
    return b"".join(chunks)


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """The next `count` bytes; fewer at the end."""
    data = b""
    while len(data) < count and (more := sock.recv(count - len(data))):
        data += more
    return data


def dial(address: Address) -> socket.socket:
    """A connection to (host, port) or to the unix socket at a path."""
    if not isinstance(address, str):
        return socket.create_connection(address, PATIENCE)
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def answer(address: Address, data: bytes) -> bytes:
    """Send `data` and the end to `address`, and return everything that comes back."""
    with dial(address) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


_GIVEN: set[int] = set()
"""Ports that tests use, or expect to be free: the kernel may return the same one again."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that was not given to another test of this process."""
    while True:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if port not in _GIVEN:
            _GIVEN.add(port)
            return port


def socks5(proxy: int, host: bytes, port: int) -> socket.socket:
    """A connection through the SOCKS proxy on the local port `proxy` (RFC 1928) to a host given by its name."""
    sock = dial(("127.0.0.1", proxy))
    try:
        sock.sendall(b"\x05\x01\x00")
        assert read_exactly(sock, 2) == b"\x05\x00"
        sock.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host + struct.pack(">H", port))
        reply = read_exactly(sock, 10)
    except BaseException:
        sock.close()
        raise
    if reply[:2] != b"\x05\x00":  # ssh closes the connection in this case, but other servers reply
        sock.close()
        raise ConnectionRefusedError(f"the proxy answered {reply!r}")
    return sock


def exchange_at_once(connect: Callable[[], socket.socket], channels: int, size: int) -> None:
    """Open `channels` connections, all at the same time, and check that each returns its own `size` bytes."""
    opened = threading.Barrier(channels)

    def one(_: int) -> bool:
        data = os.urandom(size)
        with connect() as sock:
            opened.wait(2 * PATIENCE)  # nothing is sent before all are connected
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            return hashlib.sha256(read_all(sock)).digest() == hashlib.sha256(data).digest()

    with concurrent.futures.ThreadPoolExecutor(channels) as pool:
        assert list(pool.map(one, range(channels))) == [True] * channels


class Master:
    """One `ssh -N` that others share (ControlMaster), to which forwards are added. Its files are in `place`.

    `said` has its standard error.
    """

    def __init__(self, client: Client, place: Path, *options: str) -> None:
        self._client = client
        self._control = place / "m"
        self._errors = place / "master-errors"
        self._options = options

    def __enter__(self) -> Self:
        argv = self._client.argv(None, "-N", "-M", *self._shared, *self._options)
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=client_environment()
            )
        try:
            until(lambda: self._control.exists() or self.process.poll() is not None, PATIENCE, what="control socket")
            assert self.process.poll() is None, self.said
        except BaseException:
            terminate(self.process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        terminate(self.process)

    @property
    def said(self) -> str:
        """The master's messages, among which are errors of forwards."""
        return self._errors.read_text(errors="replace")

    @property
    def _shared(self) -> tuple[str, ...]:
        return ("-o", f"ControlPath={self._control}")

    def run(self, command: str, *options: str, input: bytes = b"") -> Result:  # noqa: A002 - subprocess's name for it
        """Run a command in a session of the shared connection; it must not open a connection of its own."""
        return self._client.run(command, "-o", "ControlMaster=no", *self._shared, *options, input=input)

    def terminal(self) -> Terminal:
        """A login shell in a terminal, on the shared connection."""
        return self._client.terminal(None, "-o", "ControlMaster=no", *self._shared)

    def control(self, request: str, *options: str) -> Result:
        """`ssh -O request`."""
        return self._client.run(None, "-O", request, *self._shared, *options)

    def forward(self, *options: str) -> int:
        """Add a forward, `-L` and the like; returns the port if the server chose it."""
        result = self.control("forward", *options)
        assert result.status == 0, (result, self.said)
        return int(result.stdout or 0)

    def cancel(self, *options: str) -> None:
        """Remove a forward."""
        result = self.control("cancel", *options)
        assert result.status == 0, (result, self.said)


def listening_addresses(port: int) -> set[str]:
    """The addresses of this machine's listeners at the TCP port `port`."""
    found = set()
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                # The kernel prints 32-bit words in its own byte order.
                words = struct.unpack(f">{len(address) // 8}I", bytes.fromhex(address))
                found.add(socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words)))
    return found
