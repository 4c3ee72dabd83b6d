"""What a person is told at login: since when the machine is awake, when it stops, and when they were here before.

Remembers each person's last login in a small file that outlives the machine's stops, and in the same place what a
gateway that follows a crash could not know: when the machine was started, and who woke it.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle import explain
from pyssh_gateway.core.idle.explain import LastLogin
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    MachineResumed,
    Record,
    ServerStopping,
    StopStep,
)
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("logins.json")
"""In the working directory, which is the gateway's own."""

MAX_PEOPLE = 1000
"""Whose last login is remembered; who has not been here for longest is forgotten first."""

MAX_STATE_BYTES = 1024 * 1024
"""Of the file: a thousand bytes for each of them, where a key and an address take 100, and `MAX_NAME` at most 900."""

MAX_NAME = 200
"""Characters of a person's name that count here: a certificate may give them a long one."""


class _State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written down: who was here when, the latest last, and how the machine was started."""

    since: float
    woken_by: str
    people: dict[str, LastLogin]


class LoginBanner:
    """Makes the banner. `since`, Unix time, and `woken_by`, an address, are of the machine's start or resumption.

    `fresh`: this is the first gateway since then.
    """

    def __init__(
        self, config: Config, *, fresh: bool, since: float, clock: Callable[[], float], state: Path = STATE_FILE
    ) -> None:
        self._config = config
        self._clock = clock
        self._state = state
        self.since = since
        self.woken_by = ""
        self._stopping = False
        self._came_first = ""
        self._people: dict[str, LastLogin] = {}
        self._before: dict[str, tuple[Identity, LastLogin | None]] = {}
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kept = msgspec.json.decode(read_state(state, MAX_STATE_BYTES), type=_State)
            self._people = kept.people
            if not fresh:
                self.since, self.woken_by = kept.since, kept.woken_by

    def reconfigure(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self._config = config

    def observe(self, record: Record) -> None:
        """Somebody came, logged in, or went."""
        match record.event:
            case ConnectionOpened(peer=peer):
                self.woken_by = self.woken_by or peer
                self._came_first = self._came_first or peer
            case ConnectionAuthenticated(conn=conn, peer=peer, identity=identity):
                name = identity.known_by[:MAX_NAME]
                self._before[conn] = (identity, self._people.pop(name, None))
                self._people[name] = LastLogin(record.time, peer)
                while len(self._people) > MAX_PEOPLE:
                    del self._people[next(iter(self._people))]
                self._write()
            case ConnectionClosed(conn=conn):
                self._before.pop(conn, None)
            case ServerStopping():
                self._stopping, self._came_first = True, ""
            case StopStep(step="suspend", outcome=outcome) if outcome != "ok":
                self._stopping = False  # it was called off, or nothing comes after it
            case MachineResumed(seconds=seconds) if self._stopping or seconds > 0:
                # Who has woken it may have come before that was noticed.
                self.since, self.woken_by = record.time, self._came_first if self._stopping else ""
                self._stopping = False
                self._write()
            case _:
                pass

    def text(self, conn: str) -> bytes:
        """For a login shell on the connection `conn`; nothing if it is not wanted, or nobody has logged in there."""
        who, last = self._before.get(conn, (None, None))
        if who is None or not self._config.session.banner:
            return b""
        # The machine's own time zone, as `last` has it; it may be changed while we run.
        return explain.greeting(
            now=datetime.fromtimestamp(self._clock()).astimezone(),
            since=datetime.fromtimestamp(self.since).astimezone(),
            woken_by=self.woken_by,
            policy=explain.policy(self._config.idle),
            who=who,
            last=last,
        )

    def _write(self) -> None:
        with suppress(OSError):  # a full disk keeps nobody out
            write_state(self._state, msgspec.json.encode(_State(self.since, self.woken_by, self._people)))
