"""The messages of a stop to clients, how its time is divided, and whether the machine was suspended meanwhile."""

import msgspec

AWAY_SECONDS = 1.0
"""By how much a wait may be late, or the clocks may drift apart, before the machine counts as suspended. A busy machine
causes delays, too; if it is mistaken for a suspended one, its idle time merely starts again."""


class Farewell(msgspec.Struct, frozen=True):
    """The texts of a stop: for the screens of terminals, and for the disconnect message of every connection."""

    screen: str
    message: str


SPAWNER_GONE = "the spawner is gone"
"""The `detail` of a stop that no signal asked for: the process that starts all others has died."""


def farewell(reason: str, action: str, detail: str = "") -> Farewell:
    """The texts of a stop for `reason` ("idle" or "signal") by a server whose `stop.action` is `action`.

    `detail` is the signal's name, or `SPAWNER_GONE`. SIGTERM is what service managers and platforms send.
    """
    if detail == "SIGINT":
        text = "the server was stopped by hand (Ctrl-C)"
    elif detail == "SIGHUP":
        text = "the server was stopped with the terminal that it ran in"
    elif detail == SPAWNER_GONE:
        text = "the server has died; reconnect when it has been started again"
    elif reason == "signal":
        text = "the server is stopping for a deploy, reconnect in a moment"
    elif action == "suspend":
        text = "nobody is using this machine, so it goes to sleep; reconnect to wake it"
    else:
        text = "nobody is using this machine, so it stops; reconnect to start it again"
    return Farewell(f"pyssh-gateway: {text}. Goodbye!", text[0].upper() + text[1:])


def session_seconds(reason: str, drain: float, hook_timeout: float, hooks: int) -> float:
    """For how long the sessions may take to end in a stop for `reason`, with `hooks` hooks to run after them.

    After a signal, `drain` seconds are all there is, since the platform then kills the server. The sessions end first,
    because the hooks need what they have written, and leave the hooks `hook_timeout`, but at most half of `drain`.
    """
    return drain - min(hook_timeout, drain / 2) if hooks and reason == "signal" else drain


def hook_seconds(reason: str, drain: float, hook_timeout: float, spent: float) -> float:
    """For how long all the hooks may run once the sessions have taken `spent` seconds to end."""
    return min(hook_timeout, max(drain - spent, drain / 2)) if reason == "signal" else hook_timeout


class Clocks(msgspec.Struct, frozen=True):
    """Both clocks at one moment, in seconds: one that never jumps, and Unix time."""

    steady: float
    wall: float


def away(before: Clocks, after: Clocks, slept: float) -> float:
    """For how many seconds the machine was suspended between two looks planned `slept` seconds apart; 0: it ran.

    Whether the steady clock continues during a suspend depends on the platform, so either clock may show it. A clock
    that was set back shows nothing.
    """
    seconds = max(after.steady - before.steady, after.wall - before.wall) - slept
    return seconds if seconds > AWAY_SECONDS else 0.0
