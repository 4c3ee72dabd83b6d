"""Readers of the values about the machine: networks, proxies, hours, commands, the address of the metrics.

They follow the rules of `config.values`.
"""

import re
from ipaddress import ip_network

from pyssh_gateway.config.source import MAX_SHOWN, is_ip_address
from pyssh_gateway.config.values import Secret, UnfitError, command, socket_path

_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)"
_HOURS = rf"(?:{_DAY}(?:-{_DAY})? )?([0-9]{{2}}):([0-9]{{2}})-([0-9]{{2}}):([0-9]{{2}})"

# Many screens full. Every client receives it before it has logged in.
MAX_BANNER = 16 * 1024

# Entries of stop.warn: all of them run at the same time, twice before a stop.
MAX_WARNINGS = 8

# More hosts than anybody lists; the whole environment may have two megabytes.
MAX_NO_PROXY = 16 * 1024


def network(value: object) -> str:
    """Read an address or a network such as 172.16.0.0/12, without a zone: peers are compared without zones."""
    try:
        return str(ip_network(value)) if isinstance(value, str) and "%" not in value else _no_network()
    except ValueError:
        return _no_network()


def http_proxy(value: object) -> Secret:
    """Read the address of an HTTP proxy, which may have a password in it; empty for none."""
    text = value if isinstance(value, str) else "\0"
    text = f"http://{text}" if text and "://" not in text else text
    if text and not _is_proxy(text):
        raise UnfitError('an HTTP proxy such as "http://proxy.example:3128" (with "user:password@" if it wants them)')
    return Secret(text)


def no_proxy(value: object) -> str:
    """Read the list of hosts that are reached without a proxy, in the format of NO_PROXY."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > MAX_NO_PROXY:
        raise UnfitError('hosts and networks with commas between them, such as "localhost,.example.com,10.0.0.0/8"')
    return value


def _is_proxy(url: str) -> bool:
    """Whether `url` names a proxy that is spoken to over plain HTTP; the connections through it are encrypted."""
    from urllib.parse import urlsplit  # late: only needed where a proxy is configured

    if not re.fullmatch(r"[!-~]{1,1024}", url) or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return (
        parts.scheme == "http" and bool(parts.hostname) and parts.path in {"", "/"} and not parts.query + parts.fragment
    )


def hours(value: object) -> str:
    """Read hours of the week such as `mon-fri 08:00-18:00`."""
    match = re.fullmatch(_HOURS, value) if isinstance(value, str) else None
    if match is not None:
        start_hour, start_minute, end_hour, end_minute = map(int, match.groups())
        start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
        if start_minute < 60 and end_minute < 60 and start < end <= 24 * 60:
            return match[0]
    raise UnfitError('hours such as "mon-fri 08:00-18:00", "sat 09:00-12:00" or "22:00-24:00"')


def timezone(value: object) -> str:
    """Read the name of a time zone.

    A machine without time zones can't check it; that they are missing is reported elsewhere.
    """
    text = value if isinstance(value, str) else ""
    is_name = re.fullmatch(r"[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*", text) is not None
    if is_name and (text == "UTC" or _is_zone(text)):
        return text
    meant = _zone_like(text)
    if meant is None and is_name:
        return text
    raise UnfitError(f"the name of a time zone{meant or ' such as UTC or Europe/Berlin'}")


def _is_zone(name: str) -> bool:
    """Whether this machine knows the time zone."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # late: 6 ms, only needed where a zone is configured

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, OSError, ValueError):  # OSError: the name of a directory of zones
        return False
    return True


def _zone_like(text: str) -> str | None:
    """A question that suggests the zone `text` may mean, empty for no suggestion; None: this machine knows no zones."""
    from difflib import get_close_matches  # late: only a mistake needs these
    from zoneinfo import available_timezones

    zones = {zone.lower(): zone for zone in sorted(available_timezones())}
    if not zones:
        return None
    wanted = text[:MAX_SHOWN].lower().replace(" ", "_")
    # People often write only the city, which is the part of a zone's name after the continent.
    cities = {zone.rpartition("/")[2]: zone for zone in zones if "/" in zone}
    found = [wanted] if wanted in zones else [cities[name] for name in get_close_matches(wanted, cities, 1, 0.8)]
    found += get_close_matches(wanted, zones, 1, 0.8)
    return f' (did you mean "{zones[found[0]]}"?)' if found else ""


