"""Receive windows (RFC 4254 section 5.2): how far ahead of its process a channel's peer may send.

A window is memory that the peer may make us hold, so all windows of an account are drawn from one budget. When the
budget is short, windows are only replenished up to each channel's minimum, and the peer waits; nobody is disconnected.
Pure: the channel does the sending.
"""

from collections.abc import Callable
from math import inf

ACCOUNT_BYTES = 64 * 1024 * 1024
"""The memory that one account's channels may use for processes that do not read. It allows one upload with a window of
16 MiB, with a hundred idle channels beside it; it is a quarter of the memory of Fly's smallest machine."""

FIRST_BYTES = 2 * 1024 * 1024
"""The first window of a channel, until the channel has shown that it needs more. sshd's is 2 MiB, always
(channels.h)."""

MAX_BYTES = 16 * 1024 * 1024
"""The largest window: 160 MB/s over a round trip of 100 ms, which is more than a gigabit line takes."""

FLOOR_BYTES = 32 * 1024
"""Each channel's minimum, whatever the others hold: one packet, so that keystrokes and small requests arrive."""

FIRST_SHARE = 32
"""A new channel gets at most this part of what is left. A window can't be reduced: with a larger part, a browser's idle
connections would leave nothing for an upload; with this, a hundred of them leave it a window of 1 MiB."""

SHARE = 3
"""A channel has at most this part of what the others leave: half of what would be left beside it. This is the dynamic
threshold of Choudhury and Hahne (IEEE/ACM Transactions on Networking, April 1998): one channel may have much, many busy
channels converge to equal parts, and some is always left for a new one."""

ADJUST_PACKETS = 3
"""For a distant peer the window is replenished after so many packets, or when half of it is used (OpenSSH's channels.c,
channel_check_window). With the rule of half alone, the sender of a distant upload has only half a window, half of the
time."""

NEAR_SECONDS = 0.01
"""A peer that answers within this is near: 2 MiB in a round trip are more than 200 MB/s, so the window limits nothing.
A larger window has a cost then, because it does not fit into the processor's caches: uploads on the same machine took
up to three times as long with 16 MiB (measured)."""

NEAR_PART = 4
"""For a near peer the window is replenished in such parts (a quarter each): after every three packets it would cost a
fifth more processor time, without any gain (measured)."""

ROUND_SLACK = 1.5
"""A window counts as used up within a round trip if that took at most this many of the shortest round trips. The factor
allows for noise; at twice the shortest, the line may be full already, and a larger window would only make a larger
queue."""

MAX_ROUND_SECONDS = 2.0
"""Above this, a round is not a round trip that deserves a larger window (a geostationary satellite's takes 0.6 s): the
sender has paused, or the process is slow."""

CLOGGED_PART = 4
"""If more than this part of a window waits for the process, the process is slow: a larger window would only hold
more."""


class Budget:
    """The bytes that one account's channels hold or may still send, and the limit for them."""

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
        """How much a channel that holds `own` bytes may hold; less than `own` if other channels have come."""
        return max(FLOOR_BYTES, (self._limit - self.held + own) // SHARE)


class Budgets:
    """The budget of each account, for the process's lifetime: there are no more than accounts that may log in."""

    def __init__(self) -> None:
        self._by_account: dict[str, Budget] = {}

    def of(self, account: str) -> Budget:
        """The one budget of all connections of `account`."""
        return self._by_account.setdefault(account, Budget())


class Line:
    """What a connection knows about its peer's distance: the shortest time in which an answer has come, in seconds.

    The kernel's measure (TCP_INFO) would only be that of the path to the next proxy.
    """

    def __init__(self) -> None:
        self.round_trip = inf

    def answered(self, seconds: float) -> None:
        """Something came that the peer could only send after it had received what we sent `seconds` ago."""
        self.round_trip = min(self.round_trip, seconds)


class Window:
    """One channel's window.

    `offered` is what the peer may still send. What it has sent counts against the budget until the process has taken
    it. A round begins with an offer and ends when the first byte beyond that offer comes. The peer could send that byte
    only after it had received a later offer, so a round takes at least a round trip, and exactly that if the sender
    waits for the window. In that case the window doubles.
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
        self._enough = self.offered  # while so much is offered, no new offer is due
        self._left_in_round = self.offered
        self._round_began = now()

    def confirmed(self) -> None:
        """The confirmation of the channel is being sent; the peer sends nothing before it has arrived."""
        self._confirmed = self._now()

    def heard(self) -> None:
        """Something came on the channel."""
        if self._confirmed is not None:
            self._line.answered(self._now() - self._confirmed)
            self._confirmed = None

    def received(self, count: int) -> None:
        """The peer has sent `count` bytes, which is not more than it was offered."""
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
        """The process has taken `count` of the received bytes, or they are counted elsewhere from now on."""
        if self._waiting:  # otherwise the channel has ended meanwhile
            self._waiting -= count
            self._budget.held -= count

    def offer(self) -> int:
        """How many more bytes to offer to the peer now, or 0. They count as offered from then on."""
        if self.offered >= self._enough:  # most calls end here
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
        """The peer sends no more, or is ignored: its offer is void. Bytes that it has sent still have to be taken."""
        self._takes = False
        self._budget.hold(-self.offered)
        self.offered = 0

    def discard(self) -> None:
        """The channel has ended, and bytes that have not been taken are dropped."""
        self.close()
        self._budget.hold(-self._waiting)
        self._waiting = 0
