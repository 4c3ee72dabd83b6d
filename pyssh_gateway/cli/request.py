"""Asking the running server: a request there, a reply of the right kind back."""

from collections.abc import Sequence
from typing import TypeVar

from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.server_socket import NoServer, converse, reach
from pyssh_gateway.config.types import Config
from pyssh_gateway.core import control
from pyssh_gateway.ipc.control_socket import client_paths

__all__ = ["NoServer", "ask", "ask_at"]

QUICK_SECONDS = 10.0
"""How long a server may take for what it only has to look up. Its loop is never busy for longer than a moment."""

SLOW_SECONDS = 100.0
"""The same for what makes it ask others; longer than the time that the server itself allows for that."""

_Reply = TypeVar("_Reply", bound=control.Reply)


def ask(config: Config, request: control.AnyRequest, kind: type[_Reply], *, slow: bool = False) -> _Reply:
    """The reply of that `kind` of the server with this configuration; otherwise as `ask_at`."""
    return ask_at(client_paths(config.control, config.keys_dir), request, kind, slow=slow)


def ask_at(paths: Sequence[str], request: control.AnyRequest, kind: type[_Reply], *, slow: bool = False) -> _Reply:
    """The reply of that `kind` of the server at one of `paths`.

    Raises NoServer, and Failed with the reason for which there is no answer. `slow`: the server has to ask others for
    it.
    """
    try:
        question = control.encode_request(request)
    except UnicodeEncodeError:
        raise Failed("what is asked is not UTF-8 text") from None
    seconds = SLOW_SECONDS if slow else QUICK_SECONDS
    line = converse(reach(paths), question, seconds=seconds, limit=control.MAX_REPLY_BYTES)
    try:
        reply = control.decode_reply(line)
    except control.ControlError as error:
        raise Failed(f"the server answered what this command does not understand: {error}") from None
    if isinstance(reply, control.RefusedReply):
        raise Failed(reply.reason)
    if not isinstance(reply, kind):
        raise Failed(f"the server answered {type(reply).__name__}, which is not what it was asked for")
    return reply
