"""The steps of a stop: real commands, the real request to a fake API, and clocks that the test can move."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import pytest

from pyssh_gateway.config.types import Stop
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.events import AnyEvent, StopStep
from pyssh_gateway.ipc.monitor_spawner_client import MonitorSpawnerClient
from pyssh_gateway.ipc.spawner import Exited
from pyssh_gateway.ipc.spawner_client import Spawned, SpawnRefused
from pyssh_gateway.machine import fly
from pyssh_gateway.machine.stop import Limits, Steps
from pyssh_gateway.monitor.lifetime.stop_jobs import SpawnerJobs
from pyssh_gateway.spawner.processes.process import Child, SpawnError, Starting
from pyssh_gateway.spawner.stop_commands import NOBODY, StopCommands, start_command, start_suspend
from tests.support import fly_api, leaks, processes
from tests.support.fly_api import FakeFlyApi
from tests.support.spawning import INHERITED, ready
from tests.support.waiting import AT_ONCE, PATIENCE, until

T = TypeVar("T")
made: "list[HereSpawner]" = []


class HereSpawner:
    """Starts the spawner's processes as children of the test, and reports their ends; `started` has their pids."""

    def __init__(self, stop: StopCommands) -> None:
        self.started: list[int] = []
        self.reaped = asyncio.Semaphore(0)
        self._stop = stop
        self._children: dict[int, Child] = {}
        made.append(self)

    async def run_hook(self, index: int, on_exit: Callable[[Exited], None]) -> Spawned:
        """Start a command."""
        return self._run(lambda: start_command(self._stop, index, inherited=INHERITED), on_exit)

    async def suspend(self, on_exit: Callable[[Exited], None]) -> Spawned:
        """Send the request to suspend."""
        return self._run(lambda: start_suspend(self._stop, inherited=INHERITED), on_exit)

    def kill(self, spawned: Spawned) -> None:
        """Kill the process group."""
        os.killpg(self._children[spawned.id].pid, signal.SIGKILL)

    def _run(self, start: Callable[[], Starting], on_exit: Callable[[Exited], None]) -> Spawned:
        try:
            child = ready(start())
        except SpawnError as error:
            raise SpawnRefused(str(error)) from error
        self._children[child.pid] = child
        self.started.append(child.pid)
        loop = asyncio.get_running_loop()
        watched = os.pidfd_open(child.pid)

        def reap() -> None:
            loop.remove_reader(watched)
            os.close(watched)
            code = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
            on_exit(Exited(child.pid, max(code, 0), -code if code < 0 else None, core_dumped=False))
            self.reaped.release()

        loop.add_reader(watched, reap)
        return Spawned(child.pid, child.pid, "", child.descriptors)


class Door:
    """The server's listener. The test sets `wanted`; `opened` counts how often it was opened."""

    def __init__(self) -> None:
        self.wanted = False
        self.opened = 0
        self.changed = asyncio.Event()

    def open(self) -> None:
        """Let clients in."""
        self.opened += 1
        self.changed.set()


class Stopping:
    """The steps of a stop with a fake spawner and listener. `ahead` is how far the test has moved the time of day."""

    def __init__(self, settings: Stop, stop: StopCommands, **limits: float) -> None:
        self.events: list[StopStep] = []
        self.told = asyncio.Event()
        self.door = Door()
        self.ahead = 0.0
        self.spawner = HereSpawner(stop)
        loop = asyncio.get_running_loop()
        self.interrupted: asyncio.Future[str] = loop.create_future()
        self.steps = Steps(
            settings,
            SpawnerJobs(cast("MonitorSpawnerClient", self.spawner), loop),
            publish=self._publish,
            clocks=lambda: Clocks(loop.time(), time.time() + self.ahead),
            limits=Limits(**limits),
        )

    def _publish(self, event: AnyEvent) -> None:
        assert isinstance(event, StopStep)
        self.events.append(event)
        self.told.set()

    @property
    def outcomes(self) -> list[str]:
        """The outcomes of the steps so far."""
        return [event.outcome for event in self.events]


