"""The options of a key line: what they permit and require (sshd(8), AUTHORIZED_KEYS FILE FORMAT).

The syntax is that of sshauthopt_parse (OpenSSH's auth-options.c). A line whose options are not understood is refused:
such an option may be a restriction. Nothing is enforced in here.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from pyssh_gateway.core.access import source_match
from pyssh_gateway.core.forwarding import MAX_HOST
from pyssh_gateway.core.transfers.sftp_options import problem_of

MAX_OPTIONS = 1024
"""Options of one line. It is sshd's bound for `environment=` (SSH_AUTHOPT_ENV_MAX, OpenSSH's auth-options.h). sshd
takes 4096 of `permitopen=`, but the limit on a line's length leaves no room for so many."""

MAX_PRINCIPALS = 256
"""Names in `principals=`: as many as a certificate can have (SSHKEY_CERT_MAX_PRINCIPALS, OpenSSH's sshkey.h)."""

MAX_TUNNEL = 0x7FFFFFFD
"""The highest tunnel device that can be named (SSH_TUNID_MAX, OpenSSH's misc.h)."""


class KeyOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """The meaning of one key's options; the defaults are those of a line without options.

    `expires` is Unix time; `source` are the patterns of `from=`: the peer's address has to match one, and none that is
    negated; empty for any; `permit_open` and `permit_listen` are `host:port`, `*` for any, empty for all; `principals`
    are the names that a certificate of this authority may have instead of the account's.
    """

    cert_authority: bool = False
    pty: bool = True
    port_forwarding: bool = True
    agent_forwarding: bool = True
    x11_forwarding: bool = True
    user_rc: bool = True
    command: bytes | None = None
    environment: tuple[tuple[bytes, bytes], ...] = ()
    source: tuple[str, ...] = ()
    permit_open: tuple[str, ...] = ()
    permit_listen: tuple[str, ...] = ()
    expires: float | None = None
    principals: tuple[str, ...] = ()
    verify_required: bool = False
    touch_required: bool = True


NO_OPTIONS = KeyOptions()


class KeyOptionsError(ValueError):
    """Options that are not understood. The text says which and why, and never quotes a command or an environment."""


# A name, and perhaps a value as opt_dequote (OpenSSH's misc.c) reads it: \" is a quotation mark, any other backslash
# is itself. All quantifiers are possessive, so no input causes backtracking.
_OPTION = re.compile(rb'([A-Za-z0-9-]++)(=(?:"((?:[^\\"]|\\"|\\)*+)")?+)?+')

_FLAGS = {
    "pty": "pty",
    "port-forwarding": "port_forwarding",
    "agent-forwarding": "agent_forwarding",
    "x11-forwarding": "x11_forwarding",
    "touch-required": "touch_required",
    "verify-required": "verify_required",
    "user-rc": "user_rc",
}
"""Options that are on with their name and off with `no-` before it -> the field that they set."""

_RESTRICTED = {
    "pty": False,
    "port_forwarding": False,
    "agent_forwarding": False,
    "x11_forwarding": False,
    "user_rc": False,
}

_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z|UTC)?", re.ASCII | re.IGNORECASE)
_ENVIRONMENT = re.compile(rb"([A-Za-z0-9_]+)=(.*)", re.DOTALL)
_PERMIT = re.compile(r"(?:\[([^\s\[\]/]+)\]|([^\s\[\]:/]+))[:/](\*|[0-9]{1,5})", re.ASCII)


def parse_options(text: bytes) -> KeyOptions:
    """The meaning of the options field `text` of a key line; of several options about one thing, the last one counts.

    Raises `KeyOptionsError` for an unknown option, a malformed value, a second `command=`, `from=` or `principals=`.
    """
    if b"\0" in text:  # sshd would read up to it
        raise KeyOptionsError("there is a NUL in them")
    options = NO_OPTIONS
    for number, (name, value) in enumerate(_split(text)):
        if number == MAX_OPTIONS:
            raise KeyOptionsError(f"there are more than {MAX_OPTIONS}")
        options = _with_flag(options, name) if value is None else _with_value(options, name, value)
    return _first_of_each_name(options)


def _split(text: bytes) -> Iterator[tuple[str, bytes | None]]:
    """The options in `text`: names in lower case, values without their quotes, None for none."""
    position = 0
    while text:
        option = _OPTION.match(text, position)
        if option is None:
            # The text is not quoted in the error: after a stray quotation mark, it may be part of a secret value.
            raise KeyOptionsError("a name is missing: there is a comma too many, or a space or a quotation mark")
        name, position = option[1].decode("ascii").lower(), option.end()
        if option[2] is not None and option[3] is None:
            raise KeyOptionsError(f"the value of {_shown(name)} is not in a pair of quotation marks")
        yield name, option[3] if option[3] is None else option[3].replace(b'\\"', b'"')
        if position == len(text):
            return
        if text[position : position + 1] != b",":
            raise KeyOptionsError(f'after {_shown(name)} a comma is missing, or a quotation mark is to be written \\"')
        position += 1


def _shown(name: str) -> str:
    return name[:40]


def _with_flag(options: KeyOptions, name: str) -> KeyOptions:
    match name:
        case "restrict":
            return msgspec.structs.replace(options, **_RESTRICTED)
        case "cert-authority":
            return msgspec.structs.replace(options, cert_authority=True)
        case _ if (flag := name.removeprefix("no-")) in _FLAGS:
            return msgspec.structs.replace(options, **{_FLAGS[flag]: flag == name})
        case _ if name in _VALUES:
            raise KeyOptionsError(f'{name} needs a value: {name}="..."')
        case _:
            raise KeyOptionsError(f"unknown option {_shown(name)}")


