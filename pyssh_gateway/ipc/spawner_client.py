"""The gateway's end of the spawner's socket: processes and key files are asked for, exits are told."""

import asyncio
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from weakref import WeakValueDictionary

import msgspec

from pyssh_gateway.config.types import Service
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.launch import Account, LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.request_socket import RequestSocket, Unanswered
from pyssh_gateway.ipc.reread import Reread, decode

ANSWER_SECONDS = 10.0
"""A fork takes milliseconds; a machine that needs longer than this for one is not going to serve a shell."""

START_SECONDS = 20.0
"""How long the start of a process may take, of `STARTS_AT_ONCE`: the account may stop those that are on their way, and
the spawner gives each of them `process.READY_SECONDS` before the next has its place."""

STARTS_AT_ONCE = 8
"""Processes of one account that the spawner is asked for at a time; it starts some of them side by side, and has the
next at hand when one is ready. The account's others wait here, in its own queue, and nobody else's behind them."""

TURN_SECONDS = 120.0
"""How long a process may wait for its turn: then the account has thousands on their way, or stops them all."""

STOP_SECONDS_MORE = 5.0
"""How much longer than its services may take the spawner may need to say that they have ended."""

SOCKET_SECONDS = protocol.SOCKET_PATIENCE_SECONDS + ANSWER_SECONDS
"""How long to wait for a socket that another server has: as long as the spawner tries."""


class SpawnRefused(Exception):
    """The spawner said no, or could not be asked; the text says why."""


class Spawned(msgspec.Struct, frozen=True):
    """A process that runs. `descriptors` are the caller's to close."""

    id: int
    pid: int
    tty: str
    descriptors: list[int]


OnExit = Callable[[protocol.Exited], None]
OnNews = Callable[[protocol.SpawnerEvent], None]

StartRequest = protocol.Spawn | protocol.MakeSockets | protocol.RunHook | protocol.Suspend
"""What is answered with a process."""


