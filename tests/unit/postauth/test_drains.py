"""Outputs that nobody listens to any more, with real pipes."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from pyssh_gateway.postauth.drains import MAX_OUTPUTS, MAX_OUTPUTS_OF_USER, MOST_AT_ONCE, Drains
from tests.support.waiting import PATIENCE, until


def run(scenario: Callable[[Drains], Awaitable[None]]) -> None:
    """Run it with drains of its own, within a deadline."""

    async def whole() -> None:
        drains = Drains(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(PATIENCE):
                await scenario(drains)
        finally:
            drains.close()

    asyncio.run(whole())


def is_broken(writer: int) -> bool:
    """Whether nobody reads what is written."""
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return True
    return False


def test_what_is_written_is_thrown_away_and_the_end_seen() -> None:
    """A writer of more than a pipe takes neither waits for ever nor dies, and its descriptor goes with it."""

    async def scenario(drains: Drains) -> None:
        reader, writer = os.pipe()
        drains.take("dev", [reader])
        for _ in range(3):
            await asyncio.to_thread(os.write, writer, bytes(MOST_AT_ONCE // 8))
        assert len(drains) == 1
        os.close(writer)
        await asyncio.to_thread(until, lambda: not len(drains))
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(reader)

    run(scenario)


def test_one_account_takes_no_others_place() -> None:
    """An account that leaves too many behind loses its oldest; another's stay."""

    async def scenario(drains: Drains) -> None:
        first, others = os.pipe(), os.pipe()
        drains.take("another", [others[0]])
        drains.take("dev", [first[0]])
        writers = [others[1]]
        for _ in range(MAX_OUTPUTS_OF_USER):
            assert not is_broken(first[1])
            reader, writer = os.pipe()
            writers.append(writer)
            drains.take("dev", [reader])
        assert is_broken(first[1])
        assert not any(map(is_broken, writers))
        assert len(drains) == MAX_OUTPUTS_OF_USER + 1
        for writer in [*writers, first[1]]:
            os.close(writer)

    run(scenario)


def test_all_of_them_are_bounded() -> None:
    """However many accounts there are, so many descriptors are held and no more."""

    async def scenario(drains: Drains) -> None:
        writers = []
        for number in range(MAX_OUTPUTS + 2):
            reader, writer = os.pipe()
            writers.append(writer)
            drains.take(f"dev{number}", [reader])
        assert len(drains) == MAX_OUTPUTS
        assert [is_broken(writer) for writer in writers] == [True, True] + [False] * MAX_OUTPUTS
        for writer in writers:
            os.close(writer)

    run(scenario)


def test_closing_lets_go_of_all() -> None:
    """The end of the gateway leaves no descriptor open, whether or not its writer has just written."""

    async def scenario(drains: Drains) -> None:
        pipes = [os.pipe() for _ in range(3)]
        drains.take("dev", [reader for reader, _ in pipes])
        os.write(pipes[0][1], b"something")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        drains.close()
        assert len(drains) == 0
        assert all(is_broken(writer) for _, writer in pipes)
        for _, writer in pipes:
            os.close(writer)

    run(scenario)
