"""The postauth process of one account: it serves all connections of the clients that have logged in as that account.

The spawner has forked it with the account's rights, and starts the account's processes for it. The monitor hands it
connections, and gets their events. It outlives a monitor that dies, and its clients notice nothing. It ends when the
monitor orders it to leave and there is nothing left to do, or when the server is gone.
"""

import asyncio
import os
import resource
import signal
import socket
import sys
import time
from contextlib import suppress
from typing import Protocol

from pyssh_gateway.core.idle.stopping import SPAWNER_GONE, farewell
from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import ConnectionClosed, ForwardClosed, SessionClosed
from pyssh_gateway.ipc.postauth import (
    MAX_CRASH,
    Announce,
    Busy,
    EndConnection,
    FromMonitor,
    HangUp,
    Leave,
    Report,
    Reported,
    Revoke,
    ShowOn,
    TakeConnection,
    Told,
)
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.ipc.spawner_client import PostauthSpawnerClient
from pyssh_gateway.postauth.client import Shared
from pyssh_gateway.postauth.connections import Connections
from pyssh_gateway.postauth.drains import Drains
from pyssh_gateway.postauth.forwards.sockets import Sockets
from pyssh_gateway.postauth.monitor_link import MonitorLink
from pyssh_gateway.postauth.orders import terminals
from pyssh_gateway.postauth.orders.revoked import Revoked
from pyssh_gateway.postauth.recording.tape import Tapes
from pyssh_gateway.postauth.rehearsal import rehearse
from pyssh_gateway.system.confinement import confine
from pyssh_gateway.system.heap import Heap
from pyssh_gateway.system.process_name import name_process
from pyssh_gateway.system.syscalls.profiles import POSTAUTH

ENDS = (ConnectionClosed, ForwardClosed, SessionClosed)
"""The events after which memory can be given back to the system."""

NAME, AHEAD_NAME = "pyssh-postauth", "pyssh-ahead"
"""The names in `ps` of an account's process, and of one that was forked ahead and has no account yet."""

LEFT, MISLED = 0, 1
"""Exit codes: it left in good order, or the monitor sent an invalid message."""

FLUSH_SECONDS = 0.5
"""How long the last bytes (disconnect messages) may take to leave when the server is gone."""


class Assignment(Protocol):
    """The account that this process serves, which may be assigned later."""

    @property
    def is_there(self) -> bool:
        """Whether an account has been assigned."""

    def take(self) -> tuple[socket.socket, socket.socket] | None:
        """Wait for the account, and change to it for good; returns the sockets to the monitor and to the spawner.

        None: this process is not needed.
        """


def run_postauth(assignment: Assignment, command_directory: bytes = b"") -> int:
    """Be the postauth process of an account until it leaves; returns the process's exit code.

    `command_directory` is appended to the PATH of sessions, as in `core.launch.plan`.
    """

    async def serve(monitor: socket.socket, spawner: socket.socket) -> int:
        return await Postauth(monitor, spawner, asyncio.get_running_loop(), command_directory).run()

    prepare()
    if not assignment.is_there:  # forked ahead: no client waits yet
        with suppress(TimeoutError):  # the machine is too busy, and a client may be waiting by now
            asyncio.run(rehearse(serve))
    with asyncio.Runner() as runner:
        runner.get_loop()  # made now, before a client waits
        sockets = assignment.take()
        if sockets is None:
            return LEFT
        name_process(NAME)
        _confine()
        return runner.run(serve(*sockets))


def prepare() -> None:
    """Set the process's name, signals, umask and descriptor limit."""
    name_process(AHEAD_NAME)
    # A stop sends these to all processes of the server, but the monitor decides in which order things end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0)  # the modes of sockets are set explicitly, and no other files are made under this umask
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _confine() -> None:
    """Keep the account's other processes from inspecting this one, and an attacker in this one from gaining rights.

    Protections that this machine lacks are written to standard error, which the spawner passes on when the process has
    ended. The monitor has reported its own long before.
    """
    for wall in confine(POSTAUTH):
        sys.stderr.write(f"{wall}\n")


