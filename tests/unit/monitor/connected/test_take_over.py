"""The next monitor: clients stay connected, unfinished logins are closed, and the log's numbers continue."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import ConnectionAuthenticated, ConnectionClosed, Record, RequestDenied, SessionClosed
from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.ipc import preauth
from pyssh_gateway.ipc.spawner import socket_pair
from pyssh_gateway.monitor.connected import registry as module
from pyssh_gateway.monitor.connected.login import Login
from pyssh_gateway.monitor.connected.registry_file import RegistryFile, RegistryFull
from tests.support.monitor import ALGORITHM, HASH, House, Process, Spawner, play
from tests.support.waiting import PATIENCE

TURNS = 10
"""Turns of the loop: more than the receipt of a waiting message needs."""


class Successor:
    """The monitor after `before`, which was killed; the spawner gives its processes new sockets."""

    def __init__(self, before: House, memory: int, directory: Path) -> None:
        self.before = before
        last = before.lines[-1].seq if before.lines else 0
        self.house = House(memory, Spawner(), directory, before.people, last=last)

    def take_over(self, process: Process) -> None:
        """Take this process over, as the spawner still has it."""
        ours, theirs = socket_pair()
        process.end.close()
        process.end = theirs
        theirs.setblocking(False)
        spawned = process.spawned
        self.house.spawner.postauths.append(process)
        process.on_exit = self.house.postauths.take_over(spawned.id, process.user, spawned.pid, ours)
        process.spawned = msgspec.structs.replace(spawned, tty="", descriptors=[])

    def adopt(self) -> None:
        """Take over the connections in the registry."""
        self.house.postauths.adopt(self.house.left_behind, self.house.client_services)


def follow(
    first: Callable[[House], Awaitable[Process]], second: Callable[[Successor, Process], Awaitable[None]]
) -> None:
    """Run `first` with one monitor, and `second` with its successor after that one was killed."""
    here = Path.cwd()

    async def main(directory: Path) -> None:
        memory = os.memfd_create("registry")
        before = House(memory, Spawner(), directory)
        try:
            async with asyncio.timeout(PATIENCE):
                process = await first(before)
                successor = Successor(before, os.dup(memory), directory)
                try:
                    await second(successor, process)
                finally:
                    await successor.house.close()
        finally:
            await before.close()
            with suppress(OSError):
                os.close(memory)

    with TemporaryDirectory() as directory:
        try:
            asyncio.run(main(Path(directory)))
        finally:
            os.chdir(here)


async def one_on(house: House) -> Process:
    """Connect a client."""
    _, process = await house.on()
    return process


async def one_half_way(house: House) -> Process:
    """Hand a connection over, without a confirmation from its process."""
    _, _, process = await house.handed_over()
    return process


def figures(conn: str, *sessions: ipc.SessionFigures) -> ipc.ConnectionFigures:
    """A process's figures of a connection."""
    return ipc.ConnectionFigures(conn, 1, 2, Counters(), sessions)


def test_what_a_process_has_to_tell_waits_until_its_connections_are_known() -> None:
    """Protects a process with early events from the next monitor: they wait until it knows the connections."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        process.happened(RequestDenied(conn="c1", user="", request="x11", reason="no"))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        successor.adopt()
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, (figures("c1"),)))
        assert (await house.event(RequestDenied)).identity == house.registry.clients[0].identity
        assert not house.crashes

    follow(one_on, second)


def test_what_is_told_of_a_connection_that_had_ended_before_is_passed_over() -> None:
    """Protects an account's sessions: events of a connection whose end is already in the log are ignored."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        successor.adopt()
        asked = await process.hear_monitor(ipc.Report)
        process.happened(RequestDenied(conn="c0", user="", request="x11", reason="no"))
        process.say(ipc.Reported(asked.id, (figures("c1"),)))
        process.happened(RequestDenied(conn="c1", user="", request="agent", reason="no"))
        assert (await house.event(RequestDenied)).request == "agent"
        assert not house.crashes

    follow(one_on, second)


