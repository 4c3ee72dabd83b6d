"""The gateway's life: built, opened, watched, and left, in that order."""

import asyncio
import os
import select
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config import Config, Listen
from pyssh_gateway.core.launch import parse_environment
from pyssh_gateway.core.limits import Admission
from pyssh_gateway.core.login_rules import rules_for
from pyssh_gateway.core.steering import CipherSteering
from pyssh_gateway.core.stopping import Clocks
from pyssh_gateway.event_bus import EventBus
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    GatewayCrashed,
    InternalError,
    KeysLoaded,
    MachineResumed,
    Record,
    ServerStarted,
)
from pyssh_gateway.gateway import algorithms
from pyssh_gateway.gateway.banner import start_banner
from pyssh_gateway.gateway.control import ControlServer
from pyssh_gateway.gateway.heap import Heap
from pyssh_gateway.gateway.holds import Holds
from pyssh_gateway.gateway.idle_watch import IdleWatch
from pyssh_gateway.gateway.jobs import SpawnerJobs
from pyssh_gateway.gateway.leaving import Leaving, StopReason
from pyssh_gateway.gateway.listener import Listener
from pyssh_gateway.gateway.login_banner import LoginBanner
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.gateway.reports import Reporter
from pyssh_gateway.gateway.server import Services
from pyssh_gateway.gateway.socket_client import SocketMakers
from pyssh_gateway.gateway.spawner_client import SpawnerClient
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.spawner.supervisor import Crash

if TYPE_CHECKING:
    from pyssh_gateway.core.proxy_protocol import Accepted
    from pyssh_gateway.gateway.metrics import MetricsServer
    from pyssh_gateway.gateway.proxied import Proxies

STDERR = 2

CONTROL_VARIABLE = b"PYSSH_CONTROL"
"""Where a session's `pyssh-gateway hold` and the like find the server."""

SYSTEM_ENVIRONMENT = (Path("/etc/environment"), Path("/etc/default/locale"))
"""What pam_env sets for every login on Debian and Ubuntu; a later file wins."""


