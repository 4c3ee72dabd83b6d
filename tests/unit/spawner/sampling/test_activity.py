"""spawner.sampling.activity: what the real processes below a parent have used, and which of them are reported."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.sampling import activity
from tests.support import processes
from tests.support.waiting import PATIENCE, until

BURN = f"{sys.executable} -c 'import time\nwhile time.process_time() < 0.3: pass'"

Start = Callable[..., "Parent"]


class Parent:
    """A shell that represents the spawner, with its children."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self.process = process

    def sample(self, *besides: int) -> dict[str, Process]:
        """The processes below it, by name."""
        found = activity.sample(self.pid, frozenset(besides))
        return {process.name: process for process in found.processes}

    def until(self, *names: str) -> dict[str, Process]:
        """The same, once these processes exist."""
        return until(lambda: found if names and set(names) <= (found := self.sample()).keys() else {}, what=str(names))


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a shell with a script; its descendants are killed at the end."""
    made: list[subprocess.Popen[bytes]] = []

    def begin(script: str, *arguments: str | Path) -> Parent:
        command = ["/bin/sh", "-c", script, "sh", *arguments]
        made.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True))
        return Parent(made[-1])

    yield begin
    for process in made:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def test_all_generations_are_found(start: Start) -> None:
    """A session's shell, its children and their children are all found."""
    parent = start("(sleep 1000; :) & wait")
    found = parent.until("sh", "sleep")
    assert found["sh"].parent == parent.pid
    assert found["sleep"].parent == found["sh"].pid
    assert {process.uid for process in found.values()} == {os.geteuid()}


def test_what_is_no_session_is_left_out(start: Start) -> None:
    """The server's own processes, such as monitor, services and postauth, are left out with all their descendants."""
    parent = start("(sleep 1000; :) & tail -f /dev/null & wait")
    found = parent.until("sh", "sleep", "tail")
    assert parent.sample(found["sh"].pid).keys() == {"tail"}
    assert parent.sample(found["tail"].pid).keys() == {"sh", "sleep"}


def test_what_was_started_after_the_taker_waits_for_the_next_sample(start: Start) -> None:
    """Processes forked for the server after the sampler are left out until the next sample; sessions' are included."""
    parent = start("(sleep 1000; :) & tail -f /dev/null & timeout 1000 sleep 1000 & wait")
    found = parent.until("sh", "sleep", "tail", "timeout")
    taken = activity.sample(parent.pid, frozenset({found["tail"].pid}), found["tail"].pid)
    assert sorted(process.name for process in taken.processes) == ["sh", "sleep"]


def test_others_are_left_out(start: Start) -> None:
    """Processes that do not descend from the spawner are left out, such as this test or its parent."""
    parent = start("sleep 1000 & wait")
    parent.until("sleep")
    below = {process.pid for process in activity.sample(parent.pid, frozenset()).processes}
    assert below == {process.pid for process in processes.descendants(parent.pid)}


def test_processor_time_is_told(start: Start) -> None:
    """A busy process shows processor time, and a sleeping one does not."""
    parent = start(f"sleep 1000 & (exec {sys.executable} -c 'while True: pass') & wait")
    name = Path(sys.executable).name[:15]
    until(lambda: name in (found := parent.sample()) and found[name].cpu >= 0.1, what="work")
    assert parent.sample()["sleep"].cpu < 0.1


def test_children_that_ended_show_at_their_parent(start: Start) -> None:
    """A build's compilers are short-lived; what they used is counted at the parent that waited for them."""
    parent = start(f"({BURN}; sleep 1000; :) & wait")
    assert parent.until("sh", "sleep")["sh"].cpu >= 0.25