def run(test: Callable[[], Awaitable[T]]) -> T:
    """Run a test's coroutine, with a timeout."""

    async def limited() -> T:
        async with asyncio.timeout(PATIENCE):
            result = await test()
            for spawner in made:  # wait until each process has been reaped
                for _ in spawner.started:
                    await spawner.reaped.acquire()
            return result

    return asyncio.run(limited())


def hooks(*commands: str, environ: dict[str, str] | None = None, command: str = "") -> Stopping:
    """A stop with these hooks and, last, a command."""
    stop = StopCommands((*commands, command), environ or {"PATH": os.environ["PATH"]})
    return Stopping(Stop(hooks=commands, command=command), stop)


def suspending(played: FakeFlyApi, **limits: float) -> Stopping:
    """A stop that suspends the machine."""
    stop = StopCommands(api=played.path, request=fly.suspend_request(played.environ))
    return Stopping(Stop(action="suspend"), stop, **limits)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open or a child behind."""
    made.clear()
    with leaks.nothing_left_open():
        yield
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)


# -- commands -----------------------------------------------------------------------------------------------------


def test_hooks_run_in_order_as_the_server(tmp_path: Path) -> None:
    """Protects hooks: they run one after the other as the server's user, in /, with their environment and no input."""
    out = tmp_path / "out"

    async def test() -> list[StopStep]:
        first = f"sleep 0.2; echo first $(pwd) $(id -u) $COLOUR >>{out}"
        stopping = hooks(first, f"echo second >>{out}; read x || echo no input >>{out}", environ={"COLOUR": "blue"})
        await stopping.steps.run_hooks(PATIENCE)
        return stopping.events

    events = run(test)
    assert out.read_text() == f"first / {os.geteuid()} blue\nsecond\nno input\n"
    assert [(event.step, event.outcome) for event in events] == [("hook 1 (sleep)", "ok"), ("hook 2 (echo)", "ok")]
    assert {event.result for event in events} == {"done"}
    assert 0.2 <= events[0].seconds < AT_ONCE


def test_a_failing_hook_is_told_with_its_last_words_and_the_next_runs() -> None:
    """Protects whoever looks for a hook's failure: exit code, signal and last output are logged, but no secrets."""

    async def test() -> list[StopStep]:
        failing = (
            "TOKEN=secret false",
            "echo a; echo disk is full >&2; exit 3",
            "kill -9 $$",
            "kill -35 $$",
            "/no/program",
        )
        stopping = hooks(*failing)
        await stopping.steps.run_hooks(PATIENCE)
        return stopping.events

    events = run(test)
    ended = ["exit code 1", "exit code 3: disk is full", "ended by SIGKILL", "ended by signal 35"]
    assert [event.outcome for event in events[:4]] == ended
    assert events[4].outcome.startswith("exit code 127: ")
    assert [event.result for event in events] == ["done" if event.outcome == "ok" else "failed" for event in events]
    assert [event.step for event in events[:2]] == ["hook 1 (false)", "hook 2 (echo)"]


def test_a_hanging_hook_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    """Protects the stop: at the common deadline the hook's process group is killed, and later hooks are not run."""
    child = tmp_path / "child"

    async def test() -> tuple[list[str], float]:
        stopping = hooks(f"trap '' TERM; sleep 60 & echo $! >{child}; wait", "true")
        began = time.monotonic()
        await stopping.steps.run_hooks(0.5)
        return stopping.outcomes, time.monotonic() - began

    outcomes, taken = run(test)
    assert outcomes == ["killed: it did not end in time", "not run: there is no time left"]
    assert 0.5 <= taken < AT_ONCE
    until(lambda: not processes.is_running(int(child.read_text())), what="end of what the hook had started")


