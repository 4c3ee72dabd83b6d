"""The monitor: creates its parts in the order of their lifetimes, starts them, runs them and stops them."""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyssh_gateway.audit.log import AuditLog
from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle.stopping import SPAWNER_GONE, Clocks
from pyssh_gateway.core.idle.usage import quiet_after
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    GatewayCrashed,
    Identity,
    InternalError,
    MachineResumed,
    PreviousLogin,
    Record,
)
from pyssh_gateway.events.bus import EventBus
from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.monitor import opening
from pyssh_gateway.monitor.arrivals import handing_over
from pyssh_gateway.monitor.arrivals.guests import Guests
from pyssh_gateway.monitor.arrivals.handing_over import HandingOver
from pyssh_gateway.monitor.arrivals.listener import Listener
from pyssh_gateway.monitor.arrivals.preauths import Preauths
from pyssh_gateway.monitor.arrivals.steering_state import KeptSteering
from pyssh_gateway.monitor.complaining import complain
from pyssh_gateway.monitor.connected.client import ClientServices
from pyssh_gateway.monitor.connected.postauths import Postauths
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.connected.registry_file import RegistryFile
from pyssh_gateway.monitor.connected.revoked_keys import RevokedKeys
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.monitor.host_certificates import renew
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.in_force import InForce
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.lifetime.departure import Departure
from pyssh_gateway.monitor.lifetime.parts import Lifetime, Surroundings
from pyssh_gateway.monitor.lifetime.returning import Returning
from pyssh_gateway.monitor.lifetime.shutdown import StopReason
from pyssh_gateway.monitor.log.parts import TheLog
from pyssh_gateway.monitor.reload import Reloading
from pyssh_gateway.monitor.reporting.answering import Answering
from pyssh_gateway.monitor.reporting.login_banner import LoginBanner
from pyssh_gateway.monitor.reporting.places import Places
from pyssh_gateway.monitor.reporting.reports import Reporter
from pyssh_gateway.monitor.tasks import Tasks
from pyssh_gateway.system.processor import processor_has_aes
from pyssh_gateway.system.signals import HANDED_ON


