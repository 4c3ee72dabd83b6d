"""Parts of the monitor with a spawner, preauth and postauth processes that the test plays: real sockets, no fork."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pyssh_gateway.config.types import Config, Limits, Login
from pyssh_gateway.core.access.authorized_keys import KeySnapshot
from pyssh_gateway.core.access.freshness import Patience
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.events import AnyEvent, ConnectionClosed, InternalError, Record
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.ipc import postauth, preauth
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, Exited, socket_pair
from pyssh_gateway.ipc.spawner_client import OnExit, Spawned, SpawnRefused
from pyssh_gateway.keys.host_keys import load_or_create
from pyssh_gateway.monitor.arrivals import handing_over
from pyssh_gateway.monitor.arrivals.guest import Guest
from pyssh_gateway.monitor.arrivals.guests import Guests
from pyssh_gateway.monitor.arrivals.handing_over import HandingOver
from pyssh_gateway.monitor.arrivals.preauths import Preauths
from pyssh_gateway.monitor.arrivals.steering_state import KeptSteering
from pyssh_gateway.monitor.arrivals.strangers import Arrival
from pyssh_gateway.monitor.connected.client import Client, ClientServices
from pyssh_gateway.monitor.connected.postauths import Postauths
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.connected.registry_file import RegistryFile
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.in_force import InForce
from pyssh_gateway.monitor.log.progress import LogProgress
from pyssh_gateway.monitor.log.writing import LogWriting
from pyssh_gateway.monitor.tasks import Tasks
from tests.support.key_lines import blob, string
from tests.support.snapshots import USER, account, line
from tests.support.waiting import PATIENCE

T = TypeVar("T")

PEER = "203.0.113.9"
NOW = 1_795_000_000.0
ALGORITHM = b"ssh-ed25519"
HASH = bytes(range(32))


class Process:
    """A requested process, played by the test: `end` is its end of the socket to the monitor."""

    def __init__(self, number: int, user: str, on_exit: OnExit) -> None:
        ours, self.end = socket_pair()
        self.end.setblocking(False)
        self.user = user
        self.spawned = Spawned(number, 10_000 + number, "", [ours.detach()])
        self.killed = asyncio.Event()
        self.on_exit = on_exit
        self.reports = 0
        self.logged: list[int] = []

    async def _hear(self) -> tuple[bytes, list[int]]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self.end, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self.end)
        packet, descriptors, _, _ = socket.recv_fds(self.end, MAX_MESSAGE, 4)
        return packet, descriptors

    async def hear_monitor(self, kind: type[T]) -> T:
        """The next message to a postauth process, which has to be of this kind. Its descriptors are closed.

        What is said to be logged goes into `logged`, unless `kind` is that.
        """
        while True:
            packet, descriptors = await self._hear()
            for descriptor in descriptors:
                os.close(descriptor)
            message = postauth.decode_from_monitor(packet)
            if isinstance(message, postauth.Logged):
                self.logged.append(message.number)
                if kind is not postauth.Logged:
                    continue
            assert isinstance(message, kind), message
            return message

    async def hear_preauth(self, kind: type[T]) -> T:
        """The same for a preauth process."""
        packet, descriptors = await self._hear()
        for descriptor in descriptors:
            os.close(descriptor)
        message = preauth.decode_from_monitor(packet)
        assert isinstance(message, kind), message
        return message

    async def take_client(self) -> socket.socket:
        """The client's socket, which comes with the first message to a preauth process."""
        _, descriptors = await self._hear()
        return socket.socket(fileno=descriptors[0])

    def say(self, message: postauth.FromPostauth) -> None:
        """Send a message as a postauth process does."""
        self.end.send(postauth.encode(message))

    def say_preauth(self, message: preauth.FromPreauth) -> None:
        """Send a message as a preauth process does."""
        self.end.send(preauth.encode(message))

    def happened(self, *events: postauth.Told) -> None:
        """Report events."""
        self.reports += len(events)
        self.say(postauth.Happened(self.reports - len(events) + 1, tuple(map(postauth.pack, events))))

    def taken(self, conn: str, client: str = "SSH-2.0-Test", cipher: str = "aes128-gcm@openssh.com") -> None:
        """Report that a connection is served."""
        self.reports += 1
        self.say(postauth.Taken(self.reports, conn, client, cipher))

    def exit(self, status: int | None = 0, signal: int | None = None) -> None:
        """Exit, and be reaped."""
        self.end.close()
        self.on_exit(Exited(self.spawned.id, status, signal, False))


