"""What came of a simulation: when the machine was awake, how it stopped, and who missed it."""

import msgspec

from pyssh_gateway.core.idle.replay.spans import Span

UNDER_HANDS = 60.0
"""A client that was used in so many seconds before a stop is stopped under its user's hands."""

SOON = 300.0
"""A person who comes back within so many seconds should find the machine awake."""


class Awake(msgspec.Struct, frozen=True):
    """The machine was awake, starting or stopping, from `begin` to `end`. `woken_by` is empty for a start by hand."""

    begin: float
    end: float
    woken_by: str
    logins: int


class Open(msgspec.Struct, frozen=True):
    """A connection that was open when the machine stopped, and when it was used last; None: never."""

    conn: str
    person: str
    last_use: float | None


class Stopped(msgspec.Struct, frozen=True):
    """The machine began to stop at `at`. `killed` are the names of the wanted jobs that died of it."""

    at: float
    why: str
    open: tuple[Open, ...]
    killed: tuple[str, ...]


class Found(msgspec.Struct, frozen=True):
    """A person wanted to use the machine at `at`, and found it asleep. They had used it last at `left`, if ever.

    `was_open`: it had stopped under an open connection of theirs. It began that stop, or else its last one, at
    `stopped`.
    """

    at: float
    person: str
    left: float | None
    stopped: float
    was_open: bool


class Outcome:
    """All that is noted during a simulation, and sums of it."""

    def __init__(self) -> None:
        self.awake: list[Awake] = []
        self.stops: list[Stopped] = []
        self.found: list[Found] = []
        self.locked_out = 0
        """How often a person was refused twice in a row. Agents count this: they know who is there."""

    @property
    def spans(self) -> list[Span]:
        """When the machine was awake."""
        return [(one.begin, one.end) for one in self.awake]

    @property
    def seconds(self) -> float:
        """For how long the machine was awake."""
        return sum(one.end - one.begin for one in self.awake)

    @property
    def starts(self) -> int:
        """How often the machine was started or resumed."""
        return len(self.awake)

    @property
    def killed(self) -> int:
        """How many wanted jobs died of a stop."""
        return sum(len(one.killed) for one in self.stops)

    @property
    def for_nobody(self) -> float:
        """For how many seconds the machine was awake without anybody logging in until it stopped."""
        return sum(one.end - one.begin for one in self.awake if not one.logins)

    @property
    def under_hands(self) -> int:
        """How many stops came under the hands of a client that was still on."""
        return sum(
            any(open_.last_use is not None and one.at - open_.last_use < UNDER_HANDS for open_ in one.open)
            for one in self.stops
        )

    @property
    def came_back_soon(self) -> int:
        """How many people came back soon after the machine had stopped under their open connection."""
        return sum(one.was_open and one.at - one.stopped <= SOON for one in self.found)

    @property
    def left_shortly(self) -> int:
        """How many people found it asleep soon after they had used it last."""
        return sum(one.left is not None and one.at - one.left <= SOON for one in self.found)
