"""monitor.connected.postauths: each account has one process, which runs as long as it is needed."""

import asyncio

import pytest

from pyssh_gateway.events import AuthAttempt, ConnectionClosed
from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.monitor.connected import postauths as module
from tests.support.monitor import House, Process, play


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a process count as unused at once."""
    monkeypatch.setattr(module, "UNUSED_SECONDS", 0.0)


async def unused(house: House, number: int = 0) -> Process:
    """A process that was asked to leave, because its last connection has ended."""
    client, process = await house.on(number)
    end = ConnectionClosed(
        conn=client.id, peer="", user="", reason="bye", seconds=0, bytes_in=0, bytes_out=0, goodbye=True
    )
    process.happened(end)
    await process.hear_monitor(ipc.Leave)
    return process


def test_connections_of_an_account_share_a_process() -> None:
    """Protects memory: an account's connections share one process, and another account has its own."""

    async def test(house: House) -> None:
        _, first = await house.on()
        _, second = await house.on()
        _, other = await house.on(1, user="dev")
        assert first is second
        assert [process.user for process in house.spawner.postauths] == ["amos", "dev"]
        assert other is not first

    play(test)


def test_logins_at_the_same_time_start_one() -> None:
    """Protects the same when an account's first connections come at the same time."""

    async def test(house: House) -> None:
        async def use() -> object:
            async with house.postauths.process_of("amos") as process:
                await asyncio.sleep(0)
                return process

        assert len(set(await asyncio.gather(use(), use(), use()))) == 1

    play(test)


@pytest.mark.usefixtures("soon")
def test_one_that_is_unused_is_asked_to_leave() -> None:
    """Protects memory when all users have gone: an unused process is asked to leave."""

    async def test(house: House) -> None:
        process = await unused(house)
        process.exit()
        await asyncio.sleep(0)
        assert not house.crashes

    play(test)


@pytest.mark.usefixtures("soon")
def test_one_that_is_busy_stays() -> None:
    """Protects output that is still read after its connection has ended: the process stays, and is asked again."""

    async def test(house: House) -> None:
        process = await unused(house)
        process.say(ipc.Busy())
        await process.hear_monitor(ipc.Leave)
        process.say(ipc.Busy())
        assert not process.killed.is_set()

    play(test)


def test_one_with_a_login_on_its_way_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a login from a process that leaves at that moment."""
    monkeypatch.setattr(module, "UNUSED_SECONDS", 0.0)

    async def test(house: House) -> None:
        async with house.postauths.process_of("amos"):
            process = await house.spawner.postauth()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await process.hear_monitor(ipc.Leave)
        await process.hear_monitor(ipc.Leave)

    play(test)


@pytest.mark.usefixtures("soon")
def test_a_login_that_comes_while_it_leaves_has_another_one() -> None:
    """Protects a login while the process leaves: it waits for the process to end, and gets a new one."""

    async def test(house: House) -> None:
        process = await unused(house)
        login = asyncio.ensure_future(house.on(1))
        await house.event(AuthAttempt, 1)
        process.exit()
        _, second = await login
        assert second is not process

    play(test)


@pytest.mark.usefixtures("soon")
def test_a_login_that_comes_while_it_leaves_has_the_same_one_if_that_stays() -> None:
    """Protects the same if the process has become busy: the login gets that process."""

    async def test(house: House) -> None:
        process = await unused(house)
        login = asyncio.ensure_future(house.on())
        await house.event(AuthAttempt, 1)  # the second login has begun to wait
        process.say(ipc.Busy())
        _, same = await login
        assert same is process

    play(test)


@pytest.mark.usefixtures("soon")
def test_one_that_does_not_leave_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the next login from a process that its user stopped before it could leave: it is killed."""
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.05)

    async def test(house: House) -> None:
        process = await unused(house)
        _, second = await house.on(1)
        assert process.killed.is_set()
        assert second is not process

    play(test)


def test_after_a_death_there_is_a_new_one() -> None:
    """Protects an account whose process has crashed: the next login gets a new process."""

    async def test(house: House) -> None:
        _, process = await house.on()
        process.exit(None, 11)
        await house.event(ConnectionClosed)
        _, second = await house.on(1)
        assert second is not process

    play(test)
