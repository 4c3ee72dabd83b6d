"""Readers of single values of the configuration: what each kind accepts, and the message when it refuses.

A reader takes the raw value and returns the value in use, or raises `UnfitError`. It knows neither the key that it
reads nor where the value came from: `config` puts the sentence together.
"""

import re
from collections.abc import Callable
from typing import cast

from pyssh_gateway.config.source import MAX_DIGITS, endpoints_of, is_ip_address, quoted

# re.ASCII, because \d would match the digits of any script.
_NUMBER = r"\d+(?:\.\d+)?"
_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = "".join(f"(?:({_NUMBER}){unit})?" for unit in _UNITS)

MILLISECOND = 0.001
SECOND = 1
MINUTE = 60
# Longer than any machine runs; keeps sums with a clock exact.
YEAR = 365 * 86400

# RFC 4253 section 4.2: the whole line is at most 255 characters.
MAX_IDENTIFICATION = 200

# sun_path of unix(7), without its terminating NUL.
MAX_SOCKET_PATH = 107

# What GitHub gives to accounts now ("alphanumeric characters or single hyphens", at most 39), what it gave before 2013
# (hyphens anywhere: gil--, -DNA-), and what enterprises give to theirs (name_company).
_GITHUB_LOGIN = r"(?=[^#/]{1,39}(?:[#/]|\Z))-*[A-Za-z0-9][A-Za-z0-9-]*(?:_[A-Za-z0-9]+)?"

_GITHUB_LETTERS = "letters, digits, hyphens and one underscore, at most 39"

# The form of an account's name at each provider, and its description for people. When in doubt, a name is accepted (the
# provider knows whether it exists), but nothing that could lead to another address: no slash, percent sign, question
# mark, or dots alone.
_ACCOUNTS = {
    "github": (
        rf"{_GITHUB_LOGIN}(?:#[1-9][0-9]{{0,17}})?",
        f'a GitHub login after "github:" ({_GITHUB_LETTERS}), then "#" and the number of the account to pin it',
    ),
    "github-team": (
        rf"{_GITHUB_LOGIN}/[A-Za-z0-9_-]{{1,100}}",
        '"<organisation>/<team>" after "github-team:", the team as its address spells it, such as "example/site-ops"',
    ),
    "gitlab": (
        r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}",
        'a GitLab login after "gitlab:" (letters, digits, dots, hyphens and underscores)',
    ),
    "codeberg": (
        r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}",
        'a Codeberg login after "codeberg:" (letters, digits, dots, hyphens and underscores, at most 40)',
    ),
    "launchpad": (
        r"[a-z0-9][a-z0-9+.-]{0,99}",
        'a Launchpad login after "launchpad:" (small letters, digits, dots, hyphens and plus signs)',
    ),
    "sourcehut": (
        r"[a-z_][a-z0-9_-]{0,29}",
        'a SourceHut login after "sourcehut:" (small letters, digits, hyphens and underscores, at most 30)',
    ),
}

# Providers that display logins with a tilde, which is not part of the login.
_TILDES = frozenset({"launchpad", "sourcehut"})

_SPECS = (
    '"github:<login>", "github-team:<organisation>/<team>", "gitlab:<login>", "codeberg:<login>", "launchpad:<login>", '
    '"sourcehut:<login>", "url:https://...", "file:<absolute path>" or "ca:<absolute path>"'
)

# Excluded are the separators of passwd(5) and of paths, control characters, and a leading `-`, which a program would
# take for an option. ASCII, because a name has to be the very bytes that a client sends (core.access.policy).
# LOGIN_NAME_MAX is 256, NUL included.
_EXISTING_NAME = r"(?![ -])[ -.0-9;-~]{1,255}(?<! )"

# POSIX's portable characters for user names (XBD 3.437), at most 32 as in Linux's useradd; all digits would be
# taken for a uid by chown and others.
_ACCOUNT_NAME = r"(?!\d+\Z)[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}"


class Duration(float):
    """Seconds. Written in a file as `60s`, `5m`, `8h`, `1d`, `1h30m`, `250ms` or a bare number of seconds."""


class Secret(str):
    """Text that is never shown, neither in errors nor when a configuration is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(...)" if self else "Secret()"


class UnfitError(Exception):
    """A value that a reader refuses. The message completes the sentence "expected ..."."""


def format_duration(seconds: float) -> str:
    """`seconds` for people, to the millisecond and as `parse` would read it: 1h30m, 1m, 1.5s, 250ms, 0s."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    milliseconds = round(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{count}{unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if count]
    if milliseconds or not parts:
        parts.append(f"{milliseconds / 1000:g}s")
    return "".join(parts)


