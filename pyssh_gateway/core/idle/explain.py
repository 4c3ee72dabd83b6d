"""Sentences about why the machine is up or why it stopped: for logins, and for the command `why`.

Pure: the facts and local times come in. Nothing is decided here.
"""

from datetime import datetime

import msgspec

from pyssh_gateway.config.types import Idle
from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.idle.usage import quiet_after
from pyssh_gateway.events import Identity

MINUTE, DAY = 60, 86400

COUNTED_DOWN = 10 * MINUTE
"""Below this, the remaining time is given with seconds: without them, "1 minute" could be nearly two."""

JUST_NOW = 10
"""A login within so many seconds after the start is taken for the one for which the machine was started."""


class LastLogin(msgspec.Struct, frozen=True):
    """When somebody logged in before (Unix time), and the address that they came from."""

    time: float
    peer: str


def time_span(seconds: float) -> str:
    """A measured time span, for people: seconds below a minute, minutes below a day, else hours.

    Configured times are shown exactly (`format_duration`) instead, or two sentences could give different times.
    """
    step = 1 if seconds < MINUTE else MINUTE if seconds < DAY else 60 * MINUTE
    return format_duration(int(seconds) // step * step)


def countdown(seconds: float) -> str:
    """A remaining time, for people."""
    return format_duration(int(seconds)) if seconds < COUNTED_DOWN else time_span(seconds)


def policy(idle: Idle) -> str:
    """When the machine stops, in a sentence or two."""
    if idle.timeout is None:
        return "It does not stop by itself."
    text = f"It stops {format_duration(idle.timeout)} after the last client has gone"
    if (unused := quiet_after(idle)) is not None:
        text += f", or has not been used for {format_duration(unused)}"
    sentences = [f"{text}."]
    if idle.background == "cpu":
        longest = format_duration(idle.background_max)
        sentences.append(f"What sessions leave running keeps it up while it works, for {longest} at most.")
    if idle.schedule:
        sentences.append(f"It stays up {', '.join(idle.schedule)} ({idle.timezone}).")
    return " ".join(sentences)


def stop_reason(reason: str, detail: str) -> str:
    """Why the machine stopped: `reason` and `detail` as in the event server.stopping."""
    if reason == "idle":
        return detail or "idle"
    return f"told to stop ({detail})" if detail else "told to stop"


def greeting(
    *, now: datetime, since: datetime, woken_by: str, policy: str, who: Identity, last: LastLogin | None
) -> bytes:
    """The text that is shown at a login, in whole lines.

    `since` is when the machine was started, `woken_by` the address of the first client. The text is safe to print:
    except for the server's own words it has only parsed addresses, and the person's name in visible characters.
    """
    seconds = (now - since).total_seconds()
    awake = f"Awake for {time_span(seconds)}" if seconds >= JUST_NOW else "Just started"
    if woken_by:
        awake += f", woken by {woken_by}"
    before = f"This is the first login of {who.person} that is known."
    if last is not None:
        then = datetime.fromtimestamp(last.time, now.tzinfo)
        before = f"Last login of {who.person}: {then:%a %b %d %H:%M %Z %Y} from {last.peer}"
    text = "\n".join([f"{awake}.", policy, before, ""])
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text).encode("utf-8", "replace")
