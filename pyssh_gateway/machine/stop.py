"""Stops the machine: runs the hooks, then suspends it or runs a command, and publishes each step as an event.

The steps run with the spawner's rights, and a `Starter` starts them. This module does not know clients or the listener:
`Doors` is what it may do about them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, Protocol, TypeVar

import msgspec

from pyssh_gateway.config.types import Stop
from pyssh_gateway.core.idle.stopping import Clocks, away
from pyssh_gateway.core.idle.warnings import name_of
from pyssh_gateway.events import AnyEvent, StopStep
from pyssh_gateway.machine import fly

API_SECONDS = 10.0
"""How long Fly's API may take to answer. It is asked only once, because the machine costs money until it stops."""

LOOK_SECONDS = 0.25
"""How often we check whether the machine was suspended. This has to be polled: no event reports a suspend."""

SETTLE_SECONDS = 2.0
"""How long connections are refused once Fly has accepted, so that nobody gets in just before the suspend. Fly tries
refused connections again. This time ends soon after a resume, even if the resume was not noticed."""

FREEZE_SECONDS = 30.0
"""A machine that still runs this long after Fly has accepted is not going to be suspended."""

KILL_SECONDS = 1.0
"""How long a killed command may take to exit."""

LAST_WORDS = 200
"""How many characters of the last line of a failed command are kept."""

OK = fly.OK
"""The outcome of a step that succeeded. Any other outcome is a text for the log, and means that the step failed."""

KILLED = "killed: it did not end in time"

T = TypeVar("T")


class Limits(msgspec.Struct, frozen=True):
    """How long the steps that involve Fly may take, in seconds; see the constants."""

    api: float = API_SECONDS
    settle: float = SETTLE_SECONDS
    freeze: float = FREEZE_SECONDS


LIMITS = Limits()


class NotStarted(Exception):
    """A step could not be started; the text says why."""


class Job(Protocol):
    """A step that runs in a process of its own."""

    output: bytes
    """The end of its output."""

    @property
    def outcome(self) -> str | None:
        """How it ended: `OK`, or how it failed, in words; None while it runs."""

    async def wait(self) -> None:
        """Wait for a change: more output, or the end."""

    def kill(self) -> None:
        """End it and all processes that it has started."""

    def close(self) -> None:
        """Release its resources."""


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
        """Whether a client has connected, or a hold was granted, since the suspend began."""


class Steps:
    """Runs the steps of one stop after the other. `clocks` reads both clocks; the steady one is the loop's."""

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
        """Use other settings from now on; not while a stop is under way."""
        self._settings = settings

    def hurry(self, seconds: float) -> None:
        """The platform wants us to exit: all remaining steps together may take `seconds` from now on."""
        self._latest = min(self._latest, self._now + seconds)
        running = self._running
        if running is not None and not running.expired() and (running.when() or 0.0) > self._latest:
            running.reschedule(self._latest)

    async def run_hooks(self, seconds: float) -> None:
        """Run the hooks one after the other, all within `seconds`; if one fails, the next is still run."""
        deadline = self._now + seconds
        for index, hook in enumerate(self._settings.hooks):
            await self._run(f"hook {index + 1} ({name_of(hook)})", index, deadline)

    async def run_command(self) -> None:
        """Run `stop.command`, with the same time limit as the hooks."""
        index, command = len(self._settings.hooks), self._settings.command
        await self._run(f"command ({name_of(command)})", index, self._now + self._settings.hook_timeout)

    async def suspend(self, doors: Doors, interrupted: asyncio.Future[T]) -> float | None:
        """Suspend the machine; returns, after it is back, how many seconds it was suspended. None: it was not.

        Connections are refused when this is called, and accepted again after a resume. The clocks may not show a resume
        (after a snapshot they may go on from where they were), so a client that connects counts as a resume as well:
        connections are what wakes a machine. So does a hold: holds are granted again from when connections are
        accepted. `interrupted` ends the waiting, and then the result is None.
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
            # Not under the deadline: the request has one of its own, and if we gave up waiting for it, a command that
            # it had started could not be killed.
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
        """How `job` ended; at the deadline it is killed."""
        try:
            async with asyncio.timeout_at(min(deadline, self._latest)) as self._running:
                return await outcome_of(job)
        except TimeoutError:
            pass
        finally:
            self._running = None
        job.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await outcome_of(job)
        return KILLED

    # -- Fly ----------------------------------------------------------------------------------------------------

    async def _ask(self, latest: float, interrupted: asyncio.Future[T]) -> tuple[str, float]:
        """Send the request. Returns its outcome, and for how many seconds the machine was suspended meanwhile."""
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
        if verdict.outcome != "accepted" and job.outcome not in {None, OK}:  # the job failed before it could ask
            return _last_line(job.output) or str(job.outcome), 0.0
        return verdict.reason, 0.0

    async def _stand_still(self, doors: Doors, interrupted: asyncio.Future[T]) -> float | None:
        """Wait until the machine was suspended and is back; returns for how many seconds. None: it was not."""
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
        """Sleep for a moment, or until a change; returns for how many seconds the machine was suspended meanwhile."""
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


async def outcome_of(job: Job) -> str:
    """How `job` ended, with the last line that it wrote if it failed."""
    while (outcome := job.outcome) is None:
        await job.wait()
    if outcome == OK:
        return outcome
    words = _last_line(job.output)
    return f"{outcome}: {words}" if words else outcome


def _last_line(output: bytes) -> str:
    return output.rstrip().rpartition(b"\n")[2].decode(errors="replace").strip()[-LAST_WORDS:]
