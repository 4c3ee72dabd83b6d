"""The gateway's life: built, opened, watched, and left, in that order."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config.source import shown_endpoint
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.login_rules import rules_for
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    GatewayCrashed,
    InternalError,
    KeysFailed,
    KeysLoaded,
    MachineResumed,
    Record,
    ServerStarted,
)
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.gateway.listener import Listener, proxies_of
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.gateway.server import Services
from pyssh_gateway.ipc.socket_client import SocketMakers
from pyssh_gateway.ipc.spawner_client import SpawnerClient
from pyssh_gateway.keys.host_keys import HostKey, made_at_start
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.monitor.complaining import STDERR, complain
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.monitor.heap import Heap
from pyssh_gateway.monitor.lifetime.holds import Holds
from pyssh_gateway.monitor.lifetime.idle_watch import IdleWatch
from pyssh_gateway.monitor.lifetime.shutdown import Leaving, StopReason
from pyssh_gateway.monitor.lifetime.stop_jobs import SpawnerJobs
from pyssh_gateway.monitor.log_keeping import LogKeeper
from pyssh_gateway.monitor.reload import Reloading
from pyssh_gateway.monitor.reporting.control import ControlServer
from pyssh_gateway.monitor.reporting.login_banner import LoginBanner
from pyssh_gateway.monitor.reporting.places import Places
from pyssh_gateway.monitor.reporting.reports import Reporter
from pyssh_gateway.monitor.reporting.start_banner import start_banner
from pyssh_gateway.monitor.steering_state import KeptSteering
from pyssh_gateway.monitor.system_environment import read_system_environment
from pyssh_gateway.postauth.drains import Drains
from pyssh_gateway.ssh import options

if TYPE_CHECKING:
    from pyssh_gateway.monitor.reporting.metrics import MetricsServer

CONTROL_VARIABLE = b"PYSSH_CONTROL"
"""Where a session's `pyssh-gateway hold` and the like find the server."""


