"""Keeps the holds: grants and ends them, watches their processes, and has the next monitor take them over.

`core.idle.holds` decides what may be held. The idle tracker keeps the machine up for a hold; it learns of holds from
the bus, like all subscribers.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core import control
from pyssh_gateway.core.idle import holds
from pyssh_gateway.core.idle.holds import Hold, NotGranted, Wish
from pyssh_gateway.events import AnyEvent, HoldEnded, HoldStarted, MachineResumed, Record
from pyssh_gateway.monitor.reporting.control import Asker, Unanswerable
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("holds.json")
"""In the working directory, which is the monitor's own."""

ID_BYTES = 3
"""Six hexadecimal digits, short enough to type. Of at most 128 holds two hardly ever get the same; then another id is
taken."""

TOO_LATE = "the machine is about to sleep or to stop: ask again when it is back, or connect to wake it"

EXPIRED, COMMAND_ENDED = "expired", "the command has ended"


class Holds:
    """All holds. `limit` is the longest time that one may last, in seconds; `clock` is Unix time.

    `fresh`: this is the first monitor since the machine or the server was started, so holds that an earlier one has
    written down are over. `going` says whether the machine is about to sleep or to stop, and can't be kept up any more.
    """

    def __init__(
        self,
        *,
        limit: float,
        fresh: bool,
        publish: Callable[[AnyEvent], None],
        clock: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
        state: Path = STATE_FILE,
        going: Callable[[], bool] = lambda: False,
    ) -> None:
        self._limit = limit
        self._fresh = fresh
        self._publish = publish
        self._clock = clock
        self._loop = loop
        self._state = state
        self._going = going
        self._holds: dict[str, Hold] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._processes: dict[str, int] = {}

    # -- life ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take over the holds of an earlier monitor that crashed. To be called when all subscribers are on the bus."""
        found = (
            ()
            if self._fresh
            else holds.decode(read_state(self._state, holds.MAX_STATE_BYTES), limit=self._limit, now=self._clock())
        )
        for hold in found:
            self._holds[hold.id] = hold
            if hold.until <= self._clock():
                self._end(hold, EXPIRED)
            elif hold.pid and not self._watch_again(hold):
                self._end(hold, COMMAND_ENDED)
            else:
                self._start(hold)
        if self._fresh:
            with suppress(OSError):
                self._state.unlink()

    def limit_to(self, seconds: float) -> None:
        """Grant no hold that is longer from now on."""
        self._limit = seconds

    def close(self) -> None:
        """Release timers and descriptors; the file stays."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for id_ in tuple(self._processes):
            self._unwatch(id_)

    def observe(self, record: Record) -> None:
        """Set the timers after a suspend: ends are times of day, and the loop's clock has stood still."""
        if isinstance(record.event, MachineResumed):
            # Not at once: every subscriber is to have seen this event first.
            self._loop.call_soon(self._set_timers)

    # -- what is asked ------------------------------------------------------------------------------------------

    def hold(self, request: control.HoldUp, asker: Asker) -> control.HeldReply:
        """Hold the machine up. Raises Unanswerable."""
        if self._going():  # we promise nothing that can't be kept any more
            raise Unanswerable(TOO_LATE)
        pid, started = request.pid, request.started
        if request.process:
            pid, started = asker.pid, start_of(asker.pid) or 0
        wish = Wish(asker.uid, asker.user, request.reason, request.seconds, pid, started)
        try:
            granted, remark = self._grant(wish, watched=request.process or bool(request.pid), asker=asker)
        except NotGranted as refusal:
            raise Unanswerable(str(refusal)) from None
        return control.HeldReply(report_of(granted), remark)

    def hold_process(self, wish: Wish) -> str | None:
        """Hold for a process that asks for it by PYSSH_HOLD; returns the hold's id, None if there can be none.

        A process that is held already keeps its hold.
        """
        for hold in self._holds.values():
            if (hold.pid, hold.started) == (wish.pid, wish.started):
                return hold.id
        if self._going():
            return None
        try:
            granted, _ = self._grant(wish, watched=True, asker=None)
        except NotGranted:
            return None
        return granted.id

    def _grant(self, wish: Wish, *, watched: bool, asker: Asker | None) -> tuple[Hold, str]:
        """Begin a hold; returns it, with a remark. Raises NotGranted. `asker` None: the server itself asks.

        `watched`: until the process ends. One that asks for itself is alive; another one may have ended, and its number
        may have passed on.
        """
        id_ = self._new_id()
        try:
            if watched:
                self._watch(id_, wish.pid)
                if asker is None or wish.pid != asker.pid:
                    _check(wish, asker)  # only now that a descriptor holds the process
            held = tuple(self._holds.values())
            granted = holds.grant(wish, held, limit=self._limit, now=self._clock(), id_=id_)
        except NotGranted:
            self._unwatch(id_)
            raise
        self._holds[id_] = granted
        remark = self._write()  # before the reply: a hold that we have confirmed has to survive our crash
        self._start(granted)
        return granted, remark

    def release(self, request: control.Release, asker: Asker) -> control.ReleasedReply:
        """End holds before their time. Raises Unanswerable."""
        try:
            chosen = holds.to_release(
                tuple(self._holds.values()),
                uid=asker.uid,
                any_account=asker.may_ask_everything,
                hold=request.hold,
                every=request.every,
            )
        except NotGranted as refusal:
            raise Unanswerable(str(refusal)) from None
        for hold in chosen:
            self._end(hold, "released" if hold.uid == asker.uid else f"released by {asker.user}")
        return control.ReleasedReply(tuple(report_of(hold) for hold in chosen))

    def reports(self) -> tuple[control.HoldReport, ...]:
        """Every hold."""
        return tuple(report_of(hold) for hold in self._holds.values())

    # -- their lives --------------------------------------------------------------------------------------------

    def _start(self, hold: Hold) -> None:
        self._set_timer(hold)
        seconds = round(hold.until - self._clock(), 3)
        self._publish(HoldStarted(hold=hold.id, user=hold.user, seconds=seconds, reason=hold.reason, pid=hold.pid))

    def _end(self, hold: Hold, why: str) -> None:
        del self._holds[hold.id]
        timer = self._timers.pop(hold.id, None)
        if timer is not None:
            timer.cancel()
        self._unwatch(hold.id)
        self._write()
        self._publish(HoldEnded(hold=hold.id, user=hold.user, why=why))

    def _set_timer(self, hold: Hold) -> None:
        earlier = self._timers.get(hold.id)
        if earlier is not None:
            earlier.cancel()
        left = max(0.0, hold.until - self._clock())
        self._timers[hold.id] = self._loop.call_later(left, self._end, hold, EXPIRED)

    def _set_timers(self) -> None:
        for hold in self._holds.values():
            self._set_timer(hold)

    def _write(self) -> str:
        """Write the holds down; returns what went wrong. A hold that can't be written down is still granted."""
        try:
            write_state(self._state, holds.encode(tuple(self._holds.values())))
        except OSError as error:
            return f"the hold could not be written down ({error.strerror}): a crash of the server would end it"
        return ""

    def _new_id(self) -> str:
        while (id_ := secrets.token_hex(ID_BYTES)) in self._holds:
            pass
        return id_

    # -- processes ----------------------------------------------------------------------------------------------

    def _watch(self, id_: str, pid: int) -> None:
        """Be told when the process ends. Raises NotGranted."""
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            raise NotGranted(f"process {pid} has ended already") from None
        except OSError as error:
            raise NotGranted(
                f"process {pid} can't be watched on this machine ({error.strerror}): hold for a time instead"
            ) from None
        self._processes[id_] = descriptor
        # A pidfd is readable from the end of its process on (pidfd_open(2)).
        self._loop.add_reader(descriptor, self._process_ended, id_)

    def _watch_again(self, hold: Hold) -> bool:
        """Whether the process of a hold that was taken over is still there, and is watched."""
        try:
            self._watch(hold.id, hold.pid)
        except NotGranted:
            return False
        # Only now that a descriptor holds the process: before, its number could have passed on to another one.
        return holds.is_same_process(hold, start_of(hold.pid))

    def _unwatch(self, id_: str) -> None:
        descriptor = self._processes.pop(id_, None)
        if descriptor is not None:
            self._loop.remove_reader(descriptor)
            os.close(descriptor)

    def _process_ended(self, id_: str) -> None:
        self._end(self._holds[id_], COMMAND_ENDED)


