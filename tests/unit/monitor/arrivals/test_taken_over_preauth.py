"""A preauth process that a stranger has taken over can affect its own connection only, whatever it sends."""

from collections.abc import Callable

import pytest

from pyssh_gateway.events import AuthAttempt, ConnectionAuthenticated, ConnectionClosed
from pyssh_gateway.ipc import preauth
from pyssh_gateway.ipc.postauth import TakeConnection
from tests.support.monitor import ALGORITHM, HASH, House, Process, play

OTHER_HASH = bytes(range(1, 33))
STATE = preauth.State(b"opaque")
SIGN = preauth.Sign(ALGORITHM, HASH)


async def come(house: House, *, number: int = 0) -> tuple[str, Process]:
    """A connection and its process, which has the client's socket."""
    conn, _ = house.come()
    process = await house.spawner.preauth(number)
    (await process.take_client()).close()
    return conn, process


async def ended(house: House, conn: str, process: Process) -> str:
    """The logged error, after the process was killed and its client saw the end; checks that nobody got in."""
    await process.killed.wait()
    await house.hung_up(conn)
    assert not house.spawner.postauths
    assert not house.of(ConnectionAuthenticated)
    assert house.closed == ["its process broke the rules"]
    await house.until(lambda: not house.registry.strangers)
    return house.crashes[0]


@pytest.mark.parametrize("before", [(), (SIGN,)])
def test_it_lies_about_success(before: tuple[preauth.FromPreauth, ...]) -> None:
    """Protects accounts from a claimed login without a signature: a state before acceptance ends the connection."""

    async def test(house: House) -> None:
        conn, process = await come(house)
        for message in (*before, STATE):
            process.say_preauth(message)
        assert "nobody has logged in" in await ended(house, conn, process)

    play(test)


def test_it_introduces_its_client_twice() -> None:
    """Protects the monitor from a flood of claims: the first message about the client's software is the only one."""

    async def test(house: House) -> None:
        conn, process = await come(house)
        for _ in range(2):
            process.say_preauth(preauth.Greeted(b"SSH-2.0-Test", "0" * 32, "1" * 32))
        assert "introduced twice" in await ended(house, conn, process)
        assert (house.of(ConnectionClosed)[0].client, house.of(ConnectionClosed)[0].hassh) == ("SSH-2.0-Test", "0" * 32)

    play(test)


def test_it_asks_for_a_second_signature() -> None:
    """Protects other clients: for each connection one exchange hash is signed, and no other."""

    async def test(house: House) -> None:
        conn, process = await come(house)
        process.say_preauth(SIGN)
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(preauth.Sign(ALGORITHM, OTHER_HASH))
        assert "second signature" in await ended(house, conn, process)

    play(test)


def test_it_replays_another_connection_s_signature() -> None:
    """Protects a user whose signature was seen elsewhere: it is only valid for the session that it was made for."""

    async def test(house: House) -> None:
        _, process = await come(house)
        process.say_preauth(preauth.Sign(ALGORITHM, OTHER_HASH))
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(house.people.attempt(HASH))
        assert (await process.hear_preauth(preauth.Answer)).result == "denied"
        assert (await house.event(AuthAttempt)).reason == "signature is wrong"
        assert not house.spawner.postauths

    play(test)


def test_it_relays_what_another_client_says() -> None:
    """Protects a login in progress: its request is refused when it is relayed on an attacker's connection."""

    async def test(house: House) -> None:
        genuine, victims = await come(house)
        _, attackers = await come(house, number=1)
        victims.say_preauth(SIGN)
        await victims.hear_preauth(preauth.Signed)
        attackers.say_preauth(preauth.Sign(ALGORITHM, OTHER_HASH))
        await attackers.hear_preauth(preauth.Signed)
        attempt = house.people.attempt(HASH)
        attackers.say_preauth(attempt)
        assert (await attackers.hear_preauth(preauth.Answer)).result == "denied"
        victims.say_preauth(attempt)
        assert (await victims.hear_preauth(preauth.Answer)).result == "accepted"
        victims.say_preauth(STATE)
        told = await (await house.spawner.postauth()).hear_monitor(TakeConnection)
        assert (told.conn, told.session_id) == (genuine, HASH)
        attackers.say_preauth(STATE)
        await attackers.killed.wait()
        assert [login.conn for login in house.registry.left_behind()] == [genuine]

    play(test)


def test_it_hands_over_a_foreign_state() -> None:
    """Protects other sessions: postauth gets the session id of the signed login, whatever the state contains."""

    async def test(house: House) -> None:
        _, told, _ = await house.handed_over()
        assert told.session_id == HASH
        assert told.identity == house.of(AuthAttempt)[-1].identity

    play(test)


@pytest.mark.parametrize(
    "say",
    [
        lambda house, process: process.say_preauth(house.people.attempt()),
        lambda house, process: process.end.send(b"\xc1"),
        lambda house, process: process.end.send(bytes(1000)),
        lambda house, process: process.say_preauth(preauth.Sign(b"ssh-of-tomorrow", HASH)),
        lambda house, process: process.end.send(preauth.encode(preauth.Disconnect("a message of the monitor's"))),
    ],
    ids=["an attempt before the session", "no message", "zeros", "an unknown key", "a message of the monitor's"],
)
def test_it_says_what_it_may_not(say: Callable[[House, Process], object]) -> None:
    """Protects the monitor: a malformed or unexpected message ends the process and its connection."""

    async def test(house: House) -> None:
        conn, process = await come(house)
        say(house, process)
        assert await ended(house, conn, process)

    play(test)


def test_it_changes_the_account() -> None:
    """Protects other accounts: a connection can't change the account name of its first request."""

    async def test(house: House) -> None:
        conn, process = await come(house)
        process.say_preauth(SIGN)
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(house.people.attempt(sign=False))
        assert (await process.hear_preauth(preauth.Answer)).result == "offered"
        process.say_preauth(house.people.attempt(user="dev"))
        assert "another account" in await ended(house, conn, process)

    play(test)


def test_it_goes_on_after_the_last_attempt() -> None:
    """Protects keys from endless tries: after the last attempt only a goodbye is accepted."""

    async def test(house: House) -> None:
        conn, process = await come(house)
        process.say_preauth(SIGN)
        await process.hear_preauth(preauth.Signed)
        is_last = False
        while not is_last:
            process.say_preauth(preauth.Attempt(b"amos", "password"))
            is_last = (await process.hear_preauth(preauth.Answer)).last
        process.say_preauth(house.people.attempt())
        assert "after the last attempt" in await ended(house, conn, process)

    play(test)


def test_something_else_than_a_state() -> None:
    """Protects the hand-over: after acceptance only a state or an end is accepted, and nothing is signed."""

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        await house.accepted(conn, process)
        process.say_preauth(preauth.Sign(ALGORITHM, OTHER_HASH))
        await process.killed.wait()
        await house.hung_up(conn)
        assert house.closed == ["its process broke the rules"]
        assert not house.registry.left_behind()

    play(test)


def test_a_second_state_is_nobody_s() -> None:
    """Protects a connection that was handed over: further messages of its preauth process are ignored."""

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        await house.accepted(conn, process)
        process.say_preauth(STATE)
        process.say_preauth(preauth.State(b"another one"))
        told = await (await house.spawner.postauth()).hear_monitor(TakeConnection)
        assert told.state == STATE.state
        await process.killed.wait()

    play(test)
