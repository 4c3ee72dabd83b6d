"""Sentences about the machine's being awake: at login, and for whoever asks why it is up or why it stopped.

Pure: the facts come in, and times as local ones. Nothing here decides anything.
"""

from datetime import datetime

import msgspec

from pyssh_gateway.config.types import Idle
from pyssh_gateway.config.values import format_duration
from pyssh_gateway.events import Identity

MINUTE, DAY = 60, 86400

COUNTED_DOWN = 10 * MINUTE
"""Below this, the seconds that are left are told: a minute may be nearly two otherwise."""

JUST_NOW = 10
"""Seconds after the start in which a login is the one that the machine was started for."""


class LastLogin(msgspec.Struct, frozen=True):
    """When somebody logged in before (Unix time), and the address that they came from."""

    time: float
    peer: str


def time_span(seconds: float) -> str:
    """A time that was measured, for people: seconds below a minute, minutes below a day, else hours.

    What is configured is told as it is (`format_duration`), or it would be two different times in two sentences.
    """
    step = 1 if seconds < MINUTE else MINUTE if seconds < DAY else 60 * MINUTE
    return format_duration(int(seconds) // step * step)


def countdown(seconds: float) -> str:
    """A time that is left, for people."""
    return format_duration(int(seconds)) if seconds < COUNTED_DOWN else time_span(seconds)


def policy(idle: Idle) -> str:
    """When the machine stops, in a sentence or two."""
    if idle.timeout is None:
        return "It does not stop by itself."
    text = f"It stops {format_duration(idle.timeout)} after the last client has gone"
    if idle.client_idle is not None:
        text += f", or has not been used for {format_duration(idle.client_idle)}"
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
    """What somebody reads who logs in, in whole lines.

    `since` is when the machine was started, `woken_by` the address of whoever came first. All of it is the server's own
    words but addresses, which are parsed, and the person's name, which has visible characters only.
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