class Postauth:
    """The parts of the process, in the order of their lifetimes. It passes the monitor's orders to them."""

    def __init__(
        self,
        monitor: socket.socket,
        spawner: socket.socket,
        loop: asyncio.AbstractEventLoop,
        command_directory: bytes = b"",
    ) -> None:
        self._loop = loop
        self._left: asyncio.Future[int] = loop.create_future()
        self._has_spawner = True
        self._is_parting = False
        self._tasks: asyncio.TaskGroup
        self._link = MonitorLink(
            loop, on_order=self._obey, on_end=self._monitor_gone, on_nonsense=lambda _why: self._part(MISLED)
        )
        self._monitor = monitor
        self._tapes = Tapes(loop, self._happened, time.monotonic)
        self._spawner = PostauthSpawnerClient(
            spawner, loop, self._spawner_gone, on_monitor=self._link.connect, on_recorder=self._tapes.feed.connect
        )
        self._drains = Drains(loop)
        self._sockets = Sockets(loop)
        self._revoked = Revoked(loop)
        self._heap = Heap(loop)
        self._connections = Connections(self._link, loop)
        self._shared = Shared(
            spawner=self._spawner,
            drains=self._drains,
            sockets=self._sockets,
            revoked=self._revoked,
            tapes=self._tapes,
            publish=self._happened,
            once_logged=self._link.once_logged,
            taken=self._link.took,
            crashed=self._crashed,
            gone=self._connections.gone,
            command_directory=command_directory,
        )

    async def run(self) -> int:
        """Serve until it is time to leave; returns the exit code."""
        self._loop.set_exception_handler(self._unhandled)
        async with asyncio.TaskGroup() as self._tasks:
            self._link.connect(self._monitor)
            code = await self._left
        self._sockets.close()
        self._revoked.close()
        self._drains.close()
        self._tapes.feed.close()
        self._link.close()
        self._spawner.close()
        return code

    # -- orders ---------------------------------------------------------------------------------------------------

    def _obey(self, order: FromMonitor, descriptors: list[int]) -> None:
        """Carry out an order of the monitor. An order for a connection that has ended meanwhile needs nothing more."""
        if isinstance(order, TakeConnection):
            self._take(order, descriptors)
            return
        if descriptors:
            raise ProtocolError("descriptors came with an order that has none")
        match order:
            case Announce() | EndConnection() | Revoke():
                for client in self._connections.called(order.conn):
                    client.obey(order)
            case ShowOn(lines=lines, text=text):
                terminals.show(lines, text)
            case HangUp():
                for session in self._connections.sessions:
                    session.hang_up()
            case Report(id=number):
                self._link.tell(Reported(number, self._connections.figures()))
            case Leave():
                self._leave()

    def _take(self, order: TakeConnection, descriptors: list[int]) -> None:
        if len(descriptors) > 1 or not order.conn or order.conn in self._connections:
            raise ProtocolError("a connection comes once, with one descriptor")
        sock = socket.socket(fileno=descriptors[0]) if descriptors else None
        self._connections.take(order, sock, self._shared, self._tasks.create_task)

    def _leave(self) -> None:
        """Leave, unless this process still has work that no other process would do."""
        is_needed = len(self._connections) or len(self._drains) or len(self._revoked) or len(self._tapes)
        if is_needed or not self._link.has_told_all:
            self._link.tell(Busy())
        elif not self._left.done():
            self._left.set_result(LEFT)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _monitor_gone(self) -> None:
        """Go on serving: the spawner starts another monitor, unless the spawner is gone, too."""
        if not self._has_spawner:
            self._part(LEFT)

    def _spawner_gone(self) -> None:
        """The server stops. A monitor that is still there orders how, and then ends (see `_monitor_gone`)."""
        self._has_spawner = False
        self._link.is_last = True
        if not self._link.is_connected:
            self._part(LEFT)

    def _part(self, code: int) -> None:
        """There is no monitor to obey any more: end all sessions and connections, and leave."""
        if not self._is_parting:
            self._is_parting = True
            self._tasks.create_task(self._see_off(code))

    async def _see_off(self, code: int) -> None:
        words = farewell("signal", "exit", SPAWNER_GONE)
        for session in self._connections.sessions:
            session.announce(words.screen)
            session.hang_up()
        for client in self._connections.called(""):
            client.disconnect(words.message)
        await self._connections.until_nobody(FLUSH_SECONDS)
        if not self._left.done():
            self._left.set_result(code)

    # -- events ---------------------------------------------------------------------------------------------------

    def _happened(self, event: Told) -> None:
        self._link.happened(event)
        if isinstance(event, ENDS):
            self._heap.something_ended()

    # -- bugs -----------------------------------------------------------------------------------------------------

    def _crashed(self, conn: str, text: str) -> None:
        """Report a bug of ours. A long traceback keeps its end, where the exception is."""
        self._link.crashed(conn, printable(text, keep_newlines=True)[-MAX_CRASH:])

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """An exception that nothing caught: report it, and let the account's sessions go on."""
        error = context.get("exception")
        text = f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
        self._crashed("", text)
