"""What is due while a session ends. The session does it."""

from enum import StrEnum, auto

import msgspec

from pyssh_gateway.core.session_end.facts import Timer


class Ending(StrEnum):
    """Why a session has ended, for the log. `LEFT_OPEN`: its process has ended, but others held its output open.

    `KEY_REVOKED` is set by the session, not here; everything that runs in the session is ended, too.
    """

    EXITED = auto()
    LEFT_OPEN = auto()
    CHANNEL_CLOSED = auto()
    CONNECTION_LOST = auto()
    SERVER_STOPPED = auto()
    KEY_REVOKED = auto()


class Wait(msgspec.Struct, frozen=True):
    """Start the timer, or start it anew."""

    timer: Timer
    seconds: float


class StopWaiting(msgspec.Struct, frozen=True):
    """Cancel the timer."""

    timer: Timer


class Drain(msgspec.Struct, frozen=True):
    """Read up to `most` bytes of the pty, while there are some and the way is free. `Drained` reports how many.

    The process has ended, so only what is in the pty now counts, even if other processes hold it open (as in sshd).
    """

    most: int


class SayWhy(msgspec.Struct, frozen=True):
    """Answer the request, and say why there is no process."""

    reason: str


class LogExit(msgspec.Struct, frozen=True):
    """Log how the process has ended, because the client is told that before the session ends; `Logged` follows."""


class LogEnd(msgspec.Struct, frozen=True):
    """Log why the session has ended, read no more of its output, and report it as `Logged`."""

    ending: Ending


class TellExit(msgspec.Struct, frozen=True):
    """Send exit-status or exit-signal."""


class RefuseInput(msgspec.Struct, frozen=True):
    """Stop taking input, whatever happens to the output (as sshd: session.c, session_exit_message)."""


class SendEof(msgspec.Struct, frozen=True):
    """Send EOF."""


class Close(msgspec.Struct, frozen=True):
    """Close the channel."""


class HangUp(msgspec.Struct, frozen=True):
    """Send SIGHUP to the terminal's processes, as when its line is lost."""


class Release(msgspec.Struct, frozen=True):
    """Cancel the timers and close the descriptors.

    `leave_outputs`: we end the session, and a process that keeps writing must not be killed by that (SIGPIPE). The
    process may read its pending input for `input_seconds` more.
    """

    input_seconds: float
    leave_outputs: bool


Due = (
    Wait | StopWaiting | Drain | SayWhy | LogExit | LogEnd | TellExit | RefuseInput | SendEof | Close | HangUp | Release
)
