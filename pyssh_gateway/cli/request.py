"""Asking the running server: a request there, a reply of the right kind back."""

from typing import Generic, NamedTuple, TypeVar

from pyssh_gateway.cli.exit_codes import Failed, Refused
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.server_socket import NoServer, Places, Server, converse, reach
from pyssh_gateway.core import control

__all__ = ["Answer", "NoServer", "ask"]

QUICK_SECONDS = 10.0
"""How long a server may take for what it only has to look up. Its loop is never busy for longer than a moment."""

SLOW_SECONDS = 100.0
"""The same for what makes it ask others; longer than the time that the server itself allows for that."""

_Reply = TypeVar("_Reply", bound=control.Reply)


class Answer(NamedTuple, Generic[_Reply]):
    """A reply, and the server that gave it."""

    reply: _Reply
    server: Server


def ask(where: Places, request: control.AnyRequest, kind: type[_Reply], *, slow: bool = False) -> Answer[_Reply]:
    """The answer of that `kind` of the server that is meant; which one it is is said where that is not plain.

    Raises NoServer, and Failed with the reason for which there is no answer. `slow`: the server has to ask others for
    it.
    """
    try:
        question = control.encode_request(request)
    except UnicodeEncodeError:
        raise Failed("what is asked is not UTF-8 text") from None
    seconds = SLOW_SECONDS if slow else QUICK_SECONDS
    sock, server = reach(where)
    if server.remark:
        printing.remark(server.remark)
    line = converse(sock, question, seconds=seconds, limit=control.MAX_REPLY_BYTES)
    try:
        reply = control.decode_reply(line)
    except control.ControlError as error:
        raise Failed(f"the server answered what this command does not understand: {error}") from None
    if isinstance(reply, control.RefusedReply):
        raise Refused(reply.reason)
    if not isinstance(reply, kind):
        raise Failed(f"the server answered {type(reply).__name__}, which is not what it was asked for")
    return Answer(reply, server)
