"""The configuration: its types, their defaults and limits, and how raw values become one frozen `Config`.

What is written at a field's type is the whole truth about it: the last item of a leaf's `Annotated` reads and checks
the raw value. `docs/configuration.md` has the same for people, and the tests hold the two together.
"""

import typing
from collections.abc import Mapping
from typing import Annotated

import msgspec

from pyssh_gateway import config_values as values
from pyssh_gateway.config_source import (
    DEFAULT_ADDRESS,
    DEFAULT_PORT,
    ConfigError,
    RawConfig,
    is_text,
    join,
    whole_number,
)
from pyssh_gateway.config_values import Duration, check_source_spec, format_duration

__all__ = [
    "Config",
    "ConfigError",
    "Duration",
    "Forwarding",
    "Idle",
    "Keys",
    "Limits",
    "Listen",
    "Log",
    "Login",
    "RawConfig",
    "Session",
    "Stop",
    "check_source_spec",
    "format_duration",
    "parse",
]

ACCEPTED_ENV = ("LANG", "LC_*", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "GIT_*", "NO_COLOR")
"""What a client may set by default (sshd's AcceptEnv): looks, language and git's settings; nothing that loads code."""

# Fly's maximum kill_timeout: past it the machine is gone, whatever we still wait for.
_MAX_DRAIN = 300
# A source that takes longer is down, and the next refresh will ask it again.
_MAX_FETCH = 60
# Every refresh asks every source; faster would be a load on them and noticed by GitHub's rate limit.
_MIN_REFRESH = 10
# Time to find a security key in another room. It is the time for which a scanner can hold a place.
_MAX_GRACE = 600
# OpenSSH's MaxAuthTries is 6. Larger agents exist; guessing keys is hopeless at any number of attempts.
_MAX_ATTEMPTS = 100
# Fly's proxy opens at most 2,048 connections per app and edge; a few edges fit.
_MAX_UNAUTHENTICATED = 10_000
# OpenSSH's MaxSessions is 10. Each is a process and up to three descriptors.
_MAX_SESSIONS = 1_000
# OpenSSH's ClientAliveCountMax is 3 of no interval; a day of silence at any sensible interval is within this.
_MAX_MISSES = 10_000


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where connections arrive."""

    address: Annotated[str, values.ip_address] = DEFAULT_ADDRESS
    port: Annotated[int, values.whole_number(0, 65535)] = DEFAULT_PORT
    # npm's ssh2, and the editors that are built on it, refuse unix-socket forwarding to anything but OpenSSH.
    identification: Annotated[str, values.identification] = "OpenSSH_9.9 pyssh-gateway"


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Unix account that people may log in to, and where their keys come from."""

    user: Annotated[str, values.account_name]
    keys: Annotated[tuple[Annotated[str, values.source_spec], ...], msgspec.Meta(min_length=1)]
    forwarding: Annotated[str, values.choice("all", "local", "none")] = "all"
    permit_open: tuple[Annotated[str, values.host_and_port], ...] = ()
    permit_listen: tuple[Annotated[str, values.host_and_port], ...] = ()
    force_command: Annotated[str, values.command] = ""
    set_env: tuple[Annotated[str, values.env_setting], ...] = ()


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How keys are fetched."""

    refresh: Annotated[Duration, values.duration(_MIN_REFRESH, values.YEAR)] = Duration(600)
    timeout: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_FETCH)] = Duration(5)
    github_url: Annotated[str, values.base_url] = "https://github.com"


class Idle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the machine is not needed. `timeout` None: never."""

    timeout: Annotated[Duration | None, values.duration_or_off] = Duration(60)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a peer may ask of us."""

    login_grace: Annotated[Duration, values.duration(values.MILLISECOND, _MAX_GRACE)] = Duration(30)
    auth_attempts: Annotated[int, values.whole_number(1, _MAX_ATTEMPTS)] = 6
    unauthenticated: Annotated[int, values.whole_number(1, _MAX_UNAUTHENTICATED)] = 100
    unauthenticated_per_source: Annotated[int, values.whole_number(1, _MAX_UNAUTHENTICATED)] = 10
    sessions_per_connection: Annotated[int, values.whole_number(1, _MAX_SESSIONS)] = 64


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a session may bring along, when its client counts as gone, and when it is over.

    `keepalive` None: the client is never asked. `linger` None: a session waits for its output's end, as sshd's does.
    """

    accept_env: tuple[Annotated[str, values.env_pattern], ...] = ACCEPTED_ENV
    keepalive: Annotated[Duration | None, values.duration_or_off] = Duration(30)
    keepalive_misses: Annotated[int, values.whole_number(1, _MAX_MISSES)] = 10
    linger: Annotated[Duration | None, values.duration_or_off] = Duration(2)


