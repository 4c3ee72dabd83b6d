"""The gateway's life: built, opened, watched, and left, in that order."""

import asyncio
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config import Config
from pyssh_gateway.core.idle import IdleTracker, Stay, Stop, Tick
from pyssh_gateway.core.launch import parse_environment
from pyssh_gateway.core.limits import Admission
from pyssh_gateway.core.login_rules import rules_for
from pyssh_gateway.core.steering import CipherSteering
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    ConnectionClosed,
    EventBus,
    GatewayCrashed,
    IdleReached,
    IdleTick,
    InternalError,
    KeysLoaded,
    Record,
    ServerStarted,
    ServerStopped,
    ServerStopping,
)
from pyssh_gateway.gateway import algorithms
from pyssh_gateway.gateway.banner import start_banner
from pyssh_gateway.gateway.control import ControlServer
from pyssh_gateway.gateway.listener import Listener
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.gateway.reports import Reporter
from pyssh_gateway.gateway.server import Services
from pyssh_gateway.gateway.socket_client import SocketMakers
from pyssh_gateway.gateway.spawner_client import SpawnerClient
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.spawner.supervisor import Crash

LAST_LOOK_SECONDS = 0.25
"""How long a stop waits for those who are just logging in. They get in, or are refused cleanly; scanners, who never
log in, can delay the stop by no more than this."""

FLUSH_SECONDS = 0.5
"""How long the last bytes (disconnect messages) may take to leave once everything has been closed."""

STDERR = 2

SYSTEM_ENVIRONMENT = (Path("/etc/environment"), Path("/etc/default/locale"))
"""What pam_env sets for every login on Debian and Ubuntu; a later file wins."""


class Facts(msgspec.Struct, frozen=True):
    """What the gateway is given by the process that started it.

    `human` and `colour` say what goes to standard output. `identity` is the private key that the banner names,
    if any; `generation` counts gateway processes from 1, and `crashes` are the ends of earlier ones.
    """

    config: Config
    human: bool
    colour: bool
    identity: str = ""
    generation: int = 1
    crashes: tuple[Crash, ...] = ()


class StopReason(msgspec.Struct, frozen=True):
    """Why the gateway leaves: "idle", or "signal"."""

    name: str
    detail: str