def check_source_spec(spec: str) -> str | None:
    """The problem with `spec` as a source of keys, in one line; None if it is well formed."""
    try:
        source_spec(spec)
    except UnfitError as unfit:
        return f"expected {unfit}, got {shown(spec)}"
    return None


def shown(value: object) -> str:
    """`value` as an error quotes it: short, in the file's own words, safe to print."""
    match value:
        case str():
            return quoted(value)
        case bool():
            return "true" if value else "false"
        case int() if abs(value) >= 10**MAX_DIGITS:
            return "a number too long to show"
        case int() | float():
            return str(value)
        case dict():
            return "a table"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"  # TOML leaves date, time and datetime


def whole_number(low: int, high: int) -> Callable[[object], int]:
    """A reader of integers from `low` to `high`."""

    def read(value: object) -> int:
        if type(value) is not int or not low <= value <= high:  # a bool is an int to isinstance
            raise UnfitError(f"a whole number from {low} to {high}")
        return value

    return read


def duration(low: float, high: float) -> Callable[[object], Duration]:
    """A reader of durations from `low` to `high` seconds."""
    expected = f"a duration from {format_duration(low)} to {format_duration(high)}, such as 15s, 5m or 1h30m"

    def read(value: object) -> Duration:
        seconds = _seconds(value)
        if seconds is None or not low <= seconds <= high:
            raise UnfitError(expected)
        return Duration(seconds)

    return read


def duration_or_off(value: object) -> Duration | None:
    """Read a duration that 0 or "off" turns off."""
    if value == "off" or _seconds(value) == 0:
        return None
    try:
        return duration(MILLISECOND, YEAR)(value)
    except UnfitError:
        raise UnfitError('a duration such as 60s, 5m or 1h30m, or "off"') from None


def duration_or(name: str) -> Callable[[object], Duration | None]:
    """A reader of durations that also accepts the word `name`: then the duration is another setting's (None)."""

    def read(value: object) -> Duration | None:
        if value == name:
            return None
        try:
            return duration(MILLISECOND, YEAR)(value)
        except UnfitError:
            raise UnfitError(f'a duration such as 60s, 5m or 1h30m, or "{name}"') from None

    return read


def choice(*names: str) -> Callable[[object], str]:
    """A reader of one of `names`."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise UnfitError(f"{', '.join(names[:-1])} or {names[-1]}")
        return value

    return read


def yes_or_no(value: object) -> bool:
    """Read a truth value; from the environment, where everything is text, `true` or `false`."""
    named = {"true": True, "false": False}
    if isinstance(value, str) and value in named:
        return named[value]
    if not isinstance(value, bool):
        raise UnfitError("true or false")
    return value


def mask(value: object) -> str:
    """Read a umask, and keep it as the octal digits in which it is written."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise UnfitError('three octal digits as text, such as "0177"')
    return value


def command(value: object) -> str:
    """Read a command for a shell; empty for none."""
    if not isinstance(value, str) or "\0" in value:
        raise UnfitError("a command")
    return value


def env_pattern(value: object) -> str:
    """Read the name of an environment variable, with `*` and `?` as wildcards."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_*?][A-Za-z0-9_*?]*", value, re.ASCII):
        raise UnfitError("the name of an environment variable, or a pattern such as LC_*")
    return value


def env_setting(value: object) -> str:
    """Read a variable and its value, written `NAME=value`."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*=[^\0]*", value, re.ASCII | re.DOTALL):
        raise UnfitError("NAME=value")
    return value


def host_and_port(value: object) -> str:
    """Read a `host:port` pattern as in sshd_config(5): `*` for any, an IPv6 address in brackets."""
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    fits = port == "*" or (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535)
    if not host or not host.isprintable() or " " in host or not fits:
        raise UnfitError('"host:port", with * for any host or port, such as "localhost:8080" or "*:443"')
    return f"{host}:{port}"


