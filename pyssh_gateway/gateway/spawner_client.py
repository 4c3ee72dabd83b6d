"""The gateway's end of the spawner's socket: requests go out, answers and exits come back on the loop."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from pyssh_gateway.core.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.spawner import protocol

ANSWER_SECONDS = 10.0
"""A fork takes milliseconds; a machine that needs longer than this for one is not going to serve a shell."""

MAX_QUEUED = 256
"""Requests that wait for room in the socket; more at once means that the spawner is stuck."""


class SpawnRefused(Exception):
    """The spawner said no, or could not be asked; the text says why."""


class Spawned(msgspec.Struct, frozen=True):
    """A process that runs. `descriptors` are now the caller's to close; `exited` is called once when it is reaped."""

    id: int
    pid: int
    tty: str
    descriptors: list[int]


class SpawnerClient:
    """Asks the spawner for processes and files. `on_lost` is called once when the spawner is gone."""

    def __init__(self, control: socket.socket, loop: asyncio.AbstractEventLoop, on_lost: Callable[[], None]) -> None:
        self._control = control
        self._loop = loop
        self._on_lost = on_lost
        self._next_id = 0
        self._answers: dict[int, asyncio.Future[tuple[protocol.Report, list[int]]]] = {}
        self._exits: dict[int, Callable[[protocol.Exited], None]] = {}
        self._queue: deque[bytes] = deque()
        control.setblocking(False)
        loop.add_reader(control, self._read)

    def close(self) -> None:
        """Stop listening to the spawner; what was not answered fails."""
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._control.close()
        for future in self._answers.values():
            future.cancel()

    async def spawn(self, plan: LaunchPlan, on_exit: Callable[[protocol.Exited], None]) -> Spawned:
        """Start `plan`; `on_exit` is called once, never before this has returned. Raises `SpawnRefused`."""
        number = self._new_id()
        self._exits[number] = on_exit
        try:
            report, descriptors = await self._ask(protocol.Spawn(number, plan), number)
        except BaseException:
            del self._exits[number]
            raise
        match report:
            case protocol.Spawned(pid=pid, tty=tty):
                return Spawned(number, pid, tty, descriptors)
            case _:
                del self._exits[number]
                raise SpawnRefused(_reason(report))

    def signal(self, spawned: Spawned, number: int) -> None:
        """Send signal `number` to the process group of `spawned`; nothing happens if it has ended."""
        if spawned.id in self._exits:
            self._send(protocol.Signal(spawned.id, number))

    async def read_keys(self, path: str) -> bytes:
        """The contents of `path`, a key file of the configuration, opened with the spawner's rights. Raises `OSError`.

        At most one byte more than a source may have is read; whoever asked judges that.
        """
        number = self._new_id()
        try:
            report, descriptors = await self._ask(protocol.ReadKeys(number, path), number)
        except SpawnRefused as error:
            raise OSError(str(error)) from error
        if not descriptors:
            raise OSError(_reason(report))
        with os.fdopen(descriptors[0], "rb") as file:
            return file.read(MAX_KEYS_BYTES + 1) or b""

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    async def _ask(self, request: protocol.Request, number: int) -> tuple[protocol.Report, list[int]]:
        future: asyncio.Future[tuple[protocol.Report, list[int]]] = self._loop.create_future()
        self._answers[number] = future
        try:
            self._send(request)
            async with asyncio.timeout(ANSWER_SECONDS):
                return await future
        except TimeoutError:
            raise SpawnRefused(f"no answer from the spawner within {ANSWER_SECONDS:.0f} s") from None
        except protocol.ProtocolError as error:
            raise SpawnRefused(str(error)) from error
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():  # answered, and cancelled before the answer was looked at
                protocol.close_all(future.result()[1])
            raise
        finally:
            del self._answers[number]

    def _send(self, request: protocol.Request) -> None:
        packet = protocol.encode(request)
        if len(self._queue) >= MAX_QUEUED:
            raise SpawnRefused("too many requests wait for the spawner")
        self._queue.append(packet)
        self._flush()

    def _flush(self) -> None:
        while self._queue:
            try:
                self._control.send(self._queue[0])
            except BlockingIOError:
                self._loop.add_writer(self._control, self._flush)
                return
            except OSError:
                self._lost()
                return
            self._queue.popleft()
        self._loop.remove_writer(self._control)

    def _read(self) -> None:
        try:
            packet, descriptors = protocol.receive(self._control)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._lost()
            return
        report = protocol.decode_report(packet)
        if isinstance(report, protocol.Exited):
            on_exit = self._exits.pop(report.id, None)
            if on_exit is not None:
                on_exit(report)
            return
        future = self._answers.get(report.id)
        if future is None or future.done():  # the asker gave up
            protocol.close_all(descriptors)
            return
        future.set_result((report, descriptors))

    def _lost(self) -> None:
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._on_lost()


def _reason(report: protocol.Report) -> str:
    return report.reason if isinstance(report, protocol.Refused) else "the spawner gave an unexpected answer"
