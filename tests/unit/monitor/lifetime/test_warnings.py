"""monitor.lifetime.warnings: webhooks that answer in every way, commands that do not end, and what the log says."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from pyssh_gateway.config.types import Config, Stop
from pyssh_gateway.config.values import Duration, Secret
from pyssh_gateway.core.idle.warnings import StopWarning
from pyssh_gateway.events import AnyEvent, StopStep
from pyssh_gateway.machine.stop import KILLED, OK, NotStarted
from pyssh_gateway.monitor.lifetime.warnings import RUNS_STILL, WARN_SECONDS, Warnings
from tests.support.forwards import free_port
from tests.support.local_http import hang, hang_up
from tests.support.virtual_time import run_virtually
from tests.support.waiting import PATIENCE
from tests.support.webhook import SECRET, Answer, Webhook, status

WARNING = StopWarning("box", 60, ("github:example",))


class Job:
    """A command that runs until `end`."""

    def __init__(self) -> None:
        self.output = b""
        self.outcome: str | None = None
        self.done: list[str] = []
        self._changed = asyncio.Event()

    def end(self, outcome: str, output: bytes = b"") -> None:
        """It has ended."""
        self.outcome, self.output = outcome, output
        self._changed.set()

    async def wait(self) -> None:
        """Wait for the end."""
        await self._changed.wait()

    def kill(self) -> None:
        """Note it."""
        self.done.append("killed")

    def close(self) -> None:
        """Note it."""
        self.done.append("closed")


class House:
    """The warnings, with a spawner that starts `job`, and the log."""

    def __init__(self, *entries: str, timeout: float = 10.0) -> None:
        loop = asyncio.get_running_loop()
        self.job: Job | None = Job()
        self.asked: list[tuple[int, int, tuple[str, ...]]] = []
        self.steps: list[StopStep] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.warnings = Warnings(
            self.config(*entries, timeout=timeout), self, publish=self._publish, start=self._start, now=loop.time
        )

    @staticmethod
    def config(*entries: str, timeout: float = 10.0) -> Config:
        """A configuration with these entries."""
        return Config(stop=Stop(warn=tuple(map(Secret, entries)), hook_timeout=Duration(timeout)))

    async def warning(self, index: int, seconds: int, people: tuple[str, ...]) -> Job:
        """Start the command."""
        self.asked.append((index, seconds, people))
        if self.job is None:
            raise NotStarted("no process can be started")
        return self.job

    def _publish(self, event: AnyEvent) -> None:
        assert isinstance(event, StopStep)
        assert SECRET not in event.step + event.outcome
        self.steps.append(event)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        assert SECRET not in name
        self.tasks.append(asyncio.get_running_loop().create_task(work))

    async def settle(self) -> list[tuple[str, str, str]]:
        """The steps in the log, once everything has ended."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*self.tasks)
        return [(step.step, step.outcome, step.result) for step in self.steps]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(204), OK),
        (status(404), "the server answered 404 (Not Found)"),
        (status(302, f"http://127.0.0.1:1/{SECRET}"), "the server answered 302 (Found)"),
        (hang(), "no answer within 0.5 s"),
        (hang_up(), "{host} does not answer in proper HTTP (RemoteDisconnected)"),
    ],
)
def test_a_webhook_is_asked_once_and_its_failure_is_told(answer: Answer, outcome: str) -> None:
    """Protects the log: it says how a webhook answered, within a time limit, and nothing of its address."""

    async def play(hook: Webhook) -> list[tuple[str, str, str]]:
        house = House(hook.url, timeout=0.5 if outcome.startswith("no answer") else 10.0)
        house.warnings.warn(WARNING)
        return await house.settle()

    with Webhook(answer) as hook:
        told = asyncio.run(play(hook))
        assert told[0][1] == outcome.format(host=hook.named)
        assert told[0][0] == f"warning 1 ({hook.named})"
        assert told[0][2] == ("done" if outcome == OK else "failed")
        (request,) = hook.received
        assert (request["stops_in"], request["people"]) == (60, ["github:example"])


def test_a_webhook_that_is_not_there() -> None:
    """Protects the log in the same way, if nobody listens."""
    port = free_port()

    async def play() -> list[tuple[str, str, str]]:
        house = House(f"http://127.0.0.1:{port}/{SECRET}")
        house.warnings.warn(WARNING)
        return await house.settle()

    named = f"http://127.0.0.1:{port}"
    assert asyncio.run(play()) == [(f"warning 1 ({named})", f"no connection to {named}: Connection refused", "failed")]


def test_a_command_gets_the_facts_and_its_failure_is_told() -> None:
    """Protects a command's author: it is started by its index, and its last words are in the log."""

    async def play() -> None:
        house = House("https://unused.invalid/x", f"TOKEN={SECRET} notify {SECRET}")
        house.warnings.reconfigure(house.config("true", f"TOKEN={SECRET} notify {SECRET}"))
        assert house.job is not None
        house.job.end("exit code 3", b"no network\n")
        house.warnings.warn(WARNING)
        told = await house.settle()
        assert house.asked == [(0, 60, ("github:example",)), (1, 60, ("github:example",))]
        assert ("warning 2 (notify)", "exit code 3: no network", "failed") in told
        assert house.job.done == ["closed", "closed"]

    run_virtually(play())


def test_a_command_that_does_not_end_is_killed_and_not_started_twice() -> None:
    """Protects the machine from commands that hang: one at a time, for ten seconds at most; `warn` waits for none."""

    async def play() -> None:
        house = House("sleep 1000", timeout=300.0)
        loop = asyncio.get_running_loop()
        house.warnings.warn(WARNING)
        assert loop.time() == 0.0
        await asyncio.sleep(1)
        house.warnings.warn(WARNING)
        told = await house.settle()
        assert loop.time() == pytest.approx(WARN_SECONDS, abs=0.1)
        assert told == [("warning 1 (sleep)", RUNS_STILL, "failed"), ("warning 1 (sleep)", KILLED, "failed")]
        assert house.job is not None
        assert house.job.done == ["killed", "closed"]
        assert len(house.asked) == 1
        house.job = None
        house.warnings.warn(WARNING)
        assert (await house.settle())[-1][1] == "no process can be started"

    run_virtually(play())


def test_a_command_ends_with_the_server() -> None:
    """Protects a stop: a command that still runs then is killed, and nothing is left."""

    async def play() -> None:
        house = House("sleep 1000")
        house.warnings.warn(WARNING)
        await asyncio.sleep(1)
        (task,) = house.tasks
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert house.job is not None
        assert house.job.done == ["killed", "closed"]
        assert not house.steps

    run_virtually(play())
