"""monitor.connected.postauth_client: the messages that a user's process may send, and about which connections."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    ConnectionClosed,
    FileOperation,
    RecordingStarted,
    RequestDenied,
    SessionClosed,
    SessionOpened,
)
from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.ipc.message_socket import STUCK
from pyssh_gateway.monitor.connected import client as client_module
from pyssh_gateway.monitor.connected import postauth_client as module
from pyssh_gateway.monitor.connected import registry as registry_module
from pyssh_gateway.monitor.connected import report_queue
from tests.support.monitor import ALGORITHM, HASH, PEER, House, Process, play
from tests.support.snapshots import USER


def denied(conn: str, reason: str = "no", user: str = "") -> RequestDenied:
    """An event."""
    return RequestDenied(conn=conn, user=user, request="x11", reason=reason)


def opened(conn: str, number: int = 1, **fields: str | int) -> SessionOpened:
    """The start of a session."""
    told: dict[str, object] = {
        "conn": conn,
        "session": f"{conn}.{number}",
        "user": "",
        "kind": "shell",
        "command": "",
        "tty": "/dev/pts/7",
        "term": "xterm",
        "pid": 4711,
    }
    return SessionOpened(**(told | fields))  # type: ignore[arg-type]


def recorded(conn: str, session: str) -> RecordingStarted:
    """The start of a recording."""
    return RecordingStarted(conn=conn, session=session, user="", file=f"{USER}/{session}.cast.zst", input=False)


def closed(conn: str) -> ConnectionClosed:
    """The end of a connection."""
    return ConnectionClosed(
        conn=conn,
        peer="",
        user="root",
        reason="closed by the client",
        seconds=9e9,
        bytes_in=1,
        bytes_out=2,
        goodbye=True,
    )


def session_closed(conn: str) -> SessionClosed:
    """The end of its session."""
    return SessionClosed(
        conn=conn,
        session=f"{conn}.1",
        user="",
        reason="closed",
        exit_status=0,
        exit_signal=None,
        bytes_in=1,
        bytes_out=2,
        seconds=3.0,
    )


def test_an_account_says_what_happens_and_not_who_it_is() -> None:
    """Protects the log: account, person, address and time come from the monitor, whatever the process sends."""

    async def test(house: House) -> None:
        client, process = await house.on()
        process.happened(denied(client.id, user="root"), closed(client.id))
        told = await house.event(RequestDenied)
        assert (told.user, told.identity) == (USER, client.identity)
        end = await house.event(ConnectionClosed)
        assert (end.user, end.peer, end.identity, end.goodbye) == (USER, PEER, client.identity, True)
        assert end.seconds < 9e8
        assert not house.registry.clients
        assert not house.registry.left_behind()

    play(test)


def test_text_that_is_none_travels() -> None:
    """Protects text that is not UTF-8, such as a file name: it arrives unchanged."""

    async def test(house: House) -> None:
        client, process = await house.on()
        process.happened(denied(client.id, "\udcff"))
        assert (await house.event(RequestDenied)).reason == "\udcff"

    play(test)


FOREIGN: list[Callable[[str], ipc.FromPostauth]] = [
    lambda conn: ipc.Happened(2, (ipc.pack(denied(conn)),)),
    lambda conn: ipc.Happened(2, (ipc.pack(closed(conn)),)),
    lambda conn: ipc.Taken(2, conn, "", ""),
    lambda conn: ipc.Crashed(2, conn, "Traceback"),
    lambda conn: ipc.Sign(1, conn, ALGORITHM, HASH),
    lambda conn: ipc.Prove(1, conn, (), b"rsa-sha2-512"),
]


@pytest.mark.parametrize("message", FOREIGN, ids=["event", "closed", "taken", "crashed", "sign", "prove"])
def test_a_foreign_connection_is_not_a_process_s_to_name(message: Callable[[str], ipc.FromPostauth]) -> None:
    """Protects other accounts: a process that names another account's connection is killed; the connection stays."""

    async def test(house: House) -> None:
        other, _ = await house.on(user="dev")
        mine, process = await house.on(1)
        process.say(message(other.id))
        await process.killed.wait()
        assert [client.id for client in house.registry.clients] == [other.id]
        end = house.of(ConnectionClosed)[-1]
        assert (end.conn, end.reason, end.goodbye) == (mine.id, "its process ended", False)
        assert other.id in house.crashes[-1]

    play(test)