class Facts(msgspec.Struct, frozen=True):
    """What the gateway is given by the process that started it.

    `human` and `colour` say what goes to standard output. `identity` is the private key that the banner names,
    if any; `generation` counts gateway processes from 1, and `crashes` are the ends of earlier ones. `started` is the
    Unix time of the first one. `timezone` is the TZ that the server was started with, None for none.
    """

    config: Config
    human: bool
    colour: bool
    identity: str = ""
    generation: int = 1
    crashes: tuple[Crash, ...] = ()
    started: float = 0.0
    timezone: str | None = None


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
        metrics: socket.socket | None,
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
        self._somebody = asyncio.Event()
        self._early: list[Record] = []
        self.bus = EventBus(time.time, complain)
        self._registry = Registry()
        self._spawner = SpawnerClient(
            control, loop, on_lost=lambda: self._leave("signal", "the spawner is gone"), on_news=self.bus.publish
        )
        self._keyring = Keyring(
            config.login, config.keys, Path(), publish=self.bus.publish, read_file=self._spawner.read_keys
        )
        self._watch = IdleWatch(
            config.idle,
            registry=self._registry,
            listener=lambda: self._listener,
            publish=self.bus.publish,
            leave=lambda why: self._leave("idle", why),
            sample=self._spawner.sample_activity,
            now=loop.time,
            clock=time.time,
        )
        self._leaving = Leaving(
            config.stop,
            SpawnerJobs(self._spawner, loop),
            registry=self._registry,
            listener=lambda: self._listener,
            bus=self.bus,
            clocks=lambda: Clocks(loop.time(), time.time()),
            since=facts.started or time.time(),
            needed=lambda: self._watch.tracker.in_use,
            resumed=self._watch.resumed,
            stop_services=lambda: self._spawner.stop_services(config.boot.service),
        )
        fresh = facts.generation == 1
        self._holds = Holds(
            limit=float(config.idle.hold_max),
            fresh=fresh,
            publish=self.bus.publish,
            clock=time.time,
            loop=loop,
            going=lambda: self._leaving.going,
        )
        self._login_banner = LoginBanner(config, fresh=fresh, since=facts.started or time.time(), clock=time.time)
        self._admission = Admission(config.limits.unauthenticated, config.limits.unauthenticated_per_source)
        # A session's commands ask there; they may not be able to read the configuration.
        place = {} if asking is None else {CONTROL_VARIABLE: os.fsencode(asking.getsockname())}
        services = Services(
            limits=config.limits,
            registry=self._registry,
            spawner=self._spawner,
            sockets=SocketMakers(self._spawner, loop, self._registry.is_on),
            rules=rules_for(config),
            publish=self.bus.publish,
            snapshot=lambda: self._keyring.snapshot,
            read_files=self._keyring.read_files,
            look_again=self._keyring.look_again,
            key_used=self._keyring.used,
            turned_away=self._keyring.turned_away,
            end_revoked=config.keys.on_revoke == "end",
            system_env=lambda: read_system_environment(facts.timezone) | place,
            banner=self._login_banner.text,
            released=lambda peer: self._listener.released(peer),  # noqa: PLW0108 - the listener is made below
        )
        reporter = Reporter(
            keyring=self._keyring,
            registry=self._registry,
            idle=self._watch.tracker,
            host_keys=host_keys,
            endpoint=listening.getsockname()[:2],
            settings=config.idle,
            holds=self._holds,
            start=self._login_banner,
            pid=os.getpid(),
            since=time.time(),
            clock=time.time,
            now=loop.time,
        )
        self._control = (
            None
            if asking is None
            else ControlServer(
                asking,
                handlers=reporter.handlers,
                owner=owner,
                users={login.user for login in config.login},
                publish=self.bus.publish,
            )
        )
        self._metrics = None if metrics is None else self._metrics_at(metrics)
        self._listener = Listener(
            listening,
            loop=loop,
            options=algorithms.options(host_keys, config),
            services=services,
            admission=self._admission,
            steering=CipherSteering(has_aes=processor_has_aes()),
            publish=self.bus.publish,
            proxies=_proxies(config.listen, loop),
        )

    async def run(self) -> int:
        """Serve until it is time to leave; returns the exit code."""
        self._loop.set_exception_handler(self._unhandled)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._leave, "signal", signal.Signals(number).name)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listener.run(), name="listener")
            self._let_in()
            running = [tasks.create_task(self._keyring.run(), name="keyring")]
            await self._first_answers()
            self._announce()
            if self._control is not None:
                running.append(tasks.create_task(self._control.run(), name="control"))
            if self._metrics is not None:
                running.append(tasks.create_task(self._metrics.run(), name="metrics"))
            reason = await self._until_stop(tasks)
            for task in running:
                task.cancel()
            if reason is not None:
                await self._leaving.leave(reason)
            listening.cancel()
        self._holds.close()
        self._spawner.close()
        return 0

    def _metrics_at(self, listening: socket.socket) -> "MetricsServer":
        """What serves figures at `listening`; they are counted from now on."""
        from pyssh_gateway.gateway.figures import Figures, exposition  # late: few want them
        from pyssh_gateway.gateway.metrics import MetricsServer

        awake_before, made = max(0.0, time.time() - (self._facts.started or time.time())), self._loop.time()
        figures = Figures(
            registry=self._registry,
            idle=self._watch.tracker,
            sources=self._keyring.describe,
            lost=lambda: self._audit.lost,
            awake=lambda: awake_before + self._loop.time() - made,
            now=self._loop.time,
        )
        self.bus.subscribe(figures.observe)
        return MetricsServer(listening, render=lambda: exposition(figures.families()), publish=self.bus.publish)

    # -- start --------------------------------------------------------------------------------------------------

    def _let_in(self) -> None:
        """Let in whom the last good copies let in: they need not wait for the sources of which nothing is known.

        Those of key files count only if the files can't be read: `Keyring.read_files` is before every decision.
        """
        self._end_early = self.bus.subscribe(self._early.append)
        heap = Heap(self._loop)
        for subscriber in (self._observe, self._login_banner.observe, self._holds.observe, heap.observe):
            self.bus.subscribe(subscriber)
        self._holds.open()
        for crash in self._facts.crashes[-1:]:
            self.bus.publish(GatewayCrashed(pid=crash.pid, cause=crash.cause, sessions=crash.sessions))
        self._keyring.load_last_good()
        self._listener.resume()

    async def _first_answers(self) -> None:
        """Wait for the sources of which nothing is known, unless somebody is on, or it is time to leave.

        Both belong into the log, which waits for the banner.
        """
        missing = self._keyring.missing()
        if not missing:
            return
        self._keyring.want(missing)
        async with asyncio.TaskGroup() as waits:
            answered = waits.create_task(self._keyring.settled())
            used = waits.create_task(self._somebody.wait())
            either: list[asyncio.Future[Any]] = [answered, used, self._stop]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            answered.cancel()
            used.cancel()

    def _announce(self) -> None:
        """Say who may log in, and from now on what happens."""
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
        self._end_early()
        for record in self._early:
            self._audit(record)
        self._early.clear()
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
        self._watch.observe(record)
        if isinstance(record.event, ConnectionAuthenticated):
            self._somebody.set()
        if isinstance(record.event, MachineResumed):
            self._keyring.want_all()
        if isinstance(record.event, KeysLoaded) and record.event.removed:
            self._loop.call_soon(self._recheck_keys)  # not now: every subscriber is to see this event first

    def _recheck_keys(self) -> None:
        for client in self._registry.clients:
            client.recheck_key()

    # -- stop ---------------------------------------------------------------------------------------------------

    def _leave(self, name: str, detail: str) -> None:
        if name == "signal":
            self._leaving.hurry()
            if self._stop.done():  # an idle stop that has not begun yet: what has begun has a new future already
                self._stop = self._loop.create_future()
        if not self._stop.done():
            self._stop.set_result(StopReason(name, detail))

    async def _until_stop(self, tasks: asyncio.TaskGroup) -> StopReason | None:
        """Watch until it is time to leave, and return why; the machine may be suspended and resumed until then.

        None: it was to be suspended and was not, and we have left.
        """
        while True:
            watching = tasks.create_task(self._watch.run(), name="idle")
            stop = self._stop
            reason = await stop
            watching.cancel()  # before anything else: it might open the door again
            if self._stop is stop:
                self._stop = self._loop.create_future()  # a signal may come while we are about it
            if reason.name != "idle" or self._facts.config.stop.action != "suspend":
                return reason
            if not await self._leaving.suspend(reason, self._stop):
                return None

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """A bug of ours that no one caught: it goes into the log, and the others' sessions go on."""
        error = context.get("exception")
        text = f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
        self.bus.publish(InternalError(where="event loop", error=text))


