"""The control socket's file: where it is, how a server listens there, how a command connects to it.

The socket is a name in the file system, so this module decides whether an existing file may be replaced, and finds out
which account is at the other end. It does not know what is said over it.
"""

import errno
import os
import socket
import stat
import struct
from pathlib import Path

RUN_DIRECTORY = "/run/pyssh-gateway"
"""The directory of the socket for a server of root: everybody may connect, and only root can replace it."""

FILE_NAME = "control.sock"

BACKLOG = 128
"""Connections that the kernel queues until the monitor accepts them, which it does at once. Everybody can connect, so
there is room for permitted commands beside others."""

CONNECT_SECONDS = 5.0
"""How long to wait for a server with a full queue. It answers within milliseconds, unless it is gone."""

_EVERYBODY_MAY_WRITE = 0o002
_UMASK = 0o111
"""Everybody may connect (mode 0666): the kernel names the account (SO_PEERCRED), which decides what it may ask."""

_CREDENTIALS = struct.Struct("iII")
"""pid, uid and gid: struct ucred of unix(7)."""

ROOT = 0


class ControlSocketError(Exception):
    """There is no usable control socket. The message is one line for a person."""


class AnotherListens(ControlSocketError):
    """A running server listens at that place."""


class NobodyListens(ControlSocketError):
    """There is no server at that place."""


class OutOfReach(ControlSocketError):
    """This account has no access to that place, so it can't know whether a server listens there."""


def server_path(configured: str, keys_dir: str) -> str | None:
    """Where a server started by this account listens; `configured` is the configuration's `control`. None: nowhere."""
    if configured != "auto":
        return None if configured == "off" else configured
    directory = Path(RUN_DIRECTORY) if os.geteuid() == ROOT else Path(keys_dir).absolute()
    return str(directory / FILE_NAME)


def client_paths(configured: str, keys_dir: str) -> tuple[str, ...]:
    """Where a server with this configuration may listen, if this account or another one started it; ours first."""
    if configured != "auto":
        return () if configured == "off" else (configured,)
    ours = str(Path(keys_dir).absolute() / FILE_NAME)
    roots = str(Path(RUN_DIRECTORY) / FILE_NAME)
    return (roots, ours) if os.geteuid() == ROOT else (ours, roots)


def bind_control(path: str) -> socket.socket:
    """A socket that listens at `path`. Raises ControlSocketError.

    The socket of an earlier server is replaced, unless that server still runs.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _prepare(Path(path))
        umask = os.umask(_UMASK)
        try:
            sock.bind(path)
        finally:
            os.umask(umask)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ControlSocketError(f"can't listen at {path}: {error.strerror or error}") from None
    except ControlSocketError:
        sock.close()
        raise
    return sock


def _prepare(path: Path) -> None:
    """Make the directory, and remove a socket that no process listens on any more."""
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        # Everybody may ask a server of root; the directory of another server may be its `keys_dir`.
        path.parent.chmod(0o755 if os.geteuid() == ROOT else 0o700)
    mode = path.parent.stat().st_mode
    if mode & _EVERYBODY_MAY_WRITE and not mode & stat.S_ISVTX:
        raise ControlSocketError(f"can't listen at {path}: everybody may write to {path.parent}")
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise ControlSocketError(f"can't listen at {path}: what is there is no socket; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full queue also means that a server listens
        refused = probe.connect_ex(str(path)) == errno.ECONNREFUSED
    if not refused:
        raise AnotherListens(f"can't listen at {path}: another server does")
    path.unlink()


def connect(path: str) -> socket.socket:
    """A connection to the server at `path`. Raises NobodyListens, OutOfReach, ControlSocketError.

    The server has to run as root or as our account, because another one could lie to us; root may ask every server.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(CONNECT_SECONDS)
    try:
        sock.connect(path)
        _, uid = peer_of(sock)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        sock.close()
        raise NobodyListens(f"no server listens at {path}") from None
    except PermissionError as error:
        sock.close()
        raise OutOfReach(f"can't connect to {path}: {error.strerror}") from None
    except OSError as error:
        sock.close()
        raise ControlSocketError(f"can't connect to {path}: {error.strerror or error}") from None
    if os.geteuid() not in {ROOT, uid} and uid != ROOT:
        sock.close()
        raise ControlSocketError(f"the server at {path} is of uid {uid}, neither root's nor yours: it was not asked")
    return sock


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """The process and account at the other end (SO_PEERCRED), as of the time when it connected or began to listen."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid
