"""Acts on the idle tracker: feeds it, sleeps until its next deadline, warns, looks a last time, and stops.

Only two things are polled, whether clients are used and whether what sessions have left behind works, and those only if
`idle.client_idle` and `idle.background` ask for them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.background import Sample, busy_terminals
from pyssh_gateway.core.idle.holds import Wish
from pyssh_gateway.core.idle.tracker import IdleTracker, Stay, Stop, Tick, Warn, policy_of
from pyssh_gateway.core.idle.usage import STIRRING_SECONDS, Usage, quiet_after
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    IdleReached,
    IdleTick,
    MachineResumed,
    Record,
)
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.lifetime.door import Door
from pyssh_gateway.monitor.lifetime.elsewhere import Elsewhere
from pyssh_gateway.monitor.lifetime.hearing import ANSWER_SECONDS, LAST_ROUNDS, heard_at_once
from pyssh_gateway.monitor.lifetime.watches.asked_for import AskedFor
from pyssh_gateway.monitor.lifetime.watches.background import BackgroundWatch
from pyssh_gateway.monitor.lifetime.watches.recording import Recording
from pyssh_gateway.monitor.lifetime.watches.schedule import watch_schedule
from pyssh_gateway.monitor.lifetime.watches.terminals import TerminalWatch

LAST_LOOK_SECONDS = 0.25
"""How long a stop waits for clients that are just logging in. They get in, or are refused cleanly; scanners, which
never log in, can delay the stop by no more than this."""

CLOCK_JUMP_SECONDS = 5.0
"""Clocks that have moved apart by more than this were not adjusted: the machine was suspended, or its clock set."""

OLD_LOOKS = 3
"""This many windows after a sample of the processes, what they have used since says nothing about the last window."""


class IdleWatch:
    """Owns the tracker. `leave` is called when the machine may stop; `now` is the loop's clock, `clock` Unix time.

    `wake` knows of the machine's start; `sample` tells what the processes of sessions have used so far; `on_probation`
    names the clients that may have come back by themselves; `hold` begins a hold for a process that asks for it
    (`Holds.hold_process`); `elsewhere` gets each warning, too.
    """

    def __init__(
        self,
        settings: config.Idle,
        *,
        wake: Wake,
        registry: Clients,
        door: Door,
        publish: Callable[[AnyEvent], None],
        leave: Callable[[str], None],
        sample: Callable[[], Awaitable[Sample]],
        hold: Callable[[Wish], str | None],
        on_probation: Callable[[], frozenset[str]] = frozenset,
        now: Callable[[], float],
        clock: Callable[[], float],
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._elsewhere = elsewhere
        self._settings = self._next_settings = settings
        self._registry = registry
        self._door = door
        self._publish = publish
        self._leave = leave
        self._now = now
        self._clock = clock
        self.tracker = IdleTracker(policy_of(settings), wake, now())
        self._reasons = self.tracker.reasons(now())
        self._changed = asyncio.Event()
        self._on_probation = on_probation
        self._came_back = asyncio.Event()
        self._sample = sample
        self._hold = hold
        self._looked_at: Sample | None = None
        self._at_work: frozenset[str] = frozenset()
        self._skew = clock() - now()
        self._jumped = 0.0
        self._usage: Usage | None = None
        self._looking = asyncio.Lock()
        self._put_off = 0
        self._background: BackgroundWatch | None = None
        self._terminals: TerminalWatch | None = None
        self._asked_for: AskedFor | None = None
        self._recording = Recording(
            settings, registry=registry, tracker=self.tracker, sample=sample, publish=publish, now=now, clock=clock
        )
        self._set_up_watches()

    def _set_up_watches(self) -> None:
        """Make the watches for what no event reports, if the settings ask for them."""
        settings = self._settings
        after = quiet_after(settings)
        self._usage = Usage(after) if after is not None else None
        self._background = None
        if settings.background == "cpu" and settings.timeout is not None:
            self._background = BackgroundWatch(
                settings,
                settings.timeout,
                tracker=self.tracker,
                sample=self._sample,
                publish=self._publish,
                now=self._now,
            )
        self._terminals = self._asked_for = None
        if settings.timeout is not None:
            self._asked_for = AskedFor(
                settings.timeout,
                settings.hold_max,
                tracker=self.tracker,
                sample=self._sample,
                hold=self._hold,
                now=self._now,
            )
            self._terminals = TerminalWatch(
                settings,
                settings.timeout,
                tracker=self.tracker,
                sample=self._sample,
                ours=self._terminals_of_sessions,
                publish=self._publish,
                now=self._now,
                clock=self._clock,
            )

    def _terminals_of_sessions(self) -> list[str]:
        """The terminals of sessions; their use is measured by their traffic."""
        return [session.tty for session in self._registry.sessions]

    def reconfigure(self, settings: config.Idle) -> None:
        """Use other settings from now on, or from the next `run` on if nothing is watched now."""
        self._next_settings = settings
        self._recording.reconfigure(settings)
        self._changed.set()

    def _adopt(self) -> None:
        """Put the settings in force that were given last."""
        before, settings = self._settings, self._next_settings
        if settings == before:
            return
        asked_for = self._asked_for
        self._settings = settings
        same_usage = quiet_after(settings) == quiet_after(before)
        usage = self._usage if same_usage else None
        if self._terminals is not None:
            self._terminals.forget()  # nobody else would report that its reason ends; the new watch looks again
        self._set_up_watches()
        if usage is not None:  # it knows which clients are quiet, and so which are used again
            self._usage = usage
        if (settings.timeout, settings.hold_max) == (before.timeout, before.hold_max):
            self._asked_for = asked_for  # it knows which processes may not hold again
        self.tracker.follow(
            policy_of(settings),
            usage=same_usage,
            schedule=(settings.schedule, settings.timezone) == (before.schedule, before.timezone),
            background=self._background is not None,
            now=self._now(),
        )

    def observe(self, record: Record) -> None:
        """An event: it may change whether the machine is needed."""
        self._see_clock_jump()  # first, because this event goes by the clock as it is now
        match record.event:
            case ConnectionAuthenticated(probation=float()):
                self._came_back.set()
            case ClientUsed(conn=conn) if self._usage is not None:
                self._usage.count_as_used(conn, self._now())
        self.tracker.observe(record.event, self._now())
        # Compared with those after the last event: what the tracker asks, such as `wake`, has seen this one already.
        before, self._reasons = self._reasons, self.tracker.reasons(self._now())
        changed = self._reasons != before
        if self._asked_for is not None:
            self._asked_for.observe(record.event, changed=changed)
        if changed:
            self._changed.set()
            if self._background is not None:
                self._background.observe()
            if self._terminals is not None:
                self._terminals.observe()
        self._recording.observe(record)

    async def run(self) -> None:
        """Watch until the machine may stop."""
        stop = False
        while not stop:
            self._adopt()
            stop = await self._run_watches()

    async def _run_watches(self) -> bool:
        """Watch by the settings in force. True: the machine may stop; False: there are other settings."""
        async with asyncio.TaskGroup() as watches:
            helpers = [watches.create_task(self._recording.run(), name="recording")]
            if self._usage is not None:
                helpers.append(watches.create_task(self._watch_usage(self._usage), name="usage"))
            if self._settings.schedule:
                helpers.append(
                    watches.create_task(
                        watch_schedule(self._settings, publish=self._publish, clock=self._clock), name="schedule"
                    )
                )
            if self._background is not None:
                helpers.append(watches.create_task(self._background.run(), name="background"))
            if self._terminals is not None:
                helpers.append(watches.create_task(self._terminals.run(), name="terminals"))
            if self._asked_for is not None:
                helpers.append(watches.create_task(self._asked_for.run(), name="asked-for"))
            stop = await self._watch()
            for helper in helpers:
                helper.cancel()
        return stop

    async def _watch(self) -> bool:
        """Sleep until the tracker's next deadline or change. True: the machine may stop; False: other settings."""
        while self._next_settings == self._settings:
            self._changed.clear()
            self._tell_clock_jump()
            match self.tracker.poll(self._now()):
                case Tick(idle=idle, remaining=remaining):
                    self._publish(IdleTick(idle=idle, remaining=remaining, message=f"Idle for {idle}s"))
                case Warn(seconds=seconds):
                    await self._look_at_use()  # a user who has just come back is not told that nobody is here
                    if not self.tracker.in_use:
                        await self._warn(seconds)
                case Stay(until=until):
                    self._put_off = 0
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(until):
                            await self._changed.wait()
                case Stop(idle=idle, why=why):
                    if await self._last_look(idle, why):
                        return True
        return False

    def resumed(self, seconds: float) -> None:
        """The machine was suspended as we asked, and is back after `seconds`, which our clock may have seen."""
        self._take_clock_jump()
        self._publish(MachineResumed(seconds=round(seconds, 1)))

    def _tell_clock_jump(self) -> None:
        jumped = self._take_clock_jump()
        if jumped:
            self._publish(MachineResumed(seconds=round(jumped, 1)))

    def _take_clock_jump(self) -> float:
        """How many seconds the time of day has jumped since the last call; 0: it was adjusted at most."""
        self._see_clock_jump()
        self._skew = self._clock() - self._now()
        jumped, self._jumped = self._jumped, 0.0
        return jumped

    def _see_clock_jump(self) -> None:
        """Move the tracker's ends, if the time of day that they go by has jumped. Its clock may have stood still."""
        skew = self._clock() - self._now()
        jumped = skew - self._skew
        if abs(jumped) > CLOCK_JUMP_SECONDS:
            self._skew = skew
            self._jumped += jumped
            self.tracker.fall_behind(jumped, self._now())
            self._changed.set()
            if self._background is not None:
                self._background.observe()

    async def _warn(self, seconds: float) -> None:
        text = f"pyssh-gateway: nobody is using this machine; it stops in {seconds:.0f} s. Press a key to keep it up."
        quiet = self.tracker.quiet_connections
        people = dict.fromkeys(client.identity.person for client in self._registry.clients if client.id in quiet)
        self._registry.announce(text)
        if self._elsewhere is not None:
            await self._elsewhere.warn(text, seconds, tuple(people))

    def _is_due(self) -> bool:
        """Whether the machine may still stop: somebody may have come meanwhile, be waited for, or have left again."""
        return not self.tracker.in_use and not self.tracker.stops_in(self._now())

    async def _last_look(self, idle: float, why: str) -> bool:
        """Refuse connections, and see whether somebody is just logging in. True: nobody is, the machine may stop.

        A process that has not answered may have a client that is used, so it is waited for.
        """
        unheard = await self._look_at_use(ANSWER_SECONDS)
        if self._terminals is not None:
            await self._terminals.look()
        if self._asked_for is not None:
            await self._asked_for.look()
        if unheard or not self._is_due():
            return False
        self._door.stop()
        await asyncio.sleep(0)  # a connection accepted in this turn of the loop is counted in the next
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK_SECONDS):
                while self._door.unauthenticated and self._is_due():
                    await self._changed.wait()
                    self._changed.clear()
        heard = await self._hear_all()  # logged-in clients may have come back in that time
        # From here to `_leave` nothing awaits: from here on nobody can log in.
        if not heard and self._put_off < LAST_ROUNDS:
            self._put_off += 1
            self._door.resume()
            return False
        if not self._is_due():
            self._door.resume()
            self._publish(IdleReached(idle=round(idle, 3), outcome="stay", message="Somebody has just logged in"))
            return False
        self._publish(IdleReached(idle=round(idle, 3), outcome="stop", message="Stopping machine. Goodbye!"))
        self._leave(why)
        return True

    # -- reasons that no event reports --------------------------------------------------------------------------

    async def _watch_usage(self, usage: Usage) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(usage.next_window(self._on_probation())):
                    await self._came_back.wait()
            self._came_back.clear()
            await self._look_at_use()

    async def _look_at_use(self, seconds: float | None = None) -> frozenset[str]:
        """Ask the processes what their clients have done; returns the clients whose process has not answered in time.

        `seconds` is how long to wait for the answers, if not for the usual time.
        """
        if self._usage is None:
            return frozenset()
        async with self._looking:  # two looks at once would each take a part of the use from the other
            unheard = await self._registry.look(seconds)
            await self._look_at_work()
            self._look_at_usage()
        return unheard

    async def _hear_all(self) -> bool:
        """Ask the processes a last time. False: not all have answered."""
        if self._usage is None:
            return True
        if self._looking.locked():
            return False
        async with self._looking:
            heard = await heard_at_once(self._registry.look, self._now)
            self._look_at_usage()  # at the answers that have come, also if one has not
        return heard

    async def _look_at_work(self) -> None:
        """See whether programs work at the terminals that have been written to; sample the processes only then."""
        self._at_work = frozenset()
        if self._usage is None:
            return
        clients = {client.id: client for client in self._registry.clients}
        shown = self._usage.shows({conn: client.counters for conn, client in clients.items()})
        if not shown:
            return
        before = self._looked_at
        with suppress(SpawnRefused):  # without a sample it does not count as use
            self._looked_at = await self._sample()
        if before is None or self._looked_at is None or self._looked_at.at - before.at > OLD_LOOKS * self._usage.window:
            return  # only the next window can be judged
        busy = busy_terminals(before, self._looked_at, self._settings.background_cpu)
        self._at_work = frozenset(
            conn
            for conn in shown
            for session in clients[conn].sessions.values()
            if session.tty.removeprefix("/dev/") in busy
        )

    def _look_at_usage(self) -> None:
        if self._usage is None:
            return
        clients = {client.id: client for client in self._registry.clients}
        counters = {conn: client.counters for conn, client in clients.items()}
        quiet, used = self._usage.look(counters, self._now(), self._at_work, self._on_probation())
        self._at_work = frozenset()
        self._recording.looked(self._usage)
        for conn in self._usage.stirring:
            self.tracker.wait_longer(conn, self._now() + STIRRING_SECONDS)
        for conn, seconds in quiet:
            client = clients[conn]
            self._publish(ClientQuiet(conn=conn, user=client.user, seconds=round(seconds, 1), identity=client.identity))
        for conn in used:
            client = clients[conn]
            self._publish(ClientUsed(conn=conn, user=client.user, identity=client.identity))
