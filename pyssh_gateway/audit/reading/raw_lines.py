"""Lines of the log for programs: as they are, or, where that could affect a terminal, the same in JSON's escapes."""

import json

from pyssh_gateway.audit.reading.choosing import Event


def raw_line(event: Event) -> str:
    """The line of an event. Every character of it prints, and it decodes to the same event as that of the log."""
    text = event.data.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return escaped(json.dumps(event.fields, ensure_ascii=False, separators=(",", ":")))


def escaped(text: str) -> str:
    """JSON whose characters all print."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] if one > "\x7e" else _ascii(one) for one in text)


def _ascii(one: str) -> str:
    return f"\\u{ord(one):04x}"
