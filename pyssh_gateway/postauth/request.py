"""What is to run for a session, asked for or forced in the place of that; and what its client is told if it can't."""

import msgspec

from pyssh_gateway.core import launch
from pyssh_gateway.core.launch import SessionRequest, Terminal
from pyssh_gateway.core.printable import printable
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.context import SessionContext
from pyssh_gateway.postauth.streams import STDERR
from pyssh_gateway.system import sftp_program


class Asked(msgspec.Struct, frozen=True):
    """The request that is served. `instead_of` is what the client asked for, if that is something else; for the log."""

    request: SessionRequest
    instead_of: str = ""


def request_of(
    kind: launch.Kind,
    command: bytes | None,
    *,
    context: SessionContext,
    channel: SessionChannel,
    terminal: Terminal | None,
) -> Asked:
    """What becomes of the request `kind`, with a command or a subsystem's name."""
    display, rules = channel.x11, context.rules
    forced = rules.force_command
    extra = rules.env | launch.server_env(
        session=context.session,
        identity=context.identity.facts,
        agent=context.agent_path(),
        display=display.name if display is not None else b"",
        auth_file=context.auth_file(),
        original=(sftp_program.for_shell() if kind == "subsystem" else command) if forced is not None else None,
    )
    user_rc = rules.user_rc and kind != "subsystem"  # asked for, whatever is forced in its place
    instead_of, starts = "", launch.Forced(kind)
    if forced is not None:
        instead_of = kind if command is None else f"{kind} {command.decode('utf-8', 'surrogateescape')}"
        starts, command = launch.forced_to(forced, kind), forced
    request = SessionRequest(
        starts.kind,
        command,
        terminal,
        channel.env,
        extra,
        xauth=display.xauth if display is not None else b"",
        banner=context.banner if command is None else b"",
        rc_input=display.for_rc if display is not None else b"",
        user_rc=user_rc,
        sftp=starts.sftp,
        refusal=starts.refusal,
    )
    return Asked(request, instead_of)


def refusal(reason: str, *, in_terminal: bool) -> tuple[bytes, int | None]:
    """What a client is told for which there is no process, and as which kind of data.

    sshd fails the request, and its client then says "exec request failed" and nothing else; those refusals for which
    it has words (nologin) it says like this. `in_terminal`: the client's terminal is in raw mode.
    """
    text = f"pyssh-gateway: {printable(reason)}"
    return (f"{text}\r\n".encode(), None) if in_terminal else (f"{text}\n".encode(), STDERR)