class Forwarding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is forwarded, for everybody. A login may have less (`login.forwarding`)."""

    agent: Annotated[bool, values.yes_or_no] = True
    x11: Annotated[bool, values.yes_or_no] = False
    gateway_ports: Annotated[str, values.choice("no", "yes", "clientspecified")] = "no"
    socket_mask: Annotated[str, values.mask] = "0177"
    socket_unlink: Annotated[bool, values.yes_or_no] = False


class Stop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the server leaves."""

    drain: Annotated[Duration, values.duration(0, _MAX_DRAIN)] = Duration(4)


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written to standard output. `auto`: human on a terminal, JSON lines elsewhere."""

    format: Annotated[str, values.choice("auto", "human", "json")] = "auto"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything, parsed once."""

    listen: Listen = Listen()
    login: tuple[Login, ...] = ()
    keys: Keys = Keys()
    idle: Idle = Idle()
    limits: Limits = Limits()
    session: Session = Session()
    forwarding: Forwarding = Forwarding()
    stop: Stop = Stop()
    log: Log = Log()
    account: Annotated[str, values.account_name] = "pyssh-gateway"
    keys_dir: Annotated[str, values.directory] = "keys"
    audit_dir: Annotated[str, values.directory] = "audit"


def parse(raw: RawConfig) -> Config:
    """Check everything in `raw`. Raises ConfigError with every mistake, each with its path and where it was made.

    No login is no mistake here: whether a server without one makes sense is for the caller to decide.
    """
    parser = _Parser(raw.origins)
    config = parser.table(Config, raw.values, "", "")
    parser.check_limits()
    parser.check_logins()
    if config is None or parser.problems:
        raise ConfigError(parser.problems)
    return config


_Table = typing.TypeVar("_Table", bound=msgspec.Struct)


class _Parser:
    """Walks the types and the raw values side by side, and collects what is wrong.

    `origin` is where the surrounding table came from: what the raw configuration does not list, such as the entries
    of a list, came from there too.
    """

    def __init__(self, origins: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._origins = origins
        # Every leaf that was fit, or its default, by path: for the rules between two of them.
        self._fit: dict[str, object] = {}

    def table(self, kind: type[_Table], given: object, path: str, origin: str) -> _Table | None:
        """The table at `path`, or None if anything in it is wrong."""
        if not isinstance(given, dict):
            self._refuse(path, "a table", given, origin)
            return None
        before = len(self.problems)
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for name in given:
            if name not in fields:
                self._unknown(join(path, name), name, list(fields), self._origins.get(join(path, name), origin))
        made: dict[str, object] = {}
        for name, field in fields.items():
            below = join(path, name)
            if name in given:
                made[name] = self._value(field.type, given[name], below, self._origins.get(below, origin))
            elif _is_table(field.type):
                made[name] = self.table(field.type, {}, below, origin)
            elif field.required:
                self.problems.append(f"{below}: missing{_source(origin)}")
            else:
                made[name] = self._fit[below] = field.default
        return kind(**made) if len(self.problems) == before else None

    def check_limits(self) -> None:
        """One source cannot hold more places than there are."""
        path = "limits.unauthenticated_per_source"
        each, every = self._fit.get(path), self._fit.get("limits.unauthenticated")
        if isinstance(each, int) and isinstance(every, int) and each > every:
            origin = self._origins.get(path, "the default")
            self._refuse(path, f"at most limits.unauthenticated, which is {every}", each, origin)

    def check_logins(self) -> None:
        """An account has one entry, or the second would silently win or lose against the first."""
        seen: dict[object, str] = {}
        for path, value in self._fit.items():
            if path.startswith("login[") and path.endswith("].user"):
                first = seen.setdefault(value, path)
                if first != path:
                    hint = f"{values.shown(value)} is {first} already, list all its keys there"
                    self.problems.append(f"{path}: {hint}{_source(self._origins.get('login', ''))}")

    def _value(self, kind: object, given: object, path: str, origin: str) -> object:
        if _is_table(kind):
            return self.table(kind, given, path, origin)
        base, *rules = typing.get_args(kind) if typing.get_origin(kind) is Annotated else (kind,)
        if typing.get_origin(base) is tuple:
            return self._entries(typing.get_args(base)[0], bool(rules), given, path, origin)
        if base is int and isinstance(given, str) and is_text(origin):
            number = whole_number(given)
            given = given if number is None else number
        try:
            self._fit[path] = value = rules[-1](given)
        except values.UnfitError as unfit:
            self._refuse(path, str(unfit), given, origin)
            return None
        return value

    def _entries(
        self,
        kind: object,
        required: bool,
        given: object,
        path: str,
        origin: str,
    ) -> tuple[object, ...] | None:
        if not isinstance(given, list | tuple):
            expected = f"tables, each headed [[{path}]]" if _is_table(kind) else "a list in square brackets"
            self._refuse(path, expected, given, origin)
            return None
        if required and not given:
            self._refuse(path, "at least one entry", given, origin)
            return None
        return tuple(self._value(kind, entry, f"{path}[{index}]", origin) for index, entry in enumerate(given))

    def _refuse(self, path: str, expected: str, given: object, origin: str) -> None:
        got = "an empty list" if given == [] else values.shown(given)
        self.problems.append(f"{path}: expected {expected}, got {got}{_source(origin)}")

    def _unknown(self, path: str, name: str, known: list[str], origin: str) -> None:
        import difflib  # late: only a mistake needs it

        close = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(known)}"
        self.problems.append(f"{path}: unknown key, {hint}{_source(origin)}")


def _is_table(kind: object) -> typing.TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _source(origin: str) -> str:
    return f" (from {origin})" if origin else ""
