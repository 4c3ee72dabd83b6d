"""A whole postauth process, with real clients and sessions; the monitor and the spawner are fakes."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest

from pyssh_gateway.events import (
    ConnectionClosed,
    ForwardClosed,
    ForwardListening,
    ForwardOpened,
    RequestDenied,
    SessionClosed,
    SessionExited,
    SessionOpened,
)
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.postauth.main import LEFT, MISLED
from pyssh_gateway.system import environment
from tests.support import leaks, processes
from tests.support.played_server import NEXT, played_server
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open; the umask is 0, as in the process."""
    umask = os.umask(0)
    with leaks.nothing_left_open():
        yield
    os.umask(umask)


def test_a_session() -> None:
    """Protects a command: the spawner starts it, its data flows both ways, and start, exit and figures are reported."""

    async def go() -> None:
        async with played_server() as server:
            async with server.client() as client:
                taken = await server.until_heard(messages.Taken)
                assert (taken.conn, taken.cipher) == ("c1", "chacha20-poly1305@openssh.com")
                assert taken.client.startswith("SSH-2.0-AsyncSSH")
                done = await client.run("cat; echo error >&2; exit 3", input="text")
                assert (done.stdout, done.stderr, done.exit_status) == ("text", "error\n", 3)
            closed = await server.until_heard(ConnectionClosed)
            opened, ended = server.events[0], server.events[1]
            assert isinstance(opened, SessionOpened)
            assert isinstance(ended, SessionClosed)
            assert (opened.conn, opened.session, opened.user, opened.identity) == ("c1", "c1.1", "", None)
            assert (ended.exit_status, ended.bytes_in, ended.bytes_out) == (3, 4, 10)
            assert (closed.conn, closed.peer, closed.reason) == ("c1", "192.0.2.1", "closed by the client")
            assert closed.goodbye
            assert closed.seconds >= 1.0
            assert closed.bytes_in > 1000

    asyncio.run(go())


def test_what_a_session_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the settings that the monitor gives to sessions: control socket, time zone, permitted variables."""
    monkeypatch.setattr(environment, "SYSTEM_ENVIRONMENT", ())

    async def go() -> None:
        async with played_server() as server:
            async with server.client(control=b"/run/control", timezone=b"Mars/Olympus") as client:
                done = await client.run("echo $PYSSH_CONTROL", env={"LANG": "xx", "LD_PRELOAD": "x"})
                assert done.stdout == "/run/control\n"
            env = server.spawned[0].plan.env
            assert env[b"PYSSH_CONTROL"] == b"/run/control"
            assert env[b"TZ"] == b"Mars/Olympus"
            assert env[b"LANG"] == b"xx"
            assert b"LD_PRELOAD" not in env
            assert env[b"SSH_CLIENT"] == b"192.0.2.1 50000 22"

    asyncio.run(go())


def test_signals_are_sent_by_the_process_itself() -> None:
    """Protects `signal` requests: the process, which is the account, signals its own processes without the spawner."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            process = await client.create_process(
                "trap 'echo caught; exit 7' USR1; echo ready; while :; do sleep 0.01; done"
            )
            assert await process.stdout.readline() == "ready\n"
            process.send_signal("USR1")
            done = await process.wait()
            assert (done.stdout, done.exit_status) == ("caught\n", 7)
            assert len(server.spawned) == 1

    asyncio.run(go())


def test_a_process_that_is_refused() -> None:
    """Protects the spawner's reason for a refusal: the client sees it, and it is in the log."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            server.refusal = "the machine is closed"
            done = await client.run("true")
            assert (done.stderr, done.exit_status) == ("pyssh-gateway: the machine is closed\n", 254)
            denied = await server.until_heard(RequestDenied)
            assert (denied.request, denied.reason) == ("exec", "the machine is closed")

    asyncio.run(go())


async def echo(listening: socket.socket) -> None:
    """Serve one connection: send back what arrives."""
    loop = asyncio.get_running_loop()
    sock, _ = await loop.sock_accept(listening)
    with sock:
        while data := await loop.sock_recv(sock, 1000):
            await loop.sock_sendall(sock, data)


def test_connections_from_here() -> None:
    """Protects -L: connections to ports and unix sockets carry data both ways, and are reported with their bytes."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            with socket.create_server(("127.0.0.1", 0)) as listening:
                listening.setblocking(False)
                port = listening.getsockname()[1]
                serving = asyncio.ensure_future(echo(listening))
                reader, writer = await client.open_connection("127.0.0.1", port)
                writer.write(b"there and back")
                writer.write_eof()
                assert await reader.read() == b"there and back"
                await serving
            closed = await server.until_heard(ForwardClosed)
            assert (closed.kind, closed.target) == ("direct-tcpip", f"127.0.0.1:{port}")
            assert (closed.bytes_in, closed.bytes_out) == (14, 14)
            with pytest.raises(asyncssh.ChannelOpenError, match="Connection refused"):
                await client.open_connection("127.0.0.1", port)
            with pytest.raises(asyncssh.ChannelOpenError, match="No such file"):
                await client.open_unix_connection("/no/such/socket")

    asyncio.run(go())


