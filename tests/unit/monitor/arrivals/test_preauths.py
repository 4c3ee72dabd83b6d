"""monitor.arrivals.preauths: a spare process is kept while strangers connect, and not longer."""

import asyncio

import pytest

from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.arrivals import preauths as module
from tests.support.monitor import House, play


def test_the_next_one_is_forked_ahead() -> None:
    """Protects the time of a login: a connection soon after another finds a process that already runs."""

    async def test(house: House) -> None:
        first = await house.preauths.take()
        spare = await house.spawner.preauth(1)
        house.spawner.refusals.add("preauth")  # from here on no process can be started
        second = await house.preauths.take()
        assert second.spawned == spare.spawned
        with pytest.raises(SpawnRefused):
            await house.preauths.take()
        for one in (first, second):
            one.socket.close()

    play(test)


def test_one_that_nobody_needs_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory: the spare process is killed a minute after the last connection."""
    monkeypatch.setattr(module, "SPARE_SECONDS", 0.01)
    monkeypatch.setattr(module, "AHEAD_SECONDS", 0.0)

    async def test(house: House) -> None:
        (await house.preauths.take()).socket.close()
        spare = await house.spawner.preauth(1)
        await spare.killed.wait()

    play(test)


def test_one_that_has_died_is_not_given() -> None:
    """Protects a connection from getting a spare process that has been killed."""

    async def test(house: House) -> None:
        first = await house.preauths.take()
        spare = await house.spawner.preauth(1)
        await asyncio.sleep(0)
        spare.exit(None, 9)
        second = await house.preauths.take()
        assert second.spawned != spare.spawned
        for one in (first, second):
            one.socket.close()

    play(test)
