"""Arguments of sshd's keywords: switches, numbers, times, addresses, ports. Pure."""

import ipaddress
import re

from pyssh_gateway.config.values import format_duration

MAX_PORT = 65535
MAX_DIGITS = 9
"""More digits than any number that sshd accepts (misc.c, atoi_err)."""

_SWITCH = {"yes": True, "true": True, "no": False, "false": False}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


class Untranslatable(Exception):
    """We have no setting with the same meaning; the text says why."""


def switch(text: str) -> bool:
    """A yes or no (servconf.c, multistate_flag)."""
    value = _SWITCH.get(text.lower())
    if value is None:
        raise Untranslatable(f"{text} is neither yes nor no")
    return value


def number(text: str) -> int:
    """A whole number."""
    if not re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", text, re.ASCII):
        raise Untranslatable(f"{text} is not a whole number")
    return int(text)


def seconds(text: str) -> float:
    """A time such as 90, 2m or 1h30m (TIME FORMATS in sshd_config(5))."""
    if not re.fullmatch(r"(?:[0-9]{1,9}[smhdw]?)+", text.lower(), re.ASCII):
        raise Untranslatable(f"{text} is not a time")
    parts = re.findall(r"([0-9]+)([smhdw]?)", text.lower())
    return float(sum(int(count) * _UNITS[unit] for count, unit in parts))


def duration(text: str) -> str:
    """A time, in the format of our configuration."""
    return format_duration(seconds(text))


def size(text: str) -> int:
    """A number of bytes such as 1G (RekeyLimit)."""
    match = re.fullmatch(r"([0-9]{1,12})([kmg]?)", text.lower(), re.ASCII)
    if match is None:
        raise Untranslatable(f"{text} is not a number of bytes")
    return int(match[1]) * _SIZES[match[2]]


def listen_address(text: str, port: int) -> str:
    """An argument of ListenAddress as an endpoint of ours; `port` is for an argument without one."""
    address, own = text, ""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::([0-9]+))?", text)
    if bracketed:
        address, own = bracketed[1], bracketed[2] or ""
    elif text.count(":") == 1:
        address, _, own = text.partition(":")
    try:
        if ipaddress.ip_address(address).version == 6:
            address = f"[{address}]"
    except ValueError:
        raise Untranslatable(f"{address} is no address: names are not looked up") from None
    return f"{address}:{port_number(own) if own else port}"


def port_number(text: str) -> int:
    """A TCP port, by number."""
    if not 0 < number(text) <= MAX_PORT:
        raise Untranslatable(f"{text} is not a port")
    return int(text)


def permits(words: tuple[str, ...], any_host: bool) -> list[str]:
    """The `host:port` of PermitOpen or, with `any_host`, of PermitListen, where a port alone means any address."""
    return [f"*:{word}" if any_host and ":" not in word else word.replace("/", ":") for word in words]


def expanded(path: str, *, name: str, uid: int, home: str) -> str:
    """A path of AuthorizedKeysFile for one account: with tokens replaced, and relative to the home directory."""
    values = {"h": home, "u": name, "U": str(uid), "%": "%"}
    if unknown := [token for token in re.findall("%(.?)", path) if token not in values]:
        raise Untranslatable(f"%{unknown[0]} has no meaning there")
    found = re.sub("%(.)", lambda match: values[match[1]], path)
    return found if found.startswith("/") else f"{home.rstrip('/')}/{found}"