class Spawner:
    """What the monitor needs of the spawner. `closed` is its answer about an account.

    `refusals` has the kinds of requests that it refuses: preauth, postauth, account.
    """

    def __init__(self) -> None:
        self.preauths: list[Process] = []
        self.postauths: list[Process] = []
        self.closed = b""
        self.refusals: set[str] = set()
        self.changed = asyncio.Event()
        self._number = 0

    async def start_preauth(self, on_exit: OnExit) -> Spawned:
        """Start one more."""
        return self._start(self.preauths, "", on_exit)

    async def start_postauth(self, user: str, on_exit: OnExit) -> Spawned:
        """Start one more."""
        return self._start(self.postauths, user, on_exit)

    def _start(self, processes: list[Process], user: str, on_exit: OnExit) -> Spawned:
        if ("postauth" if user else "preauth") in self.refusals:
            raise SpawnRefused("the process table is full")
        self._number += 1
        processes.append(Process(self._number, user, on_exit))
        self.changed.set()
        return processes[-1].spawned

    async def await_account(self, _user: str) -> bytes:
        """The account exists; `closed` is the answer about it."""
        if "account" in self.refusals:
            raise SpawnRefused("there is no such account")
        return self.closed

    def kill(self, spawned: Spawned) -> None:
        """The process is dead, and will be reaped."""
        for process in self.preauths + self.postauths:
            if process.spawned == spawned and not process.killed.is_set():
                process.killed.set()
                if process.end.fileno() >= 0:
                    asyncio.get_running_loop().call_soon(process.exit, None, 9)

    async def preauth(self, number: int = 0) -> Process:
        """The preauth process with this number, once it has been asked for."""
        return await self._of(self.preauths, number)

    async def postauth(self, number: int = 0) -> Process:
        """The postauth process with this number, once it has been asked for."""
        return await self._of(self.postauths, number)

    async def _of(self, processes: list[Process], number: int) -> Process:
        while len(processes) <= number:
            self.changed.clear()
            await self.changed.wait()
        return processes[number]


class Looks:
    """Key sources without news; records logins."""

    def __init__(self) -> None:
        self.used_by: list[str] = []
        self.away: list[tuple[str, ...]] = []

    async def read_files(self, _patience: Patience | None = None) -> None:
        """Has no news."""

    async def look_again(self, _peer: str, _offered: str, _patience: Patience | None = None) -> None:
        """Has no news."""

    async def look_up(self, _spec: str) -> bool:
        """The source is certainly unchanged."""
        return True

    def used(self, _spec: str, peer: str, _in_vain: tuple[str, ...]) -> None:
        """Record that a peer has logged in."""
        self.used_by.append(peer)

    def turned_away(self, _peer: str, in_vain: tuple[str, ...]) -> None:
        """Record that a peer was refused."""
        self.away.append(in_vain)


class People:
    """USER with one key, whose private key the test has."""

    def __init__(self) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key = blob("ssh-ed25519", string(self.private.public_key().public_bytes_raw()))
        self.looks = Looks()
        self.snapshot = KeySnapshot({name: account(line(self.key)) for name in (USER, "dev")}, {}, None)

    def attempt(self, session_id: bytes = HASH, *, user: str = USER, sign: bool = True) -> preauth.Attempt:
        """A request to log in, signed over `session_id`, or an offer."""
        name = user.encode()
        data = (
            string(session_id)
            + b"\x32"
            + string(name)
            + string(b"ssh-connection")
            + string(b"publickey")
            + b"\x01"
            + string(ALGORITHM)
            + string(self.key)
        )
        signature = string(ALGORITHM) + string(self.private.sign(data)) if sign else None
        return preauth.Attempt(name, "publickey", ALGORITHM.decode(), self.key, signature)


