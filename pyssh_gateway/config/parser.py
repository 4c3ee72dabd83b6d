"""The configuration: how raw values become one frozen `Config`, or a list of everything that is wrong with them."""

import typing
from collections.abc import Mapping
from typing import Annotated

import msgspec

from pyssh_gateway.config import values
from pyssh_gateway.config.machine_values import MAX_WARNINGS
from pyssh_gateway.config.source import LISTS_AS_TEXT, ConfigError, RawConfig, is_text, join, variable, whole_number
from pyssh_gateway.config.types import (
    ACCEPTED_ENV,
    KEY_TYPES,
    Account,
    Boot,
    Config,
    Directory,
    Forwarding,
    HostKeys,
    Idle,
    Keys,
    Limits,
    Link,
    Listen,
    Log,
    Login,
    Metrics,
    Service,
    Session,
    Stop,
)
from pyssh_gateway.config.values import Duration, Secret, check_source_spec, format_duration

__all__ = [
    "ACCEPTED_ENV",
    "KEY_TYPES",
    "Account",
    "Boot",
    "Config",
    "ConfigError",
    "Directory",
    "Duration",
    "Forwarding",
    "HostKeys",
    "Idle",
    "Keys",
    "Limits",
    "Link",
    "Listen",
    "Log",
    "Login",
    "Metrics",
    "RawConfig",
    "Secret",
    "Service",
    "Session",
    "Stop",
    "check_source_spec",
    "format_duration",
    "parse",
]


def parse(raw: RawConfig) -> Config:
    """Check everything in `raw`. Raises ConfigError with every mistake, each with its path and where it was made.

    A configuration without any login is accepted here: the caller decides whether such a server makes sense.
    """
    parser = _Parser(raw.origins)
    config = parser.table(Config, raw.values, "", "")
    parser.check_limits()
    parser.check_logins()
    parser.check_proxies()
    if config is not None:
        parser.check_together(config)
    if config is None or parser.problems:
        raise ConfigError(parser.problems)
    return config


_Table = typing.TypeVar("_Table", bound=msgspec.Struct)


