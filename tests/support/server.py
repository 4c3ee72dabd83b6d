"""The real server in a process of its own, and its event log, on which tests can wait.

with Server(directory, login="amos", keys=["file:/..."]) as server:
    server.wait_for("connection.opened")
"""

import copy
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from tests.support import processes
from tests.support.account import PREAUTH_NAME
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

Settings = dict[str, Any]
EventFields = dict[str, Any]

DEFAULTS: Settings = {
    "listen": {"address": "127.0.0.1", "port": 0},
    # One rule at a time: each test of idle says which rules it has. A test that wakes its server with a stranger has a
    # minute for its login. Tests with a short client_idle don't wait for the minute in which a client counts as used
    # whatever that is.
    "idle": {
        "timeout": "off",
        "client_idle": "off",
        "background": "ignore",
        "wake_grace": "1m",
        "recent_use": "0s",
    },
    "log": {"format": "json"},
    # The scripts in this machine's /etc/update-motd.d would be run as root.
    "session": {"update_motd": False},
    # Logins that fail on purpose come from loopback by the dozen; only a few tests are about penalties.
    "limits": {"penalty_exempt": ["127.0.0.0/8", "::1"]},
    # An account that no machine has, so that a server of root runs its network side as the fallback account everywhere.
    "account": "pyssh-gateway",
    "preauth_account": PREAUTH_NAME,
}


