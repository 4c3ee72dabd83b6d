"""monitor.app: the whole monitor, with a real network, a real log, and a fake spawner."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pyssh_gateway.audit.log import FILE_NAME, AuditLog
from pyssh_gateway.config.types import Config, Login
from pyssh_gateway.core import control as questions
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.usage import Counters
from pyssh_gateway.events import ConnectionClosed
from pyssh_gateway.ipc import postauth, preauth
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.crash import Crash
from pyssh_gateway.keys.host_keys import load_or_create
from pyssh_gateway.monitor.app import Monitor
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.monitor.log.checkpoints.signer import Signer
from pyssh_gateway.monitor.opening import Given
from tests.support.monitor import ALGORITHM, HASH, People, Process
from tests.support.snapshots import USER
from tests.support.waiting import PATIENCE, until


class Spawner:
    """A fake spawner at the other end of the monitor's socket."""

    def __init__(self, keys: bytes) -> None:
        self.monitor, self.end = protocol.socket_pair()
        self.end.setblocking(False)
        self.preauths: list[Process] = []
        self.postauths: list[Process] = []
        self.asked: list[str] = []
        self.changed = asyncio.Event()
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.end, self._serve)

    def answer(self, report: protocol.Report, descriptors: tuple[int, ...] = ()) -> None:
        """Send a report."""
        with suppress(OSError):
            socket.send_fds(self.end, [protocol.encode(report)], descriptors)

    def _serve(self) -> None:
        packet = self.end.recv(protocol.MAX_MESSAGE)
        if not packet:
            self._loop.remove_reader(self.end)
            return
        request = protocol.decode_monitor_request(packet)
        self.asked.append(type(request).__name__)
        match request:
            case protocol.StartPreauth(id=number):
                self._start(self.preauths, number, "")
            case protocol.StartPostauth(id=number, user=user):
                self._start(self.postauths, number, user)
            case protocol.AwaitAccount(id=number):
                self.answer(protocol.AccountReady(number))
            case protocol.SampleActivity(id=number):
                self.answer(protocol.Activity(number, Sample(0.0, ())))
            case protocol.ReadKeys(id=number):
                descriptor = os.memfd_create("keys")
                os.pwrite(descriptor, self._keys, 0)
                self.answer(protocol.KeysOpened(number), (descriptor,))
                os.close(descriptor)
        self.changed.set()

    def _start(self, processes: list[Process], number: int, user: str) -> None:
        process = Process(number, user, self.answer)
        processes.append(process)
        ours = process.spawned.descriptors[0]
        self.answer(protocol.Spawned(number, process.spawned.pid, ""), (ours,))
        os.close(ours)

    async def process(self, processes: list[Process], number: int = 0) -> Process:
        """The process with this number, once the monitor has requested it."""
        while len(processes) <= number:
            self.changed.clear()
            await self.changed.wait()
        return processes[number]

    def close(self) -> None:
        """Close everything."""
        self._loop.remove_reader(self.end)
        self.end.close()
        for process in self.preauths + self.postauths:
            process.end.close()


class Machine:
    """Everything that outlives a monitor: keys, directories, the registry, and the listening socket."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.memory = os.memfd_create("registry")
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.people = People()
        private: Ed25519PrivateKey = self.people.private
        self.keys = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.host_keys = load_or_create(directory, ("ed25519",))
        self.config = Config(login=(Login(user=USER, keys=("file:/keys",)),))
        self.control = str(directory / "control.sock")

    @asynccontextmanager
    async def monitor(self, generation: int = 1) -> AsyncIterator[tuple["asyncio.Future[int]", Spawner]]:
        """A monitor that runs until the block ends, which kills it, unless it ends before."""
        spawner = Spawner(self.keys)
        facts = Facts(
            config=self.config,
            human=False,
            colour=False,
            generation=generation,
            crashes=(Crash(1, "killed", 0),) if generation > 1 else (),
            started=1.0,
            control=self.control,
        )
        asking = socket.socket(socket.AF_UNIX)
        asking.bind(self.control)
        asking.listen()
        out = os.open(os.devnull, os.O_WRONLY)
        audit = AuditLog.open(self.directory, stdout_fd=out, human=False, colour=False, on_problem=pytest.fail)
        given = Given([self.listening.dup()], spawner.monitor, asking, None, self.memory, os.geteuid(), Signer(None))
        monitor = Monitor(facts, given, self.host_keys, audit, asyncio.get_running_loop())
        running = asyncio.ensure_future(monitor.run())
        try:
            yield running, spawner
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            for sock in given.listening:
                asyncio.get_running_loop().remove_reader(sock)
            await monitor.close()
            audit.close(1.0)
            os.close(out)
            spawner.close()
            spawner.monitor.close()
            for sock in given.listening:
                sock.close()
            asking.close()
            os.remove(self.control)  # noqa: PTH107 - of a socket, at once

    @property
    def log(self) -> list[dict[str, object]]:
        """The lines of the log."""
        return [json.loads(line) for line in (self.directory / FILE_NAME).read_text().splitlines()]

    async def until_logged(self, event: str) -> None:
        """Wait for a line in the log, which is written by a thread."""
        await asyncio.to_thread(until, lambda: event in [line["event"] for line in self.log])

    async def log_in(self, spawner: Spawner, number: int = 0) -> tuple[socket.socket, str, Process]:
        """Log a client in; returns its socket, the connection's name, and the process that serves it."""
        client = socket.create_connection(self.listening.getsockname())
        client.send(b"SSH-2.0-Test\r\n")
        stranger = await spawner.process(spawner.preauths, number)
        (await stranger.take_client()).close()
        stranger.say_preauth(preauth.Sign(ALGORITHM, HASH))
        await stranger.hear_preauth(preauth.Signed)
        stranger.say_preauth(self.people.attempt())
        assert (await stranger.hear_preauth(preauth.Answer)).result == "accepted"
        stranger.say_preauth(preauth.State(b"opaque"))
        process = await spawner.process(spawner.postauths)
        told = await process.hear_monitor(postauth.TakeConnection)
        process.taken(told.conn)
        return client, told.conn, process