class _Parser:
    """Walks the types and the raw values side by side, and collects every mistake.

    `origin` is where the surrounding table came from. Values without an origin of their own, such as the entries of a
    list, have the table's.
    """

    def __init__(self, origins: Mapping[str, str]) -> None:
        self.problems: list[str] = []
        self._origins = origins
        # Every valid leaf, or its default, by path: for the rules that involve two of them.
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
        """Check limits against each other: a source's share is within the total, a minimum is at most its maximum."""
        path = "limits.unauthenticated_per_source"
        each, every = self._fit.get(path), self._fit.get("limits.unauthenticated")
        if isinstance(each, int) and isinstance(every, int) and each > every:
            origin = self._origins.get(path, "the default")
            self._refuse(path, f"at most limits.unauthenticated, which is {every}", each, origin)
        self._check_order("early_drop_start", "unauthenticated")
        self._check_order("penalty_min", "penalty_max")

    def _check_order(self, low: str, high: str) -> None:
        """Check that `low` is at most `high`. A `low` that is the default is not reported."""
        path = f"limits.{low}"
        least, most = self._fit.get(path), self._fit.get(f"limits.{high}")
        if not isinstance(least, int | float) or not isinstance(most, int | float) or least <= most:
            return
        if least != getattr(Limits(), low):
            limit, given = (format_duration(each) if isinstance(each, Duration) else each for each in (most, least))
            origin = self._origins.get(path, self._origins.get("limits", ""))
            self._refuse(path, f"at most limits.{high}, which is {limit}", given, origin)

    def check_together(self, config: Config) -> None:
        """Report settings that have no effect without another one."""
        if config.stop.action == "command" and not config.stop.command:
            self.problems.append('stop.command: missing: with stop.action = "command" it says what to run')
        if len(config.stop.warn) > MAX_WARNINGS:
            self.problems.append(f"stop.warn: expected at most {MAX_WARNINGS} entries, got {len(config.stop.warn)}")
        names = [service.name for service in config.boot.service]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.problems.append(f"boot.service: {values.shown(name)} is the name of more than one")

    def check_logins(self) -> None:
        """Report an account with two entries: one of them would silently override the other."""
        seen: dict[object, str] = {}
        for path, value in self._fit.items():
            if path.startswith("login[") and path.endswith("].user"):
                first = seen.setdefault(value, path)
                if first != path:
                    hint = f"{values.shown(value)} is {first} already, list all its keys there"
                    self.problems.append(f"{path}: {hint}{_source(self._origins.get('login', ''))}")

    def check_proxies(self) -> None:
        """Enabling PROXY headers requires `trusted_proxies`; otherwise any client could forge its address."""
        path, trusted = "listen.proxy_protocol", "listen.trusted_proxies"
        if self._fit.get(path, "off") != "off" and self._fit.get(trusted) == ():
            hint = f'missing, and {path} is on: list where the proxies are, such as ["172.16.0.0/12"]'
            origin = self._origins.get(path, self._origins.get("listen", ""))
            self.problems.append(f"{trusted}: {hint}{_source(origin)}")

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
            if base is Secret:
                self.problems.append(f"{path}: expected {unfit} (what was given is not shown){_source(origin)}")
            else:
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
        if isinstance(given, str) and is_text(origin):
            if path not in LISTS_AS_TEXT:
                self.problems.append(f"{path}: is a list, which only the configuration file can set{_source(origin)}")
                return None
            given = [entry.strip(" ") for entry in given.split(",")] if given.strip(" ") else []
        if not isinstance(given, list | tuple):
            expected = f"tables, each headed [[{path}]]" if _is_table(kind) else "a list in square brackets"
            if _base(kind) is Secret:
                self.problems.append(f"{path}: expected {expected} (what was given is not shown){_source(origin)}")
                return None
            self._refuse(path, expected, given, origin)
            return None
        if required and not given:
            self._refuse(path, "at least one entry", given, origin)
            return None
        entries = tuple(self._value(kind, entry, f"{path}[{index}]", origin) for index, entry in enumerate(given))
        self._fit[path] = entries
        return entries

    def _refuse(self, path: str, expected: str, given: object, origin: str) -> None:
        got = "an empty list" if given == [] else values.shown(given)
        self.problems.append(f"{path}: expected {expected}, got {got}{_source(origin)}")

    def _unknown(self, path: str, name: str, known: list[str], origin: str) -> None:
        import difflib  # late: only a mistake needs it

        close = difflib.get_close_matches(name, known, n=1)
        if is_text(origin):  # in a variable's name, a missing underscore is the most common mistake
            spelled = {key.replace(".", "__"): key for key in _leaves(Config, "")}
            meant = difflib.get_close_matches(path.replace(".", "__"), spelled, n=1, cutoff=0.8)
            if meant:
                hint = f"did you mean {variable(spelled[meant[0]])}?"
                self.problems.append(f"{path}: unknown key, {hint}{_source(origin)}")
                return
        hint = f'did you mean "{close[0]}"?' if close else f"known here: {', '.join(known)}"
        self.problems.append(f"{path}: unknown key, {hint}{_source(origin)}")


def _is_table(kind: object) -> typing.TypeGuard[type[msgspec.Struct]]:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _leaves(kind: type[msgspec.Struct], path: str) -> typing.Iterator[str]:
    """The dotted paths of the values that the environment can set."""
    for field in msgspec.structs.fields(kind):
        below = join(path, field.name)
        if _is_table(field.type):
            yield from _leaves(field.type, below)
        elif typing.get_origin(_base(field.type)) is not tuple or below in LISTS_AS_TEXT:
            yield below


def _base(kind: object) -> object:
    """A leaf's type without its rules."""
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _source(origin: str) -> str:
    return f" (from {origin})" if origin else ""
