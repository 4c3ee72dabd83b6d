"""monitor.arrivals.guest: a stranger's connection up to its login, and the ways it can end before."""

import asyncio
from typing import cast

import pytest

from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.strangers.admission import NEEDED
from pyssh_gateway.events import ConnectionAuthenticated, ConnectionClosed, ConnectionRefused, RequestDenied
from pyssh_gateway.ipc import postauth, preauth
from pyssh_gateway.monitor.arrivals import guest as module
from pyssh_gateway.monitor.arrivals import handing_over, waiting_room
from pyssh_gateway.monitor.arrivals.guest import Guest
from tests.support.monitor import ALGORITHM, HASH, PEER, House, play
from tests.support.snapshots import USER

IDENTIFICATION = b"SSH-2.0-"


def test_a_login() -> None:
    """Protects the whole login: postauth gets the monitor's data, and its confirmation makes the client connected."""

    async def test(house: House) -> None:
        conn, told, process = await house.handed_over()
        assert (told.conn, told.session_id, told.state) == (conn, HASH, b"opaque")
        assert (told.endpoints.peer, told.endpoints.local_port) == (PEER, 22)
        assert told.identity.fingerprint.startswith("SHA256:")
        assert told.host_keys[0].algorithm == ALGORITHM
        assert told.announced == house.signer.announced
        assert (told.control, told.timezone) == (b"/run/control", b"UTC")
        assert told.banner.startswith(b"hello ")
        assert not house.registry.clients
        assert len(house.registry.strangers) == 1
        process.taken(conn)
        on = await house.event(ConnectionAuthenticated)
        assert (on.user, on.peer, on.client) == (USER, PEER, "SSH-2.0-Test")
        await house.until(lambda: not house.registry.strangers)
        assert house.people.looks.used_by == [PEER]
        assert house.guests.strangers.total == 0

    play(test)


def test_no_copy_of_the_socket_is_left() -> None:
    """Protects the end of a connection: when postauth closes its socket, the client sees that, as no copy is left."""

    async def test(house: House) -> None:
        client, _ = await house.on()
        await house.hung_up(client.id)  # postauth's copy was closed by the test

    play(test)


def test_a_silent_connection_has_our_line_and_no_process() -> None:
    """Protects memory from silent connections, and clients that wait for our identification before they send theirs."""

    async def test(house: House) -> None:
        conn, client = house.come(speak=False)
        assert (await house.loop.sock_recv(client, 100)).startswith(IDENTIFICATION)
        assert not house.spawner.preauths
        client.close()
        closed = await house.event(ConnectionClosed)
        assert (closed.conn, closed.user, closed.goodbye) == (conn, "", True)
        assert not house.registry.strangers

    play(test)


def test_an_account_s_message_travels() -> None:
    """Protects messages such as /etc/nologin: postauth gets the spawner's text about the account."""

    async def test(house: House) -> None:
        house.spawner.closed = b"closed for repairs\n"
        _, told, _ = await house.handed_over()
        assert told.closed == b"closed for repairs\n"

    play(test)


@pytest.mark.parametrize("what", ["account", "postauth"])
def test_a_login_that_can_t_be_served_is_denied(what: str) -> None:
    """Protects users from guessing: the client is refused, the log has the reason, and nobody is connected."""

    async def test(house: House) -> None:
        house.spawner.refusals.add(what)
        conn, _ = house.come()
        process = await house.spawner.preauth()
        (await process.take_client()).close()
        process.say_preauth(preauth.Sign(ALGORITHM, HASH))
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(house.people.attempt())
        answer = await process.hear_preauth(preauth.Answer)
        assert answer == preauth.Answer("denied", last=True, message=module.NOT_SERVED)
        process.say_preauth(preauth.Ended("too many", goodbye=True, bytes_in=1, bytes_out=2, crash=""))
        closed = await house.event(ConnectionClosed)
        assert (closed.conn, closed.bytes_in, closed.bytes_out) == (conn, 1, 2)
        assert house.of(RequestDenied)[0].reason == closed.reason
        assert not house.registry.clients

    play(test)


def test_a_key_that_is_revoked_meanwhile_lets_nobody_in() -> None:
    """Protects an account from a key that was revoked while the account's process was being started."""

    async def test(house: House) -> None:
        async def take_away(_user: str) -> bytes:
            house.people.snapshot = KeySnapshot({}, {}, None)
            return b""

        house.spawner.await_account = take_away  # type: ignore[method-assign]
        house.come()
        process = await house.spawner.preauth()
        (await process.take_client()).close()
        process.say_preauth(preauth.Sign(ALGORITHM, HASH))
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(house.people.attempt())
        assert (await process.hear_preauth(preauth.Answer)).result == "denied"
        assert "revoked" in house.of(RequestDenied)[0].reason

    play(test)


def test_a_stop_says_goodbye() -> None:
    """Protects clients during login: they are told that the server stops, and it does not wait for them for long."""

    async def test(house: House) -> None:
        house.come()
        process = await house.spawner.preauth()
        (await process.take_client()).close()
        for stranger in house.registry.strangers:
            stranger.disconnect("the server is stopping")
        assert (await process.hear_preauth(preauth.Disconnect)).reason == "the server is stopping"
        process.say_preauth(preauth.Ended("disconnected", goodbye=True, bytes_in=0, bytes_out=0, crash=""))
        assert (await house.event(ConnectionClosed)).reason == "the server is stopping"

    play(test)


