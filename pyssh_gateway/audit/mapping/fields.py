"""What the mappings share: the fields of one event, taken one by one, and the forms that their values get.

An event is a decoded line of the log. Lines may be of an older or newer version than this code, so every field may be
missing, and an unknown event or field is kept and not an error.
"""

from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, NamedTuple

Json = dict[str, Any]


class Fields:
    """The fields of an event that have no place yet. A field that says that it does not apply counts as missing."""

    def __init__(self, event: Json) -> None:
        self._left = {name: value for name, value in event.items() if value not in ("", None, [])}

    def take(self, name: str) -> Any:  # noqa: ANN401 - the value of any field
        """The value of the field, which has its place now; None if it is missing."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str:
        """The field as a text, which has its place now; empty if it is missing or none."""
        value = self._left.get(name)
        if not isinstance(value, str):
            return ""
        del self._left[name]
        return value

    def number(self, name: str) -> int | float | None:
        """The field as a number, which has its place now; None if it is missing or none."""
        value = self._left.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        del self._left[name]
        return value

    def count(self, name: str) -> int | None:
        """The field as a whole number, which has its place now; None if it is missing or none."""
        value = self._left.get(name)
        return self.take(name) if isinstance(value, int) and not isinstance(value, bool) else None

    def look(self, name: str) -> Any:  # noqa: ANN401 - the value of any field
        """The value of the field, which still needs a place; None if it is missing."""
        return self._left.get(name)

    @property
    def rest(self) -> Json:
        """The fields without a place."""
        return dict(self._left)


class Place(NamedTuple):
    """A host, as an address or a name, and its port; of a unix socket only the path, as a name."""

    address: str
    port: int | None

    @property
    def is_ip(self) -> bool:
        """Whether the address is numeric."""
        return is_ip(self.address)


def is_ip(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def place(target: str) -> Place:
    """The `target` of a forward: `host:port`, an IPv6 address in brackets or not, or a path."""
    host, colon, port = target.rpartition(":")
    if target.startswith("/") or not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        return Place(target, None)
    return Place(host.removeprefix("[").removesuffix("]"), int(port))


def unix_milliseconds(timestamp: str) -> int | None:
    """Unix time of a `ts`, in milliseconds; None if it is no time."""
    try:
        then = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return int((then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() * 1000)


def compact(value: Json) -> Json:
    """`value` without the members that are missing: None, or an object or list with nothing in it."""
    return {name: below for name, below in value.items() if below is not None and below not in ({}, [])}
