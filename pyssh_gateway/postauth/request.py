"""What a session is to run, the client's request or the command forced instead; and the message if that fails."""

import msgspec

from pyssh_gateway.core import launch
from pyssh_gateway.core.launch import SessionRequest, Terminal
from pyssh_gateway.core.printable import printable
from pyssh_gateway.postauth.channel import SessionChannel
from pyssh_gateway.postauth.context import SessionContext
from pyssh_gateway.postauth.streams import STDERR
from pyssh_gateway.system import sftp_program


class Asked(msgspec.Struct, frozen=True):
    """The request that is served. `instead_of` is what the client asked for, if that differs; for the log."""

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
    """What to run for the request `kind`; `command` is its command or its subsystem's name."""
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
    user_rc = rules.user_rc and kind != "subsystem"  # `kind` is what the client asked for, even if a command is forced
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
    """The message to a client whose process could not be started, and the kind of data to send it as.

    sshd fails the request, and the client then shows only "exec request failed". For refusals with a text (nologin)
    sshd sends a message as done here. `in_terminal`: the client's terminal is in raw mode.
    """
    text = f"pyssh-gateway: {printable(reason)}"
    return (f"{text}\r\n".encode(), None) if in_terminal else (f"{text}\n".encode(), STDERR)
