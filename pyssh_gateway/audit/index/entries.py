"""A line of the log as the index reads it: only the fields that it keeps, whatever else the event has.

The log is a hostile text: a line of wrong types, or with numbers that a database can't hold, is damaged. This module
does not know what the fields are kept for.
"""

from datetime import datetime
from typing import Annotated

import msgspec

MOST_TEXT = 65_536
"""Characters of a text that are kept. The server's own texts have at most ten times 4096, when everything in them is
escaped."""

Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""As much as the database holds."""


class Person(msgspec.Struct, frozen=True, gc=False):
    """The person of an event."""

    person: str
    id: Whole | None = None
    fingerprint: str = ""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """The fields of all events that are kept; one that an event does not have is empty."""

    ts: datetime
    event: str
    conn: str | None = ""
    session: str = ""
    user: str = ""
    identity: Person | None = None
    peer: str = ""
    peer_port: Whole | None = None
    proxy: str = ""
    # -- logging in
    method: str = ""
    result: str = ""
    reason: str = ""
    fingerprint: str = ""
    source: str = ""
    client: str = ""
    hassh: str = ""
    cipher: str = ""
    # -- sessions, files, forwards
    kind: str = ""
    command: str = ""
    tty: str = ""
    requested: str = ""
    request: str = ""
    operation: str = ""
    path: str = ""
    target: str = ""
    detail: str = ""
    outcome: str = ""
    exit_status: Whole | None = None
    exit_signal: str | None = None
    bytes_in: Whole | None = None
    bytes_out: Whole | None = None
    bytes_written: Whole | None = None
    seconds: float | None = None
    goodbye: bool = False
    # -- the server
    generation: Whole | None = None
    what: str = ""
    line: str = ""
    where: str = ""
    error: str = ""
    message: str = ""


decode = msgspec.json.Decoder(Entry).decode
"""The entry of a line; raises msgspec.MsgspecError, which is a ValueError as UnicodeDecodeError is."""