def _with_value(options: KeyOptions, name: str, value: bytes) -> KeyOptions:
    if name in _VALUES:
        return _VALUES[name](options, value)
    if name.removeprefix("no-") in _FLAGS or name in {"restrict", "cert-authority"}:
        raise KeyOptionsError(f"{name} takes no value")
    raise KeyOptionsError(f"unknown option {_shown(name)}")


def _command(options: KeyOptions, value: bytes) -> KeyOptions:
    if options.command is not None:
        raise KeyOptionsError("there are two command=")
    if problem := problem_of(value):
        raise KeyOptionsError(f"command= can't be obeyed: {problem}")
    return msgspec.structs.replace(options, command=value)


def _environment(options: KeyOptions, value: bytes) -> KeyOptions:
    """A variable.

    LD_* is refused: it makes the loader run other code in every program that the session starts, so it would be a way
    out of a forced command (sshd_config(5), PermitUserEnvironment, warns of it). No other option of a line
    can do that.
    """
    setting = _ENVIRONMENT.fullmatch(value)
    if setting is None:
        raise KeyOptionsError('environment= is not "NAME=value" with letters, digits and underscores in the name')
    if setting[1].startswith(b"LD_"):
        raise KeyOptionsError("environment= may not set LD_*, which load other code into every program")
    return msgspec.structs.replace(options, environment=(*options.environment, (setting[1], setting[2])))


def _first_of_each_name(options: KeyOptions) -> KeyOptions:
    """Of several variables of one name the first counts (auth-options.c)."""
    if not options.environment:
        return options
    first: dict[bytes, bytes] = {}
    for name, value in options.environment:
        first.setdefault(name, value)
    return msgspec.structs.replace(options, environment=tuple(first.items()))


def _source(options: KeyOptions, value: bytes) -> KeyOptions:
    if options.source:
        raise KeyOptionsError("there are two from=")
    try:
        patterns = source_match.split(_text("from", value))
    except source_match.PatternError as error:
        raise KeyOptionsError(f"from=: {error}") from None
    return msgspec.structs.replace(options, source=patterns)


def _permit_open(options: KeyOptions, value: bytes) -> KeyOptions:
    permits = _one_more(options.permit_open, "permitopen", _text("permitopen", value))
    return msgspec.structs.replace(options, permit_open=permits)


def _permit_listen(options: KeyOptions, value: bytes) -> KeyOptions:
    text = _text("permitlisten", value)
    permits = _one_more(options.permit_listen, "permitlisten", text if ":" in text else f"*:{text}")
    return msgspec.structs.replace(options, permit_listen=permits)


def _one_more(permits: tuple[str, ...], name: str, text: str) -> tuple[str, ...]:
    """`permits` with the entry `text` added. Ports have to be numbers; sshd would also look up service names."""
    parts = _PERMIT.fullmatch(text)
    host, port = (parts[1] or parts[2], parts[3]) if parts is not None else ("", "")
    if not 0 < len(host) <= MAX_HOST or (port != "*" and not 0 < int(port) <= 65535):
        raise KeyOptionsError(
            f'{name}= is not "host:port" with a port from 1 to 65535 or *, and an IPv6 address in brackets'
        )
    return (*permits, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _expiry_time(options: KeyOptions, value: bytes) -> KeyOptions:
    """The earliest of several counts (auth-options.c).

    Without a Z it is the machine's local time, with daylight saving. sshd ignores daylight saving (parse_absolute_time
    in OpenSSH's misc.c leaves tm_isdst 0), so in summer its keys expire an hour later.
    """
    expires = _seconds(_text("expiry-time", value))
    if expires <= 0:  # as sshd, for which 0 is never
        raise KeyOptionsError("expiry-time= is not a time after 1970 written YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]")
    return msgspec.structs.replace(options, expires=min(expires, options.expires or expires))


def _seconds(text: str) -> float:
    """The Unix time that `text` means; 0 if it is not a time."""
    time = _TIME.fullmatch(text)
    if time is None:
        return 0.0
    year, month, day, hour, minute, second = (int(number or 0) for number in time.groups()[:-1])
    zone = UTC if time[7] else None
    try:  # by way of UTC, so that it can be displayed as UTC: datetime ends with the year 9999
        return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _principals(options: KeyOptions, value: bytes) -> KeyOptions:
    if options.principals:
        raise KeyOptionsError("there are two principals=")
    names = tuple(_text("principals", value).split(","))
    if not all(names):
        raise KeyOptionsError("principals= has a comma too many, or names nobody")
    if len(names) > MAX_PRINCIPALS:
        raise KeyOptionsError(f"principals= has more than {MAX_PRINCIPALS} names")
    return msgspec.structs.replace(options, principals=names)


def _tunnel(options: KeyOptions, value: bytes) -> KeyOptions:
    """Check the number and ignore it: it chooses the device of a tunnel, and tunnels are not supported."""
    device = _text("tunnel", value)
    if device.lower() != "any" and not (re.fullmatch("[0-9]{1,10}", device) and int(device) <= MAX_TUNNEL):
        raise KeyOptionsError('tunnel= is neither the number of a device nor "any"')
    return options


def _text(name: str, value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    if not text.isprintable() or "\ufffd" in text:
        raise KeyOptionsError(f"{name}= has characters in it that cannot be shown")
    return text


_VALUES: dict[str, Callable[[KeyOptions, bytes], KeyOptions]] = {
    "command": _command,
    "environment": _environment,
    "expiry-time": _expiry_time,
    "from": _source,
    "permitlisten": _permit_listen,
    "permitopen": _permit_open,
    "principals": _principals,
    "tunnel": _tunnel,
}
"""Options with a value -> the function that reads it."""
