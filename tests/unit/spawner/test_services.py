"""Services, with real processes and a clock of the test: start, output, restarts, and stops in order."""

import os
import pwd
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Service
from pyssh_gateway.config.values import Duration
from pyssh_gateway.events import ServiceEnded, ServiceOutput, ServiceStarted
from pyssh_gateway.ipc.spawner import ServiceEvent
from pyssh_gateway.spawner.services import KILLED_SECONDS, MARK, Services
from tests.support import leaks, processes
from tests.support.spawning import INHERITED
from tests.support.waiting import until

IS_ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name

needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can start processes as somebody else")


class Loop:
    """The supervisor's part for services. `now` is its clock, which only the test moves."""

    def __init__(self, *wanted: Service) -> None:
        self.now = 100.0
        self.events: list[ServiceEvent] = []
        self.services = Services(wanted, self.events.append, INHERITED)
        self._reaped: set[int] = set()

    def turn(self) -> None:
        """Handle output, ends and what is due."""
        for pipe in self.services.pipes:
            if select.select([pipe], [], [], 0)[0]:
                self.services.read(pipe, self.now)
        for pid in self._running():
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._reaped.add(pid)
                self.services.reaped(pid, status, self.now)
        self.services.tick(self.now)

    def until(self, look: Callable[[], object], what: str) -> None:
        """Run turns until `look` is true."""

        def looked() -> bool:
            self.turn()
            return bool(look())

        until(looked, what=f"{what}; so far {self.events}")

    def until_ended(self, count: int) -> None:
        """Run turns until so many services have ended."""
        self.until(lambda: len(self.ended()) == count, f"{count} ends")

    def end(self) -> None:
        """End all processes and close all pipes."""
        self.services.kill()
        self.until(lambda: not self._running(), "end")
        for pipe in self.services.pipes:
            os.close(pipe)

    def _running(self) -> set[int]:
        return {event.pid for event in self.events if isinstance(event, ServiceStarted)} - self._reaped

    def lines(self, name: str) -> list[str]:
        """The lines that the service has written."""
        return [event.line for event in self.events if isinstance(event, ServiceOutput) and event.service == name]

    def started(self, name: str) -> list[ServiceStarted]:
        """The service's starts."""
        return [event for event in self.events if isinstance(event, ServiceStarted) and event.service == name]

    def ended(self, name: str = "") -> list[ServiceEnded]:
        """The ends of the service, or of all services."""
        return [event for event in self.events if isinstance(event, ServiceEnded) and name in {"", event.service}]


@pytest.fixture
def loops() -> Iterator[list[Loop]]:
    """The loops of a test; at the end their processes and descriptors are gone."""
    made: list[Loop] = []
    with leaks.nothing_left_open():
        yield made
        for loop in made:
            loop.end()


def service(name: str, command: str, *, user: str = ME, stop_timeout: float = 5.0) -> Service:
    """A service as configured."""
    return Service(name=name, command=command, user=user, stop_timeout=Duration(stop_timeout))


@pytest.fixture
def run(loops: list[Loop]) -> Callable[..., Loop]:
    """Starts services in a loop."""

    def start(*wanted: Service) -> Loop:
        loop = Loop(*wanted)
        loops.append(loop)
        loop.services.start(loop.now)
        return loop

    return start


Run = Callable[..., Loop]


def test_output_and_errors_become_lines(run: Run) -> None:
    """Protects a service's log: lines of both streams, in order, and a last line without a line end."""
    loop = run(service("one", "echo out; echo err >&2; printf last; exec sleep 100"))
    loop.until(lambda: len(loop.lines("one")) >= 2, "lines")
    assert loop.lines("one") == ["out", "err"]
    os.kill(loop.started("one")[0].pid, signal.SIGKILL)
    loop.until(lambda: loop.ended("one"), "end")
    assert loop.lines("one") == ["out", "err", "last"]
    assert loop.ended("one")[0].cause == "SIGKILL"


