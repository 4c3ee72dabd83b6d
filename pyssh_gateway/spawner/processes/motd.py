"""The dynamic message of the day: the output of the scripts in /etc/update-motd.d (update-motd(5)), kept up to date.

On Debian and Ubuntu, sshd shows it through PAM: pam_motd runs the scripts as root at each login, makes the user wait
for all of them, and shows /run/motd.dynamic. Here a login shows that file as it is, and the scripts run independently:
in a process of their own, with nothing of any user's, within a deadline, one after the other, and one run at a time.

The scripts are the operator's and need root's rights for what they show, so they run as root; a script that anybody but
root could have put there is not run. Their output may come from the network, so all terminal control sequences but
colours are removed. If a script fails, hangs or writes too much, the others still count; pam_motd discards all output.
"""

import os
import re
import select
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core.printable import printable, screen_text
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup
from pyssh_gateway.spawner.key_files import open_trusted
from pyssh_gateway.spawner.processes.server_process import LastWords
from pyssh_gateway.system.signals import unix_name

SCRIPTS = "/etc/update-motd.d"
DYNAMIC = "/run/motd.dynamic"
"""The paths that pam_motd uses on Debian and Ubuntu."""

FRESH_SECONDS = 60.0
"""How old the message may be before the scripts run again. Logins in quick succession cause one run."""

AFTER_SECONDS = 1.0
"""How long after a start or a login the scripts run: a shell that is being started gets the processors first."""

SCRIPT_SECONDS = 10.0
"""How long one script may take: as long as scripts that fetch news from a server wait for it."""

RUN_SECONDS = 60.0
"""How long all of them may take."""

SCRIPT_BYTES = 16 * 1024
"""How much one script may write: several screens full."""

MOST_BYTES = 64 * 1024
"""How much output of all scripts is kept: as much as a login shows of a message of the day."""

NICENESS = 19
"""The lowest priority: the scripts give way to all other work."""

ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""The environment that pam_motd gives its scripts."""

_NAME = re.compile(r"_?(?:[a-z0-9_.]+-)+[a-z0-9]+|[a-z0-9][a-z0-9-]*")
"""The names of scripts: those that run-parts(8) accepts with --lsbsysinit, fewer than its manual page says
(run-parts.c, tradre). Files that a package manager leaves beside the scripts are excluded."""

_SUFFIXES = (".dpkg-old", ".dpkg-dist", ".dpkg-new", ".dpkg-tmp")


class Motd:
    """Keeps the message up to date while `enabled`, if the server is root. Times are `time.monotonic()`'s."""

    def __init__(
        self,
        inherited: Inherited,
        say: Callable[[str], None],
        *,
        enabled: bool,
        scripts: str = SCRIPTS,
        dynamic: str = DYNAMIC,
    ) -> None:
        self.enabled = enabled
        self._inherited = inherited
        self._say = say
        self._scripts = scripts
        self._dynamic = dynamic
        self._due: float | None = None
        self._last: float | None = None
        self._pid = 0
        self._words: LastWords | None = None
        self._kill_at: float | None = None
        self._told: list[str] = []

    def want(self, now: float) -> None:
        """A user has just been shown the message, or is about to be: make it again, unless that was done lately."""
        is_fresh = self._last is not None and now - self._last < FRESH_SECONDS
        if self.enabled and os.geteuid() == 0 and not is_fresh and self._due is None and not self._pid:
            self._due = now + AFTER_SECONDS

    def close(self) -> None:
        """The server ends: start no more runs, and end the present one."""
        self.enabled, self._due = False, None
        if self._pid:
            self._kill()

    # -- for the loop -----------------------------------------------------------------------------------------------

    @property
    def pids(self) -> set[int]:
        """The process that runs the scripts, if there is one."""
        return {self._pid} - {0}

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        return self._kill_at if self._pid else self._due

    def tick(self, now: float) -> None:
        """Begin a run that is due, and end one that takes too long."""
        if self._kill_at is not None and now >= self._kill_at:
            self._kill()
        if self._due is not None and now >= self._due:
            self._due, self._last = None, now
            if self.enabled and Path(self._scripts).is_dir():
                self._begin(now)

    def reaped(self, pid: int) -> bool:
        """The child `pid` has ended; returns whether it was this one. Each problem with a script is said once."""
        if not self._pid or pid != self._pid:
            return False
        self._pid, self._kill_at = 0, None
        words, self._words = self._words, None
        if words is not None:
            told = words.take()
            for line in told:
                if line not in self._told:
                    self._say(f"message of the day: {line}")
            self._told = told
        return True

    def _begin(self, now: float) -> None:
        words = None
        try:
            words = LastWords()
            descriptors = (NULL, NULL, words.fileno())
            setup = Setup(descriptors=descriptors, inherited=self._inherited, complain=child.on_standard_error(""))
            self._pid = child.start(setup, self._work)
        except OSError as error:
            if words is not None:
                words.close()
            self._say(f"message of the day: can't start a process: {error.strerror}")
            return
        self._words, self._kill_at = words, now + RUN_SECONDS + SCRIPT_SECONDS

    def _kill(self) -> None:
        self._kill_at = None
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)  # so that it ends its script first

    def _work(self) -> int:
        """The child's work: run the scripts."""
        signal.signal(signal.SIGTERM, _stop.ask)
        signal.alarm(int(RUN_SECONDS + 2 * SCRIPT_SECONDS))  # for a spawner that has died and can't end it
        os.nice(NICENESS)
        with suppress(_StopAsked):
            make(self._scripts, self._dynamic, lambda text: os.write(2, f"{printable(text)}\n".encode()))
        return 0


