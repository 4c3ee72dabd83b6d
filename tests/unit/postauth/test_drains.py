"""Outputs that have no reader any more, with real pipes."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from pyssh_gateway.postauth.drains import MAX_OUTPUTS, MAX_OUTPUTS_OF_USER, MOST_AT_ONCE, Drains
from tests.support.waiting import PATIENCE, until


def run(scenario: Callable[[Drains], Awaitable[None]]) -> None:
    """Run `scenario` with its own drains and a timeout."""

    async def whole() -> None:
        drains = Drains(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(PATIENCE):
                await scenario(drains)
        finally:
            drains.close()

    asyncio.run(whole())


def is_broken(writer: int) -> bool:
    """Whether the pipe has no reader any more."""
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        return True
    return False


def test_what_is_written_is_thrown_away_and_the_end_seen() -> None:
    """A writer of more than a pipe holds neither blocks nor dies, and the descriptor is closed at its end."""

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
    """An account with too many abandoned outputs loses its oldest; another account's stay."""

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
    """The total number of descriptors is limited, however many accounts there are."""

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
    """Closing leaves no descriptor open, even if data has just been written."""

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