def test_figures_of_a_foreign_connection() -> None:
    """Protects another account's idle clock in the same way."""

    async def test(house: House) -> None:
        other, _ = await house.on(user="dev")
        _, process = await house.on(1)
        look = asyncio.ensure_future(house.registry.look())
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, (ipc.ConnectionFigures(other.id, 1, 1, Counters(typed=9), ()),)))
        await process.killed.wait()
        await look
        assert other.counters == Counters()

    play(test)


@pytest.mark.parametrize("session", ["c99.1", "", "1"])
def test_figures_of_a_foreign_session(session: str) -> None:
    """Protects the list of sessions: a process can have no session that is none of its connection's."""

    async def test(house: House) -> None:
        client, process = await house.on()
        look = asyncio.ensure_future(house.registry.look())
        asked = await process.hear_monitor(ipc.Report)
        own = ipc.ConnectionFigures(client.id, 1, 1, Counters(), (ipc.SessionFigures(f"{client.id}.1", 0, 0, 0.0),))
        told = msgspec.to_builtins(ipc.Reported(asked.id, (own,)))
        told["connections"][0]["sessions"][0]["session"] = session
        process.end.send(msgspec.msgpack.encode(told))
        await process.killed.wait()
        await look
        assert not client.sessions

    play(test)


@pytest.mark.parametrize(
    "say",
    [
        lambda process, _: process.end.send(b"\xc1"),
        lambda process, _: process.say(ipc.Happened(2, (b"\xc1",))),
        lambda process, _: process.say(ipc.Happened(2, (msgspec.msgpack.encode(("auth.attempt", {})),))),
        lambda process, _: process.end.send(ipc.encode(ipc.HangUp())),
        lambda process, conn: process.taken(conn, "again"),
        lambda process, _: process.say(ipc.Lost(1, 1)),
        lambda process, _: process.say(ipc.Lost(3, 1)),
        lambda process, _: process.end.send(msgspec.msgpack.encode({"type": "lost", "number": 0, "count": 1})),
        lambda process, _: process.end.send(msgspec.msgpack.encode({"type": "happened", "first": 2, "events": []})),
        lambda process, conn: process.happened(opened(conn), opened(conn)),
        lambda process, conn: process.happened(*(opened(conn, number) for number in range(1000))),
        lambda process, conn: process.happened(opened(conn, session="c99.1")),
        lambda process, conn: process.happened(opened(conn, session=f"{conn}.1.1")),
        lambda process, conn: process.happened(opened(conn, session=f"{conn}.²")),
        lambda process, conn: process.happened(closed(conn), recorded(conn, "c99.1")),
    ],
    ids=[
        "no message",
        "no event",
        "not its event",
        "an order",
        "taken twice",
        "a number again",
        "a number missing",
        "no number",
        "no events",
        "opened twice",
        "too many sessions",
        "another's session",
        "no session",
        "no number of a session",
        "another's session afterwards",
    ],
)
def test_what_breaks_the_rules_is_the_end(say: Callable[[Process, str], object]) -> None:
    """Protects the monitor and its log: a malformed message, or one at a wrong time, ends the process."""

    async def test(house: House) -> None:
        client, process = await house.on()
        say(process, client.id)
        await process.killed.wait()
        assert not house.registry.clients

    play(test)


def test_nothing_happens_before_it_is_taken() -> None:
    """Protects the log's order: no event of a connection is accepted before its login is confirmed."""

    async def test(house: House) -> None:
        conn, _, process = await house.handed_over()
        process.happened(denied(conn))
        await process.killed.wait()
        assert not house.of(RequestDenied)

    play(test)


def test_what_a_file_server_does_last_is_told() -> None:
    """Protects the log of an upload whose client has gone: the upload's end comes after the connection's."""

    async def test(house: House) -> None:
        client, process = await house.on()
        operation = FileOperation(
            conn=client.id,
            session=f"{client.id}.1",
            user="",
            operation="file.closed",
            path="/x",
            target="",
            detail="",
            bytes_read=0,
            bytes_written=1,
            outcome="unfinished",
        )
        process.happened(closed(client.id), operation, denied(client.id))
        assert (await house.event(FileOperation)).identity == client.identity
        assert not house.of(RequestDenied)
        assert not process.killed.is_set()

    play(test)


