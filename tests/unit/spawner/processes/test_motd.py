"""The dynamic message of the day, made by real scripts."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.processes import motd as module
from pyssh_gateway.spawner.processes.motd import FRESH_SECONDS, MOST_BYTES, SCRIPT_BYTES, Motd, make
from tests.support import processes
from tests.support.waiting import until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes the message of the day")

Script = Callable[..., Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Makes a script: `script("10-name", "echo text")`."""
    directory = tmp_path / "update-motd.d"
    directory.mkdir()

    def write(name: str, text: str, mode: int = 0o755) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def made(tmp_path: Path) -> Callable[[], tuple[bytes, list[str]]]:
    """Runs the scripts; returns the file's contents and the complaints."""

    def run() -> tuple[bytes, list[str]]:
        said: list[str] = []
        dynamic = tmp_path / "motd.dynamic"
        make(str(tmp_path / "update-motd.d"), str(dynamic), said.append)
        assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["motd.dynamic"]
        return dynamic.read_bytes(), [text.removeprefix(f"{tmp_path}/update-motd.d/") for text in said]

    return run


Made = Callable[[], tuple[bytes, list[str]]]


def test_scripts_run_in_order_with_nothing_but_a_path(script: Script, made: Made) -> None:
    """Protects the scripts' expectations: run-parts' order and names, root's PATH, no input, errors not shown."""
    script("20-second", "env | sort | grep -v ^PWD=; cat; echo error >&2; pwd")
    script("10-first", "printf '\\033[32mgreen\\n'")
    script("30-off", "echo off", 0o644)
    script("40-backup.dpkg-old", "echo old")
    script("50.sh", "echo no script by its name")
    script("README", "echo a readme that somebody has made executable")
    script("60-last", "echo last")
    text, said = made()
    assert text.startswith(b"\x1b[32mgreen\n\x1b[0m")
    environ = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
    assert environ in text
    assert text.count(b"=") == 1
    assert b"error" not in text
    assert b"old" not in text
    assert b"no script" not in text
    assert b"readme" not in text
    assert text.endswith(b"last\n")
    assert not said


