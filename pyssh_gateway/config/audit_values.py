"""Readers of the values that say what is recorded, and where else events are sent."""

import re

from pyssh_gateway.config.values import Secret, UnfitError

RECORDED = ("off", "pty", "all")
"""Which sessions are recorded: none, those with a terminal, or all."""

MAX_NOTICE = 400
"""Characters of the line that announces a recording: a few lines of a terminal."""

_RECORDED_KEY = re.compile(rf"SHA256:[A-Za-z0-9+/]{{43}}=(?:{'|'.join(RECORDED)})")
# RFC 9110 section 5: a name is a token, and a value has visible characters, with spaces between them.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}=[!-~](?:[ -~]{0,4094}[!-~])?")
_SYSLOG = re.compile(r"(?:tcp|tls)://(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")


def recorded_key(value: object) -> str:
    """Read what is recorded for one key: its fingerprint, `=`, and one of `RECORDED`."""
    if not isinstance(value, str) or not _RECORDED_KEY.fullmatch(value):
        raise UnfitError('the fingerprint of a key, "=", and off, pty or all, such as "SHA256:...=all"')
    return value


def notice(value: object) -> str:
    """Read the line that announces a recording; empty for none."""
    if not isinstance(value, str) or len(value) > MAX_NOTICE or not value.isprintable():
        raise UnfitError(f"a line of at most {MAX_NOTICE} characters without control characters")
    return value


def syslog_address(value: object) -> str:
    """Read where events go by syslog: `off`, `unix:` and the path of a local socket, `tcp://` or `tls://host:port`."""
    if value == "off":
        return "off"
    if isinstance(value, str):
        path = value.removeprefix("unix:")
        if path != value and path.startswith("/") and "\0" not in path and len(path.encode(errors="replace")) <= 107:
            return value
        if (match := _SYSLOG.fullmatch(value)) and 0 < int(match[1]) <= 65535:
            return value
    raise UnfitError('"off", "unix:/dev/log", or an address such as "tls://logs.example:6514" or "tcp://10.0.0.1:601"')


def http_header(value: object) -> Secret:
    """Read a header that is sent to a collector, `name=value`. Error messages never show it."""
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise UnfitError('a header such as "authorization=Bearer ..." in printable ASCII')
    return Secret(value)
