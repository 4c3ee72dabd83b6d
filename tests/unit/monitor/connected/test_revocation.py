"""connected.revocation: after a key's revocation come a warning and a second look-up, and then the connection ends."""

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
    """A connection whose key the test takes away and gives back; `answers` are the results of the look-ups, in order.

    The last one is repeated. An answer says whether the key is there, and whether that is certain.
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
        """Give the next answer."""
        self.looked_up += 1
        self.holds, is_certain = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.changed.set()
        if self.meanwhile is not None:
            self.meanwhile()
        return is_certain

    def end(self, reason: str) -> None:
        """Record the end."""
        self.ended.append(reason)
        self.changed.set()

    def lose(self) -> None:
        """Take the key away."""
        self.holds = False
        self.revocation.check()

    async def settle(self) -> None:
        """Wait until the revocation has been decided, and nothing is pending."""
        async with asyncio.timeout(PATIENCE):
            while not self.ended and self.revocation.is_ending:
                await self.changed.wait()
                self.changed.clear()
                await asyncio.gather(*self.tasks)


def test_a_key_that_stays_away_ends_its_connection() -> None:
    """The user whose key was revoked is warned, can't open anything new, and is disconnected after the warning."""

    async def story() -> None:
        connection = Connection()
        connection.lose()
        connection.revocation.check()  # as when other keys have changed
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
    """A key that was missing only for a moment, as in a file being written, ends nothing, and forwards work again."""

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
        assert connection.ended  # a later revocation counts anew

    asyncio.run(story())


def test_a_key_that_comes_back_is_good_at_once() -> None:
    """A key that comes back counts at once, and not only at the end of the warning."""

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
    """An uncertain answer, of a source that does not respond, ends nothing; the next certain answer decides."""

    async def story() -> None:
        connection = Connection()
        connection.answers = [(False, False), (False, False), (False, True)]
        connection.lose()
        await connection.settle()
        assert connection.looked_up == 3
        assert connection.ended

    asyncio.run(story())


def test_nobody_waits_for_a_confirmation_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that stays unreachable after it revoked a key does not keep the connection open for ever."""
    monkeypatch.setattr(module, "UNCERTAIN_SECONDS", SOON)

    async def story() -> None:
        connection = Connection()
        connection.answers = [(False, False)]
        connection.lose()
        await connection.settle()
        assert connection.ended

    asyncio.run(story())


def test_a_connection_that_may_stay_does() -> None:
    """With `on_revoke = "keep"`, revocation and return of a key are logged, and nothing is closed or refused."""

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
    """When `on_revoke` changes to "end", connections whose keys were revoked before end as well."""

    async def story() -> None:
        connection = Connection(None)
        connection.lose()
        connection.seconds = SOON
        connection.revocation.check()
        connection.revocation.check()  # the warning begins only once
        await connection.settle()
        assert connection.ended
        assert [getattr(event, "seconds", "") for event in connection.events] == [None, SOON]

    asyncio.run(story())


def test_a_key_that_goes_again_while_it_is_looked_up_is_warned_of_anew() -> None:
    """A key that returns and is revoked again during the look-up gets a second warning of full length."""

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
    """A client that leaves during its warning leaves no task behind."""

    async def story() -> None:
        connection = Connection()
        connection.lose()
        connection.revocation.close()
        connection.revocation.close()
        await asyncio.sleep(SOON * 2)
        assert (connection.ended, connection.looked_up) == ([], 0)

    asyncio.run(story())