def test_a_bad_script_costs_the_others_nothing(
    script: Script, made: Made, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Protects the other scripts' text from a script that fails, hangs, floods, or can't be run."""
    monkeypatch.setattr(module, "SCRIPT_SECONDS", 0.5)
    script("10-fails", "echo before; exit 3")
    script("20-hangs", f"echo half; echo $$ >{tmp_path}/update-motd.d/pid; sleep 333; echo never")
    script("30-floods", "while :; do echo 0123456789012345678901234567890; done")
    script("35-killed", "kill -TERM $$")
    (script("40-broken", "").write_text("#!/no/such/interpreter\n"))
    script("50-well", "echo well")
    text, said = made()
    assert text.startswith(b"before\nhalf\n0123")
    assert text.endswith(b"well\n")
    assert len(text) <= SCRIPT_BYTES + 100
    assert said == [
        "10-fails: ended with exit code 3",
        "20-hangs: killed: it took more than 0 s",
        "30-floods: killed: it wrote more than 16 KiB",
        "35-killed: ended by SIGTERM",
        "40-broken: not run: No such file or directory",
    ]
    pid = int((tmp_path / "update-motd.d" / "pid").read_text())
    until(lambda: not processes.is_running(pid), what="the end of what hangs")


def test_a_script_that_leaves_something_behind_is_not_waited_for(script: Script, made: Made) -> None:
    """Protects from a daemon that keeps the pipe open: the script's own end counts."""
    script("10-leaves", "echo here; sleep 333 & echo $!")
    began = time.monotonic()
    text, said = made()
    os.kill(int(text.split()[1]), signal.SIGKILL)
    assert text.startswith(b"here\n")
    assert not said
    assert time.monotonic() - began < module.SCRIPT_SECONDS


def test_all_of_it_is_bounded(script: Script, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the screen and the machine: the text and the total time are limited."""
    for number in range(6):
        script(f"{number}-much", f"head -c {SCRIPT_BYTES} /dev/zero | tr '\\0' x")
    text, said = made()
    assert len(text) == MOST_BYTES
    assert said == ["4-much and what follows it: left out, there is more than 64 KiB"]
    monkeypatch.setattr(module, "RUN_SECONDS", 0.0)
    text, said = made()
    assert text == b""
    assert said == ["0-much and what follows it: not run, all of them took more than 0 s"]


@needs_root
def test_a_script_that_others_could_change_is_not_run(script: Script, made: Made) -> None:
    """Protects root from scripts that others can write: they are named with the remedy, and not run."""
    os.chown(script("10-theirs", "echo theirs"), 65534, 65534)
    script("20-anybody", "echo anybody", 0o777)
    text, said = made()
    assert text == b""
    assert len(said) == 2
    assert said[0].startswith("10-theirs: not run: it belongs to uid 65534")
    assert "chmod go-w" in said[1]


class Spawner:
    """The spawner's part, with a clock of the test."""

    def __init__(self, tmp_path: Path) -> None:
        self.said: list[str] = []
        self.dynamic = tmp_path / "motd.dynamic"
        scripts = str(tmp_path / "update-motd.d")
        self.motd = Motd(
            Inherited((1024, 1024)), self.said.append, enabled=True, scripts=scripts, dynamic=str(self.dynamic)
        )

    def run(self, now: float) -> bool:
        """Do what is due; returns whether the scripts were run."""
        self.motd.tick(now)
        if not self.motd.pids:
            return False
        (pid,) = self.motd.pids
        os.waitpid(pid, 0)
        assert not self.motd.reaped(1)
        assert self.motd.reaped(pid)
        return True


@pytest.fixture
def spawner(tmp_path: Path) -> Spawner:
    """A spawner."""
    return Spawner(tmp_path)


@needs_root
def test_it_runs_beside_logins_and_not_for_each(script: Script, spawner: Spawner) -> None:
    """Protects logins: they do not wait for the scripts, and a hundred logins run them once a minute."""
    script("10-fails", "echo text; nice; exit 1")
    spawner.motd.want(0.0)
    assert spawner.motd.next_at() == module.AFTER_SECONDS
    assert not spawner.run(0.5)
    assert spawner.run(1.0)
    assert spawner.dynamic.read_bytes() == b"text\n19\n"
    assert spawner.dynamic.stat().st_mode & 0o777 == 0o644
    spawner.motd.want(30.0)
    assert spawner.motd.next_at() is None
    spawner.motd.want(FRESH_SECONDS + 1.0)
    assert spawner.run(FRESH_SECONDS + 2.0)
    assert len(spawner.said) == 1, "what is wrong is said once"
    assert spawner.said[0].endswith("10-fails: ended with exit code 1")


@needs_root
def test_it_can_be_turned_off(script: Script, spawner: Spawner, tmp_path: Path) -> None:
    """Protects machines that do not want it, or have no scripts: nothing is run, and the file is not touched."""
    script("10-text", "echo text")
    spawner.motd.want(0.0)
    spawner.motd.enabled = False
    assert not spawner.run(1.0)
    spawner.motd.want(2.0)
    assert spawner.motd.next_at() is None
    (tmp_path / "update-motd.d").rename(tmp_path / "elsewhere")
    spawner.motd.enabled = True
    spawner.motd.want(100.0)
    assert not spawner.run(101.0)
    assert not spawner.dynamic.exists()


@needs_root
@pytest.mark.parametrize("how", ["stop", "deadline"])
def test_it_ends_with_its_script(script: Script, spawner: Spawner, tmp_path: Path, how: str) -> None:
    """Protects a stop and the machine: a script that hangs ends together with the process that runs it."""
    script("10-hangs", f"echo $$ >{tmp_path}/pid; exec sleep 333")
    spawner.motd.want(0.0)
    spawner.motd.tick(1.0)
    (pid,) = spawner.motd.pids
    started = tmp_path / "pid"
    until(lambda: started.exists() and started.read_text().endswith("\n"), what="the script")
    hangs = int(started.read_text())
    if how == "stop":
        spawner.motd.close()
    else:
        spawner.motd.tick(2.0 + module.RUN_SECONDS + module.SCRIPT_SECONDS)
    os.waitpid(pid, 0)
    assert spawner.motd.reaped(pid)
    until(lambda: not processes.is_running(hangs), what="the script's end")
    assert not spawner.dynamic.exists()


def test_a_stop_while_a_script_is_started_ends_it(
    script: Script, spawner: Spawner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects a stop: a script that was just being started is known, and ended, whenever the signal comes."""
    path = script("10-hangs", "exec sleep 333")
    stop = module._Stop()  # noqa: SLF001 - a state of the process, which a test must not leave behind
    start = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def starts(*args: Any, **options: Any) -> subprocess.Popen[bytes]:  # noqa: ANN401 - Popen's
        started.append(start(*args, **options))
        stop.ask(signal.SIGTERM, None)
        return started[0]

    monkeypatch.setattr(module, "_stop", stop)
    monkeypatch.setattr(subprocess, "Popen", starts)
    with pytest.raises(module._StopAsked):  # noqa: SLF001 - what ends the process's work
        module.make(str(path.parent), str(spawner.dynamic), pytest.fail)
    assert started[0].returncode == -signal.SIGKILL
    assert not spawner.dynamic.exists()


def test_a_process_that_can_t_be_started_is_said(
    spawner: Spawner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects the spawner from a full process table: the failure is reported, and nothing else happens."""
    (tmp_path / "update-motd.d").mkdir()

    def full(*_: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(child, "start", full)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    spawner.motd.want(0.0)
    assert not spawner.run(1.0)
    assert spawner.said == ["message of the day: can't start a process: Resource temporarily unavailable"]


def test_names_are_those_of_run_parts(tmp_path: Path, made: Made) -> None:
    """Protects administrators' expectations: the names that count are those of the real run-parts(8)."""
    directory = tmp_path / "update-motd.d"
    directory.mkdir()
    names = "00-header 9 a- a.b a.b-c a.b-c.d a_b a-B x-y_z _x-y _a -dash UPPER UPPER-case_1 x~ é x.dpkg-old"
    for name in names.split():
        path = directory / name
        path.write_text("#!/bin/sh\necho ${0##*/}\n")
        path.chmod(0o755)
    try:
        listed = subprocess.run(
            ["run-parts", "--lsbsysinit", "--test", directory], capture_output=True, check=True, timeout=10, text=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("there is no run-parts of Debian's")
    assert made()[0].decode().split() == [path.rpartition("/")[2] for path in listed.stdout.split()]
