"""Receive windows (RFC 4254 section 5.2): how far ahead of its process a channel's peer may send.

A window is memory that the peer may make us hold, so all windows of an account are drawn from one budget. When that
is short, windows are no longer given back beyond what each channel has by right, and the peer waits; nobody is
disconnected. Pure: the channel does the sending.
"""

from collections.abc import Callable
from math import inf

ACCOUNT_BYTES = 64 * 1024 * 1024
"""What one account's channels may make us hold for processes that do not read. It lets one upload have a window of 16
MiB, and a hundred idle channels beside it; a quarter of the smallest machine's memory that Fly rents."""

FIRST_BYTES = 2 * 1024 * 1024
"""The window of a channel that has not shown yet that it needs more. sshd's is 2 MiB, always (channels.h)."""

MAX_BYTES = 16 * 1024 * 1024
"""No window grows beyond: 160 MB/s over a round trip of 100 ms, which is more than a gigabit line takes."""

FLOOR_BYTES = 32 * 1024
"""What each channel may have whatever the others hold: one packet, so that keystrokes and small requests arrive."""

FIRST_SHARE = 32
"""A new channel gets at most this part of what is left. A window can't be called back: with a larger part a browser's
idle connections would leave nothing for an upload; with this a hundred leave it a window of 1 MiB."""

SHARE = 3
"""A channel has at most this part of what the others leave: half of what would be left beside it. This is the dynamic
threshold of Choudhury and Hahne (IEEE/ACM Transactions on Networking, April 1998): one channel may have much, many that
are busy converge to the same, and some is always left for a new one."""

ADJUST_PACKETS = 3
"""Over a distance the window is given back after so many packets, or when half of it is used (OpenSSH's channels.c,
channel_check_window). At half alone the sender of a distant upload has half a window, half of the time."""

NEAR_SECONDS = 0.01
"""A peer that answers within this is near: 2 MiB in a round trip are more than 200 MB/s, so the window limits nothing.
A larger one costs then, because it does not fit into the processor's caches: uploads on the same machine took up to
three times as long with 16 MiB (measured)."""

NEAR_PART = 4
"""To a peer that is near the window is given back in parts of this size: after three packets each, it costs a fifth
more processor time, for nothing (measured)."""

ROUND_SLACK = 1.5
"""A window was used up within about a round trip if that took no longer than this many of the shortest. It allows for
noise; at twice the line may be full already, and a larger window only makes a larger queue."""

MAX_ROUND_SECONDS = 2.0
"""No round trip that is worth a larger window takes longer (a geostationary satellite's: 0.6 s): the sender has paused,
or the process is slow."""

CLOGGED_PART = 4
"""If more than this part of a window waits for the process, it is what is slow: a larger one would only hold more."""


class Budget:
    """What one account's channels hold or may make us hold, in bytes, and how much of it may be."""

    def __init__(self, limit: int = ACCOUNT_BYTES) -> None:
        self._limit = limit
        self.held = 0

    def hold(self, count: int) -> None:
        """Count `count` bytes more, or fewer if negative."""
        self.held += count

    def first(self) -> int:
        """The window of a new channel."""
        return max(FLOOR_BYTES, min(FIRST_BYTES, (self._limit - self.held) // FIRST_SHARE))

    def share(self, own: int) -> int:
        """What a channel that holds `own` may hold; less than it does if others have come."""
        return max(FLOOR_BYTES, (self._limit - self.held + own) // SHARE)


class Budgets:
    """The budget of each account, for as long as the process lives: there are as many as the configuration lets in."""

    def __init__(self) -> None:
        self._by_account: dict[str, Budget] = {}

    def of(self, account: str) -> Budget:
        """The one budget of all connections of `account`."""
        return self._by_account.setdefault(account, Budget())


class Line:
    """What a connection knows of the way to its peer: the shortest time in which an answer has come, in seconds.

    The kernel's own measure (TCP_INFO) would be that of the way to the next proxy.
    """

    def __init__(self) -> None:
        self.round_trip = inf

    def answered(self, seconds: float) -> None:
        """Something came that could not have been sent before something else had arrived, `seconds` ago sent."""
        self.round_trip = min(self.round_trip, seconds)


class Window:
    """One channel's window.

    `offered` is what the peer may still send. What it has sent counts against the budget until the process has taken
    it. A round begins with an offer and ends when its last byte has been used and the next one comes: as that one could
    be sent only after a later offer had arrived, a round takes a round trip at least, and just that if the sender waits
    for the window. Then the window doubles.
    """

    def __init__(self, budget: Budget, line: Line, packet: int, now: Callable[[], float]) -> None:
        self._budget = budget
        self._line = line
        self._packet = packet
        self._now = now
        self._size = FIRST_BYTES
        self._waiting = 0
        self._takes = True
        self._confirmed: float | None = None
        self.offered = budget.first()
        budget.hold(self.offered)
        self._enough = self.offered  # with so much on offer, no offer is due
        self._left_in_round = self.offered
        self._round_began = now()

    def confirmed(self) -> None:
        """The peer is being told that the channel is open; until it knows, nothing comes."""
        self._confirmed = self._now()

    def heard(self) -> None:
        """Something came on the channel."""
        if self._confirmed is not None:
            self._line.answered(self._now() - self._confirmed)
            self._confirmed = None

    def received(self, count: int) -> None:
        """The peer has sent `count` bytes, which is no more than it was offered."""
        if self._confirmed is not None:
            self.heard()
        self.offered -= count
        self._waiting += count
        self._left_in_round -= count
        if self._left_in_round < 0:
            self._end_round()

    def _end_round(self) -> None:
        now = self._now()
        seconds = now - self._round_began
        self._line.answered(seconds)
        longest = min(self._line.round_trip * ROUND_SLACK, MAX_ROUND_SECONDS)
        clogged = self._waiting > self._size // CLOGGED_PART
        if NEAR_SECONDS <= seconds <= longest and not clogged:
            self._size = min(MAX_BYTES, self._size * 2)
            self._enough = self._size
        self._round_began = now
        self._left_in_round = self.offered

    def taken(self, count: int) -> None:
        """The process has taken `count` bytes of it, or somebody else counts them from now on."""
        if self._waiting:  # else the channel has ended in between
            self._waiting -= count
            self._budget.held -= count

    def offer(self) -> int:
        """How much more the peer is to be offered now; 0 for nothing. It counts as offered then."""
        if self.offered >= self._enough:  # most packets need no more than this
            return 0
        own = self.offered + self._waiting
        allowed = min(self._size, self._budget.share(own))
        near = self._line.round_trip < NEAR_SECONDS
        part = allowed // NEAR_PART if near else ADJUST_PACKETS * self._packet
        self._enough = max(allowed - part, allowed // 2)
        if own >= self._enough or not self._takes:
            return 0
        self.offered = allowed - self._waiting
        self._budget.hold(allowed - own)
        return allowed - own

    def close(self) -> None:
        """The peer sends no more, or is not listened to: its offer is void. What it has sent still has to be taken."""
        self._takes = False
        self._budget.hold(-self.offered)
        self.offered = 0

    def discard(self) -> None:
        """The channel is over, and what has not been taken is gone."""
        self.close()
        self._budget.hold(-self._waiting)
        self._waiting = 0
