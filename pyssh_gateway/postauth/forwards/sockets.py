"""Sockets, made with the rights of the account that this process runs as.

So the kernel enforces firewall owner rules, privileged ports, and the modes of docker.sock and /root: no code connects
or listens for a user with the server's rights. One loop serves all connections of the account, so calls that may block
(looking up a name, a path in a file system that hangs) run in a thread. Only the wait for a host's answer is
asynchronous.
"""

import asyncio
import errno
import os
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from encodings import idna, punycode
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from pyssh_gateway.system.threads import in_daemon_thread

T = TypeVar("T")

NAME_CODECS = (idna, punycode)
"""Python imports these at the first name lookup, which is too late if the account can't read Python's modules."""

CONNECT_SECONDS = 15.0
"""How long one address may take to answer. The kernel would try for two minutes; no user waits that long for a page."""

ANSWER_SECONDS = 60.0
"""How long a request may take in all: the lookup of a name, and then a few addresses."""

MAX_AT_ONCE = 512
"""Requests in progress, and as many threads; more are refused instead of queued, so that none waits for others. A
browser behind -D opens some tens of connections at once."""

BACKLOG = 128
"""Connections that wait to be accepted on a forwarded port: sshd's (channels.h, SSH_LISTEN_BACKLOG)."""

AGENT_DIRECTORY = "ssh-agent-"
AGENT_MASK = 0o177

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
"""With these flags getaddrinfo(3) only parses numbers and makes no lookup."""


class SocketFailed(Exception):
    """No socket could be made; the text says why and may be shown to the client."""


class _File(NamedTuple):
    """A socket's file: its path, its device and inode, and whether it has a directory of its own."""

    path: bytes
    identity: tuple[int, int]
    in_directory: bool


class Listening(msgspec.Struct, frozen=True, eq=False):
    """Listening sockets with their port or path; `Sockets.forget` ends them."""

    port: int
    path: bytes
    sockets: list[socket.socket]
    file: _File | None = None


def _forget(_made: object) -> None:
    """Nothing has to be done with a result that is no longer wanted."""