def test_a_flood_of_events_leaves_room_for_others() -> None:
    """Protects other processes from a flood of events: a limited number is written per turn, and none is lost."""

    async def test(house: House) -> None:
        client, process = await house.on()
        turns: list[int] = []
        packed = ipc.pack(denied(client.id))
        process.say(ipc.Happened(2, (packed,) * 500))
        process.reports += 500
        process.happened(denied(client.id, "the last one"))

        def turn() -> None:
            turns.append(len(house.of(RequestDenied)))
            if turns[-1] < 501:
                house.loop.call_soon(turn)

        turn()
        await house.until(lambda: len(house.of(RequestDenied)) == 501)
        steps = [after - before for before, after in pairwise(turns)]
        assert max(steps) <= report_queue.REPORTS_A_TURN
        assert house.of(RequestDenied)[-1].reason == "the last one"

    play(test)


def test_lost_events_are_told() -> None:
    """Protects readers of the log: lost events are reported, so the log does not seem complete."""

    async def test(house: House) -> None:
        _, process = await house.on()
        process.say(ipc.Lost(2, 7))
        await house.until(lambda: house.crashes)
        assert house.crashes[0].startswith("7 events")

    play(test)


# -- signatures -----------------------------------------------------------------------------------------------------


def test_rekeys_are_signed_within_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the host key: a process gets the signatures that rekeys need, one after the other, at a limited rate."""
    monkeypatch.setattr(client_module, "SIGNATURES_AT_ONCE", 5)
    waits: list[float] = []

    async def test(house: House) -> None:
        client, process = await house.on()
        asked = client.seconds_to_signature

        def seconds(blob: bytes | None) -> float | None:
            wait = asked(blob)
            waits.append(wait or 0.0)
            return wait

        monkeypatch.setattr(client, "seconds_to_signature", seconds)
        for number in range(7):
            process.say(ipc.Sign(number, client.id, ALGORITHM, HASH))
            answer = await process.hear_monitor(ipc.Signed)
            assert (answer.id, answer.signature is not None) == (number, True)
        assert not any(waits[:5])
        assert 0 < sum(waits[5:]) <= 2 * client_module.SIGNATURE_SECONDS
        process.say(ipc.Sign(99, client.id, b"ssh-of-tomorrow", HASH))
        assert (await process.hear_monitor(ipc.Signed)).signature is None

    play(test)


def test_rekeys_do_not_pile_up() -> None:
    """Protects the monitor from requests for more signatures while earlier ones wait."""

    async def test(house: House) -> None:
        client, process = await house.on()
        count = client_module.SIGNATURES_AT_ONCE + client_module.SIGNATURES_WAITING + 3
        for number in range(count):
            process.say(ipc.Sign(number, client.id, ALGORITHM, HASH))
        answers = [await process.hear_monitor(ipc.Signed) for _ in range(count)]
        assert any(answer.signature is None for answer in answers)

    play(test)


def test_proofs_are_bound_to_the_session_and_counted() -> None:
    """Protects other clients: a proof is bound to its connection's session, and each connection gets only so many."""

    async def test(house: House) -> None:
        client, process = await house.on()
        blob = house.signer.announced[0]
        process.say(ipc.Prove(1, client.id, (blob,), b"rsa-sha2-512"))
        proofs = (await process.hear_monitor(ipc.Proved)).proofs
        assert proofs == house.signer.prove((blob,), HASH, b"rsa-sha2-512")
        process.say(ipc.Prove(2, client.id, (blob,) * ipc.MAX_PROOFS, b"rsa-sha2-512"))
        assert (await process.hear_monitor(ipc.Proved)).proofs is None
        process.say(ipc.Prove(3, client.id, (blob,), b"rsa-sha2-512"))
        assert (await process.hear_monitor(ipc.Proved)).proofs is None
        assert house.registry.left_behind()[0].proofs_left == 0

    play(test)


