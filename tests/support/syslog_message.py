"""A strict reader of RFC 5424's grammar (section 6)."""

import re
from typing import NamedTuple

_VALUE = r'(?:[^"\\\]]|\\["\\\]])*'
_NAME = r"[!#-<>-\\^-~]{1,32}"
_PATTERN = re.compile(
    r"<(?P<priority>0|[1-9][0-9]{0,2})>(?P<version>[1-9][0-9]{0,2}) "
    r"(?P<time>-|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})) "
    r"(?P<host>[!-~]{1,255}) (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) (?P<id>[!-~]{1,32}) "
    rf'(?P<data>-|(?:\[{_NAME}(?: {_NAME}="{_VALUE}")*\])+)'
    r"(?: (?P<text>.*))?",
    re.DOTALL,
)


class Message(NamedTuple):
    """The parts of a message."""

    facility: int
    severity: int
    time: str
    host: str
    app: str
    process: str
    id: str
    data: str
    text: str


def parsed(message: bytes) -> Message:
    """The message; fails if it is none."""
    match = _PATTERN.fullmatch(message.decode())
    assert match is not None, message
    priority = int(match["priority"])
    assert priority <= 191
    assert match["version"] == "1"
    fields = [match[name] for name in ("time", "host", "app", "process", "id", "data", "text")]
    return Message(priority // 8, priority % 8, *fields)