class Gateway:
    """Composition root of the network side."""

    def __init__(
        self,
        facts: Facts,
        *,
        host_keys: tuple[HostKey, ...],
        listening: Sequence[socket.socket],
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
        self._endpoints = tuple(sock.getsockname()[:2] for sock in listening)
        self._stop: asyncio.Future[StopReason] = loop.create_future()
        self._somebody = asyncio.Event()
        self._early: list[Record] = []
        self._recheck_due = False
        self.bus = EventBus(time.time, complain)
        self._registry = Registry()
        self._drains = Drains(loop)
        self._places = Places()
        self._spawner = SpawnerClient(
            control,
            loop,
            on_lost=self._spawner_lost,
            on_news=self.bus.publish,
            on_reread=lambda: self._reloading.due(),  # noqa: PLW0108 - it is made below
        )
        self._log_keeper = LogKeeper(
            audit, open_log=self._spawner.open_log, publish=self.bus.publish, complain=complain, loop=loop
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
        # A session's commands ask there; they may not be able to read the configuration.
        place = {} if facts.control is None else {CONTROL_VARIABLE: os.fsencode(facts.control)}
        self._services = Services(
            limits=config.limits,
            registry=self._registry,
            spawner=self._spawner,
            drains=self._drains,
            sockets=SocketMakers(self._spawner, loop, self._registry.is_on),
            rules=rules_for(config),
            publish=self.bus.publish,
            snapshot=lambda: self._keyring.snapshot,
            read_files=self._keyring.looks.read_files,
            look_again=self._keyring.looks.look_again,
            look_up=self._keyring.looks.look_up,
            key_used=self._keyring.looks.used,
            turned_away=self._keyring.looks.turned_away,
            end_revoked=config.keys.on_revoke == "end",
            system_env=lambda: read_system_environment(facts.timezone) | place,
            banner=self._login_banner.text,
            released=lambda conn: self._listener.released(conn),  # noqa: PLW0108 - the listener is made below
        )
        self._reporter = Reporter(
            keyring=self._keyring,
            registry=self._registry,
            idle=self._watch.tracker,
            host_keys=host_keys,
            endpoints=self._endpoints,
            settings=config.idle,
            holds=self._holds,
            start=self._login_banner,
            pid=os.getpid(),
            since=time.time(),
            clock=time.time,
            now=loop.time,
        )
        self._owner = owner
        self._control: ControlServer | None = None
        if facts.control is not None:
            self._places.add("control", asking, self._control_server)
        if config.metrics.listen != "off":
            self._places.add("metrics", metrics, self._metrics_server())
        self._proxies = proxies_of(config.listen, loop)
        self._listener = Listener(
            listening,
            loop=loop,
            options=options.options(host_keys, config),
            services=self._services,
            steering=KeptSteering(has_aes=options.processor_has_aes()),
            publish=self.bus.publish,
            proxies=self._proxies,
        )
        self._reloading = Reloading(
            take=self._spawner.take_config,
            apply=self._reconfigure,
            ask_keys=self._keyring.want_all,
            reopen_log=self._log_keeper.reopen,
            publish=self.bus.publish,
        )

    async def run(self) -> int:
        """Serve until it is time to leave; returns the exit code."""
        self._loop.set_exception_handler(self._unhandled)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._leave, "signal", signal.Signals(number).name)
        self._loop.add_signal_handler(signal.SIGHUP, self._spawner.ask_reload)
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listener.run(), name="listener")
            self._let_in()
            keyring = tasks.create_task(self._keyring.run(), name="keyring")
            await self._first_answers()
            self._announce()
            self._places.start(tasks, self._spawner)
            running = [keyring, tasks.create_task(self._log_keeper.run(), name="log")]
            running.append(tasks.create_task(self._reloading.run(), name="reloading"))
            reason = await self._until_stop(tasks)
            for task in running:
                task.cancel()
            self._places.stop()
            if reason is not None:
                await self._leaving.leave(reason)
            listening.cancel()
        self._holds.close()
        await self._log_keeper.finish()
        self._drains.close()
        self._spawner.close()
        return 0

    def _control_server(self, listening: socket.socket) -> ControlServer:
        """What answers people on the machine at a socket, by the configuration in force."""
        self._control = ControlServer(
            listening,
            handlers=self._reporter.handlers,
            owner=self._owner,
            users={login.user for login in self._facts.config.login},
            publish=self.bus.publish,
        )
        return self._control

    def _metrics_server(self) -> "Callable[[socket.socket], MetricsServer]":
        """What makes the server of figures at a socket; they are counted from now on."""
        from pyssh_gateway.monitor.reporting.figures import Figures, exposition  # late: few want them
        from pyssh_gateway.monitor.reporting.metrics import MetricsServer

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
        return lambda listening: MetricsServer(
            listening, render=lambda: exposition(figures.families()), publish=self.bus.publish
        )

    # -- start --------------------------------------------------------------------------------------------------

    def _let_in(self) -> None:
        """Let in whom the last good copies let in: they need not wait for the sources of which nothing is known.

        Those of key files count only if the files can't be read: `Looks.read_files` is before every decision.
        """
        self._end_early = self.bus.subscribe(self._early.append)
        heap = Heap(self._loop)
        subscribers = (
            self._observe,
            self._login_banner.observe,
            self._holds.observe,
            self._listener.observe,
            heap.observe,
        )
        for subscriber in subscribers:
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
        address, port = self._endpoints[0]
        if self._facts.generation == 1:
            banner = start_banner(
                config,
                self._endpoints,
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
        self.bus.subscribe(self._log_keeper.observe)
        self.bus.publish(
            ServerStarted(
                version=__version__,
                address=address,
                port=port,
                addresses=tuple(shown_endpoint(*endpoint) for endpoint in self._endpoints),
                pid=os.getpid(),
                generation=self._facts.generation,
                host_keys=tuple(key.fingerprint for key in self._host_keys),
                users=tuple(login.user for login in config.login),
                idle_timeout=config.idle.timeout,
            )
        )
        for event in made_at_start(self._host_keys):
            self.bus.publish(event)

    def _reconfigure(self, config: Config) -> None:
        """Put in force what can change while we run (`core.reload`). Open connections have to be let in by it, too."""
        before, self._facts = self._facts.config, msgspec.structs.replace(self._facts, config=config)
        self._keyring.reconfigure(config.login, config.keys)
        self._services = msgspec.structs.replace(
            self._services,
            limits=config.limits,
            rules=rules_for(config),
            end_revoked=config.keys.on_revoke == "end",
        )
        for client in self._registry.clients:
            client.reconfigure(self._services)
        if config.listen != before.listen:
            self._proxies = proxies_of(config.listen, self._loop)
        self._listener.reconfigure(options.options(self._host_keys, config), self._services, self._proxies)
        self._watch.reconfigure(config.idle)
        self._leaving.reconfigure(config.stop)
        self._holds.limit_to(float(config.idle.hold_max))
        self._login_banner.reconfigure(config)
        self._reporter = msgspec.structs.replace(self._reporter, settings=config.idle)
        if self._control is not None:
            self._control.reconfigure(self._reporter.handlers, {login.user for login in config.login})
        for client in self._registry.clients:
            if client.user not in self._services.rules:
                client.recheck_key()
        # The others when every new source has been asked: its keys may be those of one that is gone.
        self._recheck_due = True
        self._recheck_when_known()

    # -- watch --------------------------------------------------------------------------------------------------

    def _observe(self, record: Record) -> None:
        self._watch.observe(record)
        if isinstance(record.event, ConnectionAuthenticated):
            self._somebody.set()
        if isinstance(record.event, MachineResumed):
            self._keyring.want_all()
        # Not now: every subscriber is to see this event first.
        if isinstance(record.event, KeysLoaded | KeysFailed) and self._recheck_due:
            self._loop.call_soon(self._recheck_when_known)
        elif isinstance(record.event, KeysLoaded) and record.event.changed:
            self._loop.call_soon(self._recheck_keys)

    def _recheck_when_known(self) -> None:
        if self._recheck_due and not self._keyring.unasked():
            self._recheck_due = False
            self._recheck_keys()

    def _recheck_keys(self) -> None:
        for client in self._registry.clients:
            client.recheck_key()

    # -- stop ---------------------------------------------------------------------------------------------------

    def _spawner_lost(self) -> None:
        self._places.give_up()  # the next server may be waiting for them
        self._leave("signal", "the spawner is gone")

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
