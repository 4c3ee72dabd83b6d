"""Places for connections before their login: which are served, which wait, and which lose their place."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyssh_gateway.core.limits import source_of
from pyssh_gateway.core.strangers.admission import NEEDED, PATIENCE, WAIT_SECONDS, Admission, Moves, Places, Stage

ALWAYS, NEVER = 0, 99
"""Dice for early drop: one asks for a place as soon as early drop begins, the other only if all places are taken."""

SILENT, SPOKEN, PROVING = (PATIENCE[stage] for stage in Stage)


class House:
    """An admission with a clock that the test sets, and with the waiting connections that have sent something."""

    def __init__(self, *, full: int = 100, per_source: int = 10, start: int = 10, rate: int = 30) -> None:
        self.admission = Admission(Places(full, per_source, start, rate))
        self.now = 0.0
        self.spoken: set[str] = set()
        self.served: set[str] = set()
        self.looked_at = 0

    def come(
        self, key: str, peer: str | None = None, *, roll: int = NEVER, known: bool = False, delay: float = 0.0
    ) -> Moves:
        """A connection arrives, from its own source unless `peer` is given."""
        peer = key if peer is None else peer
        moves = self.admission.arrive(key, peer, self.now, roll=roll, spoken=self.has_spoken, known=known, delay=delay)
        return self.done(moves)

    def look(self) -> Moves:
        """Perform what is due now."""
        return self.done(self.admission.look(self.now, self.has_spoken))

    def leave(self, key: str) -> Moves:
        """A connection that is served ends."""
        self.served.discard(key)
        self.admission.leave(key)
        return self.look()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def has_spoken(self, key: str) -> bool:
        """The function `spoken` of the admission."""
        self.looked_at += 1
        return key in self.spoken

    def done(self, moves: Moves) -> Moves:
        """Carry out these moves."""
        self.served -= set(moves.cut_off)
        self.served |= set(moves.serve)
        return moves

    def fill(self, number: int, peer: Callable[[int], str] = lambda number: f"192.0.2.{number}") -> None:
        """Add so many connections that all have sent something."""
        for each in range(number):
            assert self.come(f"old{each}", peer(each)).serve == (f"old{each}",)
            self.admission.spoke(f"old{each}")


def served(*keys: str) -> Moves:
    """The moves that serve these connections, and do nothing else."""
    return Moves(serve=keys)


def test_fifty_windows_are_no_attack() -> None:
    """Fifty connections that an editor opens at once are served ten at a time, for any dice, and none is refused."""
    house = House()
    came = [house.come(str(number), "192.0.2.1", roll=ALWAYS) for number in range(50)]
    assert came == [served(str(number)) for number in range(10)] + [Moves()] * 40
    for number in range(40):
        house.wait(0.1)
        assert house.leave(str(number)) == served(str(number + 10))
    for number in range(40, 50):
        assert house.leave(str(number)) == Moves()
    assert house.admission.total == 0
    assert house.admission.next_look(house.now) is None


def test_who_says_nothing_gives_way_to_others_of_its_source() -> None:
    """Behind a NAT, silent connections keep nobody out: after two seconds they give way to others of their source."""
    house = House(per_source=2, start=100)
    assert house.come("a", "192.0.2.1") == served("a")
    house.wait(1)
    assert house.come("b", "192.0.2.1") == served("b")
    assert house.come("c", "192.0.2.1") == Moves()
    assert house.admission.next_look(house.now) == SILENT
    house.wait(1)
    assert house.look() == Moves(serve=("c",), cut_off=("a",))
    house.wait(2)
    assert house.come("d", "192.0.2.1") == Moves(serve=("d",), cut_off=("b",))


@pytest.mark.parametrize(("stage", "seconds"), [("silent", SILENT), ("spoke", SPOKEN), ("proving", PROVING)])
def test_who_has_come_further_keeps_its_place_for_longer(stage: str, seconds: float) -> None:
    """A handshake keeps its place for ten seconds, and a person with a security key for a minute."""
    house = House(per_source=1, start=100)
    house.come("a", "192.0.2.1")
    if stage != "silent":
        getattr(house.admission, stage)("a")
        house.admission.spoke("a")  # does not put it back to an earlier stage
    house.wait(seconds - 0.5)
    assert house.come("b", "192.0.2.1") == Moves()
    house.wait(0.5)
    assert house.look() == Moves(serve=("b",), cut_off=("a",))


def test_the_one_that_has_not_come_far_goes_first() -> None:
    """A newer connection that is silent gives way before an older one where a person is authenticating."""
    house = House(per_source=2, start=100)
    house.come("old", "192.0.2.1")
    house.admission.proving("old")
    house.wait(100)
    house.come("new", "192.0.2.1")
    house.wait(SILENT)
    assert house.come("next", "192.0.2.1") == Moves(serve=("next",), cut_off=("new",))


def test_those_that_have_something_to_say_are_served_first() -> None:
    """A waiting connection that has sent something is served before fifty silent ones."""
    house = House(per_source=1, start=100)
    house.come("a", "192.0.2.1")
    for number in range(50):
        house.come(str(number), "192.0.2.1")
    house.come("person", "192.0.2.1")
    house.spoken.add("person")
    assert house.leave("a") == served("person")
    assert house.leave("person") == served("0")


def test_nobody_waits_for_ever() -> None:
    """A connection that waits in vain for a place of its source is refused after a time, with the reason."""
    house = House(per_source=1, start=100)
    house.come("a", "192.0.2.1")
    house.admission.proving("a")
    house.come("b", "192.0.2.1")
    assert house.admission.waiting == ("b",)
    assert house.admission.next_look(house.now) == WAIT_SECONDS
    house.wait(WAIT_SECONDS)
    assert house.look() == Moves(refuse=(("b", "too many unauthenticated connections from 192.0.2.1"),))
    assert not house.admission.waiting


def test_the_last_moment_is_soon_enough() -> None:
    """A connection whose turn comes exactly at the end of its time is served."""
    house = House(per_source=1, start=100)
    house.come("a", "192.0.2.1")
    house.come("b", "192.0.2.1")
    house.wait(WAIT_SECONDS)
    assert house.leave("a") == served("b")


def test_one_that_is_slowed_down_waits_before_it_is_served() -> None:
    """A connection that is delayed for two seconds is served after them, and delays no other."""
    house = House()
    assert house.come("slow", "192.0.2.1", delay=2) == Moves()
    assert house.come("other", "192.0.2.1") == served("other")
    assert house.admission.next_look(house.now) == 2
    house.wait(2)
    assert house.look() == served("slow")


def test_up_to_the_start_nobody_is_bothered() -> None:
    """Below MaxStartups' first number, connections may stay silent until the login grace is over."""
    house = House(start=3)
    house.fill(2)
    house.wait(PROVING)
    assert house.come("new", roll=ALWAYS) == served("new")