# -- figures --------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_last_look() -> None:
    """Protects the idle clock and `status`: a look asks the processes, and their figures are kept."""

    async def test(house: House) -> None:
        client, process = await house.on()
        process.happened(opened(client.id, command="make"))
        await house.event(SessionOpened)
        look = asyncio.ensure_future(house.registry.look())
        asked = await process.hear_monitor(ipc.Report)
        session = ipc.SessionFigures(f"{client.id}.1", 5, 6, 7.0)
        process.say(ipc.Reported(asked.id, (ipc.ConnectionFigures(client.id, 3, 4, Counters(typed=5), (session,)),)))
        assert await look == frozenset()
        assert (client.traffic, client.counters) == ((3, 4), Counters(typed=5))
        report = client.report()
        assert (report.bytes_in, report.sessions[0].bytes_out, report.sessions[0].pid) == (3, 6, 4711)
        assert [session.tty for session in house.registry.sessions] == ["/dev/pts/7"]
        process.happened(session_closed(client.id))
        await house.event(SessionClosed)
        assert not house.registry.sessions

    play(test)


def test_a_process_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the last look: a process that its user has stopped delays it only briefly."""
    monkeypatch.setattr(registry_module, "LOOK_SECONDS", 0.01)

    async def test(house: House) -> None:
        client, process = await house.on()
        assert await house.registry.look() == {client.id}
        assert await house.registry.look() == {client.id}
        assert client.counters == Counters()
        await process.hear_monitor(ipc.Report)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await process.hear_monitor(ipc.Report)  # one request is enough

    play(test)


def test_a_process_that_stays_silent_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the machine from staying up for connections that no process serves any more."""
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.0)

    async def test(house: House) -> None:
        client, process = await house.on()
        await house.registry.look()
        await process.killed.wait()
        ended = await house.event(ConnectionClosed)
        assert (ended.conn, ended.reason) == (client.id, "its process did not answer")
        assert not house.crashes  # no bug: its user may have stopped it

    play(test)


def test_a_process_that_does_not_read_is_killed() -> None:
    """Protects the monitor's memory in the same way."""

    async def test(house: House) -> None:
        _, process = await house.on()
        while not process.killed.is_set():
            house.registry.announce("x" * ipc.MAX_TEXT)
            await asyncio.sleep(0)
        assert STUCK in house.crashes[0]

    play(test)


# -- the end --------------------------------------------------------------------------------------------------------


def test_death_closes_its_connections_and_no_others() -> None:
    """Protects other accounts: when a process is killed, its connections are closed in the log, and no others."""

    async def test(house: House) -> None:
        other, _ = await house.on(user="dev")
        first, process = await house.on(1)
        second, _ = await house.on(1)
        process.happened(denied(first.id))
        process.exit(None, 9)
        await house.until(lambda: len(house.closed) == 2)
        assert [event.conn for event in house.of(ConnectionClosed)] == [first.id, second.id]
        assert house.of(RequestDenied)
        assert [client.id for client in house.registry.clients] == [other.id]
        assert [login.conn for login in house.registry.left_behind()] == [other.id]

    play(test)


def test_a_stop_reaches_all_of_them() -> None:
    """Protects users' work at a stop: every process is told to announce, hang up and disconnect, in this order."""

    async def test(house: House) -> None:
        _, process = await house.on()
        house.registry.announce("stopping")
        house.registry.hang_up()
        house.registry.disconnect("goodbye")
        assert (await process.hear_monitor(ipc.Announce)).text == "stopping"
        await process.hear_monitor(ipc.HangUp)
        assert (await process.hear_monitor(ipc.EndConnection)).conn == ""

    play(test)


def test_a_revoked_key_ends_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects an account whose key was revoked: the process is told to warn, to refuse, and to end the connection."""
    monkeypatch.setattr(client_module, "REVOKED_SECONDS", 0.0)

    async def test(house: House) -> None:
        client, process = await house.on()
        house.people.snapshot = type(house.people.snapshot)({}, {}, None)
        client.recheck_key()
        assert "revoked" in (await process.hear_monitor(ipc.Announce)).text
        assert (
            await process.hear_monitor(ipc.Revoke)
        ).reason == "the key that this connection was opened with has been revoked"
        assert (await process.hear_monitor(ipc.EndConnection)).conn == client.id

    play(test)


def test_a_process_s_own_bug_is_told() -> None:
    """Protects whoever looks for a bug in a part that belongs to no connection: its traceback is logged."""

    async def test(house: House) -> None:
        _, process = await house.on()
        process.say(ipc.Crashed(2, "", "Traceback"))
        await house.until(lambda: house.crashes)
        assert house.crashes == ["Traceback"]
        assert len(house.of(ConnectionAuthenticated)) == 1
        assert not process.killed.is_set()

    play(test)
