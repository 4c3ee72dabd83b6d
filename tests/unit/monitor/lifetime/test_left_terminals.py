"""monitor.lifetime.left_terminals: a line for terminals of no session, by a sample that may be missing or slow."""

import asyncio

import pytest

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.ipc.postauth import MAX_LINES
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.left_terminals import FRESH_SECONDS, SAMPLE_SECONDS, LeftTerminals
from tests.support.virtual_time import run_virtually


class Samples:
    """The spawner: samples with the terminals pts/0 to pts/99, each after `seconds`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.refused = False
        self.taken = 0
        self.shown: list[tuple[tuple[str, ...], str]] = []

    async def take(self) -> Sample:
        """Take one."""
        await asyncio.sleep(self.seconds)
        if self.refused:
            raise SpawnRefused("busy")
        self.taken += 1
        return Sample(0.0, tuple(Process(9 + pts, 1, pts, 0, "sh", 0.0, 0, f"pts/{pts}") for pts in range(100)))

    def left(self) -> LeftTerminals:
        """What is tested. pts/0 is a session's."""
        return LeftTerminals(
            self.take,
            ours=lambda: ["/dev/pts/0", ""],
            show=lambda lines, text: self.shown.append((lines, text)),
            now=asyncio.get_running_loop().time,
        )


def test_a_line_goes_to_terminals_of_no_session() -> None:
    """Protects people in an editor's terminal, and those at a session's terminal from a second line."""

    async def play() -> Samples:
        samples = Samples()
        await samples.left().announce("Goodbye!")
        return samples

    ((lines, text),) = run_virtually(play()).shown
    assert (lines[:2], len(lines), text) == (("pts/36", "pts/37"), MAX_LINES, "Goodbye!")


def test_a_fresh_sample_is_not_taken_again() -> None:
    """Protects a stop from a delay between its decision and the end of sessions: the last look has taken a sample."""

    async def play() -> list[int]:
        samples = Samples()
        left, counts = samples.left(), []
        await left.sample()
        for pause in (FRESH_SECONDS / 2, FRESH_SECONDS):
            await asyncio.sleep(pause)
            await left.announce("Goodbye!")
            counts.append(samples.taken)
        return counts

    assert run_virtually(play()) == [1, 2]


@pytest.mark.parametrize(("seconds", "refused"), [(60.0, False), (0.0, True)])
def test_a_stop_does_without_it(seconds: float, refused: bool) -> None:
    """Protects a stop from a spawner that is busy: after half a second it goes on without these lines."""

    async def play() -> tuple[float, Samples]:
        samples = Samples()
        samples.seconds, samples.refused = seconds, refused
        await samples.left().announce("Goodbye!")
        return asyncio.get_running_loop().time(), samples

    taken, samples = run_virtually(play())
    assert taken <= SAMPLE_SECONDS + 0.01
    assert not samples.shown


def test_a_slow_sample_leaves_the_one_before() -> None:
    """Protects people from an account whose processes delay each sample: the terminals known so far get the line."""

    async def play() -> Samples:
        samples = Samples()
        left = samples.left()
        await left.sample()
        await asyncio.sleep(2 * FRESH_SECONDS)
        samples.seconds = 60.0
        await left.announce("Goodbye!")
        return samples

    assert run_virtually(play()).shown