def test_what_a_hook_leaves_behind_is_not_waited_for() -> None:
    """Protects the stop from a hook that leaves a process behind: the hook's own exit counts, not its output's end."""

    async def test() -> tuple[list[str], int]:
        stopping = hooks("yes & exit 0")
        await stopping.steps.run_hooks(PATIENCE)
        return stopping.outcomes, stopping.spawner.started[0]

    outcomes, group = run(test)
    assert outcomes == ["ok"]
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def test_much_output_does_not_hold_a_hook_up() -> None:
    """Protects a hook from a full pipe: its output is read to the end, although only a part is kept."""

    async def test() -> list[str]:
        stopping = hooks("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1")
        await stopping.steps.run_hooks(PATIENCE)
        return stopping.outcomes

    assert run(test) == ["exit code 1: the end"]


def test_hurry_shortens_what_runs_already() -> None:
    """Protects from the platform's kill: a signal during a long hook shortens the deadline of all hooks."""

    async def test() -> tuple[list[str], float]:
        stopping = hooks("sleep 60", "true")
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.2, stopping.steps.hurry, 0.3)
        await stopping.steps.run_hooks(60)
        taken = time.monotonic() - began
        stopping.steps.hurry(0.1)  # no hook runs any more
        return stopping.outcomes, taken

    outcomes, taken = run(test)
    assert outcomes == ["killed: it did not end in time", "not run: there is no time left"]
    assert 0.5 <= taken < AT_ONCE


def test_the_command_comes_after_the_hooks(tmp_path: Path) -> None:
    """Protects stop.command: it runs apart from the hooks, and has its own deadline."""
    out = tmp_path / "out"

    async def test() -> list[StopStep]:
        stopping = hooks("exit 9", command=f"echo off >{out}; exit 4")
        await stopping.steps.run_command()
        return stopping.events

    assert [(event.step, event.outcome) for event in run(test)] == [("command (echo)", "exit code 4")]
    assert out.read_text() == "off\n"


def test_only_what_is_configured_can_be_run() -> None:
    """Protects root from a compromised monitor: unknown command numbers are refused, and a suspend outside Fly."""
    nothing = StopCommands(("true",), no_suspend="not on Fly.io")
    for index in (-1, 1, 2**40):
        with pytest.raises(SpawnError, match="no command"):
            start_command(nothing, index, inherited=INHERITED)
    with pytest.raises(SpawnError, match=r"not on Fly\.io"):
        start_suspend(nothing, inherited=INHERITED)


# -- suspend ------------------------------------------------------------------------------------------------------


def identity(pid: int) -> list[str]:
    """The user ids and groups of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return [line for line in status.splitlines() if line.startswith(("Uid:", "Groups:"))]


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    """The path of the API's socket."""
    return tmp_path / "api"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (fly_api.refused(403, "not authorized"), "Fly refuses with 403: not authorized"),
        (fly_api.refused(404, "machine not found"), "Fly refuses with 404: machine not found"),
        (fly_api.in_chunks(412, "machine has swap"), "Fly refuses with 412: machine has swap"),
        (fly_api.refused(429, "rate limit exceeded"), "Fly refuses with 429: rate limit exceeded"),
        (fly_api.page(502), "Fly refuses with 502"),
        (fly_api.garbage(), "the answer is not HTTP"),
        (fly_api.hang_up(), "the connection was closed without an answer"),
    ],
)
def test_a_refusal_is_told_and_nothing_is_waited_for(socket_path: Path, answer: fly_api.Answer, outcome: str) -> None:
    """Protects the fallback: every answer but success is logged at once, and the listener stays closed."""

    async def test() -> tuple[float | None, Stopping]:
        stopping = suspending(api)
        return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping

    with FakeFlyApi(socket_path, answer) as api:
        began = time.monotonic()
        back, stopping = run(test)
    assert (back, stopping.outcomes, stopping.door.opened) == (None, [outcome], 0)
    assert time.monotonic() - began < AT_ONCE
    assert stopping.events[0].step == "suspend"