def identification(value: object) -> str:
    """Read what the server calls itself (RFC 4253 section 4.2): software version, a space, comments."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-,.-~]+( [ -~]+)?", value) or len(value) > MAX_IDENTIFICATION:
        raise UnfitError("printable ASCII without a hyphen before the first space, at most 200 characters")
    return value


def existing_account(value: object) -> str:
    """Read the name of an account that exists already, in any form that getpwnam(3) may know.

    Directory services have names such as `joe@corp.example`. The caller checks whether the account exists.
    """
    if not isinstance(value, str) or not re.fullmatch(_EXISTING_NAME, value):
        raise UnfitError("the name of a Unix account (ASCII without slash and colon, no hyphen in front)")
    return value


def account_name(value: object) -> str:
    """Read the name of an account that is to be made."""
    if not isinstance(value, str) or not re.fullmatch(_ACCOUNT_NAME, value, re.ASCII):
        raise UnfitError("the name of a Unix account (letters, digits, dots, hyphens and underscores, at most 32)")
    return value


def listen_address(value: object) -> str | tuple[str, ...]:
    """Read an address to listen on, or a list of addresses with or without ports; from the environment, with commas.

    Names are refused: looking one up would delay the first connection.
    """
    if isinstance(value, str) and is_ip_address(value):
        return value
    if endpoints_of(value, 0) is None:
        if isinstance(value, list | tuple) or (isinstance(value, str) and "," in value):
            raise UnfitError('addresses such as "0.0.0.0:2222" and "[::]:2222", each once')
        raise UnfitError("an IPv4 or IPv6 address such as 0.0.0.0 or ::")
    return tuple(text.strip(" ") for text in (value.split(",") if isinstance(value, str) else cast(list[str], value)))


def directory(value: object) -> str:
    """Read the path of a directory, absolute or relative to where the server was started."""
    if not isinstance(value, str) or value == "" or "\0" in value or value.startswith("~"):
        raise UnfitError("the path of a directory (~ is not expanded)")
    return value


def base_url(value: object) -> str:
    """Read a base URL, to which paths (`/...`) are appended; a slash at its end is dropped."""
    if not isinstance(value, str) or not _is_safe_url(value) or "?" in value or "#" in value:
        raise UnfitError("an https:// address without query or fragment (http:// only for localhost)")
    return value.rstrip("/")


def optional_base_url(value: object) -> str:
    """Read a base URL as `base_url` does; empty for none."""
    return "" if value == "" else base_url(value)


def secret(value: object) -> Secret:
    """Read a token. Error messages never show it."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]{0,1024}", value):
        raise UnfitError("a token: printable ASCII without spaces")
    return Secret(value)


def fingerprint(value: object) -> str:
    """Read the fingerprint of a key as `ssh-keygen -l` prints it."""
    if not isinstance(value, str) or not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", value):
        raise UnfitError('a fingerprint such as "SHA256:" and 43 characters, as ssh-keygen -l prints it')
    return value


def socket_path(value: object) -> str:
    """Read the path of a unix socket, "auto", or "off"."""
    if isinstance(value, str):
        is_path = value.startswith("/") and "\0" not in value
        if value in {"auto", "off"} or (is_path and len(value.encode(errors="surrogateescape")) <= MAX_SOCKET_PATH):
            return value
    raise UnfitError(f'an absolute path of at most {MAX_SOCKET_PATH} bytes, "auto" or "off"')


def source_spec(value: object) -> str:
    """Read the name of a source of keys, `<kind>:<rest>`; a tilde before a login is dropped."""
    kind, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind in _TILDES:
        rest = rest.removeprefix("~")
    if kind in _ACCOUNTS:
        pattern, expected = _ACCOUNTS[kind]
        fits = re.fullmatch(pattern, rest, re.ASCII) is not None
    elif kind in {"file", "ca"}:
        expected = f'an absolute path after "{kind}:" (~ is not expanded)'
        fits = rest.startswith("/") and rest.isprintable()
    elif kind == "url":
        expected = 'an https:// address after "url:" (http:// only for localhost)'
        fits = _is_safe_url(rest) and "#" not in rest
    else:
        expected, fits = _SPECS, False
    if not fits:
        raise UnfitError(expected)
    return f"{kind}:{rest}"


def _seconds(value: object) -> float | None:
    """The number of seconds that `value` spells, if it spells a duration."""
    if isinstance(value, float):
        return value
    if type(value) is int:
        return float(value) if abs(value) < 10**MAX_DIGITS else None
    if not isinstance(value, str) or value == "":
        return None
    if re.fullmatch(_NUMBER, value, re.ASCII):
        return float(value)
    spelled = re.fullmatch(_DURATION, value, re.ASCII)
    if spelled is None:
        return None
    return sum(float(count) * unit for count, unit in zip(spelled.groups("0"), _UNITS.values(), strict=True))


def _is_safe_url(url: str) -> bool:
    """Whether keys may be fetched from `url`: nobody in between can change them, and no password is in it.

    Plain HTTP is accepted only for this machine itself. Characters that `urlsplit` would silently drop (tabs, newlines)
    are refused first.
    """
    # Late: only needed for a configuration that names a URL.
    from urllib.parse import urlsplit

    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it raises ValueError for an invalid port
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))


def _is_loopback(host: str) -> bool:
    """Whether `host` is this machine itself: localhost, 127.0.0.0/8 or ::1."""
    import ipaddress  # late: 8 ms, for a rare case

    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
