"""What is done to the machine at a stop: hooks, then its end by suspend or by a command; each step told as an event.

Everything runs with the spawner's rights and is started by whoever is given as `Starter`. This module knows no clients
and no listener: `Doors` says what it may do about those.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, Protocol, TypeVar

import msgspec

from pyssh_gateway.config.types import Stop
from pyssh_gateway.core.idle.stopping import Clocks, away
from pyssh_gateway.events import AnyEvent, StopStep
from pyssh_gateway.machine import fly

API_SECONDS = 10.0
"""How long Fly's API may take to answer. It is asked once: whoever waits for the machine to stop pays meanwhile."""

LOOK_SECONDS = 0.25
"""How often it is looked whether the machine stood still. There is nothing to wait for: no event tells of it."""

SETTLE_SECONDS = 2.0
"""How long the door stays shut once Fly has accepted, so that nobody gets in just before the machine stands still. Fly
tries again for whoever is refused; it is over soon after a resume, whether that has been seen or not."""

FREEZE_SECONDS = 30.0
"""A machine that still runs so long after Fly has accepted is not going to be suspended."""

KILL_SECONDS = 1.0
"""How long a killed command may take to be gone."""

LAST_WORDS = 200
"""Characters that are kept of the last line of a command that failed."""

OK = fly.OK
"""The outcome of a step that was done; every other one is in words, for the log, and means that it was not."""

T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True):
    """How long what has to do with Fly may take, in seconds; see the constants."""

    api: float = API_SECONDS
    settle: float = SETTLE_SECONDS
    freeze: float = FREEZE_SECONDS


LIMITS = Limits()


class NotStarted(Exception):
    """A step could not be started; the text says why."""


class Job(Protocol):
    """A step that runs in a process of its own."""

    output: bytes
    """The last of what it has written."""

    @property
    def outcome(self) -> str | None:
        """How it ended: `OK`, or how it failed, in words; None while it runs."""

    async def wait(self) -> None:
        """Until something has changed: more output, or the end."""

    def kill(self) -> None:
        """End it and all that it has started."""

    def close(self) -> None:
        """Let go of it."""


class Starter(Protocol):
    """Starts steps. Both raise `NotStarted`."""

    async def command(self, index: int) -> Job:
        """The hook of that index; `stop.command` comes after the last hook."""

    async def suspend(self) -> Job:
        """The request to Fly's API; the job's output is the answer."""


class Doors(Protocol):
    """What suspending needs of the server."""

    def open(self) -> None:
        """Let clients in again."""

    @property
    def wanted(self) -> bool:
        """Whether somebody has come in since, or holds the machine."""


