"""Watches terminals that sessions have left behind, as mosh does, while nothing else keeps the machine up.

`core.idle.terminals` decides when somebody counts as being at one. The spawner looks at the processes; any account can
look at terminals and login records.
"""

import struct
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle import terminals
from pyssh_gateway.core.idle.background import Sample, interval
from pyssh_gateway.core.idle.terminals import Terminal
from pyssh_gateway.core.idle.tracker import IdleTracker, Kind
from pyssh_gateway.core.idle.usage import quiet_after
from pyssh_gateway.events import AnyEvent, TerminalQuiet, TerminalUsed
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.watches.others import Others
from pyssh_gateway.system import utmp
from pyssh_gateway.system.accounts import shown_name

OTHERS: frozenset[Kind] = frozenset({"connection", "hold", "schedule", "background"})
"""Reasons other than somebody at a terminal that was left behind."""

SHOWN = 3
"""How many terminals are named."""


class TerminalWatch:
    """Samples with `sample`, and publishes `TerminalUsed` and `TerminalQuiet`.

    `now` is the loop's clock, `clock` Unix time. `ours` are the terminals of open sessions, as paths: their use is
    measured by their connections. `records` is the utmp file.
    """

    def __init__(
        self,
        settings: config.Idle,
        timeout: float,
        *,
        tracker: IdleTracker,
        sample: Callable[[], Awaitable[Sample]],
        ours: Callable[[], Iterable[str]],
        publish: Callable[[AnyEvent], None],
        now: Callable[[], float],
        clock: Callable[[], float],
        records: str = utmp.UTMP,
    ) -> None:
        self._timeout = timeout
        self._client_idle = quiet_after(settings)
        self._tracker = tracker
        self._sample = sample
        self._ours = ours
        self._publish = publish
        self._now = now
        self._clock = clock
        self._records = records
        self._others = Others(tracker, OTHERS, now)
        self._was_on = any(reason.kind == "connection" for reason in tracker.reasons(now()))
        self._since = clock()
        self._what = ""

    def observe(self) -> None:
        """The reasons for which the machine is up have changed."""
        kinds = {reason.kind for reason in self._tracker.reasons(self._now())}
        if self._was_on and "connection" not in kinds:
            self._since = self._clock()
        self._was_on = "connection" in kinds
        self._others.observe()

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self._others.until_gone()
            await self._watch()

    async def look(self) -> None:
        """Look now, and publish it if somebody has come to a terminal, or has left the last one."""
        try:
            sample = await self._sample()
        except SpawnRefused:  # the spawner is busy, or gone, which is noticed elsewhere: nothing changes
            return
        used = terminals.used(
            self._terminals(sample),
            now=self._clock(),
            since=self._since,
            timeout=self._timeout,
            client_idle=self._client_idle,
        )
        before, self._what = self._what, _described(used)
        if self._what and self._what != before:
            self._publish(TerminalUsed(what=self._what))
        elif before and not self._what:
            self._publish(TerminalQuiet(what=before))

    async def _watch(self) -> None:
        """Watch while nothing else keeps the machine up: after an interval, and then for as long as a terminal is used.

        A terminal that comes into use later is noticed at the last look before the stop.
        """
        while True:
            next_look = self._now() + interval(self._timeout)
            while self._now() < next_look:
                await self._others.until_change(next_look)
                if self._others.came:
                    return self.forget()
            await self.look()
            while not self._what:
                await self._others.until_change(None)
                if self._others.came:
                    return None

    def forget(self) -> None:
        """Report no use any more: something else keeps the machine up, or there are other settings."""
        before, self._what = self._what, ""
        if before:
            self._publish(TerminalQuiet(what=before))

    def _terminals(self, sample: Sample) -> list[Terminal]:
        lines = terminals.left_behind(sample, (path.removeprefix("/dev/") for path in self._ours()))
        if not lines:
            return []
        connected = terminals.connected_by_mosh(_hosts(self._records), sample)
        found = []
        for line, (uid, holder) in lines.items():
            with suppress(OSError):  # it is gone
                device = Path(f"/dev/{line}").stat()
                if device.st_uid == uid:  # otherwise a container's terminal has the number
                    found.append(Terminal(line, uid, holder, device.st_atime, device.st_ctime, line in connected))
        return found


def _hosts(path: str) -> dict[str, str]:
    """The hosts of the login records, by line; none where there are no records."""
    try:
        return utmp.hosts(Path(path))
    except (OSError, struct.error):
        return {}


def _described(used: Iterable[Terminal]) -> str:
    """`dev is at pts/3 (mosh-server)`."""
    return ", ".join(
        f"{shown_name(terminal.uid)} is at {terminal.line} ({terminal.holder})" for terminal in list(used)[:SHOWN]
    )
