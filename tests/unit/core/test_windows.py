"""Channel windows: their size, their growth, and that no account holds more bytes than its limit."""

from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from pyssh_gateway.core.windows import (
    ADJUST_PACKETS,
    FIRST_BYTES,
    FLOOR_BYTES,
    MAX_BYTES,
    MAX_ROUND_SECONDS,
    Budget,
    Budgets,
    Line,
    Window,
)

PACKET = 32 * 1024
FAR = 0.1
NEAR = 0.001


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time now."""
        return self.now


class Channel:
    """A window with its clock, and its peer, which knows that it may send `known` bytes."""

    def __init__(self, budget: Budget | None = None, round_trip: float | None = None) -> None:
        self.clock = Clock()
        self.budget = budget or Budget()
        self.line = Line()
        if round_trip is not None:
            self.line.answered(round_trip)
        self.window = Window(self.budget, self.line, PACKET, self.clock)
        self.known = self.window.offered

    def sends(self, count: int) -> int:
        """The peer sends so many bytes, and the process takes them at once; returns the window that is given back."""
        offered = 0
        while count:
            packet = min(count, PACKET)
            self.window.received(packet)
            self.window.taken(packet)
            offered += self.window.offer()
            count -= packet
        return offered

    def one_way_and_back(self, seconds: float) -> None:
        """After a round trip of so many seconds, the peer sends everything that it was offered before it."""
        self.clock.now += seconds
        self.known = self.sends(self.known)


def test_a_channel_begins_with_sshds_window() -> None:
    """Protects short uploads: 2 MiB may be sent at once, before a window could grow."""
    assert Channel().window.offered == FIRST_BYTES == 2 * 1024 * 1024


def test_over_a_distance_the_window_is_given_back_after_three_packets() -> None:
    """Protects distant uploads from waiting: the window is given back after three packets (channels.c)."""
    channel = Channel(round_trip=FAR)
    assert channel.sends(ADJUST_PACKETS * PACKET) == 0
    assert channel.sends(1) == ADJUST_PACKETS * PACKET + 1
    assert channel.window.offered == FIRST_BYTES


def test_near_by_the_window_is_given_back_in_larger_parts() -> None:
    """Protects uploads on one machine from an adjust message for every fourth packet."""
    channel = Channel(round_trip=NEAR)
    assert channel.sends(FIRST_BYTES // 4) == 0
    assert channel.sends(1) == FIRST_BYTES // 4 + 1


def test_a_window_that_limits_a_distant_upload_doubles_in_each_round_trip() -> None:
    """Protects distant uploads: for any round trip the window grows until the line is full, up to a channel's limit."""
    channel = Channel()
    sizes = []
    for _ in range(6):
        sizes.append(round(channel.window.offered / FIRST_BYTES))
        channel.one_way_and_back(FAR)
    assert sizes == [1, 1, 2, 4, 8, 8]
    assert MAX_BYTES - (ADJUST_PACKETS + 1) * PACKET < channel.window.offered <= MAX_BYTES


@pytest.mark.parametrize(
    ("round_trip", "seconds"),
    [(NEAR, NEAR), (NEAR, FAR), (FAR, 2 * FAR), (MAX_ROUND_SECONDS * 2, MAX_ROUND_SECONDS * 1.5)],
    ids=["near", "slow for a near one", "the line is full", "the sender pauses"],
)
def test_a_window_that_is_not_what_limits_stays(round_trip: float, seconds: float) -> None:
    """Protects memory and the processor's caches: a window that does not limit the upload does not grow."""
    channel = Channel(round_trip=round_trip)
    for _ in range(5):
        channel.one_way_and_back(seconds)
    assert channel.window.offered <= FIRST_BYTES


def test_a_slow_process_gets_no_larger_window() -> None:
    """Protects memory: if the process is what limits an upload, a larger window would only hold more waiting bytes."""
    channel = Channel(round_trip=FAR)
    window = channel.window
    for _ in range(200):
        while window.offered:
            window.received(min(PACKET, window.offered))
        channel.clock.now += FAR
        window.taken(4 * PACKET)
        window.offer()
    assert channel.budget.held <= FIRST_BYTES


def test_the_first_answer_on_a_channel_tells_the_round_trip() -> None:
    """Protects near clients from counting as distant: the time to a channel's first message gives the round trip."""
    channel = Channel()
    channel.window.confirmed()
    channel.clock.now = 0.03
    channel.window.heard()
    channel.clock.now = 0.04
    channel.window.heard()
    assert channel.line.round_trip == pytest.approx(0.03)
    another = Channel()
    another.window.confirmed()
    another.clock.now = 0.02
    another.sends(1)
    assert another.line.round_trip == pytest.approx(0.02)