def report_of(hold: Hold) -> control.HoldReport:
    """What others are told of a hold."""
    return control.HoldReport(hold.id, hold.user, hold.reason, hold.since, hold.until, hold.pid)


def _check(wish: Wish, asker: Asker | None) -> None:
    """Make sure that the process of `wish` is the one that is meant, and that `asker` may name it. Raises NotGranted.

    A descriptor has to hold the process: otherwise its number could pass on to another one after this.
    """
    if not wish.started or start_of(wish.pid) != wish.started:
        raise NotGranted(f"there is no process {wish.pid}")
    if asker is not None and not asker.may_ask_everything and asker.uid not in uids_of(wish.pid):
        raise NotGranted(f"process {wish.pid} is not one of {asker.user}'s")


def start_of(pid: int) -> int | None:
    """When the process began, in clock ticks since the boot (proc_pid_stat(5), field 22); None if that can't be seen.

    It distinguishes a process from a later one with the same number.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
        # The second field is the program's name in parentheses, which may contain any character.
        return int(text.rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def uids_of(pid: int) -> frozenset[int]:
    """The process's real and its saved uid, by which kill(2) decides whose it is; none if it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().splitlines()
        _, real, _, saved, _ = next(line for line in lines if line.startswith(b"Uid:")).split()
        return frozenset((int(real), int(saved)))
    except (OSError, ValueError, StopIteration):
        return frozenset()
