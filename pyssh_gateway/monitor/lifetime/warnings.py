"""Warns before an idle stop by the commands and webhooks of `stop.warn`, beside everything else.

The spawner runs the commands, as it runs hooks; webhooks are asked from here, since this process has no rights to lose
and asks for keys in the same way. Nothing waits for any of them, and a failure is an event.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle.warnings import WEB, StopWarning, name_of, webhook_body
from pyssh_gateway.events import AnyEvent, StopStep
from pyssh_gateway.keys.http_connection import Proxies
from pyssh_gateway.machine.stop import KILLED, OK, Job, NotStarted, outcome_of
from pyssh_gateway.monitor.lifetime import webhook
from pyssh_gateway.system.threads import in_daemon_thread

WARN_SECONDS = 10.0
"""How long a command or webhook may take, or less if `stop.hook_timeout` is: the last warning comes ten seconds before
the stop, and one that comes later helps nobody."""

RUNS_STILL = "not run: the one before has not ended yet"


class Starter(Protocol):
    """Starts the commands. Raises `NotStarted`."""

    async def warning(self, index: int, seconds: int, people: tuple[str, ...]) -> Job:
        """The entry `index` of `stop.warn`, which is a command."""


class Warnings:
    """All entries of `stop.warn`, each at most once at a time. `start` begins a task that somebody else owns.

    `now` is the loop's clock.
    """

    def __init__(
        self,
        config: Config,
        starter: Starter,
        *,
        publish: Callable[[AnyEvent], None],
        start: Callable[[Coroutine[Any, Any, None], str], object],
        now: Callable[[], float],
    ) -> None:
        self._starter = starter
        self._publish = publish
        self._start = start
        self._now = now
        self._running: set[str] = set()
        self.reconfigure(config)

    def reconfigure(self, config: Config) -> None:
        """Use other settings from the next warning on."""
        self._entries = config.stop.warn
        self._seconds = min(WARN_SECONDS, float(config.stop.hook_timeout))
        self._proxies = Proxies(config.keys.https_proxy, config.keys.no_proxy)

    def warn(self, warning: StopWarning) -> None:
        """Run all entries. Returns at once."""
        for index, entry in enumerate(self._entries):
            step = f"warning {index + 1} ({name_of(entry)})"
            if entry in self._running:
                self._tell(step, RUNS_STILL, self._now())
                continue
            self._running.add(entry)
            self._start(self._run(index, entry, step, warning), step)

    async def _run(self, index: int, entry: str, step: str, warning: StopWarning) -> None:
        began, seconds = self._now(), self._seconds
        try:
            if entry.startswith(WEB):
                outcome = await self._post(entry, webhook_body(warning), seconds)
            else:
                outcome = await self._command(index, warning, seconds)
        finally:
            self._running.discard(entry)
        self._tell(step, outcome, began)

    async def _post(self, url: str, body: bytes, seconds: float) -> str:
        proxies = self._proxies
        try:
            # The time limit again: a name server may be silent for longer.
            async with asyncio.timeout(seconds):
                return await in_daemon_thread(lambda: webhook.post(url, body, seconds, proxies), name="warning")
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        except OSError as error:
            return error.strerror or str(error)

    async def _command(self, index: int, warning: StopWarning, seconds: float) -> str:
        try:
            job = await self._starter.warning(index, warning.seconds, warning.people)
        except NotStarted as error:
            return str(error)
        try:
            async with asyncio.timeout(seconds):
                return await outcome_of(job)
        except TimeoutError:
            return KILLED
        finally:
            if job.outcome is None:
                job.kill()
            job.close()

    def _tell(self, step: str, outcome: str, began: float) -> None:
        result: Literal["done", "failed"] = "done" if outcome == OK else "failed"
        self._publish(StopStep(step=step, outcome=outcome, result=result, seconds=round(self._now() - began, 3)))