def test_listeners_here(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Protects -R: listening ports and sockets lead to the client; a socket's file is removed with the connection."""
    path = tmp_path_factory.mktemp("s") / "s"

    async def go() -> None:
        async with played_server() as server:
            with socket.create_server(("127.0.0.1", 0)) as target:
                target.setblocking(False)
                async with server.client() as client:
                    for kind in ("tcp", "unix"):
                        serving = asyncio.ensure_future(echo(target))
                        if kind == "tcp":
                            listener = await client.forward_remote_port("127.0.0.1", 0, *target.getsockname())
                            reader, writer = await asyncio.open_connection("127.0.0.1", listener.get_port())
                        else:
                            await client.forward_remote_path_to_port(str(path), *target.getsockname())
                            assert path.is_socket()
                            reader, writer = await asyncio.open_unix_connection(path)
                        writer.write(b"back and there")
                        writer.write_eof()
                        assert await reader.read() == b"back and there"
                        writer.close()
                        await writer.wait_closed()
                        await serving
                    assert (await server.until_heard(ForwardListening)).kind == "forwarded-tcpip"
                    assert (await server.until_heard(ForwardOpened, 2)).kind == "forwarded-streamlocal"
            await server.until_heard(ConnectionClosed)
            assert not path.exists()

    asyncio.run(go())


def test_the_agent(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Protects agent forwarding: the socket leads to the client's agent, and is removed with the connection."""
    agent = tmp_path_factory.mktemp("a") / "agent"

    async def go() -> None:
        async with played_server() as server:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(agent))
                listening.listen()
                listening.setblocking(False)
                async with server.client(agent_forwarding=str(agent)) as client:
                    serving = asyncio.ensure_future(echo(listening))
                    path = (await client.run("echo $SSH_AUTH_SOCK")).stdout
                    assert isinstance(path, str)
                    reader, writer = await asyncio.open_unix_connection(path.strip())
                    writer.write(b"who is there")
                    assert await reader.readexactly(12) == b"who is there"
                    writer.close()
                    await writer.wait_closed()
                    await serving
            await server.until_heard(ConnectionClosed)
            assert not Path(path.strip()).parent.exists()

    asyncio.run(go())


def test_rekeying_is_signed_by_the_monitor() -> None:
    """Protects long connections: the monitor signs each further exchange hash, and the client continues."""

    async def go() -> None:
        async with played_server() as server, server.client(rekey_bytes=20_000) as client:
            done = await client.run("cat", input="x" * 100_000)
            assert len(done.stdout or "") == 100_000
            assert len(server.hashes) >= 2

    asyncio.run(go())


def test_a_rekey_that_is_not_signed_ends_the_connection() -> None:
    """Protects other connections when the signature budget is used up: only the connection that rekeys ends."""

    async def go() -> None:
        async with played_server() as server, server.client() as other:
            server.signs = False
            async with server.client(rekey_bytes=20_000) as client:
                assert (await client.run("cat", input="x" * 100_000)).exit_status is None
            closed = await server.until_heard(ConnectionClosed)
            assert (closed.conn, closed.reason) == ("c2", "the monitor does not sign any more")
            assert (await other.run("echo on")).stdout == "on\n"

    asyncio.run(go())


def test_host_keys_are_announced_and_proved() -> None:
    """Protects clients that learn the server's next key: the monitor proves it, with this connection's session id."""

    async def go() -> None:
        async with played_server() as server:
            learned: asyncio.Future[list[asyncssh.SSHKey]] = asyncio.get_running_loop().create_future()

            def learn(added: list[asyncssh.SSHKey], *_others: list[asyncssh.SSHKey]) -> None:
                learned.set_result(added)

            async with server.client(server_host_keys_handler=learn):
                (key,) = await learned
                assert key.public_data == NEXT.public_data

    asyncio.run(go())


# -- orders -------------------------------------------------------------------------------------------------------


def test_a_connection_is_ended() -> None:
    """Protects the monitor's order: only the named connection ends, with the given reason."""

    async def go() -> None:
        async with played_server() as server, server.client() as first, server.client() as second:
            server.say(messages.EndConnection("c1", "Your key was revoked"))
            server.say(messages.EndConnection("c9", "nobody"))
            await first.wait_closed()
            closed = await server.until_heard(ConnectionClosed)
            assert (closed.conn, closed.reason, closed.goodbye) == ("c1", "Your key was revoked", True)
            assert (await second.run("echo on")).stdout == "on\n"
            server.say(messages.EndConnection("", "The server stops"))
            await second.wait_closed()

    asyncio.run(go())


def test_a_revoked_key_ends_what_runs() -> None:
    """Protects the machine from a command that needs no client any more: it ends when its key is revoked."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            process = await client.create_process("echo $$; exec sleep 333 >/dev/null")
            pid = int(await process.stdout.readline())
            server.say(messages.EndConnection("c1", "Your key was revoked", revoked=True))
            await client.wait_closed()
            closed = await server.until_heard(SessionClosed)
            assert closed.exit_signal == "HUP" or closed.reason.startswith("key revoked")
            await asyncio.to_thread(until, lambda: not processes.is_running(pid))
            server.say(messages.Leave())
            await server.until_heard(messages.Busy)  # it is still ending the command

    asyncio.run(go())


def test_a_stop_ends_what_a_revoked_key_has_left() -> None:
    """Protects the machine from a command that ignores the hang-up: it does not outlive the server."""
    pids: list[int] = []

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            process = await client.create_process("trap '' HUP; echo $$; while :; do sleep 0.1; done >/dev/null 2>&1")
            pids.append(int(await process.stdout.readline()))
            server.say(messages.EndConnection("c1", "Your key was revoked", revoked=True))
            await client.wait_closed()
            assert processes.is_running(pids[0])

    asyncio.run(go())
    until(lambda: not processes.is_running(pids[0]), what="its end")


def test_orders_about_a_connection_that_is_being_taken_over() -> None:
    """Protects a stop and a revocation during a login: an order in that moment counts."""

    async def go() -> None:
        async with played_server() as server:
            server.at_once = [messages.Revoke("c1", "the key has been revoked"), messages.Leave()]
            async with server.client() as client:
                await server.until_heard(messages.Busy)
                with pytest.raises(asyncssh.ChannelOpenError, match="the key has been revoked"):
                    await client.run("true")
            server.at_once = [messages.EndConnection("c2", "Not now")]
            with suppress(asyncssh.Error, OSError):  # the end may arrive before or after the client's login
                async with server.client() as client:
                    await client.wait_closed()
            closed = await server.until_heard(ConnectionClosed, 2)
            assert (closed.conn, closed.reason) == ("c2", "Not now")

    asyncio.run(go())


def test_a_revoked_connection_opens_nothing_more() -> None:
    """Protects the targets of a revoked key: nothing new is opened; sessions continue, and the key may come back."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            running = await client.create_process("cat")
            server.say(messages.Revoke("c1", "the key has been revoked"))
            for opening in (client.run("true"), client.open_connection("127.0.0.1", 1)):
                with pytest.raises(asyncssh.ChannelOpenError, match="the key has been revoked"):
                    await opening
            running.stdin.write("still\n")
            assert await running.stdout.readline() == "still\n"
            server.say(messages.Revoke("c1", None))
            assert (await client.run("echo again")).stdout == "again\n"
            running.stdin.write_eof()
            await running.wait()

    asyncio.run(go())


def test_a_closed_account_forwards_nothing() -> None:
    """Protects a closed machine: forwards of every kind are refused, and the spawner decides about sessions."""

    async def go() -> None:
        async with played_server() as server, server.client(closed=b"The machine\nis closed.\n") as client:
            with pytest.raises(asyncssh.ChannelOpenError, match="The machine is closed"):
                await client.open_connection("127.0.0.1", 1)
            with pytest.raises(asyncssh.ChannelListenError):
                await client.forward_remote_port("127.0.0.1", 0, "127.0.0.1", 1)
            denied = await server.until_heard(RequestDenied, 2)
            assert denied.reason == "The machine is closed."
            server.say(messages.Revoke("c1", None))
            with pytest.raises(asyncssh.ChannelOpenError, match="The machine is closed"):
                await client.open_connection("127.0.0.1", 1)
            server.refusal = "closed"
            assert (await client.run("true")).exit_status == 254

    asyncio.run(go())


def test_a_revoked_key_and_a_log_that_is_missing_are_two_reasons() -> None:
    """Protects the end of a revoked key: a log that is written again opens nothing for it."""

    async def go() -> None:
        async with played_server() as server, server.client(unlogged="no log") as client:
            with pytest.raises(asyncssh.ChannelOpenError, match="no log"):
                await client.run("true")
            server.say(messages.Revoke("c1", "the key has been revoked"))
            server.say(messages.Revoke("c1", None, "log"))
            server.say(messages.Report(1))
            await server.until_heard(messages.Reported)  # it has obeyed
            with pytest.raises(asyncssh.ChannelOpenError, match="the key has been revoked"):
                await client.run("true")
            server.say(messages.Revoke("c1", None))
            server.say(messages.Report(2))
            await server.until_heard(messages.Reported, 2)
            assert (await client.run("true")).exit_status == 0

    asyncio.run(go())


def test_an_exit_is_told_when_the_log_has_it() -> None:
    """Protects the log: until it has the session's end, with all bytes, the client gets neither exit nor EOF."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            assert (await client.run("true")).exit_status == 0
            server.logs = False
            running = await client.create_process("echo output; exit 7")
            closed = await server.until_heard(SessionClosed, 2)
            assert (closed.exit_status, closed.bytes_out) == (7, 7)
            assert await running.stdout.readexactly(7) == "output\n"
            assert not running.stdout.at_eof()
            assert running.exit_status is None
            server.log()
            await running.wait()
            assert running.exit_status == 7

    asyncio.run(go())


def test_an_exit_before_the_end_is_logged_by_itself() -> None:
    """Protects the log of a command that leaves a process behind: its client is told the exit, so the log has it."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            running = await client.create_process("sleep 1000 & echo $!; exit 7")
            left = int(await running.stdout.readline())
            assert (await server.until_heard(SessionExited)).exit_status == 7
            assert not [event for event in server.events if isinstance(event, SessionClosed)]
            os.kill(left, signal.SIGKILL)
            await running.wait()
            assert running.exit_status == (await server.until_heard(SessionClosed)).exit_status == 7

    asyncio.run(go())


def test_what_runs_is_reported() -> None:
    """Protects `status` and the idle watch: the traffic of each connection and session is reported."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            running = await client.create_process("cat")
            running.stdin.write("12345\n")
            assert await running.stdout.readline() == "12345\n"
            server.say(messages.Report(5))
            reported = await server.until_heard(messages.Reported)
            assert reported.id == 5
            (figures,) = reported.connections
            assert (figures.conn, figures.counters.worked, figures.counters.opened) == ("c1", 12, 1)
            assert figures.bytes_in > 1000
            (session,) = figures.sessions
            assert (session.session, session.bytes_in, session.bytes_out) == ("c1.1", 6, 6)
            running.stdin.write_eof()
            await running.wait()

    asyncio.run(go())


def test_it_leaves_when_it_is_unused_and_not_before() -> None:
    """Protects sessions from a monitor that takes the process for unused: it answers that it is busy."""

    async def go() -> None:
        async with played_server() as server:
            async with server.client():
                await server.until_heard(messages.Taken)
                server.say(messages.Leave())
                await server.until_heard(messages.Busy)
            await server.until_heard(ConnectionClosed)
            server.say(messages.Leave())
            assert await server.postauth == LEFT

    asyncio.run(go())


# -- deaths -------------------------------------------------------------------------------------------------------


def test_sessions_outlive_the_monitor() -> None:
    """Protects clients from a monitor's death: sessions go on, a rekey waits, and the next monitor gets all events."""

    async def go() -> None:
        async with played_server() as server, server.client(rekey_bytes=20_000) as client:
            running = await client.create_process("cat")
            server.end_monitor()
            running.stdin.write("x" * 50_000 + "\n")
            await asyncio.sleep(0)
            server.begin_monitor()
            assert len(await running.stdout.readline()) == 50_001
            assert server.hashes
            running.stdin.write_eof()
            await running.wait()
            assert (await server.until_heard(SessionClosed)).bytes_in == 50_001
            async with server.client() as another:
                assert (await another.run("echo on")).stdout == "on\n"

    asyncio.run(go())


class Lost(asyncssh.SSHClient):
    """Remembers why the connection ended."""

    def __init__(self) -> None:
        self.why: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the error, if there is one."""
        self.why.set_result(exc)


@pytest.mark.parametrize("first", ["monitor", "spawner"])
def test_the_end_of_the_whole_server(first: str) -> None:
    """Protects clients when the server is gone: they get a goodbye, and the process ends."""

    async def go() -> None:
        lost = Lost()
        async with played_server() as server, server.client(client_factory=lambda: lost):
            await server.until_heard(messages.Taken)
            ends = [server.end_monitor, server.end_spawner]
            for end in ends if first == "monitor" else reversed(ends):
                assert not server.postauth.done()
                end()
                await asyncio.sleep(0)
            assert await server.postauth == LEFT
            assert await lost.why is None  # a disconnect message, and not a lost connection

    asyncio.run(go())


@pytest.mark.parametrize("nonsense", ["malformed", "twice", "no descriptor's"])
def test_a_monitor_gone_mad_is_not_listened_to(nonsense: str) -> None:
    """Protects the account: a message that no monitor sends ends the process, and its clients get a goodbye."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            await server.until_heard(messages.Taken)
            match nonsense:
                case "malformed":
                    server.monitor.send(b"\xc1")
                case "twice":
                    server.take_again()
                case _:
                    server.say(messages.Leave(), 0)
            assert await server.postauth == MISLED
            await client.wait_closed()

    asyncio.run(go())


@pytest.mark.parametrize("state", [b"\xc1", b""], ids=["malformed", "none"])
def test_a_state_that_is_none_ends_one_connection(state: bytes) -> None:
    """Protects the account from a compromised preauth process: only the connection with the bad state ends."""

    async def go() -> None:
        async with played_server() as server, server.client() as client:
            with pytest.raises(asyncssh.Error):
                async with server.client(state=state):
                    raise AssertionError("it is in")
            closed = await server.until_heard(ConnectionClosed)
            assert (closed.conn, closed.reason) == ("c2", "the connection could not be taken over: its state is none")
            assert (await client.run("echo on")).stdout == "on\n"

    asyncio.run(go())


def test_the_monitors_session_id_counts() -> None:
    """Protects a login: a state can't replace the session id that was signed."""

    async def go() -> None:
        async with played_server() as server, server.client(session_id=bytes(32), rekey_bytes=20_000) as client:
            done = await client.run("cat", input="x" * 100_000)
            assert done.exit_status is None  # keys depend on the session id: nothing after the rekey can be read
            assert (await server.until_heard(ConnectionClosed)).conn == "c1"

    asyncio.run(go())


def test_in_a_process_of_its_own() -> None:
    """Protects all of this from what the process drops at its start: sessions, signals, names, sockets, rekeys."""

    async def go() -> None:
        async with played_server(forked=True) as server:
            with socket.create_server(("127.0.0.1", 0)) as target:
                target.setblocking(False)
                async with server.client(rekey_bytes=20_000) as client:
                    done = await client.run("cat; exit 3", input="x" * 50_000)
                    assert (len(done.stdout or ""), done.exit_status) == (50_000, 3)
                    process = await client.create_process("exec sleep 100")
                    process.send_signal("TERM")
                    assert (await process.wait()).exit_signal is not None
                    port = (await client.forward_remote_port("127.0.0.1", 0, *target.getsockname())).get_port()
                    opening = client.open_connection("localhost", target.getsockname()[1])
                    for reaching in (opening, asyncio.open_connection("127.0.0.1", port)):
                        serving = asyncio.ensure_future(echo(target))
                        reader, writer = await reaching
                        writer.write(b"there and back")
                        writer.write_eof()
                        assert await reader.read() == b"there and back"
                        writer.close()
                        await serving
                    with pytest.raises(asyncssh.ChannelOpenError, match=r"not known|failure in name"):
                        await client.open_connection("no-such-host.invalid", 80)
            await server.until_heard(ConnectionClosed)
            assert not [message for message in server.heard if isinstance(message, messages.Crashed)]
            server.say(messages.Leave())
            assert await server.postauth == LEFT

    asyncio.run(go())


def test_stop_signals_are_left_to_the_monitor() -> None:
    """Protects the order of a stop: a signal to the whole process group does not end sessions too early."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            from pyssh_gateway.postauth.main import prepare

            prepare()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
            code = 0 if os.umask(0) == 0 else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