def test_who_is_on_stays_on() -> None:
    """Protects open sessions from a monitor's death: the next one knows and reports them, and logs their end."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        successor.adopt()
        client = house.registry.clients[0]
        assert client.login == successor.before.registry.clients[0].login
        asked = await process.hear_monitor(ipc.Report)
        session = ipc.SessionFigures("c1.1", 1, 2, 3.0, "exec", b"make \xff", "/dev/pts/7", 4711)
        process.say(ipc.Reported(asked.id, (figures("c1", session),)))
        process.happened(RequestDenied(conn="c1", user="", request="x11", reason="no"))
        told = await house.event(RequestDenied)
        assert told.identity == client.identity
        assert client.report().sessions[0].command == "make \udcff"
        assert [session.tty for session in house.registry.sessions] == ["/dev/pts/7"]
        assert not house.of(ConnectionAuthenticated)
        process.say(ipc.Sign(1, "c1", ALGORITHM, HASH))
        assert (await process.hear_monitor(ipc.Signed)).signature
        process.exit(None, 9)
        assert (await house.event(ConnectionClosed)).conn == "c1"
        assert not house.registry.left_behind()

    follow(one_on, second)


def test_whose_process_is_gone_too_is_closed() -> None:
    """Protects the log: a connection whose process is gone, too, gets an end."""

    async def second(successor: Successor, _process: Process) -> None:
        house = successor.house
        successor.adopt()
        closed = await house.event(ConnectionClosed)
        assert (closed.conn, closed.user, closed.goodbye) == ("c1", "amos", False)
        assert not house.registry.left_behind()

    follow(one_on, second)


def test_a_hand_over_that_was_done() -> None:
    """Protects a login at the moment of the monitor's death: its process serves it, so the client is connected."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        successor.adopt()
        assert not house.registry.clients
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, (figures("c1"),)))
        assert (await house.event(ConnectionAuthenticated)).conn == "c1"
        process.taken("c1")
        await house.until(lambda: house.registry.clients)
        process.happened(RequestDenied(conn="c1", user="", request="x11", reason="no"))
        await house.event(RequestDenied)
        assert house.registry.clients[0].login.client == "SSH-2.0-Test"
        assert len(house.of(ConnectionAuthenticated)) == 1
        assert not process.killed.is_set()

    follow(one_half_way, second)


def test_a_hand_over_that_was_done_and_only_read() -> None:
    """Protects all sessions of an account from the death of a monitor that had read `Taken` but not written it down."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        process.happened(RequestDenied(conn="c1", user="", request="x11", reason="no"))
        process.say(ipc.Sign(1, "c1", ALGORITHM, HASH))
        successor.adopt()
        await process.hear_monitor(ipc.Report)
        assert (await house.event(RequestDenied)).conn == "c1"
        assert (await process.hear_monitor(ipc.Signed)).signature
        assert [event.conn for event in house.of(ConnectionAuthenticated)] == ["c1"]
        assert not process.killed.is_set()

    follow(one_half_way, second)


def test_an_end_of_a_hand_over_that_was_not() -> None:
    """Protects the log: a connection that its process could not serve has no login, whichever monitor hears its end."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        process.happened(ConnectionClosed(conn="c1", peer="", user="", reason="no", seconds=0, bytes_in=0, bytes_out=0))
        successor.adopt()
        assert (await house.event(ConnectionClosed)).user == ""
        assert not house.of(ConnectionAuthenticated)

    follow(one_half_way, second)