class _StopAsked(Exception):
    """The spawner has asked the process to end (SIGTERM)."""


class _Stop:
    """SIGTERM as an exception, but not while a script is being started: nobody would know of the script then."""

    def __init__(self) -> None:
        self._is_asked = self._waits = False

    def ask(self, _number: int, _frame: object) -> None:
        """The signal's handler."""
        self._is_asked = True
        if not self._waits:
            raise _StopAsked

    def wait(self) -> None:
        """From now on a stop has to wait."""
        self._waits = True

    def go_on(self) -> None:
        """It need not wait any more. Raises `_StopAsked` if one has."""
        self._waits = False
        if self._is_asked:
            raise _StopAsked


_stop = _Stop()


def make(scripts: str, dynamic: str, complain: Callable[[str], object]) -> None:
    """Run the scripts in the directory `scripts` in order, and put their output into the file `dynamic`.

    `complain` is told of each problem with a script. Raises OSError if the file can't be written.
    """
    until = time.monotonic() + RUN_SECONDS
    text = b""
    for name in sorted(entry.name for entry in Path(scripts).iterdir()):
        path = f"{scripts}/{name}"
        if not _NAME.fullmatch(name) or name.endswith(_SUFFIXES) or not _is_program(path):
            continue
        left = min(SCRIPT_SECONDS, until - time.monotonic())
        if left <= 0:
            complain(f"{path} and what follows it: not run, all of them took more than {RUN_SECONDS:.0f} s")
            break
        try:
            os.close(open_trusted(path, ()))
            output, problem = _output_of(path, left)
        except OSError as error:
            complain(f"{path}: not run: {error.strerror or error}")
            continue
        if problem:
            complain(f"{path}: {problem}")
        shown = screen_text(output)
        if len(text) + len(shown) > MOST_BYTES:
            complain(f"{path} and what follows it: left out, there is more than {MOST_BYTES // 1024} KiB")
            break
        text += shown
    _replace(dynamic, text)


def _is_program(path: str) -> bool:
    try:
        found = os.stat(path)  # noqa: PTH116 - one call is enough
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and bool(found.st_mode & 0o111)


def _output_of(path: str, seconds: float) -> tuple[bytes, str]:
    """The script's output, at most `SCRIPT_BYTES`, and the problem with it, or "". Raises OSError."""
    until = time.monotonic() + seconds
    output, problem = bytearray(), ""
    _stop.wait()
    with subprocess.Popen(
        [path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=ENVIRON,
        process_group=0,
    ) as process:
        ended = os.pidfd_open(process.pid)
        stdout = process.stdout.fileno() if process.stdout is not None else -1
        watched = [stdout, ended]
        try:
            _stop.go_on()
            while not problem:
                ready, _, _ = select.select(watched, [], [], max(0.0, until - time.monotonic()))
                if not ready:
                    problem = f"killed: it took more than {seconds:.0f} s"
                elif stdout in ready:
                    data = os.read(stdout, SCRIPT_BYTES)
                    output += data
                    if not data:
                        watched.remove(stdout)
                    elif len(output) > SCRIPT_BYTES:
                        problem = f"killed: it wrote more than {SCRIPT_BYTES // 1024} KiB"
                else:  # it has ended and its output is read; ignore what it has left in the background
                    break
        except _StopAsked:
            problem = "killed: the server has stopped"
            raise
        finally:
            os.close(ended)
            if problem:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if not problem and process.wait():
            code = process.returncode
            problem = f"ended with exit code {code}" if code > 0 else f"ended by {unix_name(-code)}"
    return bytes(output[:SCRIPT_BYTES]), problem


def _replace(path: str, text: bytes) -> None:
    """Replace the file's content by `text`, atomically: a reader gets the old content or the new one."""
    beside = f"{path}.pyssh-gateway"
    with suppress(FileNotFoundError):
        os.unlink(beside)  # noqa: PTH108 - left by a process that was killed; pathlib is not needed for one call
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    os.rename(beside, path)  # noqa: PTH104 - as above
