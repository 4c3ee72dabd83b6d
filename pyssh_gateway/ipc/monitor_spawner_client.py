"""The monitor's end of the spawner's socket: preauth and postauth processes, key files, hooks, configuration."""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from pyssh_gateway.config.types import Service
from pyssh_gateway.core.access.revoked_list import MAX_BYTES
from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.core.idle.warnings import MAX_NAME, MAX_PEOPLE
from pyssh_gateway.ipc import log_files
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.request_socket import Unanswered
from pyssh_gateway.ipc.reread import Reread, decode
from pyssh_gateway.ipc.spawner_client import ANSWER_SECONDS, OnExit, Spawned, SpawnerClient, SpawnRefused, reason_of
from pyssh_gateway.system.descriptors import close_all

STOP_SECONDS_MORE = 5.0
"""Time that the spawner may need to report the end of its services, on top of their own timeout."""

SOCKET_SECONDS = protocol.SOCKET_PATIENCE_SECONDS + ANSWER_SECONDS
"""How long to wait for a socket that another server holds: as long as the spawner tries."""

OnNews = Callable[[protocol.SpawnerEvent], None]
OnTakeOver = Callable[[int, str, int, socket.socket], OnExit]
"""Takes over a postauth process: its number, account and process, and the socket to it, which the callee owns from
then on. Returns the function to call when the process has ended."""


def _ignore_news(_event: protocol.SpawnerEvent) -> None:
    """The default for `on_news`."""