class SpawnerClient:
    """Asks the spawner for processes and files. `on_lost` is called once when the spawner is gone.

    `on_news` is called with what only the spawner knows of: steps of the boot; starts, ends and lines of services;
    `on_reread` when it has read the configuration again.
    """

    def __init__(
        self,
        control: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[], None],
        on_news: OnNews = lambda _event: None,
        on_reread: Callable[[], None] = lambda: None,
    ) -> None:
        self._exits: dict[int, OnExit] = {}
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._tell = on_news
        self._on_reread = on_reread
        self._requests: RequestSocket[protocol.Report] = RequestSocket(
            control,
            loop,
            decode=protocol.decode_report,
            number_of=_number_of,
            on_news=self._on_news,
            on_lost=on_lost,
        )

    def close(self) -> None:
        """Stop listening to the spawner."""
        self._requests.close()

    async def spawn(self, plan: LaunchPlan, on_exit: OnExit) -> Spawned:
        """Start `plan`; `on_exit` is called once, never before this has returned. Raises `SpawnRefused`."""
        async with self._turn(plan.user):
            number = self._requests.new_number()
            return await self._start(protocol.Spawn(number, plan), on_exit)

    async def make_sockets(self, user: str, on_exit: OnExit) -> Spawned:
        """Start the process that makes sockets as `user`; its one descriptor is the socket to talk to it."""
        async with self._turn(user):
            number = self._requests.new_number()
            return await self._start(protocol.MakeSockets(number, user), on_exit)

    async def run_hook(self, index: int, on_exit: OnExit) -> Spawned:
        """Run a command of the configuration (see `protocol.RunHook`); its one descriptor is its output."""
        number = self._requests.new_number()
        return await self._start(protocol.RunHook(number, index), on_exit)

    async def suspend(self, on_exit: OnExit) -> Spawned:
        """Ask the platform to suspend the machine; the one descriptor is its answer."""
        number = self._requests.new_number()
        return await self._start(protocol.Suspend(number), on_exit)

    async def find_account(self, user: str) -> Account:
        """The passwd entry of `user`, after it has been made if that is still to be. Raises `SpawnRefused`."""
        try:
            return find_account(user)
        except SpawnRefused:
            async with self._turn(user):
                await self._ask(protocol.AwaitAccount(self._requests.new_number(), user))
        return find_account(user)

    async def stop_services(self, services: tuple[Service, ...]) -> None:
        """Have the services end, which are those of the configuration, and wait until they have.

        Whatever goes wrong: the spawner stops them by itself once this process has gone, and nobody is told then.
        """
        if not services:
            return
        seconds = sum(service.stop_timeout for service in services) + len(services) + STOP_SECONDS_MORE
        with suppress(SpawnRefused):
            await self._ask(protocol.StopServices(self._requests.new_number()), seconds)

    def signal(self, spawned: Spawned, number: int) -> None:
        """Send signal `number` to the process group of `spawned`; nothing happens if it has ended."""
        if spawned.id in self._exits:
            try:
                self._requests.send(protocol.encode(protocol.Signal(spawned.id, number)), key=(spawned.id, number))
            except Unanswered as error:
                raise SpawnRefused(str(error)) from error

    async def read_keys(self, path: str) -> bytes:
        """The contents of `path`, a key file of the configuration, opened with the spawner's rights.

        Raises `OSError`, which is a `FileNotFoundError` if there is no such file. At most one byte more than a source
        may have is read; whoever asked judges that.
        """
        number = self._requests.new_number()
        try:
            report, descriptors = await self._ask(protocol.ReadKeys(number, path))
        except SpawnRefused as error:
            raise OSError(str(error)) from error
        if not descriptors:
            missing = isinstance(report, protocol.Refused) and report.missing
            raise (FileNotFoundError if missing else OSError)(_reason(report))
        content = b""
        try:
            while len(content) <= MAX_KEYS_BYTES and (chunk := os.read(descriptors[0], MAX_KEYS_BYTES)):
                content += chunk
        finally:
            os.close(descriptors[0])
        return content

    async def await_socket(self, name: protocol.SocketName) -> socket.socket:
        """The listening socket `name`, when the server that had it at our start has left it. Raises `SpawnRefused`."""
        number = self._requests.new_number()
        report, descriptors = await self._ask(protocol.AwaitSocket(number, name), SOCKET_SECONDS)
        if not descriptors:
            raise SpawnRefused(_reason(report))
        return socket.socket(fileno=descriptors[0])

    async def sample_activity(self) -> Sample:
        """What the processes of sessions have used so far. Raises `SpawnRefused`."""
        report, _ = await self._ask(protocol.SampleActivity(self._requests.new_number()))
        if not isinstance(report, protocol.Activity):
            raise SpawnRefused(_reason(report))
        return report.sample

    @asynccontextmanager
    async def _turn(self, user: str) -> AsyncIterator[None]:
        """Wait until it is `user`'s next request's turn. Raises `SpawnRefused`."""
        turns = self._turns.setdefault(user, asyncio.Semaphore(STARTS_AT_ONCE))
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await turns.acquire()
        except TimeoutError:
            raise SpawnRefused(f"too many processes of {user} are being started") from None
        try:
            yield
        finally:
            turns.release()

    def ask_reload(self) -> None:
        """Have the spawner read the configuration again; `on_reread` is called when it has."""
        with suppress(Unanswered):
            self._requests.send(protocol.encode(protocol.Reload(self._requests.new_number())))

    async def take_config(self) -> Reread:
        """What came of that. Raises `SpawnRefused`."""
        descriptor = await self._open(protocol.TakeConfig(self._requests.new_number()))
        try:
            return decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        except ValueError as error:
            raise SpawnRefused(f"the spawner's configuration can't be read: {error}") from error
        finally:
            os.close(descriptor)

    async def open_log(self) -> int:
        """The log's file, opened where it should be; the descriptor is the caller's. Raises `SpawnRefused`."""
        return await self._open(protocol.OpenLog(self._requests.new_number()))

    async def _open(self, request: protocol.TakeConfig | protocol.OpenLog) -> int:
        report, descriptors = await self._ask(request)
        if not isinstance(report, protocol.Opened) or len(descriptors) != 1:
            protocol.close_all(descriptors)
            raise SpawnRefused(_reason(report))
        return descriptors[0]

    async def _start(self, request: StartRequest, on_exit: OnExit) -> Spawned:
        self._exits[request.id] = on_exit
        try:
            report, descriptors = await self._ask(request, START_SECONDS)
        except BaseException:
            del self._exits[request.id]
            raise
        if not isinstance(report, protocol.Spawned):
            del self._exits[request.id]
            raise SpawnRefused(_reason(report))
        return Spawned(request.id, report.pid, report.tty, descriptors)

    async def _ask(
        self, request: protocol.Request, seconds: float = ANSWER_SECONDS
    ) -> tuple[protocol.Report, list[int]]:
        try:
            return await self._requests.ask(request.id, protocol.encode(request), seconds)
        except Unanswered as error:
            raise SpawnRefused(f"the spawner: {error}") from error
        except protocol.ProtocolError as error:
            raise SpawnRefused(str(error)) from error

    def _on_news(self, report: protocol.Report) -> None:
        if isinstance(report, protocol.News):
            for event in report.events:
                self._tell(event)
        elif isinstance(report, protocol.Exited):
            on_exit = self._exits.pop(report.id, None)
            if on_exit is not None:
                on_exit(report)
        elif isinstance(report, protocol.Reread):
            self._on_reread()


def _number_of(report: protocol.Report) -> int | None:
    """Which request is answered; None: it answers nothing."""
    return None if isinstance(report, protocol.Exited | protocol.News | protocol.Reread) else report.id


def _reason(report: protocol.Report) -> str:
    return report.reason if isinstance(report, protocol.Refused) else "the spawner gave an unexpected answer"


def find_account(user: str) -> Account:
    """The passwd entry of `user`. Raises SpawnRefused."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise SpawnRefused(f"there is no account {user} on this machine") from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell, user)