class Gateway:
    """Composition root of the network side."""

    def __init__(
        self,
        facts: Facts,
        *,
        host_keys: tuple[HostKey, ...],
        listening: socket.socket,
        control: socket.socket,
        audit: AuditLog,
        asking: socket.socket | None,
        owner: int,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        config = facts.config
        self._host_keys = host_keys
        self._facts = facts
        self._audit = audit
        self._loop = loop
        self._listening = listening
        self._stop: asyncio.Future[StopReason] = loop.create_future()
        self._used = asyncio.Event()
        self.bus = EventBus(time.time, complain)
        self._registry = Registry()
        self._spawner = SpawnerClient(control, loop, on_lost=lambda: self._leave("signal", "the spawner is gone"))
        self._keyring = Keyring(
            config.login, config.keys, Path(), publish=self.bus.publish, read_file=self._spawner.read_keys
        )
        self._idle = IdleTracker(config.idle.timeout, loop.time())
        self._admission = Admission(config.limits.unauthenticated, config.limits.unauthenticated_per_source)
        services = Services(
            limits=config.limits,
            registry=self._registry,
            spawner=self._spawner,
            sockets=SocketMakers(self._spawner, loop, self._registry.is_on),
            rules=rules_for(config),
            publish=self.bus.publish,
            snapshot=lambda: self._keyring.snapshot,
            look_again=self._keyring.look_again,
            key_used=self._keyring.used,
            end_revoked=config.keys.on_revoke == "end",
            system_env=read_system_environment,
            released=lambda peer: self._listener.released(peer),  # noqa: PLW0108 - the listener is made below
        )
        reporter = Reporter(
            keyring=self._keyring,
            registry=self._registry,
            idle=self._idle,
            host_keys=host_keys,
            endpoint=listening.getsockname()[:2],
            idle_timeout=None if config.idle.timeout is None else float(config.idle.timeout),
            pid=os.getpid(),
            since=time.time(),
            clock=time.time,
            now=loop.time,
        )
        self._control = (
            None
            if asking is None
            else ControlServer(asking, handlers=reporter.handlers, owner=owner, publish=self.bus.publish)
        )
        self._listener = Listener(
            listening,
            loop=loop,
            options=algorithms.options(host_keys, config),
            services=services,
            admission=self._admission,
            steering=CipherSteering(has_aes=processor_has_aes()),
            publish=self.bus.publish,
        )

    async def run(self) -> int:
        """Serve until it is time to leave; returns the exit code."""
        self._loop.set_exception_handler(self._unhandled)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._leave, "signal", signal.Signals(number).name)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listener.run(), name="listener")
            await self._open()
            running = [
                tasks.create_task(self._keyring.run(), name="keyring"),
                tasks.create_task(self._watch_idle(), name="idle"),
            ]
            if self._control is not None:
                running.append(tasks.create_task(self._control.run(), name="control"))
            reason = await self._stop
            for task in running:  # before anything else: the idle watch might open the door again
                task.cancel()
            await self._close(reason)
            listening.cancel()
        self._spawner.close()
        return 0

    # -- start --------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Know who may log in, say so, and let people in."""
        early: list[Record] = []
        end_early = self.bus.subscribe(early.append)
        self.bus.subscribe(self._observe)
        for crash in self._facts.crashes[-1:]:
            self.bus.publish(GatewayCrashed(pid=crash.pid, cause=crash.cause, sessions=crash.sessions))
        self._keyring.load_last_good()
        # Who comes with a key that is known need not wait for the sources of which nothing is.
        self._listener.resume()
        missing = self._keyring.missing()
        if missing:
            await self._keyring.refresh(missing)
        config = self._facts.config
        address, port = self._listening.getsockname()[:2]
        if self._facts.generation == 1:
            banner = start_banner(
                config,
                (address, port),
                self._host_keys,
                snapshot=self._keyring.snapshot,
                sources=self._keyring.describe(),
                identity=self._facts.identity,
            )
            with suppress(OSError):
                os.write(STDERR, banner.encode())
        # The banner is the first thing on the screen, so what happened before it is written only now.
        end_early()
        for record in early:
            self._audit(record)
        self.bus.subscribe(self._audit)
        self.bus.publish(
            ServerStarted(
                version=__version__,
                address=address,
                port=port,
                pid=os.getpid(),
                generation=self._facts.generation,
                host_keys=tuple(key.fingerprint for key in self._host_keys),
                users=tuple(login.user for login in config.login),
                idle_timeout=config.idle.timeout,
            )
        )

    # -- watch --------------------------------------------------------------------------------------------------

    def _observe(self, record: Record) -> None:
        self._idle.observe(record.event, self._loop.time())
        if isinstance(record.event, ConnectionAuthenticated | ConnectionClosed):
            self._used.set()
        if isinstance(record.event, KeysLoaded) and record.event.removed:
            self._loop.call_soon(self._recheck_keys)  # not now: every subscriber is to see this event first

    def _recheck_keys(self) -> None:
        for client in self._registry.clients:
            client.recheck_key()

    async def _watch_idle(self) -> None:
        """Sleep until the tracker's next deadline or the next change of use; leave when it says so."""
        while True:
            self._used.clear()
            match self._idle.poll(self._loop.time()):
                case Tick(idle=idle, remaining=remaining):
                    self.bus.publish(IdleTick(idle=idle, remaining=remaining, message=f"Idle for {idle}s"))
                case Stay(until=until):
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(until):
                            await self._used.wait()
                case Stop(idle=idle):
                    if await self._last_look(idle):
                        return

    async def _last_look(self, idle: float) -> bool:
        """Close the door, and see whether somebody is just coming in. True: nobody was, and the gateway leaves."""
        self._listener.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                while self._registry.authenticating and not self._idle.in_use:
                    await self._used.wait()
                    self._used.clear()
        # From here to `_leave` nothing awaits: who is not on now does not get on any more.
        if self._idle.in_use:
            self._listener.resume()
            self.bus.publish(IdleReached(idle=round(idle, 3), outcome="stay", message="Somebody has just logged in"))
            return False
        self.bus.publish(IdleReached(idle=round(idle, 3), outcome="stop", message="Stopping machine. Goodbye!"))
        self._leave("idle", f"idle for {idle:.0f} s")
        return True

    def _leave(self, name: str, detail: str) -> None:
        if not self._stop.done():
            self._stop.set_result(StopReason(name, detail))

    # -- stop ---------------------------------------------------------------------------------------------------

    async def _close(self, reason: StopReason) -> None:
        """Refuse newcomers, let those who are on finish within the drain time, say goodbye, flush."""
        with suppress(OSError):  # the last look has closed it already
            self._listener.stop()
        sessions = self._registry.sessions
        self.bus.publish(
            ServerStopping(
                reason=reason.name,
                detail=reason.detail,
                connections=len(self._registry.clients),
                sessions=len(sessions),
            )
        )
        for client in self._registry.authenticating:
            client.disconnect("The server is stopping")
        for session in sessions:
            session.announce("pyssh-gateway: the server is stopping. Goodbye!")
            session.hang_up()
        await self._until_gone(lambda: not self._registry.sessions, self._facts.config.stop.drain)
        for client in self._registry.clients:
            client.disconnect("The server is stopping")
        await self._until_gone(lambda: not self._registry.clients, FLUSH_SECONDS)
        self.bus.publish(ServerStopped(reason=reason.name, exit_code=0))

    async def _until_gone(self, gone: Callable[[], bool], seconds: float) -> None:
        """Wait until `gone()`, looking again whenever a session or connection closes, for `seconds` at most."""
        changed = asyncio.Event()
        unsubscribe = self.bus.subscribe(lambda _record: changed.set())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not gone():
                    await changed.wait()
                    changed.clear()
        unsubscribe()

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A bug of ours that no one caught: it goes into the log, and the others' sessions go on."""
        error = context.get("exception")
        text = f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
        self.bus.publish(InternalError(where="event loop", error=text))


def complain(text: str) -> None:
    """Say something that can't go into the log, on standard error, unless nobody reads that: we can't wait for it."""
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    if ready.poll(0):
        with suppress(OSError):
            os.write(STDERR, f"pyssh-gateway: {text.rstrip()}\n".encode(errors="backslashreplace"))


def read_system_environment() -> dict[bytes, bytes]:
    """The variables that the machine sets for every login. Read for each session: they change while we run."""
    env: dict[bytes, bytes] = {}
    for path in SYSTEM_ENVIRONMENT:
        with suppress(OSError):
            env |= parse_environment(path.read_bytes())
    return env


def processor_has_aes() -> bool:
    """Whether the processor has AES instructions; false when it can't be known."""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        return b" aes" in file.read(8192)  # the first processor's flags (x86) or features (Arm) are within this
    return False
