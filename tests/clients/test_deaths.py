"""Each of the server's processes is killed or stopped while people work: only what that process served ends."""

import asyncio
import json
import os
import pwd
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.conftest import KeyPair
from tests.support import leaks, processes
from tests.support.account import other_account
from tests.support.client import Client
from tests.support.commands import as_root
from tests.support.connections import held_by, holders
from tests.support.idle_stop import stops_after
from tests.support.load import Load, load
from tests.support.server import Server, Settings
from tests.support.waiting import AT_ONCE, PATIENCE, until
from tests.wire.raw import CLOSED, USERAUTH_SUCCESS, connected

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve two accounts")

NAMES = ("pyssh-monitor", "pyssh-preauth", "pyssh-postauth")


class Machine:
    """A server for two accounts: the tests' own, and one whose process is killed."""

    def __init__(self, server: Server, key: KeyPair, victim: str) -> None:
        self.server = server
        self.client = Client(server, key.private)
        self.key = key
        self.victim = victim

    def ask(self, *question: str) -> Any:  # noqa: ANN401 - JSON
        """The answer of a command such as `status`."""
        answer = as_root(self.client, *question, "--json")
        assert answer.returncode == 0, answer
        return json.loads(answer.stdout)

    def on(self) -> set[str]:
        """The connections that the server reports."""
        return {connection["conn"] for connection in self.ask("sessions")["connections"]}

    def postauth(self, user: str) -> int:
        """The process that serves an account."""
        uid = pwd.getpwnam(user).pw_uid
        below = processes.descendants(self.server.pid)
        found = [each.pid for each in below if each.name == "pyssh-postauth" and processes.owner(each.pid) == uid]
        assert len(found) == 1, f"{found} serve {user}"
        return found[0]

    def kill_monitor(self) -> None:
        """kill -9, and wait for the next one."""
        mark = self.server.mark()
        os.kill(self.server.gateway_pid, signal.SIGKILL)
        self.server.wait_for("gateway.crashed", since=mark, cause="SIGKILL")
        self.server.gateway_pid = self.server.wait_for("server.started", since=mark)["pid"]

    def take_error(self, where: str, words: str) -> None:
        """Fail unless the log has this error, which is expected only because the test killed a server process."""
        (event,) = self.server.find("internal.error", where=where)
        assert words in event["error"]
        self.server.events.remove(event)

    def check_log(self) -> None:
        """Fail unless the log counts its lines without a gap or a repetition."""
        lines = (self.server.audit_dir / "events.jsonl").read_text().splitlines()
        numbers = [json.loads(line)["seq"] for line in lines]
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.fixture
def make_machine(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Any]:
    """Starts a `Machine` with `settings`; at the end of the test the server has to stop cleanly."""
    keys = [f"file:{user_key.public}"]
    with other_account("victim") as victim:
        servers: list[Server] = []

        def make(settings: Settings | None = None) -> Machine:
            logins = [{"user": user, "keys": keys} for user in (account.pw_name, victim.pw_name)]
            every = {"login": logins, "stop": {"drain": "1s"}} | (settings or {})
            server = Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=keys, settings=every)
            server.start()
            servers.append(server)
            return Machine(server, user_key, victim.pw_name)

        yield make
        for server in servers:
            server.end()
            server.check_clean()


@pytest.fixture
def machine(make_machine: Any) -> Machine:  # noqa: ANN401 - a function of the fixture above
    """A machine with default settings."""
    made: Machine = make_machine()
    return made


def port_of(connection: asyncssh.SSHClientConnection) -> int:
    """The client's port."""
    return int(connection.get_extra_info("sockname")[1])