def test_from_the_start_on_a_newcomer_may_cost_a_place() -> None:
    """Early drop takes the place of the least advanced connection whose patience has ended, and of no other."""
    house = House(start=2)
    house.fill(2)
    assert house.come("third", roll=ALWAYS) == served("third")
    house.wait(SPOKEN)
    assert house.come("lucky", roll=NEVER) == served("lucky")
    assert house.come("new", roll=ALWAYS) == Moves(serve=("new",), cut_off=("third",))
    assert house.come("newer", roll=ALWAYS) == Moves(serve=("newer",), cut_off=("old0",))


def test_ten_addresses_with_ten_connections_keep_nobody_out() -> None:
    """When all places are taken, a source without a place takes one at once from a source with many."""
    house = House()
    for number in range(100):
        house.come(f"old{number}", f"192.0.2.{number // 10}")
    assert house.come("person") == Moves(serve=("person",), cut_off=("old0",))
    assert house.admission.total == 100


def test_nor_do_they_keep_out_who_is_behind_one_of_them() -> None:
    """A source with its share waits for the end of its own connections' patience; one that has spoken goes first."""
    house = House()
    for number in range(100):
        house.come(f"old{number}", f"192.0.2.{number // 10}")
    assert house.come("again", "192.0.2.3") == Moves()
    assert house.come("person", "192.0.2.3") == Moves()
    house.spoken.add("person")
    assert house.admission.next_look(house.now) == SILENT
    house.wait(SILENT)
    assert house.look() == Moves(serve=("person", "again"), cut_off=("old30", "old31"))