def test_bytes_that_were_moved_are_told(start: Start, tmp_path: Path) -> None:
    """Bytes to disk or through write(2) are counted, including those of children: a copy hardly needs a processor."""
    megabytes = 4
    parent = start(
        f'(dd if=/dev/zero of="$1" bs=1M count={megabytes} 2>/dev/null; sleep 1000; :) & wait', tmp_path / "to"
    )
    found = parent.until("sh", "sleep")
    told = (processes.PROC / str(found["sh"].pid) / "io").read_text()
    counted = {name: int(value) for name, value in (line.split(": ") for line in told.splitlines())}
    assert found["sh"].io == counted["read_bytes"] + max(counted["write_bytes"], counted["wchar"])
    assert found["sh"].io >= megabytes * 1024 * 1024


def test_what_is_read_is_no_work(start: Start) -> None:
    """Protects the bill from monitors left in a tmux: `watch ps` reads 260 kB of /proc a second, and moves nothing."""
    read = "open('/dev/zero', 'rb').read(3_000_000); open('/proc/self/comm', 'w').write('done'); time.sleep(1e3)"
    parent = start(f'{sys.executable} -c "import time; {read}" & wait')
    assert parent.until("done")["done"].io < 1000


def test_a_process_can_ask_to_hold(start: Start) -> None:
    """PYSSH_HOLD in a process's own environment is told, and no other process is taken for one that has it."""
    parent = start("PYSSH_HOLD=2h sleep 1000 & tail -f /dev/null & wait")
    until(lambda: parent.sample().get("sleep") is not None, what="sleep")
    found = parent.until("sleep", "tail")
    assert (found["sleep"].hold, found["tail"].hold) == (7200, 0)


def test_a_name_may_be_anything(start: Start, tmp_path: Path) -> None:
    """Parentheses, spaces and numbers in a program's name are not taken for fields."""
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    parent = start('"$1" 1000 & wait', program)
    assert parent.until("a) S 1 (b")["a) S 1 (b"].parent == parent.pid


def test_a_name_need_not_be_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not text is reported as far as possible, and a process that ends meanwhile is left out."""
    for pid, line in (("7", b"7 (\xff\n) S 1 " + b"8 " * 48), ("8", None), ("self", b"")):
        (tmp_path / pid).mkdir()
        if line is not None:
            (tmp_path / pid / "stat").write_bytes(line)
    monkeypatch.setattr(activity, "PROC", str(tmp_path))
    (told,) = activity.sample(1, frozenset()).processes
    assert (told.pid, told.name, told.io) == (7, "\ufffd\n", 0)


def test_the_start_tells_processes_apart(start: Start) -> None:
    """Start times are on the sample's clock, so that it is known which processes are older than it."""
    before = activity.sample(os.getpid(), frozenset())
    parent = start("sleep 1000 & wait")
    started = parent.until("sleep")["sleep"].started
    after = activity.sample(os.getpid(), frozenset())
    assert before.at - 0.02 <= started <= after.at
    assert parent.sample()["sleep"].started == started


def test_a_zombie_is_still_told_of(start: Start) -> None:
    """A zombie is included, so that its use is not lost between its end and its parent's wait."""
    parent = start(f"exec {sys.executable} -c 'import os, signal; os.fork() or os._exit(0); signal.pause()'")
    until(lambda: any(one.state == "Z" for one in processes.descendants(parent.pid)), what="zombie")
    assert len(parent.sample()) == 1


def test_of_very_many_the_nearest_come_first(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many processes only the nearest are reported, so that they cost little; others count at their parents."""
    parent = start("(sleep 1000; :) & (sleep 1000; :) & wait")
    until(lambda: len(activity.sample(parent.pid, frozenset()).processes) == 4, what="four processes")
    monkeypatch.setattr(activity, "MAX_PROCESSES", 3)
    assert [process.name for process in activity.sample(parent.pid, frozenset()).processes] == ["sh", "sh", "sleep"]


def test_the_largest_sample_fits_a_message() -> None:
    """Any sample fits a message, whatever the programs' names: one that did not would end the monitor."""
    worst = Process(2**22, 2**22, 1e9 / 3, 2**32 - 1, "\ufffd" * 15, 1e9 / 3, 2**63)
    report = protocol.Activity(2**40, Sample(1e9 / 3, (worst,) * activity.MAX_PROCESSES))
    assert protocol.decode_report(protocol.encode(report)) == report
