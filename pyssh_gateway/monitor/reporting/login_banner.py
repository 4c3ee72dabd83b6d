"""What a person is told at login: since when the machine is awake, when it stops, and when they were here before.

Remembers each person's last login in a small file that outlives the machine's stops.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.idle import explain
from pyssh_gateway.core.idle.explain import LastLogin
from pyssh_gateway.core.timestamps import timestamp
from pyssh_gateway.events import (
    ConnectionAuthenticated,
    Identity,
    PreviousLogin,
    Record,
)
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("logins.json")
"""In the working directory, which is the monitor's own."""

MAX_PEOPLE = 1000
"""How many people's last logins are remembered; the person who has been away for longest is forgotten first."""

MAX_STATE_BYTES = 1024 * 1024
"""Size limit of the file: a thousand bytes for each of them, where a key and an address take 100, and a name of
`MAX_NAME` characters at most 900."""

MAX_NAME = 200
"""How many characters of a person's name count here: a certificate may give a long one."""


class _State(msgspec.Struct, frozen=True):
    """What is written down: each person's last login, the latest last.

    Version 0.1 also kept there what `Awake` keeps now; unknown fields are ignored.
    """

    people: dict[str, LastLogin]


class LoginBanner:
    """Makes the banner. `clock` gives Unix time."""

    def __init__(self, config: Config, awake: Awake, *, clock: Callable[[], float], state: Path = STATE_FILE) -> None:
        self._config = config
        self._awake = awake
        self._clock = clock
        self._state = state
        self._people: dict[str, LastLogin] = {}
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._people = msgspec.json.decode(read_state(state, MAX_STATE_BYTES), type=_State).people

    def reconfigure(self, config: Config) -> None:
        """Use another configuration from now on."""
        self._config = config

    def observe(self, record: Record) -> None:
        """Remember a login."""
        match record.event:
            case ConnectionAuthenticated(peer=peer, identity=identity):
                name = identity.known_by[:MAX_NAME]
                self._people.pop(name, None)  # the latest is the last one
                self._people[name] = LastLogin(record.time, peer)
                while len(self._people) > MAX_PEOPLE:
                    del self._people[next(iter(self._people))]
                self._write()
            case _:
                pass

    def previous(self, who: Identity) -> PreviousLogin | None:
        """The last login of a person who is just logging in: this login is no event yet."""
        last = self._people.get(who.known_by[:MAX_NAME])
        return None if last is None else PreviousLogin(timestamp(last.time), last.peer)

    def text(self, who: Identity) -> bytes:
        """The banner for a login shell of a person who is just logging in; empty if it is not wanted.

        This login is no event yet, so the one that the banner names is the one before.
        """
        last = self._people.get(who.known_by[:MAX_NAME])
        if not self._config.session.banner:
            return b""
        # The machine's own time zone, as `last` has it; it may be changed while we run.
        return explain.greeting(
            now=datetime.fromtimestamp(self._clock()).astimezone(),
            since=datetime.fromtimestamp(self._awake.since).astimezone(),
            woken_by=self._awake.woken_by,
            policy=explain.policy(self._config.idle),
            who=who,
            last=last,
        )

    def _write(self) -> None:
        with suppress(OSError):  # a full disk must not keep anybody out
            write_state(self._state, msgspec.json.encode(_State(self._people)))