def test_the_source_with_the_fewest_places_is_next() -> None:
    """Among waiting connections those of known sources come first, then those of sources with the fewest places."""
    house = House(full=3)
    house.fill(3, lambda number: ["a", "a", "b"][number])
    for key, peer in (("a2", "a"), ("b1", "b"), ("c0", "c"), ("c1", "c")):
        house.come(key, peer)
    assert house.served == {"old1", "old2", "c0"}
    assert house.leave("old2") == served("b1")
    assert house.leave("c0") == served("c1")
    house.admission.arrive("k", "k", 0, roll=NEVER, spoken=house.has_spoken, known=True, delay=1)
    house.wait(1)
    assert house.look() == Moves(serve=("k",), cut_off=("b1",))
    assert house.leave("k") == served("a2")


def test_a_source_gets_no_more_than_others_have() -> None:
    """If all places belong to different sources, a newcomer waits until the patience of one ends."""
    house = House(full=3)
    house.fill(3)
    assert house.come("new") == Moves()
    house.wait(SPOKEN)
    assert house.look() == Moves(serve=("new",), cut_off=("old0",))


def test_a_newcomer_is_refused_when_as_many_wait_as_may() -> None:
    """The queue is limited as well, and a connection that waited in vain is refused with the reason."""
    house = House(full=2)
    house.fill(2)
    house.admission.proving("old0")
    house.admission.proving("old1")
    for peer in ("a", "b"):
        house.come(peer)
    house.spoken |= {"a", "b"}
    assert house.come("a2", "a") == Moves(refuse=(("a2", "4 unauthenticated connections already"),))
    house.wait(WAIT_SECONDS)
    assert house.look() == Moves(refuse=tuple((peer, "too many unauthenticated connections") for peer in "ab"))


def test_a_source_that_floods_the_queue_pays_with_what_waits() -> None:
    """A source that floods the queue loses its own waiting connections: silent ones first, then the latest."""
    house = House(full=3, per_source=1)
    for number in range(4):
        house.come(str(number), "192.0.2.1")
    house.spoken |= {"1", "3"}
    assert house.come("person") == Moves(serve=("person",), refuse=(("2", NEEDED),))
    house.come("4", "192.0.2.1")
    house.spoken.add("4")
    assert house.come("another") == Moves(serve=("another",), refuse=(("4", NEEDED),))


def test_a_source_that_has_the_queue_pays_its_own_way() -> None:
    """A newcomer of the source that fills the queue replaces a silent one of that source, or is refused."""
    house = House(full=2, per_source=1)
    for number in range(3):
        house.come(str(number), "192.0.2.1")
    assert house.come("3", "192.0.2.1") == Moves(refuse=(("1", NEEDED),))
    house.spoken |= {"2", "3"}
    assert house.come("4", "192.0.2.1") == Moves(refuse=(("4", "3 unauthenticated connections already"),))


def test_there_is_a_place_for_those_who_have_logged_in_lately() -> None:
    """With all places taken by different strangers, a source with a recent login takes one, and a stranger does not."""
    house = House(full=3)
    house.fill(3)
    house.admission.proving("old0")
    assert house.come("known", known=True) == Moves(serve=("known",), cut_off=("old1",))
    assert house.come("stranger") == Moves()


def test_strangers_take_nothing_of_a_known_source() -> None:
    """A known source keeps its places from strangers while its patience lasts, but shares with known sources."""
    house = House(full=3, per_source=3)
    for number in range(3):
        house.come(str(number), "192.0.2.1", known=True)
    assert house.come("stranger") == Moves()
    assert house.come("known", known=True) == Moves(serve=("known",), cut_off=("0",))
    assert house.come("known too", "known", known=True) == Moves()


def test_a_known_source_gives_way_last() -> None:
    """Among connections whose patience has ended, a stranger's gives way before a known source's."""
    house = House(full=2, start=1)
    house.come("known", known=True)
    house.wait(1)
    house.come("stranger")
    house.wait(SILENT)
    assert house.come("new", roll=ALWAYS) == Moves(serve=("new",), cut_off=("stranger",))


def test_a_flood_is_not_looked_at_in_full() -> None:
    """Checking what a connection has sent is a system call, so only the head of a long queue is checked."""
    house = House(full=90, per_source=10)
    for number in range(100):
        house.come(str(number), "192.0.2.1")
    house.spoken = {str(number) for number in range(100)}
    house.looked_at = 0
    house.come("new", "192.0.2.1")
    assert house.looked_at == 16


PEERS = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "", "x"]


