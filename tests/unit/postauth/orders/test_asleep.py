"""What a client gets that has come back by itself: refusals with a text, until a terminal or SFTP is asked for."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import cast

import asyncssh
import pytest

from pyssh_gateway.events import ConnectionClosed, ForwardListening, RequestDenied, SessionOpened
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.postauth.orders import asleep
from pyssh_gateway.postauth.orders.asleep import MAX_WAITING, MOMENT_SECONDS, WHY, Asleep
from tests.support import leaks
from tests.support.played_server import PlayedServer, played_server
from tests.support.waiting import until

TEXT = "asleep for want of use; connect again to wake it"
SAID = f"pyssh-gateway: {TEXT}\n"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open; the umask is 0, as in the process."""
    umask = os.umask(0)
    with leaks.nothing_left_open():
        yield
    os.umask(umask)


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disconnect follows a refusal at once."""
    monkeypatch.setattr(asleep, "MOMENT_SECONDS", 0.0)


@asynccontextmanager
async def sleepers() -> AsyncIterator[tuple[PlayedServer, asyncssh.SSHClientConnection]]:
    """A client that has come back by itself, and its server."""
    async with played_server() as server, server.client(asleep=TEXT) as client:
        yield server, client


async def run(client: asyncssh.SSHClientConnection) -> None:
    """A command."""
    done = await client.run("true")
    assert (done.stdout, done.stderr, done.exit_status) == ("", SAID, 254)


async def run_shell(client: asyncssh.SSHClientConnection) -> None:
    """A shell without a terminal, as VS Code starts it."""
    done = await client.run()
    assert (done.stdout, done.stderr, done.exit_status) == ("", SAID, 254)


async def other_subsystem(client: asyncssh.SSHClientConnection) -> None:
    """A subsystem that is not SFTP."""
    done = await client.run(subsystem="netconf")
    assert (done.stderr, done.exit_status) == (SAID, 254)


async def to_port(client: asyncssh.SSHClientConnection) -> None:
    """`-L` and `-D` to a port where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        with pytest.raises(asyncssh.ChannelOpenError, match=TEXT):
            await client.open_connection(*listening.getsockname())
        with pytest.raises(BlockingIOError):
            listening.accept()


async def to_socket(client: asyncssh.SSHClientConnection) -> None:
    """The same to a unix socket."""
    with pytest.raises(asyncssh.ChannelOpenError, match=TEXT):
        await client.open_unix_connection("/some/socket")


Request = Callable[[asyncssh.SSHClientConnection], Awaitable[None]]

REFUSED: list[tuple[Request, str]] = [
    (run, "exec"),
    (run_shell, "shell"),
    (other_subsystem, "subsystem netconf"),
    (to_port, "direct-tcpip 127.0.0.1:"),
    (to_socket, "direct-streamlocal /some/socket"),
]


@pytest.mark.parametrize(("request_", "name"), REFUSED, ids=[request.__name__ for request, _ in REFUSED])
@pytest.mark.usefixtures("moment")
def test_what_no_person_asks_for_is_refused(request_: Request, name: str) -> None:
    """Protects the bill: nothing of it runs, the client gets the text and is disconnected with it, the log has it."""

    async def go() -> None:
        async with sleepers() as (server, client):
            await request_(client)
            denied = await server.until_heard(RequestDenied)
            assert denied.request.startswith(name)
            assert denied.reason == WHY
            assert not server.spawned
            closed = await server.until_heard(ConnectionClosed)
            assert (closed.reason, closed.goodbye) == (TEXT, True)
            await client.wait_closed()
            assert not [event for event in server.events if isinstance(event, SessionOpened)]

    asyncio.run(go())


def test_a_second_request_gets_the_same_answer() -> None:
    """Protects the end of open-remote-ssh's loop: its second command is answered, which is what makes it give up."""

    async def go() -> None:
        async with sleepers() as (_, client):
            await run(client)
            await run(client)

    asyncio.run(go())


def test_a_client_that_leaves_by_itself_is_forgotten() -> None:
    """Protects the process from a disconnect on a connection that has ended: no timer is left behind."""

    async def go() -> None:
        async with played_server() as server:
            async with server.client(asleep=TEXT) as client:
                await run(client)
            await server.until_heard(ConnectionClosed)
            timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other list of them
            assert not [timer for timer in timers if "Asleep" in repr(timer) and not timer.cancelled()]

    asyncio.run(go())