def test_a_service_has_nothing_of_the_servers(run: Run) -> None:
    """Protects tokens and sockets: a service has its own environment and session, three descriptors, / and no input."""
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        loop = run(service("one", "env; pwd; ls /proc/self/fd; umask; ulimit -n; cat; echo end; exec sleep 100"))
        loop.until(lambda: "end" in loop.lines("one"), "end of the list")
    finally:
        os.close(secret)
    lines = loop.lines("one")
    names = {line.partition("=")[0] for line in lines if "=" in line}
    assert names <= {"HOME", "LOGNAME", "PATH", "SHELL", "USER", MARK.decode(), "PWD", "OLDPWD", "SHLVL", "_"}
    assert lines[-8:-3] == ["/", "0", "1", "2", "3"]  # 3 is used by ls
    assert lines[-3:] == ["0022", "512", "end"]
    pid = loop.started("one")[0].pid
    found = processes.find(pid)
    assert found is not None
    assert (found.group, found.session) == (pid, pid)


@needs_root
def test_a_service_is_its_user(run: Run) -> None:
    """Protects root: user and groups are the account's, even if its shell is nologin."""
    loop = run(service("one", "id -u; id -g; echo $HOME $USER; echo >/dev/stderr again; exec sleep 100", user="nobody"))
    loop.until(lambda: "again" in loop.lines("one"), "lines")
    nobody = pwd.getpwnam("nobody")
    expected = [str(nobody.pw_uid), str(nobody.pw_gid), f"{nobody.pw_dir} nobody", "again"]
    assert loop.lines("one") == expected


def test_a_service_that_ends_is_started_again_later_and_later(run: Run) -> None:
    """Protects a machine whose daemon crashes or can't run: it is restarted, after ever longer pauses."""
    loop = run(service("one", "exit 7"))
    for number, pause in enumerate([0.5, 1.0, 2.0], start=1):
        loop.until_ended(number)
        assert (loop.ended()[-1].cause, loop.ended()[-1].again) == ("exit code 7", pause)
        assert loop.services.next_at() == loop.now + pause
        loop.now += pause - 0.01
        loop.turn()
        assert len(loop.started("one")) == number
        loop.now += 0.02
        loop.turn()
        assert [event.restarts for event in loop.started("one")] == list(range(number + 1))


def test_what_a_service_leaves_behind_does_not_meet_the_next_run(run: Run, tmp_path: Path) -> None:
    """Protects a restart: remaining processes of the old run are asked to end, and are killed before the new one."""
    pids = tmp_path / "pids"
    loop = run(service("one", f"(trap '' TERM; echo stays; while :; do sleep 0.1; done) & echo $! >{pids}; wait $!"))
    loop.until(lambda: "stays" in loop.lines("one"), "the process that stays")
    stays = int(until(lambda: pids.exists() and pids.read_text(), what="its number"))
    os.kill(loop.started("one")[0].pid, signal.SIGKILL)
    loop.until(loop.ended, "end")
    assert processes.is_running(stays)
    loop.now += 0.5
    loop.turn()
    until(lambda: not processes.is_running(stays), what="end of what was left")


def test_an_account_that_is_missing_is_waited_for(run: Run) -> None:
    """Protects a service whose account is made a moment later: it is tried again."""
    loop = run(service("one", "true", user="no-such-user"))
    ended = loop.ended()[0]
    assert (ended.pid, ended.cause) == (0, "there is no account no-such-user on this machine")
    assert ended.again == 0.5


@pytest.mark.skipif(IS_ROOT, reason="root may start processes as anybody")
def test_others_services_need_root(run: Run) -> None:
    """Protects the administrator from a service that is silently missing."""
    loop = run(service("one", "true", user="root"))
    assert "needs root" in loop.ended()[0].cause
    assert loop.services.next_at() is None


def test_they_stop_in_reverse_order(run: Run, tmp_path: Path) -> None:
    """Protects what a service depends on: an earlier service runs until later ones have ended."""
    log = tmp_path / "log"
    log.touch()
    command = "trap 'sleep 0.2; echo {0} >>{1}; exit' TERM; echo ready; while :; do sleep 0.02; done"
    loop = run(*(service(name, command.format(name, log)) for name in ("one", "two", "three")))
    loop.until(lambda: all(loop.lines(name) for name in ("one", "two", "three")), "start")
    loop.services.stop(loop.now)
    loop.until(lambda: not loop.services.running, "stop")
    assert log.read_text().split() == ["three", "two", "one"]
    assert [(event.service, event.again) for event in loop.ended()] == [("three", None), ("two", None), ("one", None)]
    loop.now += 100
    loop.turn()
    assert len(loop.started("one")) == 1


