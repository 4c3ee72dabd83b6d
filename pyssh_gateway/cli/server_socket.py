"""Where the server is that a command asks, and one line there and back, within a time.

Nothing heavy is imported here: `pyssh-gateway hold` stands before somebody's own command and has to be quick. What the
lines say is the business of others.
"""

import os
import socket
import time
from collections.abc import Mapping, Sequence

from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.config import source
from pyssh_gateway.ipc.control_socket import ControlSocketError, NobodyListens, client_paths, connect

SESSION_VARIABLE = "PYSSH_CONTROL"
"""In a session, the socket of the server that it belongs to."""

_CHUNK = 64 * 1024


class NoServer(Failed):
    """No server runs that could be asked."""


def read_config(config: str | None, environ: Mapping[str, str]) -> source.RawConfig:
    """The configuration; `config` is what was given with --config. Raises ConfigError.

    It may be root's secret: where it can't be read, and nobody has named it, it is as if there were none.
    """
    named = config is not None or environ.get(source.PATH_VARIABLE)
    readable = named or os.access(source.DEFAULT_PATH, os.R_OK)
    return source.read(config, environ, {}, source.DEFAULT_PATH if readable else "")


def places(raw: source.RawConfig, config: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where the server may listen, with this configuration. In a session its own comes first, unless --config is given.

    What is no path in it is taken for what it is without a configuration: not every command has it checked.
    """
    control, keys_dir = raw.values.get("control", "auto"), raw.values.get("keys_dir", "keys")
    found = client_paths(
        control if isinstance(control, str) else "auto", keys_dir if isinstance(keys_dir, str) else "keys"
    )
    session = environ.get(SESSION_VARIABLE)
    return (session, *found) if session and config is None else found


def reach(paths: Sequence[str]) -> socket.socket:
    """A connection to the first server that there is. Raises NoServer, Failed."""
    for path in paths:
        try:
            return connect(path)
        except NobodyListens:
            continue
        except ControlSocketError as error:
            raise Failed(str(error)) from None
    looked = f"nobody listens at {' or '.join(paths)}" if paths else 'control is "off" in the configuration'
    raise NoServer(f"no server could be asked: {looked}")


def converse(sock: socket.socket, request: bytes, *, seconds: float, limit: int) -> bytes:
    """The line that the server answers, of `limit` bytes at most; `sock` is closed. Raises Failed."""
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