def test_other_numbers_count_for_the_next_arrival() -> None:
    """When the limits change, open connections stay, and the next arrival is judged by the new limits."""
    house = House(per_source=1, start=100)
    assert house.come("a", "192.0.2.1") == served("a")
    assert house.come("b", "192.0.2.1") == Moves()
    house.admission.resize(Places(100, 3, 100, 30))
    assert house.look() == served("b")
    assert house.come("c", "192.0.2.1") == served("c")
    house.admission.resize(Places(100, 1, 100, 30))
    assert house.come("d", "192.0.2.1") == Moves()
    assert house.leave("a") == Moves()


class AdmissionMachine(RuleBasedStateMachine):
    """For any order of events: never more than the limits, and no connection is lost or waits in vain."""

    full, per_source = 8, 3

    def __init__(self) -> None:
        super().__init__()
        self.house = House(full=self.full, per_source=self.per_source, start=4)
        self.peers: dict[str, str] = {}
        self.waiting: dict[str, float] = {}
        self.count = 0

    def follow(self, moves: Moves, *, new: str = "") -> None:
        """Check the moves against the state so far, and follow them."""
        for key in moves.cut_off:
            assert key not in self.waiting
            del self.peers[key]
        for key, reason in moves.refuse:
            assert reason
            assert key in self.waiting
            del self.waiting[key]
            del self.peers[key]
        for key in moves.serve:
            del self.waiting[key]
        assert len(moves.cut_off) <= len(moves.serve) + 1

    @rule(
        peer=st.sampled_from(PEERS),
        roll=st.integers(0, 99),
        known=st.booleans(),
        delay=st.sampled_from([0.0, 2.0]),
        speaks=st.booleans(),
    )
    def come(self, peer: str, roll: int, known: bool, delay: float, speaks: bool) -> None:
        """A connection arrives."""
        self.count += 1
        key = str(self.count)
        total, served = self.house.admission.total, len(self.house.served)
        if speaks:
            self.house.spoken.add(key)
        self.peers[key] = peer
        self.waiting[key] = self.house.now + delay + WAIT_SECONDS
        moves = self.house.come(key, peer, roll=roll, known=known, delay=delay)
        self.follow(moves)
        assert total - served >= self.full or key in self.peers, "nobody is refused while there is room"

    @precondition(lambda self: self.peers)
    @rule(data=st.data(), how=st.sampled_from(["leave", "spoke", "proving"]))
    def change(self, data: st.DataObject, how: str) -> None:
        """A connection that is served gets to another stage, or ends."""
        among = sorted(key for key in self.peers if key not in self.waiting)
        if not among:
            return
        key = data.draw(st.sampled_from(among))
        getattr(self.house.admission, how)(key)
        if how == "leave":
            del self.peers[key]
            self.house.served.discard(key)
            self.follow(self.house.look())

    @rule(seconds=st.sampled_from([0.5, 2.0, 12.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass, and perform what is due on the way."""
        end = self.house.now + seconds
        while (at := self.house.admission.next_look(self.house.now)) is not None and at <= end:
            assert at >= self.house.now
            self.house.now = at
            before = self.house.admission.total, self.house.admission.waiting
            self.follow(self.house.look())
            again = self.house.admission.next_look(at)
            assert again is None or again > at or before != (self.house.admission.total, self.house.admission.waiting)
        self.house.now = end

    @rule()
    def unknown(self) -> None:
        """Reports about a connection that is gone change nothing."""
        for how in (self.house.admission.leave, self.house.admission.spoke, self.house.admission.proving):
            how("nobody's")

    @invariant()
    def bounds(self) -> None:
        """The places equal the connections, and no source has more served than its limit."""
        assert self.house.admission.total == len(self.peers)
        assert len(self.house.served) <= self.full
        assert len(self.waiting) <= self.full
        assert set(self.house.admission.waiting) == set(self.waiting)
        assert self.house.served == set(self.peers) - set(self.waiting)
        for source in {source_of(peer) for peer in self.peers.values()}:
            mine = [key for key in self.house.served if source_of(self.peers[key]) == source]
            assert len(mine) <= self.per_source
        assert all(until >= self.house.now for until in self.waiting.values())

    def teardown(self) -> None:
        """When all connections have ended, nothing is remembered."""
        for key in tuple(self.peers):
            self.house.admission.leave(key)
        assert self.house.admission.total == 0
        assert self.house.admission.next_look(self.house.now) is None
        fresh = [self.house.come(f"fresh{number}", "192.0.2.9") for number in range(self.per_source)]
        assert all(len(moves.serve) == 1 for moves in fresh)


TestAdmission = AdmissionMachine.TestCase
