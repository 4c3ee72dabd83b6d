"""What a session learns while it ends: from the spawner, the kernel, the client, the log and its timers."""

from enum import StrEnum, auto

import msgspec


class Way(StrEnum):
    """The way to the client: free; busy (the network takes no more, but all output has left the channel); window full.

    Only in the last case does output wait in the channel.
    """

    FREE = auto()
    BUSY = auto()
    FULL = auto()


class Timer(StrEnum):
    """The timers: an EOF waits for the exit; the exit status waits for the end of output; silence after the exit."""

    EOF = auto()
    EXIT = auto()
    LINGER = auto()


class Entry(StrEnum):
    """What the log gets: that the process has ended, although the session goes on; that the session has ended."""

    EXIT = auto()
    END = auto()


class Started(msgspec.Struct, frozen=True):
    """The process was started, with a pty (`terminal`) or with pipes. The request is answered after this.

    `ended`: all its output is closed already, because the client has refused it. `linger` is how many seconds output
    that other processes hold open may be silent after the exit; None: for ever.
    """

    terminal: bool
    linger: float | None
    ended: bool = False


class NoProcess(msgspec.Struct, frozen=True):
    """There will be no process; `reason` is a text for the client."""

    reason: str


class Exited(msgspec.Struct, frozen=True):
    """The process has been reaped; perhaps before it was known to have started."""


class OutputEnded(msgspec.Struct, frozen=True):
    """An output has been read to its end; `all`: no other is open."""

    all: bool


class OutputRefused(msgspec.Struct, frozen=True):
    """The client refuses more standard output (eow@openssh.com), so it is closed. `ended`: no other output is open."""

    ended: bool


class Output(msgspec.Struct, frozen=True):
    """The process, or another one that holds its output, wrote something."""


class WayChanged(msgspec.Struct, frozen=True):
    """The way to the client has changed. It is reported for the first time when the session's request was answered."""

    way: Way


class Drained(msgspec.Struct, frozen=True):
    """A `Drain` is done: `size` bytes were read."""

    size: int


class TimeOver(msgspec.Struct, frozen=True):
    """The time of a `Wait` has passed."""

    timer: Timer


class Logged(msgspec.Struct, frozen=True):
    """The log has this entry, or nobody waits for it any more."""

    entry: Entry


class Stopping(msgspec.Struct, frozen=True):
    """The server stops."""


class Gone(msgspec.Struct, frozen=True):
    """The channel is gone. `lost`: its connection failed with an error."""

    lost: bool


Answer = Started | NoProcess
Fact = (
    Answer | Exited | OutputEnded | OutputRefused | Output | WayChanged | Drained | TimeOver | Logged | Stopping | Gone
)