def test_a_child_may_end_its_work_although_the_shell_has_gone(run: Run, tmp_path: Path) -> None:
    """Protects a daemon whose shell dies of SIGTERM at once: it still has the service's full time to end."""
    done = tmp_path / "done"
    inner = f"trap 'sleep 0.3; touch {done}; exit' TERM; echo ready; while :; do sleep 0.02; done"
    loop = run(service("one", f'sh -c "{inner}" & wait'))
    loop.until(lambda: loop.lines("one"), "start")
    loop.services.stop(loop.now)
    loop.until(lambda: not loop.services.running, "stop")
    assert done.exists()


def test_a_child_s_last_words_are_heard_although_the_shell_has_gone(run: Run, tmp_path: Path) -> None:
    """Protects a daemon's last output: a closed pipe would kill it too early, so its output is read to the end."""
    done = tmp_path / "done"
    inner = f"trap 'sleep 0.3; echo last words; touch {done}; exit' TERM; echo ready; while :; do sleep 0.02; done"
    loop = run(service("one", f'sh -c "{inner}" & wait'))
    loop.until(lambda: loop.lines("one"), "start")
    loop.services.stop(loop.now)
    loop.until(lambda: not loop.services.running, "stop")
    assert done.exists()
    assert loop.lines("one")[-1] == "last words"


def test_who_does_not_end_is_killed(run: Run) -> None:
    """Protects the machine's stop: a service that does not end in time gets SIGKILL, and then the next is stopped."""
    loop = run(
        service("one", "echo ready; exec sleep 100"),
        service("deaf", "trap '' TERM; echo ready; while :; do sleep 0.02; done", stop_timeout=3),
    )
    loop.until(lambda: loop.lines("one") and loop.lines("deaf"), "start")
    assert loop.services.stop_seconds == 5 + 3 + 2 * KILLED_SECONDS
    loop.services.stop(loop.now)
    assert loop.services.next_at() == loop.now + 3
    loop.now += 2.9
    loop.turn()
    assert not loop.ended()
    loop.now += 0.2
    loop.until(lambda: not loop.services.running, "stop")
    assert [(event.service, event.cause) for event in loop.ended()] == [("deaf", "SIGKILL"), ("one", "SIGTERM")]


def test_a_stop_may_be_taken_back(run: Run) -> None:
    """Protects a machine whose stop is called off, as its monitor crashed during it: services are started again."""
    loop = run(service("one", "echo ready; exec sleep 100"))
    loop.until(lambda: loop.lines("one"), "start")
    loop.services.stop(loop.now)
    loop.until(lambda: not loop.services.running, "stop")
    loop.services.keep_running(loop.now)
    loop.until(lambda: len(loop.lines("one")) == 2, "second start")


def test_a_flood_costs_no_more_than_its_share(run: Run) -> None:
    """Protects the spawner, and with it all sessions, from a service that writes without end."""
    loop = run(service("one", "exec yes"))
    loop.until(lambda: not loop.services.pipes, "end of the reading")
    assert len(loop.lines("one")) == 100
    loop.now += 1.0
    loop.turn()
    assert "lines dropped" in loop.lines("one")[100]
    assert loop.services.pipes


def test_what_a_service_has_left_to_us_is_known(run: Run) -> None:
    """Protects idle machines: a daemon left by a service (containerd's shims) does not count as a session's work."""
    loop = run(service("one", "echo ready; exec sleep 100"))
    loop.until(lambda: loop.lines("one"), "start")
    child = os.spawnve(os.P_NOWAIT, "/bin/sleep", ["sleep", "100"], {MARK.decode(): "one"})
    other = os.spawnve(os.P_NOWAIT, "/bin/sleep", ["sleep", "100"], {})
    try:
        marked = Path(f"/proc/{child}/environ")
        until(lambda: MARK in marked.read_bytes(), what="exec")
        assert loop.services.processes(os.getpid()) == {loop.started("one")[0].pid, child}
    finally:
        for pid in (child, other):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
