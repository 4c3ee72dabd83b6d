"""Sockets for one account, made by a process that *is* the account.

So firewall owner rules, privileged ports, a docker.sock's mode and /root's hold by themselves: there is no code in
which the server could connect or listen for somebody with its own rights. Connecting and looking up names may take
long, so each request has a thread of its own; a process forked for this may have threads: it never forks again.
"""

# Python imports this codec when it first looks up a name, which is too late for an account that can't read the modules.
import encodings.idna  # noqa: F401 - for what its import does
import errno
import os
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pyssh_gateway.ipc import sockets as messages
from pyssh_gateway.ipc.spawner import ProtocolError, receive

CONNECT_SECONDS = 15.0
"""How long one address may take to answer. The kernel would try for two minutes; nobody waits that long for a page."""

MAX_AT_ONCE = 512
"""Requests in progress, each with a thread; more are refused, so that none waits for others. A browser behind -D opens
some tens of connections at once."""

BACKLOG = 128
"""Connections that wait to be accepted on a forwarded port: sshd's (channels.h, SSH_LISTEN_BACKLOG)."""

AGENT_DIRECTORY = "ssh-agent-"
AGENT_MASK = 0o177

_FAILURES: dict[int, messages.Failure] = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EADDRNOTAVAIL: "unreachable",
    errno.ETIMEDOUT: "timeout",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
}


class SocketMaker:
    """Serves requests until the gateway is gone, then removes the files that it made."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._places = threading.BoundedSemaphore(MAX_AT_ONCE)
        self._sending = threading.Lock()
        self._files: dict[int, _File] = {}

    def run(self) -> None:
        """Serve requests; returns when the other end has been closed."""
        os.umask(0)  # the modes of sockets are said outright
        try:
            with suppress(ProtocolError, OSError):
                while packet := receive(self._control)[0]:
                    self._serve(messages.decode_request(packet))
        finally:
            for number in tuple(self._files):
                self._forget(number)

    def _serve(self, request: messages.Request) -> None:
        if isinstance(request, messages.Forget):
            self._forget(request.id)
        elif not self._places.acquire(blocking=False):
            self._tell(messages.Failed(request.id, "failed", f"{MAX_AT_ONCE} requests are in progress"), [])
        else:
            try:
                threading.Thread(target=self._answer, args=(request,), daemon=True).start()
            except RuntimeError:  # the account may have no more threads
                self._places.release()
                self._tell(messages.Failed(request.id, "failed", "no thread could be started"), [])

    def _answer(self, request: messages.Request) -> None:
        try:
            report, sockets = self._make(request)
        except TimeoutError:
            report, sockets = messages.Failed(request.id, "timeout", "Connection timed out"), []
        except socket.gaierror as error:
            report, sockets = messages.Failed(request.id, "unresolvable", error.strerror or "unknown host"), []
        except Exception as error:  # noqa: BLE001 - whatever it was, whoever asked has to be told
            failure = _FAILURES.get(getattr(error, "errno", None) or 0, "failed")
            report, sockets = messages.Failed(request.id, failure, getattr(error, "strerror", None) or str(error)), []
        finally:
            self._places.release()
        self._tell(report, sockets)

    def _tell(self, report: messages.Report, sockets: list[socket.socket]) -> None:
        with self._sending, suppress(OSError):
            socket.send_fds(self._control, [messages.encode(report)], [sock.fileno() for sock in sockets])
        for sock in sockets:
            sock.close()

    def _make(self, request: messages.Request) -> tuple[messages.Report, list[socket.socket]]:
        match request:
            case messages.ConnectTcp(host=host, port=port):
                return messages.Connected(request.id), [connect_tcp(host, port)]
            case messages.ConnectUnix(path=path):
                return messages.Connected(request.id), [connect_unix(path)]
            case messages.ListenTcp(addresses=addresses, port=port, alone=alone):
                sockets = listen_tcp(addresses, port, alone=alone)
                return messages.Listening(request.id, sockets[0].getsockname()[1], b""), sockets
            case messages.ListenUnix(path=path, mask=mask, unlink=unlink):
                sock = listen_unix(path, mask, unlink=unlink)
                self._files[request.id] = _File(path, _identity(path), in_directory=False)
                return messages.Listening(request.id, 0, path), [sock]
            case messages.ListenAgent():
                path, sock = listen_agent()
                self._files[request.id] = _File(path, _identity(path), in_directory=True)
                return messages.Listening(request.id, 0, path), [sock]
            case _:
                raise ValueError(f"unexpected {type(request).__name__}")

    def _forget(self, number: int) -> None:
        made = self._files.pop(number, None)
        if made is None:
            return
        with suppress(OSError):
            file = Path(os.fsdecode(made.path))
            if _identity(made.path) == made.identity:  # else somebody has replaced it
                file.unlink()
            if made.in_directory:
                file.parent.rmdir()


class _File(NamedTuple):
    """A socket's file: where it is, which one it is, and whether it has a directory of its own."""

    path: bytes
    identity: tuple[int, int]
    in_directory: bool


def _identity(path: bytes) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def connect_tcp(host: str, port: int) -> socket.socket:
    """A socket that is connected to the first address of `host` that answers."""
    sock = socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


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
    """Sockets that listen on the same `port` of as many of `addresses` as can be had; raises if that is none.

    `alone`: raises as well if somebody else has the port on one of them.
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
    """A socket that listens at `path`. Its mode is set before it has a name, so it is never wider."""
    if not path or b"\0" in path:
        raise OSError(errno.EINVAL, "not a path")  # an abstract socket: no file, and so no permissions
    if unlink:
        file = Path(os.fsdecode(path))
        if file.is_socket() and not file.is_symlink():
            file.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # On Linux the mode of a unix socket's file is that of its descriptor, without the process's umask, which other
        # threads share.
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