def absolute_path(value: object) -> str:
    """Read an absolute path without `..`."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or ".." in value.split("/"):
        raise UnfitError("an absolute path without ..")
    return value


def optional_path(value: object) -> str:
    """Read an absolute path; empty for none."""
    return "" if value == "" else absolute_path(value)


def chroot_directory(value: object) -> str:
    """Read a root directory for a login, with sshd's tokens %h, %u, %U and %%; empty for no chroot."""
    text = value if isinstance(value, str) else "\0"
    fits = text.startswith(("/", "%h")) and "\0" not in text and ".." not in text.split("/")
    if text and not (fits and re.fullmatch("(?:[^%]|%[huU%])*", text, re.DOTALL)):
        raise UnfitError("an absolute path without .., in which %h is the home directory, %u the user and %U the uid")
    return text


def revoked_lists(value: object) -> str | tuple[str, ...]:
    """Read the name of one or several revocation lists, each `file:` and an absolute path; empty for none."""
    if value == "":
        return ""
    given = value if isinstance(value, list | tuple) else (value,)
    names = tuple(dict.fromkeys(each for each in given if isinstance(each, str) and _is_file(each)))
    if len(names) != len(given):
        raise UnfitError('an absolute path after "file:", such as "file:/etc/ssh/revoked_keys", or a list of such')
    return names[0] if isinstance(value, str) else names


def _is_file(spec: str) -> bool:
    return spec.startswith("file:/") and spec.isprintable()


def file_mode(value: object) -> str:
    """Read a file's mode, and keep it as the octal digits in which it is written."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-7]{3,4}", value, re.ASCII):
        raise UnfitError('three or four octal digits as text, such as "0755"')
    return value


def banner(value: object) -> str:
    """Read the banner for clients before they log in: text, or `file:` and the absolute path of a file."""
    if isinstance(value, str) and value.startswith("file:"):
        return f"file:{absolute_path(value.removeprefix('file:'))}"
    if not isinstance(value, str) or problem_of_banner(value):
        raise UnfitError(f'text of at most {MAX_BANNER // 1024} KiB without control characters, or "file:/path"')
    return value


def problem_of_banner(text: str) -> str:
    """The problem with a banner's text, as the end of a sentence that names the banner; empty if there is none."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BANNER:
        return f"is larger than {MAX_BANNER // 1024} KiB"
    if any(not char.isprintable() and char not in "\n\r\t" for char in text):
        return "has control characters in it, which not every client keeps from acting on its terminal"
    return ""


def whole_lines(text: str) -> bytes:
    """A banner as it is sent: with a newline at its end, so that nothing follows it on its line."""
    return (text if not text or text.endswith("\n") else f"{text}\n").encode("utf-8", "replace")


def nonempty_command(value: object) -> str:
    """Read a command for a shell."""
    if not command(value).strip():
        raise UnfitError("a command")
    return command(value)


def warning(value: object) -> Secret:
    """Read what is done at a warning: a web address for a POST, which may hold a token, or a command for a shell."""
    text = value if isinstance(value, str) else ""
    if not re.match(r"""[\s'"]*https?:""", text, re.IGNORECASE):  # run as a command, its first word would be logged
        try:
            return Secret(nonempty_command(value))
        except UnfitError:
            raise UnfitError("a command, or the address of a webhook such as https://hooks.example/T0/B0") from None
    from urllib.parse import urlsplit  # late: only needed where a webhook is configured

    try:
        parts = urlsplit(text)
        fits = bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment and parts.port != 0
    except ValueError:
        fits = False
    if not fits or not re.fullmatch(r"https?://[!-~]{1,2048}", text) or "\\" in text:
        raise UnfitError("the address of a webhook such as https://hooks.example/T0/B0, without user and password")
    return Secret(text)


def metrics_address(value: object) -> str:
    """Read where the metrics are served: `off`, `address:port`, or the path of a unix socket."""
    if value == "off":
        return "off"
    if isinstance(value, str) and value.startswith("/"):
        return socket_path(value)
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not is_ip_address(host.removeprefix("[").removesuffix("]")) or not port.isdigit() or int(port) > 65535:
        raise UnfitError('"off", an address and a port such as 127.0.0.1:9100, or the absolute path of a socket')
    return f"{host}:{port}"


def _no_network() -> str:
    raise UnfitError("an address, or a network such as 172.16.0.0/12 without bits beyond its mask")