class Steps:
    """Takes the steps of one stop after the other. `clocks` tells both clocks, the steady one being the loop's."""

    def __init__(
        self,
        settings: Stop,
        starter: Starter,
        *,
        publish: Callable[[AnyEvent], None],
        clocks: Callable[[], Clocks],
        limits: Limits = LIMITS,
    ) -> None:
        self._settings = settings
        self._starter = starter
        self._publish = publish
        self._clocks = clocks
        self._limits = limits
        self._latest = float("inf")
        self._running: asyncio.Timeout | None = None

    def reconfigure(self, settings: Stop) -> None:
        """Go by other settings from now on; not while a stop is under way."""
        self._settings = settings

    def hurry(self, seconds: float) -> None:
        """The platform wants us gone: no step may take longer than `seconds` from now on, all together."""
        self._latest = min(self._latest, self._now + seconds)
        running = self._running
        if running is not None and not running.expired() and (running.when() or 0.0) > self._latest:
            running.reschedule(self._latest)

    async def run_hooks(self, seconds: float) -> None:
        """Run the hooks one after the other, all of them within `seconds`; none keeps the next from being run."""
        deadline = self._now + seconds
        for index, hook in enumerate(self._settings.hooks):
            await self._run(f"hook {index + 1} ({_program(hook)})", index, deadline)

    async def run_command(self) -> None:
        """Run `stop.command`, which has as long as the hooks had."""
        index, command = len(self._settings.hooks), self._settings.command
        await self._run(f"command ({_program(command)})", index, self._now + self._settings.hook_timeout)

    async def suspend(self, doors: Doors, interrupted: asyncio.Future[T]) -> float | None:
        """Have the machine suspended; returns, after it is back, for how many seconds it was away. None: it was not.

        The door is shut when this is called and open when it has been away. Clocks may not show that (a snapshot's go
        on where they were), so somebody who comes in counts as well: that is what wakes a machine. So does a hold:
        from the open door on they are granted again. `interrupted` ends the waiting: None then.
        """
        began, latest = self._now, self._now + self._limits.api
        outcome, gone = await self._ask(latest, interrupted)
        self._tell("suspend", outcome, began)
        if outcome != OK:
            return None
        back = gone or await self._stand_still(doors, interrupted)
        if back is not None:
            doors.open()
        return back

    # -- a command ----------------------------------------------------------------------------------------------

    async def _run(self, step: str, index: int, deadline: float) -> None:
        began = self._now
        if began >= min(deadline, self._latest):
            self._tell(step, "not run: there is no time left", began)
            return
        try:
            # Not under the deadline: it has one of its own, and what has been started in vain could not be killed.
            job = await self._starter.command(index)
        except NotStarted as error:
            self._tell(step, str(error), began)
            return
        try:
            outcome = await self._end_of(job, deadline)
        finally:
            job.close()
        self._tell(step, outcome, began)

    async def _end_of(self, job: Job, deadline: float) -> str:
        """How `job` ended, which is "killed" at the deadline."""
        try:
            async with asyncio.timeout_at(min(deadline, self._latest)) as self._running:
                return await _outcome(job)
        except TimeoutError:
            pass
        finally:
            self._running = None
        job.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await _outcome(job)
        return "killed: it did not end in time"

    # -- Fly ----------------------------------------------------------------------------------------------------

    async def _ask(self, latest: float, interrupted: asyncio.Future[T]) -> tuple[str, float]:
        """Send the request. Returns how that went, and for how long the machine stood still meanwhile."""
        try:
            job = await self._starter.suspend()
        except NotStarted as error:
            return str(error), 0.0
        gone = 0.0
        try:
            while (verdict := fly.judge(job.output, ended=job.outcome is not None)) is None and not gone:
                if self._now >= latest or interrupted.done():
                    job.kill()
                    return "no answer in time", 0.0
                gone = await self._look(job.wait)
            if verdict is None:  # the answer may never come: the machine has been away, and its connection is gone
                job.kill()
                return OK, gone
        finally:
            job.close()
        if verdict.outcome != "accepted" and job.outcome not in {None, OK}:  # it could not even ask
            return _last_line(job.output) or str(job.outcome), 0.0
        return verdict.reason, 0.0

    async def _stand_still(self, doors: Doors, interrupted: asyncio.Future[T]) -> float | None:
        """Wait for the machine to stand still and be back; None if it does not."""
        began = self._now
        is_open = False
        while self._now < began + self._limits.freeze and not interrupted.done():
            gone = await self._look(lambda: asyncio.wait((interrupted,)))
            if gone or (is_open and doors.wanted):
                return gone
            if not is_open and self._now >= began + self._limits.settle:
                doors.open()
                is_open = True
        if not interrupted.done():
            self._tell("suspend", "accepted, but the machine was not suspended", began)
        return None

    async def _look(self, change: Callable[[], Awaitable[object]]) -> float:
        """Sleep for a moment, or until there is a change; returns for how long the machine stood still meanwhile."""
        before = self._clocks()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await change()
        return away(before, self._clocks(), LOOK_SECONDS)

    @property
    def _now(self) -> float:
        return self._clocks().steady

    def _tell(self, step: str, outcome: str, began: float) -> None:
        result: Literal["done", "failed"] = "done" if outcome == OK else "failed"
        self._publish(StopStep(step=step, outcome=outcome, result=result, seconds=round(self._now - began, 3)))


async def _outcome(job: Job) -> str:
    """How `job` ended, with the last line that it wrote if it failed."""
    while (outcome := job.outcome) is None:
        await job.wait()
    if outcome == OK:
        return outcome
    words = _last_line(job.output)
    return f"{outcome}: {words}" if words else outcome


def _last_line(output: bytes) -> str:
    return output.rstrip().rpartition(b"\n")[2].decode(errors="replace").strip()[-LAST_WORDS:]


def _program(command: str) -> str:
    """What a command is called in the log: its first word. The others, and variables before it, may be secrets."""
    return next((word for word in command.split() if "=" not in word), "a command")