async def ask(machine: Machine, request: questions.Request) -> questions.AnyReply:
    """The server's reply to a request on the control socket."""
    reader, writer = await asyncio.open_unix_connection(machine.control)
    try:
        writer.write(questions.encode_request(request))  # type: ignore[arg-type]
        return questions.decode_reply(await reader.readline())
    finally:
        writer.close()
        await writer.wait_closed()


def play(test: Callable[[Machine], Awaitable[None]], directory: Path) -> None:
    """Run a test on its own machine."""
    here = Path.cwd()

    async def main() -> None:
        machine = Machine(directory)
        os.chdir(directory)
        try:
            async with asyncio.timeout(PATIENCE):
                await test(machine)
        finally:
            machine.listening.close()
            os.close(machine.memory)

    try:
        asyncio.run(main())
    finally:
        os.chdir(here)


def test_the_next_monitor_goes_on(tmp_path: Path) -> None:
    """Protects an open session from a monitor's death: it is in the next one's reports, reasons and log."""

    async def test(machine: Machine) -> None:
        async with machine.monitor() as (_, spawner):
            client, conn, process = await machine.log_in(spawner)
            await machine.until_logged("connection.authenticated")
        async with machine.monitor(2) as (_, spawner):
            ours, process.end = protocol.socket_pair()
            process.end.setblocking(False)
            spawner.postauths.append(process)
            taken_over = protocol.TakeOver(process.spawned.id, USER, process.spawned.pid)
            spawner.answer(taken_over, (ours.fileno(),))
            ours.close()
            asked = await process.hear_monitor(postauth.Report)
            process.say(postauth.Reported(asked.id, (postauth.ConnectionFigures(conn, 3, 4, Counters(), ()),)))
            why = await ask(machine, questions.Why())
            assert isinstance(why, questions.WhyReply)
            assert any(reason.kind == "connection" for reason in why.idle.reasons)
            process.end.close()
            await machine.until_logged("connection.closed")
        client.close()
        numbers = [line["seq"] for line in machine.log]
        assert len(set(numbers)) == len(numbers)
        assert [line["event"] for line in machine.log].count("connection.authenticated") == 1

    play(test, tmp_path)


def test_from_a_login_to_a_stop(tmp_path: Path) -> None:
    """Protects the whole life: a client logs in, is reported, and gets a goodbye when a signal comes."""

    async def test(machine: Machine) -> None:
        async with machine.monitor() as (running, spawner):
            client, conn, process = await machine.log_in(spawner)
            asking = asyncio.ensure_future(ask(machine, questions.Status()))
            asked = await process.hear_monitor(postauth.Report)
            process.say(postauth.Reported(asked.id, (postauth.ConnectionFigures(conn, 3, 4, Counters(), ()),)))
            status = await asking
            assert isinstance(status, questions.StatusReply)
            assert [(one.user, one.bytes_in) for one in status.connections] == [(USER, 3)]
            os.kill(os.getpid(), signal.SIGTERM)
            await process.hear_monitor(postauth.Announce)
            await process.hear_monitor(postauth.HangUp)
            await process.hear_monitor(postauth.EndConnection)
            end = ConnectionClosed(
                conn=conn, peer="", user="", reason="bye", seconds=0, bytes_in=3, bytes_out=4, goodbye=True
            )
            process.happened(end)
            assert await running == 0
            client.close()
        names = [line["event"] for line in machine.log]
        assert names[-1] == "server.stopped"
        assert {"server.started", "connection.authenticated", "connection.closed", "server.stopping"} <= set(names)

    play(test, tmp_path)