def test_accounts_have_budgets_of_their_own() -> None:
    """Each account has its own budget, which all its connections share."""
    budgets = Budgets()
    assert budgets.of("amos") is budgets.of("amos")
    assert budgets.of("amos") is not budgets.of("naomi")


def test_a_hundred_idle_channels_leave_an_upload_room() -> None:
    """Protects people with many forwards: windows cannot be taken back, so with many channels they start smaller."""
    budget = Budget()
    for _ in range(100):
        Channel(budget)
    assert budget.share(0) > FIRST_BYTES // 4
    uploading = Channel(budget)
    uploading.one_way_and_back(FAR)
    assert uploading.window.offered > FIRST_BYTES // 4


def test_channels_that_are_over_give_everything_back() -> None:
    """Protects an account's next channels: a closed channel gives its offered and its waiting bytes back, once."""
    budget = Budget()
    channel = Channel(budget)
    window = channel.window
    window.received(PACKET)
    window.close()
    assert budget.held == PACKET
    assert window.offer() == 0
    window.taken(PACKET - 1)
    assert window.offer() == 0
    window.discard()
    window.taken(1)
    window.discard()
    assert (budget.held, window.offered) == (0, 0)


class Open(NamedTuple):
    """A channel of the model, and the number of bytes that wait for its process."""

    channel: Channel
    waiting: list[int]


class OneAccount(RuleBasedStateMachine):
    """Channels of an account, whose peers send within their windows and whose processes take any amount."""

    channels = Bundle("channels")
    LIMIT = 4 * 1024 * 1024

    def __init__(self) -> None:
        super().__init__()
        self.budget = Budget(self.LIMIT)
        self.open: list[Open] = []
        self.handed_over = 0

    @rule(target=channels, round_trip=st.sampled_from([None, NEAR, FAR]))
    def opens(self, round_trip: float | None) -> Open:
        """Open another channel."""
        channel = Open(Channel(self.budget, round_trip), [0])
        self.open.append(channel)
        return channel

    @rule(opened=channels, part=st.floats(0, 1), seconds=st.floats(0, 3))
    def sends(self, opened: Open, part: float, seconds: float) -> None:
        """The peer sends a part of what it may."""
        channel, waiting = opened
        channel.clock.now += seconds
        count = round(channel.window.offered * part)
        if count:
            channel.window.received(count)
            waiting[0] += count

    @rule(opened=channels, part=st.floats(0, 1))
    def takes(self, opened: Open, part: float) -> None:
        """The process takes a part of what waits."""
        channel, waiting = opened
        count = round(waiting[0] * part)
        channel.window.taken(count)
        waiting[0] -= count
        channel.window.offer()

    @rule(opened=channels)
    def drains(self, opened: Open) -> None:
        """The process takes everything; then its peer may send again, whatever the other channels hold."""
        self.takes(opened, 1.0)
        assert opened.channel.window.offered >= FLOOR_BYTES // 2

    @rule(target=channels, opened=consumes(channels), handed_over=st.booleans())
    def ends(self, opened: Open, handed_over: bool) -> object:
        """The channel ends; its waiting bytes are dropped, or held until the process has them."""
        channel, waiting = opened
        channel.window.discard()
        self.open.remove(opened)
        if handed_over:
            self.budget.hold(waiting[0])
            self.handed_over += waiting[0]
        return multiple()

    @rule()
    def processes_catch_up(self) -> None:
        """The bytes that were held for processes are written."""
        self.budget.hold(-self.handed_over)
        self.handed_over = 0

    @invariant()
    def is_exact(self) -> None:
        """The budget counts the bytes that may still come and those that wait."""
        counted = sum(channel.window.offered + waiting[0] for channel, waiting in self.open)
        assert self.budget.held == counted + self.handed_over

    @invariant()
    def is_bounded(self) -> None:
        """With any number of channels, they hold no more than the budget and their floors."""
        most = self.LIMIT + self.most_open * FLOOR_BYTES
        assert self.budget.held <= most

    @property
    def most_open(self) -> int:
        """The number of floors: one for each channel, and for each part that outlives its channel."""
        self.seen = max(getattr(self, "seen", 0), len(self.open) + -(-self.handed_over // FLOOR_BYTES))
        return self.seen


TestOneAccount = OneAccount.TestCase
