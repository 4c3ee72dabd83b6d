"""monitor.log.required: who gets in while the log can't be written."""

import asyncio

import msgspec
import pytest

from pyssh_gateway.config.types import Audit
from pyssh_gateway.events import Record
from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.monitor.log.required import REFUSED, RequiredLog, Standing
from tests.support.monitor import NOW, House, play


class Log:
    """A log with or without trouble."""

    def __init__(self) -> None:
        self.trouble: str | None = None


class Door:
    """The required log of a house, in which `dev` may break the glass."""

    def __init__(self, house: House, *, required: bool = True) -> None:
        config = house.in_force.config
        login = tuple(msgspec.structs.replace(one, break_glass=one.user == "dev") for one in config.login)
        house.in_force.replace(msgspec.structs.replace(config, login=login, audit=Audit(required=required)))
        self.house = house
        self.log = Log()
        self.said: list[str] = []
        self.required = RequiredLog(self.log, house.in_force, house.registry, self.said.append)
        house.bus.subscribe(self.required.observe)


@pytest.mark.parametrize("trouble", [None, "no room"])
@pytest.mark.parametrize("required", [False, True])
def test_who_gets_in(required: bool, trouble: str | None) -> None:
    """Protects people from a full disk, unless the log is required; then only break-glass gets in, and says so."""

    async def test(house: House) -> None:
        door = Door(house, required=required)
        door.log.trouble = trouble
        closed = required and trouble is not None
        assert door.required.is_closed is closed
        assert door.required.standing("amos") == Standing(refused=REFUSED if closed else "")
        assert door.required.standing("dev") == Standing(break_glass=closed)

    play(test)


def test_open_connections_are_told() -> None:
    """Protects the rule on open connections: they open nothing more while it holds, except for break-glass."""

    async def test(house: House) -> None:
        door = Door(house)
        _, process = await house.on()
        client, _ = await house.on(1, user="dev")
        door.log.trouble = "no room"
        door.required.check()
        assert (await process.hear_monitor(ipc.Revoke)).reason == REFUSED
        told = await (await house.spawner.postauth(1)).hear_monitor(ipc.Revoke)
        assert (told.conn, told.reason) == (client.id, None)
        door.required.check()
        config = house.in_force.config
        glass = tuple(msgspec.structs.replace(one, break_glass=True) for one in config.login)
        house.in_force.replace(msgspec.structs.replace(config, login=glass))
        door.required.reconfigured()
        assert (await process.hear_monitor(ipc.Revoke)).reason is None
        house.in_force.replace(config)
        door.required.reconfigured()
        assert (await process.hear_monitor(ipc.Revoke)).reason == REFUSED
        door.log.trouble = None
        door.required.check()
        assert (await process.hear_monitor(ipc.Revoke)).reason is None
        assert [text.partition(",")[0] for text in door.said] == ["nobody gets in", "the log is written again"]

    play(test)


def test_a_login_by_break_glass_is_said() -> None:
    """Protects the owner: such a login is said at once where it does not need the log."""

    async def test(house: House) -> None:
        door = Door(house)
        client, process = await house.on(user="dev")
        door.log.trouble = "no room"
        login = msgspec.structs.replace(client.login, break_glass=True)
        door.required.observe(Record(1, NOW, login.authenticated(1.0)))
        assert f"break-glass login to dev from {client.login.endpoints.peer}" in door.said[-1]
        assert (await process.hear_monitor(ipc.Revoke)).reason is None
        await asyncio.sleep(0)

    play(test)


def test_a_login_of_an_account_that_is_kept_out() -> None:
    """Protects the rule from a login that was on its way when the trouble began: it opens nothing either."""

    async def test(house: House) -> None:
        door = Door(house)
        house.spawner.refusals.clear()
        _, told, process = await house.handed_over()
        assert told.unlogged == ""
        door.log.trouble = "no room"
        process.taken(told.conn)
        assert (await process.hear_monitor(ipc.Revoke)).reason == REFUSED

    play(test)
