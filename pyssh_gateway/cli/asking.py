"""Asking the running server: one line there, one line back, within a time."""

import os
import socket
import time
from typing import TypeVar

from pyssh_gateway.cli.outcome import Failed
from pyssh_gateway.config import Config
from pyssh_gateway.control_socket import ControlSocketError, NobodyListens, client_paths, connect
from pyssh_gateway.core import control

QUICK_SECONDS = 10.0
"""How long a server may take for what it only has to look up. Its loop is never busy for longer than a moment."""

SLOW_SECONDS = 100.0
"""The same for what makes it ask others; longer than the time that the server itself allows for that."""

_Reply = TypeVar("_Reply", bound=control.Reply)


class NoServer(Failed):
    """No server runs that could be asked."""


def ask(config: Config, request: control.AnyRequest, kind: type[_Reply], *, slow: bool = False) -> _Reply:
    """The server's reply of that `kind`. Raises NoServer, and Failed with the reason for which there is no answer.

    `slow`: the server has to ask others for it.
    """
    try:
        question = control.encode_request(request)
    except UnicodeEncodeError:
        raise Failed("what is asked is not UTF-8 text") from None
    line = _converse(_reach(config), question, SLOW_SECONDS if slow else QUICK_SECONDS)
    try:
        reply = control.decode_reply(line)
    except control.ControlError as error:
        raise Failed(f"the server answered what this command does not understand: {error}") from None
    if isinstance(reply, control.RefusedReply):
        raise Failed(reply.reason)
    if not isinstance(reply, kind):
        raise Failed(f"the server answered {type(reply).__name__}, which is not what it was asked for")
    return reply


def _reach(config: Config) -> socket.socket:
    paths = client_paths(config.control, config.keys_dir)
    for path in paths:
        try:
            return connect(path)
        except NobodyListens:
            continue
        except ControlSocketError as error:
            raise Failed(str(error)) from None
    looked = f"nobody listens at {' or '.join(paths)}" if paths else 'control is "off" in the configuration'
    raise NoServer(f"no server could be asked: {looked}")


def _converse(sock: socket.socket, request: bytes, seconds: float) -> bytes:
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
                if len(reply) > control.MAX_REPLY_BYTES:
                    raise Failed(f"the server's answer is longer than {control.MAX_REPLY_BYTES} bytes")
        except TimeoutError:
            raise Failed(f"the server did not answer within {seconds:.0f} s") from None
        except OSError as error:
            raise Failed(f"the server went away: {os.strerror(error.errno or 0)}") from None
    return bytes(reply)


_CHUNK = 64 * 1024