class House:
    """All these parts, without a listener: `come` makes a connection. `memory` is the file for the next monitor.

    `lines` are those that it writes to its log. `last` is the number of the last line of an earlier monitor.
    """

    def __init__(
        self, memory: int, spawner: Spawner, directory: Path, people: People | None = None, *, last: int = 0
    ) -> None:
        loop = asyncio.get_running_loop()
        self.loop = loop
        self.events: list[AnyEvent] = []
        self.changed = asyncio.Event()
        file = RegistryFile(memory)
        self.lines: list[Record] = []
        self.progress = LogProgress(memory)
        self.progress.settle(last)
        self.log = LogWriting(self._log, self.progress)
        self.log.begin()
        self.bus = EventBus(lambda: NOW, self._failed, self.progress.line)
        self.bus.subscribe(self.log)
        self.bus.subscribe(self._observe)
        self.spawner = spawner
        self.people = people or People()
        self.tasks = Tasks(loop)
        self.registry = Registry(file)
        self.left_behind = self.registry.left_behind()
        self.signer = HostKeySigner(load_or_create(directory, ("ed25519",)))
        self.in_force = InForce(
            Config(
                login=(Login(user=USER, keys=("github:example",)), Login(user="dev", keys=("github:example",))),
                limits=Limits(),
            )
        )
        self.postauths = Postauths(spawner, self.registry, self.signer, self.bus.publish, loop, log=self.log)
        self.client_services = ClientServices(
            people=self.people,
            in_force=self.in_force,
            publish=self.bus.publish,
            start=self.tasks.start,
            clock=lambda: NOW,
            loop=loop,
        )
        self.preauths = Preauths(spawner, self.tasks.start, loop)
        os.chdir(directory)  # for small files of the monitor
        self.guests = Guests(
            self.in_force,
            self.people,
            self.signer,
            self.registry,
            preauths=self.preauths,
            handing_over=HandingOver(
                spawner,
                self.postauths,
                self.registry,
                self.signer,
                self.client_services,
                banner=lambda who: f"hello {who.person}".encode(),
                facts=handing_over.facts("/run/control", "UTC"),
            ),
            steering=KeptSteering(has_aes=True),
            publish=self.bus.publish,
            complain=self._failed,
            start=self.tasks.start,
            clock=lambda: NOW,
            loop=loop,
        )
        self.bus.subscribe(self.guests.observe)
        self._came = 0
        self.clients: dict[str, socket.socket] = {}

    def _log(self, record: Record) -> None:
        """Write a line; a test may replace this."""
        self.lines.append(record)

    def _observe(self, record: Record) -> None:
        self.events.append(record.event)
        self.changed.set()

    def _failed(self, text: str) -> None:
        raise AssertionError(text)

    # -- what comes and happens ---------------------------------------------------------------------------------

    def come(self, peer: str = PEER, *, speak: bool = True) -> tuple[str, socket.socket]:
        """A connection: its name, and its client's end, which has sent its identification line."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._came += 1
        conn = f"c{self._came}"
        self.clients[conn] = theirs
        self.guests.strangers.arrive(Arrival(conn, ours, Endpoints(peer, 4000, "192.0.2.1", 22)))
        if speak:
            theirs.send(b"SSH-2.0-Test\r\n")
        return conn, theirs

    async def until(self, done: Callable[[], T]) -> T:
        """The result of `done`, as soon as it is true; it is called again whenever something has happened."""
        while not (found := done()):
            self.changed.clear()
            await self.changed.wait()
        return found

    async def event(self, kind: type[T], number: int = 0) -> T:
        """The event of this kind with this number, as soon as it has happened."""
        await self.until(lambda: len(self.of(kind)) > number)
        return self.of(kind)[number]

    def of(self, kind: type[T]) -> list[T]:
        """All events of this kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def closed(self) -> list[str]:
        """The reasons why connections were closed."""
        return [event.reason for event in self.of(ConnectionClosed)]

    @property
    def crashes(self) -> list[str]:
        """The errors of processes."""
        return [event.error for event in self.of(InternalError)]

    async def hung_up(self, conn: str) -> bytes:
        """Everything that a connection's client has received, once the connection has ended."""
        received = b""
        with suppress(ConnectionResetError):  # the client's data has not been read
            while data := await self.loop.sock_recv(self.clients[conn], 4096):
                received += data
        return received

    # -- the usual way ------------------------------------------------------------------------------------------

    async def accepted(self, conn: str, process: Process, *, user: str = USER) -> None:
        """Let the client of a connection in: `process` makes all the requests that this needs."""
        (await process.take_client()).close()
        process.say_preauth(preauth.Sign(ALGORITHM, HASH))
        await process.hear_preauth(preauth.Signed)
        process.say_preauth(self.people.attempt(user=user))
        answer = await process.hear_preauth(preauth.Answer)
        assert (conn, answer.result) == (conn, "accepted")

    async def handed_over(self, number: int = 0, *, user: str = USER) -> tuple[str, postauth.TakeConnection, Process]:
        """A connection on its way to the postauth process with this number, which has received the message."""
        conn, _ = self.come()
        preauth_process = await self.spawner.preauth(self._came - 1)
        await self.accepted(conn, preauth_process, user=user)
        preauth_process.say_preauth(preauth.State(b"opaque"))
        process = await self.spawner.postauth(number)
        return conn, await process.hear_monitor(postauth.TakeConnection), process

    async def on(self, number: int = 0, *, user: str = USER) -> tuple[Client, Process]:
        """A client that is logged in, and its process."""
        conn, _, process = await self.handed_over(number, user=user)
        process.taken(conn)
        await self.until(lambda: any(client.id == conn for client in self.registry.clients))
        return next(client for client in self.registry.clients if client.id == conn), process

    async def close(self) -> None:
        """Close everything."""
        self.guests.strangers.stop()
        await self.tasks.close()
        for stranger in self.registry.strangers:
            cast(Guest, stranger).cut_off("the test is over")
        self.preauths.close()
        self.postauths.close()
        for process in self.spawner.preauths + self.spawner.postauths:
            process.end.close()
        for end in self.clients.values():
            end.close()


Test = Callable[[House], Coroutine[Any, Any, None]]


def play(test: Callable[[House], Awaitable[None]]) -> None:
    """Run a test with a new `House`."""
    here = Path.cwd()

    async def main(directory: Path) -> None:
        memory = os.memfd_create("registry")
        house = House(memory, Spawner(), directory)
        try:
            async with asyncio.timeout(PATIENCE):
                await test(house)
        finally:
            await house.close()
            os.close(memory)

    with TemporaryDirectory() as directory:
        try:
            asyncio.run(main(Path(directory)))
        finally:
            os.chdir(here)