def test_a_hand_over_that_was_not() -> None:
    """Protects the idle clock: a login that never reached its process is closed, and nobody is connected."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        successor.adopt()
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, ()))
        closed = await house.event(ConnectionClosed)
        assert (closed.conn, closed.user) == ("c1", "")
        assert not house.registry.clients
        assert not house.registry.left_behind()

    follow(one_half_way, second)


@pytest.mark.parametrize("stale", [ipc.Reported(1, (figures("c1"),)), ipc.Busy()], ids=["report", "busy"])
def test_what_the_monitor_before_had_asked(stale: ipc.FromPostauth) -> None:
    """Protects a process whose answer to the previous monitor reaches the next one: that breaks no rule."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        process.say(stale)
        successor.adopt()
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, (figures("c1"),)))
        process.happened(RequestDenied(conn="c1", user="", request="x11", reason="no"))
        await house.event(RequestDenied)
        assert not process.killed.is_set()

    follow(one_on, second)


def test_it_believes_the_memory_and_not_the_process() -> None:
    """Protects other accounts: a process that claims a connection not in the registry is killed."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        successor.adopt()
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, (figures("c1"), figures("another"))))
        await process.killed.wait()
        assert not house.registry.clients

    follow(one_on, second)


def test_the_log_counts_on() -> None:
    """Protects the log's numbers: none is used twice, so that a missing line shows."""

    async def second(successor: Successor, _process: Process) -> None:
        seen: list[int] = []
        successor.house.bus.subscribe(lambda record: seen.append(record.seq))
        successor.adopt()
        assert seen == [len(successor.before.events) + 1]

    follow(one_on, second)


def test_an_end_that_comes_late_is_told() -> None:
    """Protects the log of events without a monitor: they are processed first, and then the report."""

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        successor.take_over(process)
        process.happened(
            SessionClosed(
                conn="c1",
                session="c1.1",
                user="",
                reason="closed",
                exit_status=0,
                exit_signal=None,
                bytes_in=0,
                bytes_out=0,
                seconds=1.0,
            ),
            ConnectionClosed(
                conn="c1", peer="", user="", reason="bye", seconds=0, bytes_in=0, bytes_out=0, goodbye=True
            ),
        )
        successor.adopt()
        asked = await process.hear_monitor(ipc.Report)
        process.say(ipc.Reported(asked.id, ()))
        closed = await house.event(ConnectionClosed)
        assert (closed.reason, closed.user) == ("bye", "amos")
        assert house.of(SessionClosed)[0].user == "amos"

    follow(one_on, second)


# -- reports that are sent again ------------------------------------------------------------------------------------


def denied(request: str) -> RequestDenied:
    """An event."""
    return RequestDenied(conn="c1", user="", request=request, reason="no")


BYE = ConnectionClosed(conn="c1", peer="", user="", reason="bye", seconds=0, bytes_in=0, bytes_out=0, goodbye=True)


async def said_again(successor: Successor, process: Process, *events: ipc.Told) -> None:
    """The process tells the next monitor everything from its first report on, and that has dealt with it."""
    successor.take_over(process)
    process.reports = 0
    process.taken("c1")
    process.happened(*events)
    successor.adopt()
    await process.hear_monitor(ipc.Report)
    while process.logged[-1:] != [process.reports]:
        await process.hear_monitor(ipc.Logged)


def test_a_report_is_logged_once() -> None:
    """Protects the log: of all that is sent again, the next monitor writes what the one before has not written."""

    async def first(house: House) -> Process:
        _, process = await house.on()
        process.happened(denied("written"))
        await house.event(RequestDenied)
        return process

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        await said_again(successor, process, denied("written"), denied("not written"))
        assert [event.request for event in house.of(RequestDenied)] == ["not written"]
        assert not house.of(ConnectionAuthenticated)
        assert not process.killed.is_set()

    follow(first, second)


@pytest.mark.parametrize("is_written", [True, False])
def test_a_kill_beside_the_line(is_written: bool) -> None:
    """Protects the log from a kill just before a line is written, or just after: the event is there once."""

    async def first(house: House) -> Process:
        _, process = await house.on()
        announced = asyncio.Event()

        def dies(record: Record) -> None:
            if is_written and not announced.is_set():  # what it writes after that is in no log
                house.lines.append(record)
            announced.set()

        house.log._log = dies  # noqa: SLF001 - the function that writes
        house.progress.logged = lambda origin: None  # type: ignore[method-assign]  # it does not come to that
        process.happened(denied("x11"))
        await announced.wait()
        return process

    async def second(successor: Successor, process: Process) -> None:
        await said_again(successor, process, denied("x11"))
        lines = [record.event for record in successor.before.lines + successor.house.lines]
        assert [event.request for event in lines if isinstance(event, RequestDenied)] == ["x11"]

    follow(first, second)


