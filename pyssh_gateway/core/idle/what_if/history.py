"""What the log says happened on a machine, apart from any decision of the idle rules. All times are Unix time.

A connection that was cut off by a stop of the server is `cut`: its client had not left.
"""

from typing import Literal

import msgspec

End = Literal["idle", "suspend", "signal", "lost", "open"]
"""How a time awake ended: the server stopped for want of use, or had the machine suspended for that; it was told to
stop; it ended without a word, or its platform suspended the machine; or it goes on at the end of the log."""

Span = tuple[float, float]


class Awake(msgspec.Struct, frozen=True, gc=False):
    """The machine was up from `begun` to `ended`."""

    begun: float
    ended: float
    end: End


class Connection(msgspec.Struct, frozen=True):
    """A connection from `opened` to `closed`. `login` is None if nobody logged in on it.

    `person` identifies the person (see `Identity.known_by`) and `user` is the account. `by_person`: a terminal or SFTP
    was opened on it. `uses` are the spans in which it was used; None: not recorded; empty: it came back by itself, and
    no person was seen on it. `unused` are the spans in which it did not keep the machine up, because nobody had used it
    for `idle.client_idle`, or it had come back by itself. `goodbye`: the client ended it on purpose.
    """

    opened: float
    closed: float
    peer: str
    login: float | None = None
    user: str = ""
    person: str = ""
    by_person: bool = False
    goodbye: bool = False
    cut: bool = False
    uses: tuple[Span, ...] | None = None
    unused: tuple[Span, ...] = ()


class Kept(msgspec.Struct, frozen=True, gc=False):
    """Something that kept the machine up from `begun` to `ended`.

    That is a hold, work in the background, a terminal without a connection, or the hours of the schedule.
    """

    kind: Literal["hold", "work", "terminal", "schedule"]
    begun: float
    ended: float


class History(msgspec.Struct, frozen=True):
    """All of it, each part in the order in which it began.

    `begun` and `ended` are the times of the first and last event that count. `lines` were read, of which `damaged` were
    no events of ours; `left_out` connections were too many to keep.
    """

    begun: float
    ended: float
    awake: tuple[Awake, ...]
    connections: tuple[Connection, ...]
    kept: tuple[Kept, ...]
    lines: int = 0
    damaged: int = 0
    left_out: int = 0