@pytest.mark.usefixtures("moment")
def test_listeners_lead_nowhere(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Protects the machine from a loop with -R: its port drops connections, and it is disconnected with the text."""
    path = tmp_path_factory.mktemp("s") / "s"

    async def go() -> None:
        async with sleepers() as (server, client):
            # In one go, so that all are asked for before the disconnect.
            wanted = [client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 9)]
            wanted.append(client.forward_remote_path_to_port(str(path), "127.0.0.1", 9))
            made = await asyncio.gather(*wanted, return_exceptions=True)
            assert isinstance(made[0], asyncssh.SSHListener)
            denied = await server.until_heard(RequestDenied)
            assert (denied.request, denied.reason) == ("tcpip-forward 127.0.0.1:0", WHY)
            closed = await server.until_heard(ConnectionClosed)
            assert closed.reason == TEXT
            # The second one may still be made in a thread when the connection is over, and then ends at once.
            await asyncio.to_thread(until, lambda: not path.exists(), what="the end of the socket")

    asyncio.run(go())


def test_a_connection_to_a_listener_is_dropped() -> None:
    """Protects the machine from work through -R before somebody is there: nothing reaches the client."""

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as target:
            target.setblocking(False)
            async with sleepers() as (server, client):
                listener = await client.forward_remote_port("127.0.0.1", 0, *target.getsockname())
                reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
                assert await reader.read() == b""
                writer.close()
                await writer.wait_closed()
                assert isinstance(server.events[0], ForwardListening)
                with pytest.raises(BlockingIOError):
                    target.accept()

    asyncio.run(go())


def test_a_connection_that_opens_nothing_stays() -> None:
    """Protects shared connections (`ssh -N -M`): without a request nothing is refused; keep-alives are answered."""

    async def go() -> None:
        async with sleepers() as (server, client):
            await client._make_global_request(b"keepalive@openssh.com")  # noqa: SLF001 - it has no name
            assert not server.events
            server.say(messages.Report(1))
            reported = await server.until_heard(messages.Reported)
            assert reported.connections[0].conn == "c1"

    asyncio.run(go())


async def with_terminal(client: asyncssh.SSHClientConnection) -> None:
    """A command on a terminal."""
    done = await client.run("echo here", term_type="xterm")
    assert str(done.stdout).strip() == "here"


async def with_sftp(client: asyncssh.SSHClientConnection) -> None:
    """The SFTP subsystem; the played spawner runs a shell in its place."""
    process = await client.create_process(subsystem="sftp")
    process.close()
    await process.wait_closed()


@pytest.mark.parametrize("person", [with_terminal, with_sftp])
@pytest.mark.parametrize("before", [None, run, to_port])
def test_a_person_is_let_in(person: Request, before: Request | None) -> None:
    """Protects people: a terminal and SFTP are served, also after a refusal, and then everything on the connection."""

    async def go() -> None:
        async with sleepers() as (server, client):
            if before is not None:
                await before(client)
            await person(client)
            done = await client.run("echo more")
            assert (done.stdout, done.exit_status) == ("more\n", 0)
            with socket.create_server(("127.0.0.1", 0)) as listening:
                _, writer = await client.open_connection(*listening.getsockname())
                writer.close()
            assert len([event for event in server.events if isinstance(event, RequestDenied)]) == bool(before)
            server.say(messages.Report(1))
            counters = (await server.until_heard(messages.Reported)).connections[0].counters
            assert (counters.opened, counters.terminals) == (2, person is with_terminal)  # no refused session

    asyncio.run(go())


class PlayedLoop:
    """The part of a loop that sets timers; `due` is what they call."""

    def __init__(self) -> None:
        self.due: list[Callable[[], None]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> "PlayedTimer":
        """Set a timer."""
        assert seconds == MOMENT_SECONDS
        self.due.append(call)
        return PlayedTimer(self, call)


class PlayedTimer:
    """A timer that can be cancelled."""

    def __init__(self, loop: PlayedLoop, call: Callable[[], None]) -> None:
        self._loop = loop
        self._call = call

    def cancel(self) -> None:
        """It calls nothing."""
        self._loop.due.remove(self._call)


class Alone:
    """An `Asleep` without a connection; `said` is what it has told to the client and to the log."""

    def __init__(self, text: str = TEXT) -> None:
        self.said: list[str] = []
        self.loop = PlayedLoop()
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.it = Asleep(text, loop, disconnect=self.said.append, deny=self.said.append)


def test_an_ordinary_client_is_never_refused() -> None:
    """Protects everybody else: without a text nothing is refused, and no disconnect is coming."""
    alone = Alone("")
    assert alone.it.refusal is None
    alone.it.waits("tcpip-forward")
    assert (alone.said, alone.loop.due) == ([], [])


def test_waiting_requests_are_told_at_the_end() -> None:
    """Protects the log: listeners count as refused only with the disconnect, and a bounded number of them is named."""
    alone = Alone()
    for number in range(50):
        alone.it.waits(f"{number}")
    (end,) = alone.loop.due
    end()
    assert alone.said == [*(str(number) for number in range(MAX_WAITING - 1)), "49", TEXT]


def test_one_disconnect_for_many_refusals() -> None:
    """Protects the bill and people: further refusals don't delay the disconnect, and a terminal calls it off."""
    alone = Alone()
    alone.it.refused("exec")
    alone.it.refused("exec")
    assert len(alone.loop.due) == 1
    alone.it.lift()
    assert (alone.loop.due, alone.said, alone.it.refusal) == ([], ["exec", "exec"], None)