def test_a_login_that_was_only_logged() -> None:
    """Protects a client whose login is in the log, but not yet in the registry: it is on, and the log has it once."""

    async def first(house: House) -> Process:
        conn, _, process = await house.handed_over()
        house.registry.keep = lambda client: None  # type: ignore[method-assign]  # the monitor is killed before that
        process.taken(conn)
        await house.event(ConnectionAuthenticated)
        return process

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        await said_again(successor, process, denied("x11"))
        assert [client.login.client for client in house.registry.clients] == ["SSH-2.0-Test"]
        assert not house.of(ConnectionAuthenticated)
        assert [login.taken for login in house.registry.left_behind()] == [True]

    follow(first, second)


def test_an_end_that_was_only_logged() -> None:
    """Protects the log: an end that it has, of a connection that is still in the registry, is not logged again."""

    async def first(house: House) -> Process:
        _, process = await house.on()
        house.registry.leave = lambda client: None  # type: ignore[method-assign]  # the monitor is killed before that
        process.happened(BYE)
        await house.event(ConnectionClosed)
        return process

    async def second(successor: Successor, process: Process) -> None:
        house = successor.house
        await said_again(successor, process, BYE)
        assert not house.of(ConnectionClosed)
        assert not house.registry.clients
        assert not house.registry.left_behind()

    follow(first, second)


def test_nothing_is_acknowledged_before_the_log_is_written() -> None:
    """Protects the events of a start, which wait until the banner was shown: their process keeps them until then."""

    async def test(house: House) -> None:
        house.log.has_begun = False
        client, process = await house.on()
        process.happened(denied("x11"))
        await house.event(RequestDenied)
        with pytest.raises(BlockingIOError):
            process.end.recv(1)
        house.log.begin()
        house.postauths.acknowledge()
        assert await process.hear_monitor(ipc.Logged) == ipc.Logged(2)
        assert house.lines[-1].event == msgspec.structs.replace(denied("x11"), user="amos", identity=client.identity)

    play(test)


# -- the registry -------------------------------------------------------------------------------------------------


def test_an_account_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects other accounts' logins: each account has a share of the registry, and a login above it is denied."""

    async def test(house: House) -> None:
        client, _ = await house.on()
        monkeypatch.setattr(module, "ACCOUNT_BYTES", len(msgspec.msgpack.encode(client.login)) + 10)
        house.come()
        process = await house.spawner.preauth(1)
        (await process.take_client()).close()
        process.say_preauth(preauth.Sign(ALGORITHM, HASH))
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(house.people.attempt())
        assert (await process.hear_preauth(preauth.Answer)).result == "denied"
        assert house.of(RequestDenied)[0].reason == "there are too many connections"
        assert [login.conn for login in house.registry.left_behind()] == [client.id]

    play(test)


def test_what_another_version_has_left_is_nothing() -> None:
    """Protects a start from a registry that can't be read."""
    memory = os.memfd_create("registry")
    try:
        RegistryFile(memory).write(b"\xc1")
        assert module.Registry(RegistryFile(memory)).left_behind() == ()
        with pytest.raises(RegistryFull):
            RegistryFile(memory).write(bytes(1 << 20))
    finally:
        os.close(memory)


def test_an_entry_is_small() -> None:
    """Protects the number of connections that the registry can hold, as `registry_file` promises."""

    async def test(house: House) -> None:
        client, _ = await house.on()
        entry = msgspec.msgpack.encode(client.login)
        assert len(entry) < 740
        assert msgspec.msgpack.decode(entry, type=Login) == client.login

    play(test)
