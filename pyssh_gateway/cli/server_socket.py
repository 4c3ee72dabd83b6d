"""Connects a command to its server, sends one line and receives one, within a timeout.

Nothing heavy is imported here: `pyssh-gateway hold` stands in front of another command and has to be fast. This module
does not know what the lines say.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyssh_gateway.cli.exit_codes import NOBODY, Failed
from pyssh_gateway.config import source
from pyssh_gateway.ipc.control_socket import (
    ROOT,
    ControlSocketError,
    NobodyListens,
    OutOfReach,
    client_paths,
    connect,
    peer_of,
)
from pyssh_gateway.ipc.running_servers import running

SESSION_VARIABLE = "PYSSH_CONTROL"
"""The variable that names, in a session, the socket of its server."""

_AUTO = "auto"

_CHUNK = 64 * 1024


class CannotAsk(Failed):
    """There may be a server, but it could not be asked."""

    kind = "no-server"
    code = NOBODY


class NoServer(CannotAsk):
    """There is no running server to ask."""


class Places(NamedTuple):
    """The sockets to try: first that of this session, then those of the configuration in their order.

    `elsewhere`: no server was named, so if none listens there, other servers that this account has started are tried.
    """

    session: str | None
    configured: tuple[str, ...]
    elsewhere: bool = False


class Server(NamedTuple):
    """The server that is asked: its socket, and the process and account that listen there, according to the kernel.

    `remark` says in one line which server it is, if the user may have meant another one.
    """

    path: str
    pid: int
    uid: int
    remark: str = ""


def read_config(config: str | None, environ: Mapping[str, str]) -> source.RawConfig:
    """The configuration; `config` is the value of --config. Raises ConfigError.

    Only root may be able to read it: one that was not named and can't be read is treated as missing.
    """
    named = config is not None or environ.get(source.PATH_VARIABLE)
    readable = named or os.access(source.DEFAULT_PATH, os.R_OK)
    return source.read(config, environ, {}, source.DEFAULT_PATH if readable else "")


def places(raw: source.RawConfig, config: str | None, environ: Mapping[str, str]) -> Places:
    """Where the server may listen, with this configuration. In a session its own comes first, unless --config is given.

    A value that is no path is replaced by the default, because not every command validates the configuration.
    """
    control, keys_dir = raw.values.get("control", _AUTO), raw.values.get("keys_dir", "keys")
    control = control if isinstance(control, str) else _AUTO
    found = client_paths(control, keys_dir if isinstance(keys_dir, str) else "keys")
    named = config is not None or bool(environ.get(source.PATH_VARIABLE))
    session = None if config is not None else environ.get(SESSION_VARIABLE) or None
    return Places(session, found, elsewhere=control == _AUTO and not named)


def reach(where: Places) -> tuple[socket.socket, Server]:
    """A connection to the server at one of these places. Raises NoServer, CannotAsk, Failed."""
    silent: dict[str, ControlSocketError] = {}
    ours = where.configured if os.geteuid() == ROOT else where.configured[:1]
    found = _first(() if where.session is None else (where.session,), silent) or _first(ours, silent)
    if found is None and where.elsewhere:
        others = [path for path in running() if path not in {*where.configured, where.session}]
        if len(others) > 1:
            which = f"say which is meant with {SESSION_VARIABLE}=PATH"
            raise CannotAsk(f"{len(others)} servers run, and none where one was looked for; {which}", *others)
        found = _first(others, silent)
    found = found or _first(where.configured[len(ours) :], silent)
    if found is None:
        raise _nobody(silent)
    sock, path = found
    pid, uid = peer_of(sock)
    return sock, Server(path, pid, uid, _remark(path, uid, where))


def _first(paths: Sequence[str], silent: dict[str, ControlSocketError]) -> tuple[socket.socket, str] | None:
    """A connection to the first of `paths` with a server; the others' errors go to `silent`. Raises Failed."""
    for path in paths:
        try:
            return connect(path), path
        except (NobodyListens, OutOfReach) as error:
            silent[path] = error
        except ControlSocketError as error:
            raise Failed(str(error)) from None
    return None


def _nobody(silent: Mapping[str, ControlSocketError]) -> CannotAsk:
    """The error if no server could be reached."""
    if not silent:
        return NoServer('no server could be asked: control is "off" in the configuration')
    absent = [path for path, error in silent.items() if isinstance(error, NobodyListens)]
    blocked = [str(error) for error in silent.values() if isinstance(error, OutOfReach)]
    reasons = [f"nobody listens at {' or '.join(absent)}"] if absent else []
    kind = CannotAsk if blocked else NoServer
    return kind(f"no server could be asked: {'; '.join(reasons + blocked)}")


def _remark(path: str, uid: int, where: Places) -> str:
    """A line that says which server answers; empty if it is the one that users expect."""
    if path == where.session:
        return ""
    if where.session is not None:
        return f"{_whose(uid)} server at {path} answers: nobody listens at {where.session}, this session's"
    is_named = path in where.configured and len(where.configured) == 1
    is_own = path in where.configured and uid == os.geteuid()
    return "" if is_named or is_own else f"{_whose(uid)} server answers, at {path}"


def _whose(uid: int) -> str:
    from pyssh_gateway.system.accounts import shown_name  # late: a remark is rare

    return "your" if uid == os.geteuid() else f"{shown_name(uid)}'s"


def converse(sock: socket.socket, request: bytes, *, seconds: float, limit: int) -> bytes:
    """Send `request` and return the server's line, of at most `limit` bytes; closes `sock`. Raises Failed."""
    deadline = time.monotonic() + seconds
    reply = bytearray()
    with sock:
        try:
            sock.settimeout(seconds)
            sock.sendall(request)
            while b"\n" not in reply[-_CHUNK:]:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                received = sock.recv(_CHUNK)
                if not received:
                    raise Failed("the server closed the connection without an answer; too many may be asking")
                reply += received
                if len(reply) > limit:
                    raise Failed(f"the server's answer is longer than {limit} bytes")
        except TimeoutError:
            raise Failed(f"the server did not answer within {seconds:.0f} s") from None
        except OSError as error:
            raise Failed(f"the server went away: {os.strerror(error.errno or 0)}") from None
    return bytes(reply)