@asynccontextmanager
async def stranger(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """A connection that has sent its version, and whose process waits for the key exchange; its port, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(b"SSH-2.0-test\r\n")
        await reader.readuntil(b"\n")
        await reader.readexactly(5)
        yield reader, writer.get_extra_info("sockname")[1]
    finally:
        writer.close()
        await writer.wait_closed()


async def ends(reader: asyncio.StreamReader) -> None:
    """Read until the server has closed its end."""
    async with asyncio.timeout(AT_ONCE):
        await reader.read(-1)


@asynccontextmanager
async def both_work(machine: Machine) -> AsyncIterator[tuple[Load, Load]]:
    """Both accounts at work: the bystander, and the account whose process may die."""
    async with load(machine.client, machine.server.login) as bystander, load(machine.client, machine.victim) as other:
        yield bystander, other


def test_a_dying_strangers_process_ends_its_connection_alone(machine: Machine) -> None:
    """kill -9 of a preauth process: its client sees the end; other clients, also before their login, go on."""

    async def scenario() -> None:
        server = machine.server
        async with both_work(machine) as (one, other), stranger(server) as (reader, port), stranger(server) as second:
            pid = held_by(server, port, "pyssh-preauth")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await ends(reader)
            assert holders(server, port) == []
            for working in (one, other):
                await working.goes_on()
                await working.logs_in()
                assert working.refused == 0
            assert not second[0].at_eof()
            assert holders(server, second[1]) == ["pyssh-monitor", "pyssh-preauth"]

    asyncio.run(scenario())
    machine.take_error("preauth", "ended by SIGKILL")


def test_a_login_leaves_the_socket_to_the_process_of_its_account(machine: Machine) -> None:
    """After a login neither the monitor nor preauth keeps a copy of the socket, which would delay the client's FIN."""

    async def scenario() -> None:
        async with both_work(machine), machine.client.connect() as connection:
            assert (await connection.run("true", check=True)).exit_status == 0
            until(lambda: holders(machine.server, port_of(connection)) == ["pyssh-postauth"], what="one holder")

    asyncio.run(scenario())


def test_a_dying_monitor_is_followed_by_one_that_knows_everything(machine: Machine) -> None:
    """kill -9 of the monitor: open sessions lose no byte; logins, registry, holds and the log's count go on."""
    server = machine.server
    assert as_root(machine.client, "hold", "2h", "training run").returncode == 0

    async def scenario() -> None:
        async with both_work(machine) as working, machine.client.connect() as quiet, stranger(server) as (reader, port):
            held = server.wait_for("connection.opened", peer_port=port_of(quiet))["conn"]
            before = await asyncio.to_thread(machine.on)
            assert held in before
            await asyncio.to_thread(machine.kill_monitor)
            await ends(reader)
            assert holders(server, port) == []
            for each in working:
                await each.goes_on()
                await each.logs_in()
            assert (await quiet.run("true", check=True)).exit_status == 0
            now = await asyncio.to_thread(machine.on)
            lasting = [client for client in before if not server.find("connection.closed", conn=client)]
            assert held in lasting
            assert set(lasting) <= now
            assert [hold["reason"] for hold in (await asyncio.to_thread(machine.ask, "why"))["holds"]] == [
                "training run"
            ]
            assert holders(server, port_of(quiet)) == ["pyssh-postauth"]

    assert machine.client.run("true").status == 0
    assert machine.client.run("true", user=machine.victim).status == 0
    footprint = leaks.footprint(server)
    asyncio.run(scenario())
    leaks.check_server(server, footprint)
    until(lambda: machine.on() == set(), what="nobody on")
    machine.check_log()


def test_the_idle_stop_knows_who_is_on_after_the_monitor_died(make_machine: Any) -> None:  # noqa: ANN401 - see there
    """The machine stays up for a session that the previous monitor let in, and stops when that session has ended."""
    machine = make_machine({"idle": {"timeout": "1s", "boot_grace": "1m", "lost_client_grace": "1s"}})

    async def scenario() -> None:
        async with load(machine.client, machine.server.login) as working:
            await asyncio.to_thread(machine.kill_monitor)
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                await working.goes_on()

    asyncio.run(scenario())
    assert stops_after(machine.server, seconds=1)
    machine.check_log()


def test_a_login_that_was_verified_ends_with_its_monitor(machine: Machine) -> None:
    """kill -9 between the verified signature and the hand-over: the client sees the end, and can log in again."""
    server = machine.server

    async def scenario() -> None:
        async with load(machine.client, server.login) as working:
            async with connected(server, machine.key.private, authenticate=False) as client:
                client.login = machine.victim
                os.kill(server.pid, signal.SIGSTOP)  # so that no process is started for that account
                try:
                    client.prove(client.key)
                    await asyncio.to_thread(server.wait_for, "auth.attempt", user=machine.victim, result="accepted")
                    os.kill(server.gateway_pid, signal.SIGKILL)
                    assert (await client.hear(CLOSED, USERAUTH_SUCCESS))[0] == CLOSED
                finally:
                    os.kill(server.pid, signal.SIGCONT)
            started = await asyncio.to_thread(server.wait_for, "server.started", generation=2)
            server.gateway_pid = started["pid"]
            await working.goes_on()
            async with machine.client.connect(username=machine.victim) as connection:
                assert (await connection.run("true", check=True)).exit_status == 0
        until(lambda: machine.on() == set(), what="nobody on")

    asyncio.run(scenario())
    machine.check_log()


def test_a_login_that_is_on_its_way_to_its_process_outlives_the_monitor(machine: Machine) -> None:
    """kill -9 between hand-over and confirmation: postauth has the connection, and the next monitor knows of it."""
    server = machine.server

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            working = await stack.enter_async_context(load(machine.client, server.login))
            await stack.enter_async_context(machine.client.connect(username=machine.victim))
            pid = machine.postauth(machine.victim)
            client = await stack.enter_async_context(connected(server, machine.key.private, authenticate=False))
            port = client.connection.tcp.get_extra_info("sockname")[1]
            client.login = machine.victim
            os.kill(pid, signal.SIGSTOP)
            try:
                client.prove(client.key)
                # Preauth has exited, and the descriptor is under way to the stopped process: only the monitor holds it.
                until(lambda: holders(server, port) == ["pyssh-monitor"], what="hand-over")
                mark = server.mark()
                await asyncio.to_thread(machine.kill_monitor)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert (await client.hear(USERAUTH_SUCCESS, CLOSED))[0] == USERAUTH_SUCCESS
            assert holders(server, port) == ["pyssh-postauth"]
            conn = server.wait_for("connection.opened", peer_port=port)["conn"]
            said = await asyncio.to_thread(server.wait_for, "connection.authenticated", since=mark, conn=conn)
            assert said["user"] == machine.victim
            assert conn in await asyncio.to_thread(machine.on)
            channel = await client.started(b"echo here")
            assert (await client.finish(channel))[0] == b"here\n"
            await working.goes_on()
        until(lambda: machine.on() == set(), what="nobody on")
        assert server.find("connection.closed", since=mark, conn=conn)

    asyncio.run(scenario())
    machine.check_log()


def test_a_dying_process_of_an_account_ends_its_connections_alone(machine: Machine, tmp_path: Path) -> None:
    """kill -9 of a postauth process: FIN for its clients, SIGHUP for its terminals; all else goes on."""
    server = machine.server

    async def scenario() -> None:
        async with both_work(machine) as (one, dying):
            mark = server.mark()
            async with machine.client.connect(username=machine.victim) as connection:
                port = port_of(connection)
                terminal = await connection.create_process(
                    "echo $$; exec sleep 1000", request_pty="force", term_type="xterm"
                )
                piped = await connection.create_process("echo $$; exec sleep 1000")
                hung_up, lives_on = [int(await each.stdout.readline()) for each in (terminal, piped)]
                on = {event["conn"] for event in server.find("connection.authenticated", user=machine.victim)}
                on -= {event["conn"] for event in server.find("connection.closed")}
                os.kill(machine.postauth(machine.victim), signal.SIGKILL)
                async with asyncio.timeout(AT_ONCE):
                    await connection.wait_closed()
                    await dying.ended.wait()
                assert holders(server, port) == []
            until(lambda: not processes.is_running(hung_up), AT_ONCE, what="end of what has a terminal")
            async with asyncio.timeout(AT_ONCE), machine.client.connect(username=machine.victim) as connection:
                assert (await connection.run("true", check=True)).exit_status == 0
            await dying.logs_in()
            await one.goes_on()
            await one.logs_in()
            assert one.refused == 0
            for conn in on:
                assert server.wait_for("connection.closed", since=mark, conn=conn)["user"] == machine.victim
            assert processes.is_running(lives_on)
            os.kill(lives_on, signal.SIGKILL)
        until(lambda: machine.on() == set(), what="nobody on")

    asyncio.run(scenario())
    machine.check_log()


def test_without_a_spawner_all_leave(machine: Machine) -> None:
    """kill -9 of the spawner under load: every connection ends, and no process of the server is left."""
    server = machine.server

    async def scenario() -> None:
        async with both_work(machine) as working:
            ours = [each.pid for each in processes.descendants(server.pid) if each.name in NAMES]
            server.signal(signal.SIGKILL)
            for each in working:
                async with asyncio.timeout(PATIENCE):
                    await each.ended.wait()
            until(lambda: not any(map(processes.is_running, ours)), what="end of the server's processes")

    asyncio.run(scenario())
    assert server.wait() == -signal.SIGKILL


def test_a_strangers_process_that_is_stopped_is_ended_by_login_grace(make_machine: Any) -> None:  # noqa: ANN401 - see there
    """SIGSTOP for preauth: the client sees the end after the login grace time, though its process can't send it."""
    machine = make_machine({"limits": {"login_grace": "1s"}})
    server = machine.server

    async def scenario() -> None:
        async with both_work(machine) as working, stranger(server) as (reader, port):
            pid = held_by(server, port, "pyssh-preauth")
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            await ends(reader)
            until(lambda: processes.find(pid) is None, AT_ONCE, what="end of the stopped process")
            for each in working:
                await each.goes_on()
                await each.logs_in()

    asyncio.run(scenario())


def test_a_process_of_an_account_that_is_stopped_holds_up_nobody(machine: Machine) -> None:
    """SIGSTOP for postauth: other accounts log in and work, the server answers, and a stop ends in its time."""
    server = machine.server

    async def scenario() -> None:
        async with load(machine.client, server.login) as working, machine.client.connect(username=machine.victim):
            os.kill(machine.postauth(machine.victim), signal.SIGSTOP)
            await working.goes_on()
            await working.logs_in()
            assert await asyncio.to_thread(machine.on)
            began = time.monotonic()
            assert await asyncio.to_thread(server.stop) == 0
            assert time.monotonic() - began < AT_ONCE + 1

    asyncio.run(scenario())


@pytest.mark.soak
def test_a_process_of_an_account_that_stays_stopped_keeps_no_machine_up(make_machine: Any) -> None:  # noqa: ANN401 - see there
    """SIGSTOP for postauth, and its client leaves: after 30 s of silence it is killed, and the idle stop comes."""
    machine = make_machine({"idle": {"timeout": "1s", "boot_grace": "1m", "lost_client_grace": "1s"}})
    server = machine.server

    async def scenario() -> None:
        async with machine.client.connect(username=machine.victim) as connection:
            os.kill(machine.postauth(machine.victim), signal.SIGSTOP)
            connection.abort()

    asyncio.run(scenario())
    lost = server.wait_for("connection.closed", user=machine.victim, seconds=2 * PATIENCE)
    assert lost["reason"] == "its process did not answer"
    assert stops_after(server, seconds=1)