def test_a_goodbye_does_not_wait_for_a_process_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a stop's deadline: a process that does not answer is killed, and its client sees the end."""
    monkeypatch.setattr(module, "GOODBYE_SECONDS", 0.01)

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        with await process.take_client():  # the process is stopped, with the socket open
            for stranger in house.registry.strangers:
                stranger.disconnect("the server is stopping")
            await house.hung_up(conn)
            await process.killed.wait()
        assert house.closed == ["the server is stopping"]

    play(test)


def test_a_connection_that_is_cut_off_ends_whatever_its_process_does() -> None:
    """Protects others from a connection that holds a slot: its client sees the end, even if the process is stopped."""

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        with await process.take_client():
            for stranger in house.registry.strangers:
                cast(Guest, stranger).cut_off("Login timeout expired")
            await house.hung_up(conn)
        await process.killed.wait()
        assert house.closed == ["Login timeout expired"]
        assert not house.registry.strangers

    play(test)


def test_a_process_that_crashes_is_a_line_in_the_log() -> None:
    """Protects whoever looks for a bug: a crash of the process is logged, and its connection is closed."""

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        (await process.take_client()).close()
        process.exit(None, 11)
        await house.hung_up(conn)
        assert house.crashes == ["the process of a connection has died: ended by SIGSEGV"]
        assert house.closed == ["its process ended"]

    play(test)


def test_a_bug_that_preauth_has_caught_is_told() -> None:
    """Protects the same for a traceback, which arrives in the message that ends the connection."""

    async def test(house: House) -> None:
        house.come()
        process = await house.spawner.preauth()
        (await process.take_client()).close()
        process.say_preauth(preauth.Ended("internal error", goodbye=False, bytes_in=3, bytes_out=4, crash="Traceback"))
        closed = await house.event(ConnectionClosed)
        assert (closed.reason, closed.bytes_in) == ("internal error", 3)
        assert house.crashes == ["Traceback"]

    play(test)


def test_no_process_to_be_had_is_the_end() -> None:
    """Protects clients from waiting for ever if no process can be started."""

    async def test(house: House) -> None:
        house.spawner.refusals.add("preauth")
        conn, _ = house.come()
        await house.hung_up(conn)
        assert house.closed == ["there is no process to serve it: the process table is full"]

    play(test)


# -- deaths between verification, hand-over and confirmation ------------------------------------------------------


def test_preauth_dies_when_its_client_has_been_accepted() -> None:
    """Protects the table of connections: without its state a login counts neither in the log nor in the registry."""

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        await house.accepted(conn, process)
        process.exit(None, 9)
        await house.hung_up(conn)
        assert house.closed == ["its process ended"]
        await house.until(lambda: not house.registry.strangers)
        assert not house.of(ConnectionAuthenticated)
        assert not house.registry.left_behind()

    play(test)


def test_a_state_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the same from a process that was stopped at that moment."""
    monkeypatch.setattr(module, "STATE_SECONDS", 0.01)

    async def test(house: House) -> None:
        conn, _ = house.come()
        process = await house.spawner.preauth()
        await house.accepted(conn, process)
        await house.hung_up(conn)
        await process.killed.wait()
        assert "no state" in house.closed[0]

    play(test)


def test_postauth_dies_before_it_has_taken_the_connection() -> None:
    """Protects the idle clock: nobody was connected, the log has the connection's end, and the client sees it."""

    async def test(house: House) -> None:
        conn, _, process = await house.handed_over()
        process.exit(None, 9)
        await house.hung_up(conn)
        closed = await house.event(ConnectionClosed)
        assert (closed.conn, closed.user, closed.reason) == (conn, "", "its process ended")
        await house.until(lambda: not house.registry.strangers)
        assert len(house.closed) == 1
        assert not house.of(ConnectionAuthenticated)
        assert not house.registry.left_behind()

    play(test)


def test_postauth_that_does_not_take_it_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects clients from a process that its user has stopped: a confirmation that comes too late is ignored."""
    monkeypatch.setattr(handing_over, "TAKEN_SECONDS", 0.01)

    async def test(house: House) -> None:
        conn, _, process = await house.handed_over()
        await house.hung_up(conn)
        process.taken(conn, cipher="")
        await process.hear_monitor(postauth.EndConnection)
        _, _, same = await house.handed_over()
        assert same is process
        assert not house.of(ConnectionAuthenticated)
        assert not process.killed.is_set()

    play(test)


def test_a_stop_in_the_middle_of_a_hand_over() -> None:
    """Protects a stop's deadline: the process that was given the connection is told to end it."""

    async def test(house: House) -> None:
        conn, _, process = await house.handed_over()
        await asyncio.sleep(0)
        for stranger in house.registry.strangers:
            stranger.disconnect("the server is stopping")
        assert (await process.hear_monitor(postauth.EndConnection)).conn == conn

    play(test)


def test_a_crowd_gives_way_to_another_source() -> None:
    """Protects a login from a source that holds all processes: the source's oldest one ends, without a penalty."""

    async def test(house: House) -> None:
        house.guests.strangers.reconfigure(
            Limits(unauthenticated=100, unauthenticated_per_source=100, early_drop_start=100)
        )
        for number in range(waiting_room.MAX_PROCESSES):
            house.come()
            (await (await house.spawner.preauth(number)).take_client()).close()
        other, _ = house.come("198.51.100.7")
        await house.hung_up("c1")
        (await (await house.spawner.preauth(waiting_room.MAX_PROCESSES)).take_client()).close()
        assert house.closed == [NEEDED]
        house.come()  # from the first source again: no penalty keeps it out
        assert not house.of(ConnectionRefused)
        assert house.guests.strangers.total == waiting_room.MAX_PROCESSES + 1
        assert other not in [event.conn for event in house.of(ConnectionClosed)]

    play(test)