def _proxies(listen: Listen, loop: asyncio.AbstractEventLoop) -> "Proxies | None":
    """Whose PROXY headers are read; None: clients connect by themselves."""
    if listen.proxy_protocol == "off":
        return None
    from pyssh_gateway.gateway.proxied import Proxies  # late: only who is behind a proxy needs it

    return Proxies(listen.trusted_proxies, cast("Accepted", listen.proxy_protocol), loop)


def complain(text: str) -> None:
    """Say something that can't go into the log, on standard error, unless nobody reads that: we can't wait for it."""
    ready = select.poll()
    ready.register(STDERR, select.POLLOUT)
    if ready.poll(0):
        with suppress(OSError):
            os.write(STDERR, f"pyssh-gateway: {text.rstrip()}\n".encode(errors="backslashreplace"))


def read_system_environment(timezone: str | None) -> dict[bytes, bytes]:
    """The variables that the machine sets for every login. The files are read for each session: they change.

    `timezone` is the server's own TZ, the one variable of its own that sshd passes on (session.c, do_setup_env): an
    image that sets it means everything that runs there. The files win over it, as pam_env's variables do in sshd.
    """
    env = {} if timezone is None else {b"TZ": os.fsencode(timezone)}
    for path in SYSTEM_ENVIRONMENT:
        with suppress(OSError):
            env |= parse_environment(path.read_bytes())
    return env


def processor_has_aes() -> bool:
    """Whether the processor has AES instructions; false when it can't be known."""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        return b" aes" in file.read(8192)  # the first processor's flags (x86) or features (Arm) are within this
    return False