class Server:
    """`pyssh-gateway serve` in `directory`, started by `with` and stopped at its end.

    `settings` are tables and values that override `DEFAULTS`, `login_settings` further keys of the one login; `environ`
    is added to the server's environment. `lines` are the lines of standard output, `events` the same lines as
    dictionaries.
    """

    def __init__(
        self,
        directory: Path,
        *,
        login: str,
        keys: list[str],
        settings: Settings | None = None,
        login_settings: Settings | None = None,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.login = login
        self.config = directory / "config.toml"
        self.keys_dir = directory / "keys"
        self.audit_dir = directory / "audit"
        self.known_hosts = directory / "known_hosts"
        self.lines: list[bytes] = []
        self.events: list[EventFields] = []
        self.checkpoints: list[bytes] = []
        """The lines of standard output with signed checkpoints, over all starts."""
        self.wrapper: list[str] = []
        """A program that starts the server and that the server then replaces, such as `prlimit`."""
        self.port = 0
        self.gateway_pid = 0
        self.exit_code: int | None = None
        self.launched_at = 0.0
        """The time of the last start of the process, in Unix seconds."""
        self.stopped_at = 0.0
        self._environ = environ or {}
        self._changed = threading.Condition()
        self._ended = False
        self._logged_before = 0
        self._read_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        places = {
            "keys_dir": str(self.keys_dir),
            "audit_dir": str(self.audit_dir),
            "control": str(directory / "control.sock"),
        }
        logins = {"login": [{"user": login, "keys": keys} | (login_settings or {})]}
        self.settings = _merged(DEFAULTS | places | logins, settings or {})
        """The contents of the configuration file."""
        self.config.write_text(to_toml(self.settings))

    def write_config(self, changes: Settings) -> None:
        """Write the original configuration with `changes` to the file; a list is replaced as a whole."""
        self.config.write_text(to_toml(_merged(self.settings, changes)))

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if kind is None:
            self.check_clean()

    def start(self) -> None:
        """Start the server (again, with the same configuration) and wait until it serves."""
        self.launch()
        try:
            self.wait_until_started()
        except BaseException:
            self.end()
            raise

    def launch(self) -> None:
        """Start the server without waiting for anything."""
        self.exit_code = None
        self._ended = False
        self.lines, self.events = [], []
        self._logged_before, self._read_bytes = self._logged_bytes(), 0
        self.launched_at = time.time()
        with (self.directory / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*self.wrapper, sys.executable, "-m", "pyssh_gateway", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env=os.environ | self._environ,
            )
        assert process.stdout is not None
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), name="server-log")
        self._reader.start()

    def wait_until_started(self) -> EventFields:
        """Wait for the first `server.started`, and take the server's port and keys from it."""
        started = self.wait_for("server.started", seconds=PATIENCE)
        self.port, self.gateway_pid = started["port"], started["pid"]
        key_type, blob = (self.keys_dir / "ssh_host_ed25519_key.pub").read_text().split()[:2]
        known = f"[127.0.0.1]:{self.port} {key_type} {blob}\n"
        # A client that waits for this start may be reading the file at this moment.
        if not self.known_hosts.exists() or self.known_hosts.read_text() != known:
            self.known_hosts.write_text(known)
        return started

    @property
    def postauth_pid(self) -> int:
        """The process that serves the connections of the one account that is on."""
        (found,) = [each.pid for each in processes.descendants(self.pid) if each.name == "pyssh-postauth"]
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the process to which the platform would send it: the spawner."""
        self._running.send_signal(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for the end; returns the exit code."""
        self.exit_code = self._running.wait(seconds)
        self.stopped_at = time.monotonic()
        # A process that outlives the server may hold the server's output open; then the join below fails, as it should:
        # sessions must not inherit anything from the server.
        assert self._reader is not None
        self._reader.join(seconds)
        assert not self._reader.is_alive(), "somebody still holds the server's standard output"
        return self.exit_code

    def stop(self, seconds: float = PATIENCE) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def end(self) -> None:
        """Make sure that no process is left, whatever state the server is in."""
        if self._process is None or self.exit_code is not None:
            return
        try:
            self.stop()
        except (subprocess.TimeoutExpired, AssertionError):
            for process in processes.descendants(self.pid):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            self.signal(signal.SIGKILL)
            self.wait()
            raise

    def check_clean(self) -> None:
        """Check that the server has noticed no bug of its own while it lived."""
        bugs = [event for event in self.events if event["event"] == "internal.error"]
        assert not bugs, f"internal errors: {bugs}"
        assert "Traceback" not in self.stderr, self.stderr
        crashes = [event for event in self.events if event["event"] == "gateway.crashed"]
        assert {event["cause"] for event in crashes} <= {"SIGKILL"}, f"{crashes}; standard error: {self.stderr}"
        assert "killing the gateway" not in self.stderr, self.stderr

    # -- what it says -------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process that was started: the spawner."""
        return self._running.pid

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server has not been launched"
        return self._process

    @property
    def stderr(self) -> str:
        """All that was written to standard error so far."""
        return (self.directory / "stderr").read_text(errors="backslashreplace")

    def mark(self) -> int:
        """The present position in the log: `wait_for(..., since=mark)` looks at the events after it."""
        with self._changed:
            self._catch_up()
            return len(self.events)

    def rough_mark(self) -> int:
        """As `mark`, after a kill: standard output may then lack the last line of the file for ever."""
        with self._changed:
            return len(self.events)

    def find(self, name: str, since: int = 0, **fields: object) -> list[EventFields]:
        """The events of this name and with these fields so far, from the mark `since` on.

        Events of everything that a client has already seen are included, because the log is written first.
        """
        with self._changed:
            self._catch_up()
            return self._matching(name, since, fields)

    def wait_for(
        self, name: str, *, since: int = 0, seconds: float = PATIENCE, count: int = 1, **fields: object
    ) -> EventFields:
        """The `count`-th event of this name and with these fields after `since`, which may already have happened."""

        def found() -> bool:
            return len(self._matching(name, since, fields)) >= count or self._ended

        with self._changed:
            self._changed.wait_for(found, seconds)
            matching = self._matching(name, since, fields)
        assert len(matching) >= count, (
            f"{len(matching)} of {count} events {name} {fields} within {seconds} s; the log ends with "
            f"{json.dumps(self.events[-10:], indent=1)}; standard error: {self.stderr[-2000:]}"
        )
        return matching[count - 1]

    def _matching(self, name: str, since: int, fields: dict[str, object]) -> list[EventFields]:
        return [event for event in self.events[since:] if _matches(event, name, fields)]

    def _catch_up(self) -> None:
        """Wait until standard output has all lines of the log's file, to which each event goes first."""
        logged = self._logged_bytes() - self._logged_before
        caught_up = self._changed.wait_for(lambda: self._read_bytes >= logged or self._ended, PATIENCE)
        assert caught_up, f"standard output has {self._read_bytes} of {logged} bytes of the event log"

    def _logged_bytes(self) -> int:
        try:
            return (self.audit_dir / "events.jsonl").stat().st_size
        except FileNotFoundError:
            return 0

    def _read(self, stdout: IO[bytes]) -> None:
        with stdout:
            for line in stdout:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"event": "not JSON", "line": line.decode(errors="backslashreplace")}
                with self._changed:
                    if event["event"] == "log.checkpoint":  # not in the log itself
                        self.checkpoints.append(line)
                    else:
                        self._read_bytes += len(line)
                        self.lines.append(line)
                        self.events.append(event)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _matches(event: EventFields, name: str, fields: dict[str, object]) -> bool:
    return event["event"] == name and all(event.get(field) == value for field, value in fields.items())


def _merged(base: Settings, over: Settings) -> Settings:
    """`base` with the values of `over` in it, table by table."""
    merged = copy.deepcopy(base)
    for name, value in over.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def to_toml(settings: Settings) -> str:
    """`settings` as TOML. Scalars and lists of them are the same in JSON."""
    scalars = [f"{name} = {json.dumps(value)}" for name, value in settings.items() if not _is_table(value)]
    tables = []
    for name, value in settings.items():
        if isinstance(value, dict):
            tables.append(f"[{name}]\n{to_toml(value)}")
        elif _is_table(value):
            tables += [f"[[{name}]]\n{to_toml(entry)}" for entry in value]
    return "\n".join(scalars + tables) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))
