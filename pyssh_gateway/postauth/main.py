"""The process that is one account: it serves all connections of those who have logged in as that.

The spawner has made it that account, and gives it processes of the account; the monitor gives it connections, and is
told what happens on them. It outlives a monitor, and nobody that it serves notices. It ends when it is told to while
there is nothing left to do, or when the server is gone.
"""

import asyncio
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import Protocol

from pyssh_gateway.core.idle.stopping import SPAWNER_GONE, farewell
from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import ConnectionClosed, ForwardClosed, SessionClosed
from pyssh_gateway.ipc.postauth import (
    MAX_CRASH,
    Announce,
    Busy,
    Crashed,
    EndConnection,
    FromMonitor,
    HangUp,
    Leave,
    Report,
    Reported,
    Revoke,
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
from pyssh_gateway.postauth.rehearsal import rehearse
from pyssh_gateway.postauth.revoked import Revoked
from pyssh_gateway.system.confinement import confine
from pyssh_gateway.system.heap import Heap
from pyssh_gateway.system.process_name import name_process
from pyssh_gateway.system.syscalls.profiles import POSTAUTH

ENDS = (ConnectionClosed, ForwardClosed, SessionClosed)
"""What leaves memory behind that can be given back."""

NAME, AHEAD_NAME = "pyssh-postauth", "pyssh-ahead"
"""What `ps` shows of a process that is an account's, and of one that may become one's."""

LEFT, MISLED = 0, 1
"""Exit codes: it has left as it should, or the monitor has said what no monitor says."""

FLUSH_SECONDS = 0.5
"""How long the last bytes (disconnect messages) may take to leave when the server is gone."""


class Assignment(Protocol):
    """Whose process this is, which may be said later."""

    @property
    def is_there(self) -> bool:
        """Whether it has been said."""

    def take(self) -> tuple[socket.socket, socket.socket] | None:
        """Wait for it, and be that account for good; the sockets to the monitor and to the spawner.

        None: this process is not needed.
        """


def run_postauth(assignment: Assignment) -> int:
    """Be the postauth process of an account until it leaves; returns the process's exit code."""
    prepare()
    if not assignment.is_there:  # forked ahead: nobody waits for it yet
        with suppress(TimeoutError):  # the machine has no time for it, and somebody may wait by now
            asyncio.run(rehearse(_serve))
    with asyncio.Runner() as runner:
        runner.get_loop()  # now, and not when somebody waits
        sockets = assignment.take()
        if sockets is None:
            return LEFT
        name_process(NAME)
        _confine()
        return runner.run(_serve(*sockets))


async def _serve(monitor: socket.socket, spawner: socket.socket) -> int:
    return await Postauth(monitor, spawner, asyncio.get_running_loop()).run()


def prepare() -> None:
    """Make this process fit for its work."""
    name_process(AHEAD_NAME)
    # They come to all processes of a server that is stopped, and the monitor says in which order things end.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0)  # the modes of sockets are said outright, and other files are not made here
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _confine() -> None:
    """Let nobody of the account look into this process, and nothing that it is made to do gain rights.

    What this machine does not have goes to standard error, which the spawner passes on when the process has ended; the
    monitor has said it for itself long before.
    """
    for wall in confine(POSTAUTH):
        sys.stderr.write(f"{wall}\n")


class Postauth:
    """The parts of the process, in the order in which they live; orders go to them."""

    def __init__(self, monitor: socket.socket, spawner: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left: asyncio.Future[int] = loop.create_future()
        self._has_spawner = True
        self._is_parting = False
        self._tasks: asyncio.TaskGroup
        self._link = MonitorLink(
            loop, on_order=self._obey, on_end=self._monitor_gone, on_nonsense=lambda _why: self._part(MISLED)
        )
        self._monitor = monitor
        self._spawner = PostauthSpawnerClient(spawner, loop, self._spawner_gone, self._link.connect)
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
            publish=self._happened,
            taken=self._link.tell,
            crashed=self._crashed,
            gone=self._connections.gone,
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
        self._link.close()
        self._spawner.close()
        return code

    # -- orders ---------------------------------------------------------------------------------------------------

    def _obey(self, order: FromMonitor, descriptors: list[int]) -> None:
        """Do what the monitor says. What is about a connection that has gone meanwhile is done already."""
        if isinstance(order, TakeConnection):
            self._take(order, descriptors)
            return
        if descriptors:
            raise ProtocolError("descriptors came with an order that has none")
        match order:
            case Announce() | EndConnection() | Revoke():
                for client in self._connections.called(order.conn):
                    client.obey(order)
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
        """Leave, unless there is something that nobody else would do."""
        is_needed = len(self._connections) or len(self._drains) or len(self._revoked)
        if is_needed or not self._link.has_told_all:
            self._link.tell(Busy())
        elif not self._left.done():
            self._left.set_result(LEFT)

    # -- ends -----------------------------------------------------------------------------------------------------

    def _monitor_gone(self) -> None:
        """Serve on: the spawner starts another one, unless it is gone, too."""
        if not self._has_spawner:
            self._part(LEFT)

    def _spawner_gone(self) -> None:
        """The server stops. The monitor says how, if there is one; it leaves when it has, and then nobody is left."""
        self._has_spawner = False
        if not self._link.is_connected:
            self._part(LEFT)

    def _part(self, code: int) -> None:
        """Nobody says any more what to do: see everybody off, and leave."""
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

    # -- what is told ---------------------------------------------------------------------------------------------

    def _happened(self, event: Told) -> None:
        self._link.happened(event)
        if isinstance(event, ENDS):
            self._heap.something_ended()

    # -- bugs -----------------------------------------------------------------------------------------------------

    def _crashed(self, conn: str, text: str) -> None:
        """Tell of a bug of ours: the exception, at the end of a traceback, above all."""
        self._link.tell(Crashed(conn, printable(text, keep_newlines=True)[-MAX_CRASH:]))

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A bug of ours that no one caught: it is told, and the account's sessions go on."""
        error = context.get("exception")
        text = f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
        self._crashed("", text)
