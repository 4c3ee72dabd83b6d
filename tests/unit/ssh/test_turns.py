"""Turns of the loop: busy connections take turns, and must rest."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from pyssh_gateway.ssh.turns import MAX_REST_SECONDS, TURNS_BEFORE_REST, Turns


class Clock(asyncio.SelectorEventLoop):
    """The real loop, with a clock that only moves when told to, or when nothing else is to be done."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        """The clock's time."""
        return self.now

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, **kwargs: object
    ) -> asyncio.TimerHandle:
        """Let the delay pass at once, after the callbacks that are due now."""
        handle = super().call_later(delay, callback, *args)
        self.call_soon(self._pass, delay)
        return handle

    def _pass(self, delay: float) -> None:
        self.now += delay


def run(loop: Clock, done: Callable[[], bool]) -> None:
    """Run the loop until `done` is true."""

    async def wait() -> None:
        while not done():  # noqa: ASYNC110 - turns of the loop are what these tests are about
            await asyncio.sleep(0)

    try:
        loop.run_until_complete(wait())
    finally:
        loop.close()


def test_two_that_are_busy_take_turns() -> None:
    """No connection gets a second turn before the other's first."""
    loop, order = Clock(), ""

    def turn(name: str) -> Callable[[], None]:
        def go_on() -> None:
            nonlocal order
            order += name
            turns[name].next()

        return go_on

    turns = {name: Turns(loop, turn(name)) for name in "ab"}
    for one in turns.values():
        one.next()
    run(loop, lambda: len(order) >= 8)
    assert order.startswith("abababab")


def test_turns_are_not_doubled() -> None:
    """Several requests for a next turn give one turn."""
    loop, count = Clock(), 0

    def go_on() -> None:
        nonlocal count
        count += 1

    turns = Turns(loop, go_on)
    for _ in range(10):
        turns.used_up()
        turns.next()
    assert turns.is_due
    run(loop, lambda: not turns.is_due)
    assert count == 1


@pytest.mark.parametrize(("each", "rest"), [(0.001, 0.003), (1.0, MAX_REST_SECONDS)])
def test_who_uses_up_turn_after_turn_rests_as_long(each: float, rest: float) -> None:
    """A short burst needs no rest; after a longer one the rest is as long as the work, up to a maximum."""
    loop = Clock()
    begun: list[float] = []

    def go_on() -> None:
        begun.append(loop.now)
        loop.now += each
        turns.used_up()

    turns = Turns(loop, go_on)
    go_on()
    run(loop, lambda: len(begun) > TURNS_BEFORE_REST)
    gaps = [after - before - each for before, after in pairwise(begun)]
    assert gaps[: TURNS_BEFORE_REST - 1] == pytest.approx([0.0] * (TURNS_BEFORE_REST - 1))
    assert gaps[TURNS_BEFORE_REST - 1] == pytest.approx(rest)


def test_who_had_nothing_more_to_do_needs_no_rest() -> None:
    """Bursts with pauses between them need no rest."""
    loop = Clock()
    count = 0

    def go_on() -> None:
        nonlocal count
        count += 1
        loop.now += 1.0
        turns.done()
        turns.used_up()

    turns = Turns(loop, go_on)
    turns.used_up()
    run(loop, lambda: count >= 3 * TURNS_BEFORE_REST)
    assert loop.now == pytest.approx(count)


def test_no_turn_after_the_end() -> None:
    """A connection that has ended gets no turn."""
    loop = Clock()
    turns = Turns(loop, lambda: pytest.fail("a turn"))
    turns.used_up()
    turns.end()
    assert not turns.is_due
    turns.next()
    seen: list[int] = []
    loop.call_soon(lambda: loop.call_soon(seen.append, 1))
    run(loop, lambda: bool(seen))