class MonitorSpawnerClient(SpawnerClient):
    """Asks the spawner for processes and files. `on_lost` is called once when the spawner is gone.

    `on_news` is called with events that only the spawner sees: steps of the boot; starts, ends and lines of services.
    `on_reread` is called when it has read the configuration again, `on_take_over` with each postauth process that an
    earlier monitor has left. Numbers of requests begin above `above` and above those of such processes.
    """

    def __init__(
        self,
        control: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[], None],
        *,
        on_news: OnNews = _ignore_news,
        on_reread: Callable[[], None] = lambda: None,
        on_take_over: OnTakeOver | None = None,
        above: int = 0,
    ) -> None:
        super().__init__(control, loop, on_lost, above)
        self._tell = on_news
        self._on_reread = on_reread
        self._on_take_over = on_take_over

    # -- processes ------------------------------------------------------------------------------------------------

    async def start_preauth(self, on_exit: OnExit) -> Spawned:
        """Start a preauth process for one client; its one descriptor is the socket to it. Raises `SpawnRefused`."""
        return await self._start(protocol.StartPreauth(self._requests.new_number()), on_exit)

    async def start_postauth(self, user: str, on_exit: OnExit) -> Spawned:
        """Start the process of the account `user`; its one descriptor is the socket to it. Raises `SpawnRefused`."""
        return await self._start(protocol.StartPostauth(self._requests.new_number(), user), on_exit)

    def kill(self, spawned: Spawned) -> None:
        """Kill a preauth or postauth process, or a hook; does nothing if it has ended. Its exit is reported."""
        if spawned.id in self._exits:
            self._kill(spawned.id)

    async def run_hook(self, index: int, on_exit: OnExit) -> Spawned:
        """Run a command of the configuration (see `protocol.RunHook`); its one descriptor is its output."""
        return await self._start(protocol.RunHook(self._requests.new_number(), index), on_exit)

    async def run_warning(self, index: int, seconds: int, people: tuple[str, ...], on_exit: OnExit) -> Spawned:
        """Run a command of `stop.warn` (see `protocol.RunWarning`); its one descriptor is its output."""
        named = tuple(person[:MAX_NAME] for person in people[:MAX_PEOPLE])
        return await self._start(
            protocol.RunWarning(self._requests.new_number(), index, max(0, seconds), named), on_exit
        )

    async def suspend(self, on_exit: OnExit) -> Spawned:
        """Ask the platform to suspend the machine; the one descriptor is its answer."""
        return await self._start(protocol.Suspend(self._requests.new_number()), on_exit)

    async def sample_activity(self) -> Sample:
        """The resources that the processes of sessions have used so far. Raises `SpawnRefused`."""
        report, _ = await self._ask(protocol.SampleActivity(self._requests.new_number()))
        if not isinstance(report, protocol.Activity):
            raise SpawnRefused(reason_of(report))
        return report.sample

    # -- the machine ----------------------------------------------------------------------------------------------

    async def await_account(self, user: str) -> bytes:
        """Wait until the account `user`, which may still have to be made at boot, is complete.

        Returns why the account may not be used at present, in whole lines; empty if it may. Raises `SpawnRefused`.
        """
        report, _ = await self._ask(protocol.AwaitAccount(self._requests.new_number(), user))
        if not isinstance(report, protocol.AccountReady):
            raise SpawnRefused(reason_of(report))
        return report.closed

    async def stop_services(self, services: tuple[Service, ...]) -> None:
        """Stop the `services`, which are those of the configuration, and wait until they have ended.

        Errors are ignored: the spawner stops them by itself after the end of this process, but then reports it to
        nobody.
        """
        if not services:
            return
        seconds = sum(service.stop_timeout for service in services) + len(services) + STOP_SECONDS_MORE
        with suppress(SpawnRefused):
            await self._ask(protocol.StopServices(self._requests.new_number()), seconds)

    async def read_keys(self, path: str) -> bytes:
        """The contents of `path`, a key file of the configuration, opened with the spawner's rights.

        Raises `OSError`, which is a `FileNotFoundError` if there is no such file. At most one byte more is read than
        the largest kind of file, a revocation list, may have; the caller checks the size.
        """
        number = self._requests.new_number()
        try:
            report, descriptors = await self._ask(protocol.ReadKeys(number, path))
        except SpawnRefused as error:
            raise OSError(str(error)) from error
        if not descriptors:
            missing = isinstance(report, protocol.Refused) and report.missing
            raise (FileNotFoundError if missing else OSError)(reason_of(report))
        content = b""
        try:
            while len(content) <= MAX_BYTES and (chunk := os.read(descriptors[0], MAX_BYTES + 1 - len(content))):
                content += chunk
        finally:
            os.close(descriptors[0])
        return content

    async def await_socket(self, name: protocol.SocketName) -> socket.socket:
        """The listening socket `name`, once the server that had it at our start has left. Raises `SpawnRefused`."""
        number = self._requests.new_number()
        report, descriptors = await self._ask(protocol.AwaitSocket(number, name), SOCKET_SECONDS)
        if not descriptors:
            raise SpawnRefused(reason_of(report))
        return socket.socket(fileno=descriptors[0])

    # -- the configuration ----------------------------------------------------------------------------------------

    def ask_reload(self) -> None:
        """Ask the spawner to read the configuration again; `on_reread` is called when it has."""
        with suppress(Unanswered):
            self._requests.send(protocol.encode(protocol.Reload(self._requests.new_number())))

    async def take_config(self) -> Reread:
        """The outcome of reading it again. Raises `SpawnRefused`."""
        descriptor, *others = await self._open(protocol.TakeConfig(self._requests.new_number()))
        try:
            return decode(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
        except ValueError as error:
            raise SpawnRefused(f"the spawner's configuration can't be read: {error}") from error
        finally:
            close_all([descriptor, *others])

    # -- the log --------------------------------------------------------------------------------------------------

    async def open_log(self) -> list[int]:
        """The log file, opened anew at its path, and perhaps those of its state and checkpoints; the caller owns them.

        Raises `SpawnRefused`.
        """
        return await self._open(log_files.OpenLog(self._requests.new_number()))

    async def seal_log(self, first: int, inode: int) -> list[int]:
        """The same of a new file, after the present one was closed (see `log_files.SealLog`)."""
        return await self._open(log_files.SealLog(self._requests.new_number(), first, inode))

    def tidy_log(self) -> None:
        """Have closed files compressed, and old ones deleted."""
        with suppress(Unanswered):
            request = log_files.TidyLog(self._requests.new_number())
            self._requests.send(protocol.encode(request), key="tidy")

    async def _open(self, request: protocol.TakeConfig | log_files.OpenLog | log_files.SealLog) -> list[int]:
        report, descriptors = await self._ask(request)
        if not isinstance(report, protocol.Opened) or not 1 <= len(descriptors) <= 3:
            close_all(descriptors)
            raise SpawnRefused(reason_of(report))
        return descriptors

    # -- unrequested reports of the spawner -----------------------------------------------------------------------

    def _on_news(self, report: protocol.Report, descriptors: list[int]) -> None:
        match report:
            case protocol.TakeOver(id=number, user=user, pid=pid):
                self._take_over(number, user, pid, descriptors)
                return
            case protocol.News(events=events):
                for event in events:
                    self._tell(event)
            case protocol.Reread():
                self._on_reread()
        super()._on_news(report, descriptors)

    def _take_over(self, number: int, user: str, pid: int, descriptors: list[int]) -> None:
        self._requests.begin_above(number)
        if self._on_take_over is not None and len(descriptors) == 1:
            self._exits[number] = self._on_take_over(number, user, pid, socket.socket(fileno=descriptors[0]))
            return
        # For example, no descriptors were left. Without its socket, the process could neither be used nor ended later.
        close_all(descriptors)
        self._kill(number)

    def _kill(self, process: int) -> None:
        with suppress(Unanswered):
            kill = protocol.Kill(self._requests.new_number(), process)
            self._requests.send(protocol.encode(kill), key=("kill", process))