def test_an_api_that_hangs_is_given_up(socket_path: Path) -> None:
    """Protects the stop: no answer in time is a refusal, and the unprivileged process that waited for it is gone."""
    owners: list[str] = []

    async def test() -> tuple[float | None, list[str]]:
        stopping = suspending(api, api=0.5)

        async def look() -> None:
            await asyncio.to_thread(api.wait_for_requests, 1)
            owners.extend(identity(stopping.spawner.started[0]))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(look())
            return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping.outcomes

    with FakeFlyApi(socket_path, fly_api.hang()) as api:
        assert run(test) == (None, ["no answer in time"])
    assert owners[0].split()[1:] == [str(NOBODY if os.geteuid() == 0 else os.geteuid())] * 4
    assert os.geteuid() != 0 or owners[1].split()[1:] == []


def test_no_api_at_all(socket_path: Path) -> None:
    """Protects every other platform: without the API's socket the error names its path."""

    async def test() -> tuple[float | None, list[str]]:
        stopping = Stopping(Stop(action="suspend"), StopCommands(api=str(socket_path), request=b"x"))
        return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping.outcomes

    back, outcomes = run(test)
    assert back is None
    assert outcomes == [f"can't connect to {socket_path}: No such file or directory"]


def test_a_machine_that_was_away_is_back(socket_path: Path) -> None:
    """Protects the resume: the jump of the clock is noticed, the listener is opened, and the time away is known."""

    async def test() -> tuple[float | None, Stopping]:
        stopping = suspending(api)

        async def freeze() -> None:
            await stopping.told.wait()
            stopping.ahead += 3600

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(freeze())
            return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping

    with FakeFlyApi(socket_path, fly_api.accepted()) as api:
        back, stopping = run(test)
    assert back == pytest.approx(3600, abs=1)
    assert (stopping.outcomes, stopping.door.opened) == (["ok"], 1)
    request = api.requests[0]
    assert (request.method, request.path, request.headers["Host"]) == ("POST", api.suspend_path, "flaps")


def test_a_machine_that_stood_still_before_the_answer_came(socket_path: Path) -> None:
    """Protects memory: a snapshot cuts the connection to the API, so a missing answer after it is not a refusal."""

    async def test() -> tuple[float | None, list[str]]:
        stopping = suspending(api)

        async def freeze() -> None:
            await asyncio.to_thread(api.wait_for_requests, 1)
            stopping.ahead += 60

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(freeze())
            return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping.outcomes

    with FakeFlyApi(socket_path, fly_api.hang()) as api:
        back, outcomes = run(test)
    assert back == pytest.approx(60, abs=1)
    assert outcomes == ["ok"]


def test_who_comes_in_has_woken_the_machine(socket_path: Path) -> None:
    """Protects the resume when no clock jumped: the listener opens by itself, and a client keeps the machine up."""

    async def test() -> tuple[float | None, int]:
        stopping = suspending(api, settle=0.5)

        async def knock() -> None:
            await stopping.door.changed.wait()
            stopping.door.wanted = True

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(knock())
            return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping.door.opened

    with FakeFlyApi(socket_path, fly_api.accepted()) as api:
        back, opened = run(test)
    assert back == 0.0
    assert opened >= 1


def test_accepted_and_nothing_happens(socket_path: Path) -> None:
    """Protects the bill: a machine that still runs long after success is stopped the other way, and that is logged."""

    async def test() -> tuple[float | None, list[str]]:
        stopping = suspending(api, freeze=0.6)
        return await stopping.steps.suspend(stopping.door, stopping.interrupted), stopping.outcomes

    with FakeFlyApi(socket_path, fly_api.accepted()) as api:
        assert run(test) == (None, ["ok", "accepted, but the machine was not suspended"])


def test_a_signal_ends_the_waiting(socket_path: Path) -> None:
    """Protects a deploy during a suspend: after a signal the server does not wait for the suspend any more."""

    async def test() -> tuple[float | None, float]:
        stopping = suspending(api)
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.3, stopping.interrupted.set_result, "SIGTERM")
        return await stopping.steps.suspend(stopping.door, stopping.interrupted), time.monotonic() - began

    with FakeFlyApi(socket_path, fly_api.accepted()) as api:
        back, taken = run(test)
    assert back is None
    assert taken < AT_ONCE