class Monitor:
    """Composition root."""

    def __init__(
        self,
        facts: Facts,
        given: opening.Given,
        host_keys: tuple[HostKey, ...],
        audit: AuditLog,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._facts = facts
        self._given = given
        self._host_keys = host_keys
        self._audit = audit
        self._loop = loop
        self._endpoints = tuple(sock.getsockname()[:2] for sock in given.listening)
        self._set_up_ground()
        self._set_up_keys()
        self._set_up_clients()
        self._set_up_arrivals()
        self._set_up_lifetime()
        self._set_up_answers()

    # -- the parts, in the order in which they live -------------------------------------------------------------

    def _set_up_ground(self) -> None:
        """What all other parts depend on: events and their log, the spawner, the configuration, tasks."""
        loop = self._loop
        self._in_force = InForce(self._facts.config)
        self._registry = Registry(RegistryFile(self._given.registry))
        self._log = TheLog(self._audit, self._given.registry, self._registry, self._in_force, complain)
        self.bus = EventBus(time.time, complain, self._log.last, self._log.shares)
        self._log.subscribe(self.bus)
        self._somebody = asyncio.Event()
        self._tasks = Tasks(loop)
        self._departure = Departure(loop)
        self._places = Places()
        self._reread = asyncio.Event()
        self._spawner = MonitorSpawnerClient(
            self._given.control,
            loop,
            self._spawner_lost,
            on_news=self.bus.publish,
            on_reread=self._reread.set,
            on_take_over=lambda *told: self._postauths.take_over(*told),  # noqa: PLW0108 - it does not exist yet
        )
        self._log.keep(self._spawner, self._given.signer, self.bus, loop)

    def _set_up_keys(self) -> None:
        """The host keys, and the keys of people."""
        config = self._facts.config
        self._signer = HostKeySigner(self._host_keys, self._given.certificates)
        self._keyring = Keyring(
            config.login, config.keys, Path(), publish=self.bus.publish, read_file=self._spawner.read_keys
        )
        self._revoked = RevokedKeys(self._registry, self._keyring, self._loop)

    def _set_up_clients(self) -> None:
        """The logged-in clients, and the processes that serve them."""
        self._postauths = Postauths(
            self._spawner, self._registry, self._signer, self.bus.publish, self._loop, log=self._log.writing
        )
        self._client_services = ClientServices(
            people=self._keyring,
            in_force=self._in_force,
            publish=self.bus.publish,
            start=self._tasks.start,
            clock=time.time,
            loop=self._loop,
            previous=self._previous,
        )

    def _set_up_arrivals(self) -> None:
        """Incoming connections, up to their hand-over to the process of an account."""
        loop = self._loop
        self._awake = Awake(self._facts.started or time.time(), self._clocks, by_hand=self._facts.human)
        self._returning = Returning(
            self._registry,
            in_use=self._in_use,
            client_idle=lambda: quiet_after(self._in_force.config.idle),
            publish=self.bus.publish,
            soon=loop.call_soon,
            clock=time.time,
        )
        self._login_banner = LoginBanner(self._facts.config, self._awake, clock=time.time)
        self._preauths = Preauths(self._spawner, self._tasks.start, loop)
        self._guests = Guests(
            self._in_force,
            self._keyring,
            self._signer,
            self._registry,
            preauths=self._preauths,
            handing_over=HandingOver(
                self._spawner,
                self._postauths,
                self._registry,
                self._signer,
                self._client_services,
                banner=self._login_banner.text,
                receive=self._returning.receive,
                standing=self._log.required.standing,
                facts=handing_over.facts(self._facts.control, self._facts.timezone),
            ),
            steering=KeptSteering(has_aes=processor_has_aes()),
            publish=self.bus.publish,
            heard=self._awake.wake.spoke,
            complain=complain,
            start=self._tasks.start,
            clock=time.time,
            loop=loop,
        )
        self._listener = Listener(
            self._given.listening,
            self._guests.strangers,
            self._in_force,
            name=self._audit.name_connection,
            start=self._tasks.start,
            loop=loop,
        )

    def _set_up_lifetime(self) -> None:
        """The parts that decide whether the machine is needed, and those that stop the server."""
        self._life = Lifetime(
            self._facts,
            Surroundings(
                spawner=self._spawner,
                registry=self._registry,
                door=self._listener,
                departure=self._departure,
                awake=self._awake,
                returning=self._returning,
                start=self._tasks.start,
                sign_log=self._log.checkpoints.sign,
                clocks=self._clocks,
                loop=self._loop,
            ),
            self.bus,
        )
        self._reloading = Reloading(
            self._reread,
            take=self._spawner.take_config,
            apply=self._reconfigure,
            ask_keys=self._read_anew,
            reopen_log=self._log.keeper.reopen,
            publish=self.bus.publish,
        )

    def _set_up_answers(self) -> None:
        """What people and programs on the machine can ask."""
        reporter = Reporter(
            keyring=self._keyring,
            registry=self._registry,
            idle=self._life.watch.tracker,
            host_keys=self._host_keys,
            signer=self._signer,
            endpoints=self._endpoints,
            in_force=self._in_force,
            holds=self._life.holds,
            awake=self._awake,
            for_nobody=self._life.for_nobody,
            log=self._audit,
            origin=self._facts.origin,
            since=time.time(),
            clock=time.time,
            now=self._loop.time,
        )
        self._answering = Answering(reporter, self._in_force, self._given.owner, self.bus)
        if self._facts.control is not None:
            self._places.add("control", self._given.asking, self._answering.people)
        if self._facts.config.metrics.listen != "off":
            self._places.add("metrics", self._given.metrics, self._answering.programs(self._audit))

    # -- start --------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until it is time to leave; returns the exit code."""
        self._loop.set_exception_handler(self._unhandled)
        for asked, number in HANDED_ON.items():
            self._loop.add_signal_handler(number, self._departure.signal, asked.name)
        self._loop.add_signal_handler(signal.SIGHUP, self._spawner.ask_reload)
        self._subscribe()
        await self._go_on()
        self._let_in()
        async with asyncio.TaskGroup() as tasks:
            keyring = tasks.create_task(self._keyring.run(), name="keyring")
            await opening.first_answers(self._keyring, self._somebody, self._departure.wanted)
            self._say_that_it_is_open()
            self._places.start(tasks, self._spawner)
            running = [keyring, tasks.create_task(self._log.keeper.run(), name="log")]
            running.append(tasks.create_task(self._reloading.run(), name="reloading"))
            self._tasks.start(self._log.checkpoints.run(), "checkpoints")  # also during a stop
            reason = await self._until_stop(tasks)
            for task in running:
                task.cancel()
            self._places.stop()
            if reason is not None:
                await self._life.leaving.leave(reason)
        await self.close()
        return 0

    def _subscribe(self) -> None:
        """Subscribe the parts to the bus; they get each event in this order."""
        subscribers = (
            self._awake.observe,  # before the parts that ask it
            self._returning.observe,  # likewise
            self._life.watch.observe,
            self._life.for_nobody.observe,  # after the parts that it asks
            self._observe,
            self._revoked.observe,
            self._login_banner.observe,
            self._life.holds.observe,
            self._guests.observe,
        )
        for subscriber in subscribers:
            self.bus.subscribe(subscriber)

    async def _go_on(self) -> None:
        """Continue where an earlier monitor left off, if there was one: its clients stay connected."""
        if self._facts.generation == 1:
            # The first line of a start, because the numbers go on: whoever reads the log sees where one ends.
            self.bus.publish(opening.started(self._facts, self._endpoints, self._host_keys))
        else:  # clients may be waiting for the log, and no banner is shown before it
            self._write_log()
        self._life.holds.open()
        for crash in self._facts.crashes[-1:]:
            self.bus.publish(GatewayCrashed(pid=crash.pid, cause=crash.cause, sessions=crash.sessions))
        self._keyring.load_last_good()
        left_behind = self._registry.left_behind()
        self._audit.knows_connections(login.conn for login in left_behind)
        if self._facts.generation > 1:
            # The spawner passes on the processes that are left before it answers any request.
            with suppress(SpawnRefused):
                await self._spawner.sample_activity()
            self._postauths.adopt(left_behind, self._client_services)
            self._log.required.tell()
            for client in self._registry.clients:  # in the log they were never disconnected
                record = Record(0, time.time(), client.login.authenticated(client.seconds))
                self._awake.observe(record)
                self._returning.observe(record)
                self._life.watch.observe(record)

    def _let_in(self) -> None:
        """Let clients in, by the last good copies, too: they need not wait for sources of which nothing is known.

        The copies of key files count only if the files can't be read: `Looks.read_files` comes before every decision.
        """
        self._listener.resume()

    def _say_that_it_is_open(self) -> None:
        """Show who may log in, and write the log from now on."""
        if self._facts.generation == 1:
            opening.show_banner(self._facts, self._endpoints, self._host_keys, self._keyring)
            # The banner is to be the first thing on the screen, so earlier events are written only now.
            self._write_log()
        else:
            self.bus.publish(opening.started(self._facts, self._endpoints, self._host_keys))
        for event in opening.first_events(self._host_keys, self._given.certificates):
            self.bus.publish(event)

    def _write_log(self) -> None:
        self._log.begin(self.bus)
        self._postauths.acknowledge()

    # -- run ----------------------------------------------------------------------------------------------------

    def _observe(self, record: Record) -> None:
        if isinstance(record.event, MachineResumed):
            self._keyring.want_all()
        elif isinstance(record.event, ConnectionAuthenticated):
            self._somebody.set()

    def _reconfigure(self, config: Config) -> None:
        """Put in force what can change while we run (`core.reload`). Open connections have to be allowed by it, too."""
        self._in_force.replace(config)
        self._keyring.reconfigure(config.login, config.keys)
        self._guests.reconfigure()
        self._listener.reconfigure()
        self._life.reconfigure(config)
        self._returning.reconfigured()
        self._login_banner.reconfigure(config)
        self._answering.reconfigure()
        self._revoked.reconfigured(self._in_force.rules)
        self._log.required.reconfigured()

    def _read_anew(self) -> None:
        """Read again everything that may have changed although the configuration has not."""
        self._keyring.want_all()
        places, read, publish = self._facts.certificates, self._spawner.read_keys, self.bus.publish
        renewal = renew(self._signer, places, self._host_keys, read=read, publish=publish, now=time.time())
        self._tasks.start(renewal, "host certificates")

    async def _until_stop(self, tasks: asyncio.TaskGroup) -> StopReason | None:
        """Watch until it is time to leave, and return why; the machine may be suspended and resumed until then.

        None: a suspend failed, and the server has stopped already.
        """
        while True:
            watching = tasks.create_task(self._life.watch.run(), name="idle")
            wanted = self._departure.wanted
            reason = await wanted
            watching.cancel()  # first, because it might accept connections again
            self._departure.begin(wanted)
            if reason.name != "idle" or self._in_force.config.stop.action != "suspend":
                return reason
            if not await self._life.leaving.suspend(reason, self._departure.wanted):
                return None

    # -- stop ---------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Release what is still held, the last things first."""
        self._life.holds.close()
        await self._log.keeper.finish()
        await self._tasks.close()
        self._preauths.close()
        self._postauths.close()
        self._spawner.close()

    def _spawner_lost(self) -> None:
        self._places.give_up()  # the next server may be waiting for them
        self._departure.signal(SPAWNER_GONE)

    def _unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody caught, which is a bug of ours: log it, and go on with all sessions."""
        error = context.get("exception")
        text = f"{context.get('message')}: {error!r}" if error is not None else str(context.get("message"))
        self.bus.publish(InternalError(where="event loop", error=text))

    def _previous(self, who: Identity) -> PreviousLogin | None:
        return self._login_banner.previous(who)

    def _in_use(self) -> bool:
        return self._life.watch.tracker.in_use

    def _clocks(self) -> Clocks:
        return Clocks(self._loop.time(), time.time())
