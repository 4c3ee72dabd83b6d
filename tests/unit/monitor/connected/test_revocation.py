"""connected.revocation: a key that is gone is warned of, looked up again, and only then the end of its connection."""

import asyncio
from collections.abc import Callable

import pytest

from pyssh_gateway.events import AnyEvent, ConnectionReinstated, ConnectionRevoked, Identity
from pyssh_gateway.monitor.connected import revocation as module
from pyssh_gateway.monitor.connected.revocation import KEY_REVOKED, Opened, Revocation
from tests.support.waiting import PATIENCE

SOON = 0.01
AMOS = Identity("github:example", 583231, "SHA256:key")
WHY = "the key SHA256:key of github:example#583231 has been revoked"


class Connection:
    """A connection whose key the test takes away and gives back; `answers` are those of looking it up, in turn.

    The last one is for ever. An answer is whether the key is there, and whether that is certain.
    """

    def __init__(self, seconds: float | None = SOON) -> None:
        self.holds = True
        self.seconds = seconds
        self.answers: list[tuple[bool, bool]] = [(False, True)]
        self.meanwhile: Callable[[], None] | None = None
        self.looked_up = 0
        self.events: list[AnyEvent] = []
        self.said: list[str] = []
        self.reasons: list[str | None] = []
        self.ended: list[str] = []
        self.changed = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        opened = Opened(
            conn="c1",
            peer="192.0.2.7",
            user="dev",
            identity=AMOS,
            holds=lambda: self.holds,
            why_not=lambda: WHY,
            look_up=self.look_up,
            publish=self.events.append,
            announce=self.said.append,
            revoke=self.reasons.append,
            end=self.end,
        )
        self.revocation = Revocation(
            opened, lambda: self.seconds, loop, lambda work: self.tasks.add(loop.create_task(work))
        )

    async def look_up(self) -> bool:
        """What the source says now."""
        self.looked_up += 1
        self.holds, is_certain = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.changed.set()
        if self.meanwhile is not None:
            self.meanwhile()
        return is_certain

    def end(self, reason: str) -> None:
        """It is over."""
        self.ended.append(reason)
        self.changed.set()

    def lose(self) -> None:
        """The key is gone."""
        self.holds = False
        self.revocation.check()

    async def settle(self) -> None:
        """Wait until it has been decided anew, however often, and nothing more is to come."""
        async with asyncio.timeout(PATIENCE):
            while not self.ended and self.revocation.is_ending:
                await self.changed.wait()
                self.changed.clear()
                await asyncio.gather(*self.tasks)


def test_a_key_that_stays_away_ends_its_connection() -> None:
    """Somebody who has left is warned, opens nothing more, and is put out when the time is over."""

    async def story() -> None:
        connection = Connection()
        connection.lose()
        connection.revocation.check()  # other keys have changed
        assert connection.revocation.is_ending
        assert connection.reasons == [KEY_REVOKED]
        (warned,) = connection.events
        assert isinstance(warned, ConnectionRevoked)
        assert (warned.seconds, warned.identity) == (SOON, AMOS)
        assert connection.said[0].startswith(f"{WHY}. This connection ends in")
        assert connection.said[0].endswith("s, unless the key comes back.")
        await connection.settle()
        assert connection.ended == ["The key that you logged in with was revoked"]
        assert connection.looked_up == 1

    asyncio.run(story())


def test_a_key_that_is_back_when_the_time_is_over_ends_nothing() -> None:
    """A key file that was caught while it was written cuts off nobody, and forwards are opened again."""

    async def story() -> None:
        connection = Connection()
        connection.answers = [(True, True)]
        connection.lose()
        await connection.settle()
        assert connection.ended == []
        assert [type(event) for event in connection.events] == [ConnectionRevoked, ConnectionReinstated]
        assert connection.reasons == [KEY_REVOKED, None]
        assert connection.said[1:] == ["the key SHA256:key of github:example is back. This connection stays."]
        connection.answers = [(False, True)]
        connection.lose()
        await connection.settle()
        assert connection.ended  # the next time is another time

    asyncio.run(story())


def test_a_key_that_comes_back_is_good_at_once() -> None:
    """Nobody has to wait for the end of the warning to open a window."""

    async def story() -> None:
        connection = Connection(PATIENCE)
        connection.lose()
        connection.holds = True
        connection.revocation.check()
        assert not connection.revocation.is_ending
        assert connection.reasons == [KEY_REVOKED, None]
        connection.revocation.check()
        assert len(connection.events) == 2
        assert connection.looked_up == 0

    asyncio.run(story())


def test_an_answer_that_nobody_has_confirmed_ends_nothing_yet() -> None:
    """One empty answer of a server that then does not answer is waited out, and the second one decides."""

    async def story() -> None:
        connection = Connection()
        connection.answers = [(False, False), (False, False), (False, True)]
        connection.lose()
        await connection.settle()
        assert connection.looked_up == 3
        assert connection.ended

    asyncio.run(story())


def test_nobody_waits_for_a_confirmation_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that goes away after it has revoked a key does not let somebody who has left work on."""
    monkeypatch.setattr(module, "UNCERTAIN_SECONDS", SOON)

    async def story() -> None:
        connection = Connection()
        connection.answers = [(False, False)]
        connection.lose()
        await connection.settle()
        assert connection.ended

    asyncio.run(story())


def test_a_connection_that_may_stay_does() -> None:
    """With `on_revoke = "keep"` the log tells of it, and of the key's return, and nothing is closed or refused."""

    async def story() -> None:
        connection = Connection(None)
        connection.lose()
        assert not connection.revocation.is_ending
        connection.holds = True
        connection.revocation.check()
        assert [type(event) for event in connection.events] == [ConnectionRevoked, ConnectionReinstated]
        assert (connection.reasons, connection.said, connection.tasks) == ([], [], set())

    asyncio.run(story())


def test_a_connection_that_might_stay_ends_when_the_configuration_says_so() -> None:
    """After `on_revoke` was changed to "end", those stay on no longer whose keys were revoked before that."""

    async def story() -> None:
        connection = Connection(None)
        connection.lose()
        connection.seconds = SOON
        connection.revocation.check()
        connection.revocation.check()  # the time begins only once
        await connection.settle()
        assert connection.ended
        assert [getattr(event, "seconds", "") for event in connection.events] == [None, SOON]

    asyncio.run(story())


def test_a_key_that_goes_again_while_it_is_looked_up_is_warned_of_anew() -> None:
    """Two warnings in a row have their full time each."""

    async def story() -> None:
        connection = Connection()

        def come_and_go() -> None:
            connection.meanwhile = None
            connection.holds = True
            connection.revocation.check()
            connection.lose()

        connection.meanwhile = come_and_go
        connection.lose()
        await connection.settle()
        kinds = [type(event) for event in connection.events]
        assert kinds == [ConnectionRevoked, ConnectionReinstated, ConnectionRevoked]
        assert (len(connection.ended), connection.looked_up) == (1, 2)

    asyncio.run(story())


def test_a_connection_that_is_gone_is_not_ended() -> None:
    """Nothing is left behind by a client that goes during its warning."""

    async def story() -> None:
        connection = Connection()
        connection.lose()
        connection.revocation.close()
        connection.revocation.close()
        await asyncio.sleep(SOON * 2)
        assert (connection.ended, connection.looked_up) == ([], 0)

    asyncio.run(story())