class Sockets:
    """Makes sockets, and removes the files that belong to them. The coroutines raise `SocketFailed`.

    The process's umask has to be 0: the modes of sockets are set explicitly.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._in_progress = 0
        self._threads = threading.BoundedSemaphore(MAX_AT_ONCE)
        self._with_file: set[Listening] = set()
        self._closed = False

    def close(self) -> None:
        """The process ends: close the listening unix sockets and remove their files."""
        self._closed = True
        for listening in tuple(self._with_file):
            self.forget(listening)

    async def connect_tcp(self, host: str, port: int) -> socket.socket:
        """A socket that is connected to the first address of `host` that answers."""
        return await self._within_bounds(lambda: self._connect_tcp(host, port))

    async def connect_unix(self, path: bytes) -> socket.socket:
        """A socket that is connected to the unix socket at `path`."""
        return await self._within_bounds(lambda: self._in_thread(lambda: connect_unix(path), socket.socket.close))

    async def listen_tcp(self, addresses: tuple[str, ...], port: int, *, alone: bool = False) -> Listening:
        """Sockets that listen on the same `port` (0: any) of `addresses`; one that works is enough.

        `alone`: fail if another process has the port on any of them, where it could pose as us.
        """

        def listen() -> Listening:
            made = listen_tcp(addresses, port, alone=alone)
            return Listening(made[0].getsockname()[1], b"", made)

        return await self._listen(listen)

    async def listen_unix(self, path: bytes, mask: int, *, unlink: bool) -> Listening:
        """A socket that listens at `path`, made under `mask`; `unlink`: replace a socket that is there."""

        def listen() -> Listening:
            made = listen_unix(path, mask, unlink=unlink)
            return Listening(0, path, [made], _File(path, _identity(path), in_directory=False))

        return await self._listen(listen)

    async def listen_agent(self) -> Listening:
        """A socket for an agent, in a new directory that only the account can enter, as sshd does."""

        def listen() -> Listening:
            path, made = listen_agent()
            return Listening(0, path, [made], _File(path, _identity(path), in_directory=True))

        return await self._listen(listen)

    def forget(self, listening: Listening) -> None:
        """Close the sockets and remove their file; a second time is no error."""
        for sock in listening.sockets:
            if sock.fileno() != -1:
                self._loop.remove_reader(sock)
        if listening.file is None or listening in self._with_file:
            self._with_file.discard(listening)
            _end(listening)

    # -- how they are made ----------------------------------------------------------------------------------------

    async def _listen(self, listen: Callable[[], Listening]) -> Listening:
        listening = await self._within_bounds(lambda: self._in_thread(listen, _end))
        if self._closed:
            _end(listening)
            raise SocketFailed("the server is leaving")
        if listening.file is not None:
            self._with_file.add(listening)
        return listening

    async def _within_bounds(self, make: Callable[[], Awaitable[T]]) -> T:
        """The result of `make`, subject to `MAX_AT_ONCE` and `ANSWER_SECONDS`."""
        if self._in_progress >= MAX_AT_ONCE:
            raise SocketFailed(f"{MAX_AT_ONCE} requests are in progress")
        self._in_progress += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as deadline:
                return await make()
        except TimeoutError:
            late = f"no answer within {ANSWER_SECONDS:.0f} s"
            raise SocketFailed(late if deadline.expired() else "Connection timed out") from None
        except socket.gaierror as error:
            raise SocketFailed(error.strerror or "unknown host") from error
        except (OSError, ValueError, LookupError) as error:  # the last two: an invalid name or path
            raise SocketFailed(getattr(error, "strerror", None) or str(error)) from error
        finally:
            self._in_progress -= 1

    async def _connect_tcp(self, host: str, port: int) -> socket.socket:
        failure: OSError | None = None
        for family, kind, proto, _, address in await self._look_up(host, port):
            sock = socket.socket(family, kind, proto)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connect(sock, address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:  # includes TimeoutError
                sock.close()
                failure = error
            except BaseException:
                sock.close()
                raise
            else:
                return sock
        raise failure or OSError(errno.EHOSTUNREACH, "the name has no address")

    async def _look_up(self, host: str, port: int) -> list[Any]:
        """getaddrinfo(3), which orders addresses as the machine is configured (gai.conf(5))."""
        with suppress(socket.gaierror):
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=_NUMERIC)
        return await self._in_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    async def _connect(self, sock: socket.socket, address: Any) -> None:
        """Connect without blocking the loop. asyncio's `sock_connect` does not promise that: it may look up a name."""
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            answered = asyncio.Event()
            self._loop.add_writer(sock, answered.set)
            try:
                await answered.wait()
            finally:
                self._loop.remove_writer(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    async def _in_thread(self, work: Callable[[], T], drop: Callable[[T], None] = _forget) -> T:
        """The result of `work`, which runs in a thread of its own; `drop` gets it if it is no longer wanted.

        The thread of a request that was given up counts towards `MAX_AT_ONCE` until it ends.
        """
        began = False

        def counted() -> T:
            nonlocal began
            began = True
            try:
                return work()
            finally:
                self._threads.release()

        if not self._threads.acquire(blocking=False):
            raise SocketFailed(f"{MAX_AT_ONCE} requests are in progress")
        try:
            return await in_daemon_thread(counted, name="socket", drop=drop)
        except OSError:
            if not began:  # the account may have no more threads
                self._threads.release()
            raise


def _end(listening: Listening) -> None:
    """Close the sockets and remove the file, unless it has been replaced."""
    for sock in listening.sockets:
        sock.close()
    file = listening.file
    if file is None:
        return
    with suppress(OSError):
        path = Path(os.fsdecode(file.path))
        if _identity(file.path) == file.identity:
            path.unlink()
        if file.in_directory:
            path.parent.rmdir()


def _identity(path: bytes) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def connect_unix(path: bytes) -> socket.socket:
    """A socket that is connected to the unix socket at `path`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(CONNECT_SECONDS)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_tcp(addresses: tuple[str, ...], port: int, *, alone: bool = False) -> list[socket.socket]:
    """Sockets that listen on the same `port` of as many of `addresses` as possible; raises if none is.

    `alone`: raises as well if another process has the port on one of them.
    """
    listening: list[socket.socket] = []
    failure: OSError | None = None
    for address in addresses:
        try:
            (family, kind, proto, _, where), *_ = socket.getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            sock = socket.socket(family, kind, proto)
        except OSError as error:
            failure = failure or error
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            failure = failure or error
            if alone and error.errno == errno.EADDRINUSE:
                for other in listening:
                    other.close()
                raise
            continue
        listening.append(sock)
        port = sock.getsockname()[1]
    if not listening:
        raise failure or OSError(errno.EINVAL, "no address to listen on")
    return listening


def listen_unix(path: bytes, mask: int, *, unlink: bool) -> socket.socket:
    """A socket that listens at `path`. Its mode is set before it has a name, so its file is never more open."""
    if not path or b"\0" in path:
        raise OSError(errno.EINVAL, "not a path")  # an abstract socket has no file, and so no permissions
    if unlink:
        file = Path(os.fsdecode(path))
        if file.is_socket() and not file.is_symlink():
            file.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # On Linux bind(2) gives the file the mode of the socket's descriptor. Setting that avoids changing the umask,
        # which all threads share.
        os.fchmod(sock.fileno(), 0o777 & ~mask)
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def listen_agent() -> tuple[bytes, socket.socket]:
    """The path of a socket in a new directory with mode 0700, and the socket."""
    directory = Path(tempfile.mkdtemp(prefix=AGENT_DIRECTORY, dir="/tmp"))
    path = os.fsencode(directory / "agent")
    try:
        return path, listen_unix(path, AGENT_MASK, unlink=False)
    except BaseException:
        directory.rmdir()
        raise
