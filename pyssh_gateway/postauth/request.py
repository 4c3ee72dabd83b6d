"""What is to run for a session: what its client asked for, or what is forced in the place of that."""

import msgspec

from pyssh_gateway.as_user.sftp import command as sftp_command
from pyssh_gateway.core import launch
from pyssh_gateway.core.launch import SessionRequest, Terminal
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.context import SessionContext


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
        original=(sftp_command.for_shell() if kind == "subsystem" else command) if forced is not None else None,
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
        banner=context.banner() if command is None else b"",
        rc_input=display.for_rc if display is not None else b"",
        user_rc=user_rc,
        sftp=starts.sftp,
        refusal=starts.refusal,
    )
    return Asked(request, instead_of)
