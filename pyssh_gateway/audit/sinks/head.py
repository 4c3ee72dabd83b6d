"""What both protocols need to know of a line: when, which event, and how serious."""

from typing import Final, Literal

import msgspec

Level = Literal["error", "warning", "notice", "info"]

_LEVELS: Final[dict[str, Level]] = {
    "audit.limited": "warning",
    "audit.lost": "error",
    "config.rejected": "warning",
    "connection.authenticated": "notice",
    "connection.refused": "warning",
    "connection.revoked": "warning",
    "gateway.crashed": "error",
    "internal.error": "error",
    "keys.account_changed": "error",
    "keys.failed": "warning",
    "keys.revoked_list_failed": "error",
    "log.dropped": "warning",
    "request.denied": "warning",
}


class Person(msgspec.Struct):
    """The person of an event, as far as it matters here."""

    person: str = ""


class Head(msgspec.Struct):
    """Some fields of a line; empty where it has none."""

    ts: str = ""
    seq: int = 0
    event: str = ""
    result: str = ""
    conn: str | None = None
    session: str = ""
    user: str = ""
    peer: str = ""
    identity: Person | None = None

    @property
    def level(self) -> Level:
        """How serious it is."""
        if self.event == "auth.attempt" and self.result == "denied":
            return "warning"
        return _LEVELS.get(self.event, "info")


_decoder = msgspec.json.Decoder(Head)


def head(line: bytes) -> Head:
    """The fields of `line`; empty if it is not as expected: then it is delivered all the same."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Head()
