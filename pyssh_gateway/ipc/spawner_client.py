"""The clients of the spawner: their common part, and that of postauth. `monitor_spawner_client` has the monitor's."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import msgspec

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.request_socket import RequestSocket, Unanswered
from pyssh_gateway.system.descriptors import close_all

ANSWER_SECONDS = 10.0
"""Timeout of an answer. A fork takes milliseconds; a machine that needs longer than this can't serve a shell."""

START_SECONDS = 20.0
"""How long the start of one of `STARTS_AT_ONCE` processes may take: the account may stop (SIGSTOP) those that are being
started, and the spawner waits `process.READY_SECONDS` for each of them before it starts the next."""

STARTS_AT_ONCE = 8
"""Processes of an account that are requested from the spawner at a time; it starts some of them in parallel, and has
the next at hand when one is ready. The other requests wait here."""

TURN_SECONDS = 120.0
"""How long a process may wait for its turn; longer means that the account starts thousands, or stops them all."""


class SpawnRefused(Exception):
    """The spawner refused the request, or could not be asked; the text says why."""


class Spawned(msgspec.Struct, frozen=True):
    """A process that runs. `descriptors` are the caller's to close."""

    id: int
    pid: int
    tty: str
    descriptors: list[int]


OnExit = Callable[[protocol.Exited], None]

StartRequest = (
    protocol.Spawn
    | protocol.StartPreauth
    | protocol.StartPostauth
    | protocol.RunHook
    | protocol.RunWarning
    | protocol.Suspend
)
"""The requests that are answered with a process."""


class SpawnerClient:
    """Asks the spawner for processes, and gets their exits. `on_lost` is called once when the spawner is gone.

    The numbers of requests begin above `above`.
    """

    def __init__(
        self, control: socket.socket, loop: asyncio.AbstractEventLoop, on_lost: Callable[[], None], above: int = 0
    ) -> None:
        self._exits: dict[int, OnExit] = {}
        self._requests: RequestSocket[protocol.Report] = RequestSocket(
            control,
            loop,
            decode=protocol.decode_report,
            number_of=_number_of,
            on_news=self._on_news,
            on_lost=on_lost,
            above=above,
        )

    def close(self) -> None:
        """Stop listening to the spawner."""
        self._requests.close()

    async def _start(self, request: StartRequest, on_exit: OnExit) -> Spawned:
        self._exits[request.id] = on_exit
        try:
            report, descriptors = await self._ask(request, START_SECONDS)
        except BaseException:
            del self._exits[request.id]
            raise
        if not isinstance(report, protocol.Spawned):
            close_all(descriptors)
            del self._exits[request.id]
            raise SpawnRefused(reason_of(report))
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

    def _on_news(self, report: protocol.Report, descriptors: list[int]) -> None:
        if isinstance(report, protocol.Exited):
            on_exit = self._exits.pop(report.id, None)
            if on_exit is not None:
                on_exit(report)
        close_all(descriptors)


class PostauthSpawnerClient(SpawnerClient):
    """A postauth process's client of the spawner, for processes of its own account.

    `on_monitor` is called with the socket to another monitor, when the spawner has started one, and `on_recorder` with
    the socket to a recorder.
    """

    def __init__(
        self,
        control: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[], None],
        on_monitor: Callable[[socket.socket], None],
        on_recorder: Callable[[socket.socket], None],
    ) -> None:
        super().__init__(control, loop, on_lost)
        self._turns = asyncio.Semaphore(STARTS_AT_ONCE)
        self._on_monitor = on_monitor
        self._on_recorder = on_recorder

    async def spawn(self, plan: LaunchPlan, on_exit: OnExit) -> Spawned:
        """Start `plan`; `on_exit` is called once, never before the answer that it runs. Raises `SpawnRefused`."""
        async with self._turn(plan.user):
            return await self._start(protocol.Spawn(self._requests.new_number(), plan), on_exit)

    def signal(self, spawned: Spawned, number: int) -> None:
        """Send signal `number` to the process group of `spawned`; nothing happens if it has ended.

        The rules of kill(2) for this account apply: a program that has changed to another account gets no signal.
        """
        # Between the spawner's wait and its report the pid may have been reused. At worst a process of the same account
        # gets the signal, which the account could send by itself.
        if spawned.id in self._exits:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(spawned.pid, number)

    @asynccontextmanager
    async def _turn(self, user: str) -> AsyncIterator[None]:
        """Wait for the next request's turn. Raises `SpawnRefused`."""
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise SpawnRefused(f"too many processes of {user} are being started") from None
        try:
            yield
        finally:
            self._turns.release()

    def _on_news(self, report: protocol.Report, descriptors: list[int]) -> None:
        if isinstance(report, protocol.NewMonitor) and len(descriptors) == 1:
            self._on_monitor(socket.socket(fileno=descriptors[0]))
        elif isinstance(report, protocol.NewRecorder) and len(descriptors) == 1:
            self._on_recorder(socket.socket(fileno=descriptors[0]))
        else:
            super()._on_news(report, descriptors)


def reason_of(report: protocol.Report) -> str:
    """Why a request failed."""
    return report.reason if isinstance(report, protocol.Refused) else "the spawner gave an unexpected answer"


def _number_of(report: protocol.Report) -> int | None:
    """The number of the request that `report` answers; None: it answers none."""
    news = protocol.Exited | protocol.News | protocol.Reread | protocol.TakeOver
    others = protocol.NewMonitor | protocol.NewRecorder
    return None if isinstance(report, news | others) else report.id
