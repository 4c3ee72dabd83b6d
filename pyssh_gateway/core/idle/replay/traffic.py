"""What a client does with its connection, as the counters show it that the server keeps.

Use is a list of spans. How many bytes pass in them does not matter as long as the rules see use wherever there was
some, so the rates are fixed and high enough for that.
"""

from typing import Literal

import msgspec

from pyssh_gateway.core.idle.usage import Counters

Kind = Literal["typed", "asked", "worked", "shown"]
"""Keys at a terminal, SFTP requests, bytes through commands and forwards, output to a terminal by working programs."""

BYTES_AT_ONCE = 8192
"""Bytes with which a span of other kinds than "typed" begins, and bytes a second in it: a window that has a second of
it counts as use (`usage.TRICKLE_BYTES`)."""

HEARTBEAT_BYTES = 300
"""Bytes through a forward in each window in which nothing else happens: VS Code's heartbeats."""


class Use(msgspec.Struct, frozen=True):
    """Use from `begin` to `end`; `by_itself`: the client does that without a person, when it has connected.

    It counts from just after its beginning, so that nothing depends on the order of calls for the same moment.
    """

    begin: float
    end: float
    kind: Kind
    by_itself: bool = False


class Traffic:
    """The use of one connection: spans that are added as they begin, in order."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self._sums: dict[Kind, int] = {"typed": 0, "asked": 0, "worked": 0, "shown": 0}
        self._open: list[Use] = []
        self._sessions: list[float] = []
        self._terminals: list[float] = []
        self._looks = 0

    def add(self, use: Use) -> None:
        """There is use from `use.begin` on, which is not over yet."""
        self.uses.append(use)
        self._open.append(use)

    def open_session(self, now: float, *, terminal: bool) -> None:
        """A session begins."""
        self._sessions.append(now)
        if terminal:
            self._terminals.append(now)

    def last_use(self, now: float) -> float | None:
        """When a person or program used the connection last; None if never."""
        ends = [min(use.end, now) for use in self.uses if use.begin <= now and not use.by_itself]
        return max(ends, default=None)

    def current(self, now: float) -> list[Use]:
        """The use that goes on."""
        return [use for use in self._open if use.end > now]

    def counters(self, now: float, *, heartbeats: bool) -> Counters:
        """The counters at `now`, which never decreases.

        Looks that can't change anything are left out, so each one has the heartbeats of a single window.
        """
        self._looks += heartbeats
        counted = dict(self._sums)
        still_open = []
        for use in self._open:
            value = _bytes(use, now)
            counted[use.kind] += value
            if use.end < now:
                self._sums[use.kind] += value
            else:
                still_open.append(use)
        self._open = still_open
        return Counters(
            typed=counted["typed"],
            worked=counted["worked"] + self._looks * HEARTBEAT_BYTES,
            opened=sum(at < now for at in self._sessions),
            shown=counted["shown"],
            asked=counted["asked"],
            terminals=sum(at < now for at in self._terminals),
        )


def _bytes(use: Use, now: float) -> int:
    """How much of the use had happened at `now`."""
    if use.begin >= now:
        return 0
    seconds = min(use.end, now) - use.begin
    if use.kind == "typed":
        return 1 + int(seconds)
    return BYTES_AT_ONCE + int(seconds * BYTES_AT_ONCE)
