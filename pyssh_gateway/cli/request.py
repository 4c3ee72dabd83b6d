"""Asks the running server: sends a request, and checks the type of its reply."""

from typing import Generic, NamedTuple, TypeVar

from pyssh_gateway.cli.exit_codes import Failed, Refused
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.server_socket import NoServer, Places, Server, converse, reach
from pyssh_gateway.core import control

__all__ = ["Answer", "NoServer", "ask"]

QUICK_SECONDS = 10.0
"""How long a server may take to look something up. Its loop is never busy for longer than a moment."""

SLOW_SECONDS = 100.0
"""The same if it has to ask others first; longer than the time that the server itself allows for that."""

_Reply = TypeVar("_Reply", bound=control.Reply)


class Answer(NamedTuple, Generic[_Reply]):
    """A reply, and the server that gave it."""

    reply: _Reply
    server: Server


def ask(where: Places, request: control.AnyRequest, kind: type[_Reply], *, slow: bool = False) -> Answer[_Reply]:
    """Ask the server and return its answer of type `kind`; a remark says which server it is if that is not obvious.

    Raises NoServer, and Failed with the reason why there is no answer. `slow`: the server has to ask others first.
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
