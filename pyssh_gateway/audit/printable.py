"""Events made safe to print; see `core.printable`."""

from typing import Any

import msgspec

from pyssh_gateway.core.printable import printable
from pyssh_gateway.events import AnyEvent, InternalError

# Lists (accounts, host keys, refused key lines) are short, except for a key file that consists of garbage.
MAX_ITEMS = 100
# Microseconds, like the time stamps: further digits of a float are noise.
FLOAT_DIGITS = 6


def printable_event(event: AnyEvent) -> AnyEvent:
    """`event` with every field safe to print and plain enough to encode; the same object when nothing changes."""
    changed: dict[str, Any] = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        # Our own traceback keeps its newlines: it is unreadable on one line. Other control characters are escaped: the
        # exception at its end may quote data from the network.
        safe = _safe(value, keep_newlines=isinstance(event, InternalError) and name == "error")
        if safe is not value:
            changed[name] = safe
    return msgspec.structs.replace(event, **changed) if changed else event


def _safe(value: Any, *, keep_newlines: bool) -> Any:  # noqa: ANN401 - a field of any event
    if isinstance(value, str):
        return printable(value, keep_newlines=keep_newlines)
    if isinstance(value, float):
        return round(value, FLOAT_DIGITS)
    if isinstance(value, tuple):
        kept = tuple(_safe(item, keep_newlines=keep_newlines) for item in value[:MAX_ITEMS])
        return kept if len(value) <= MAX_ITEMS else (*kept, f"\\[{len(value) - MAX_ITEMS} more cut]")
    if isinstance(value, msgspec.Struct):
        changed = {name: _safe(below, keep_newlines=False) for name, below in msgspec.structs.asdict(value).items()}
        return msgspec.structs.replace(value, **changed)
    return value
