"""The parts of replies over the control socket: keys, sources, sessions, connections, reasons, holds.

Times are Unix seconds unless a field says otherwise. This module does not know which accounts may see what.
"""

import msgspec

from pyssh_gateway.events import Identity


class KeyReport(msgspec.Struct, frozen=True):
    """A key that may log in, or an authority whose certificates may.

    `bits` is the size that ssh-keygen -l shows; `options` are the line's in the syntax of authorized_keys, empty for
    none; `narrowed_out`: the login's `only_fingerprints` or `key_types` exclude the key. `revoked` names the revocation
    list that has the key, empty for none.
    """

    fingerprint: str
    key_type: str
    bits: int
    comment: str
    person: str
    person_id: int | None
    source: str
    options: str
    authority: bool
    narrowed_out: bool
    revoked: str = ""


class LoginReport(msgspec.Struct, frozen=True):
    """The keys that can log in to the account `user`."""

    user: str
    keys: tuple[KeyReport, ...]


class SourceReport(msgspec.Struct, frozen=True):
    """The current state of a source.

    `origin` is "none", "fetched" or "last-good"; `age` is the seconds since its keys were last confirmed, None if they
    never were; `failure` says why the last fetch failed, empty if it did not; `pinned` is the account number that the
    configuration names, `remembered` the one that was seen first; `stale`: the answer is too old, and its keys let
    nobody in any more; `next_look` is the seconds until the next fetch, None if none is planned. `ahead` is by how many
    seconds the answer's time lies in the future, 0 if it does not: such an answer is stale.
    """

    spec: str
    users: tuple[str, ...]
    accepted: int
    refused: int
    origin: str
    age: float | None
    failure: str
    pinned: int | None
    remembered: int | None
    stale: bool
    next_look: float | None
    ahead: float = 0.0


class RevokedListReport(msgspec.Struct, frozen=True):
    """The current state of a revocation list: `kind` is "keys", "krl" or, if it never could be read, empty.

    `entries` counts the entries when it was last read successfully. While there is a `failure`, nobody gets in.
    """

    spec: str
    kind: str
    entries: int
    failure: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """Whether a key is let in to the account `user`.

    `reason` says why not; `source`, `identity` and `options` (as in `KeyReport`) are those of the line that lets it in.
    """

    user: str
    accepted: bool
    reason: str = ""
    source: str = ""
    options: str = ""
    identity: Identity | None = None


class HostKeyReport(msgspec.Struct, frozen=True):
    """A key of the server; `next`: announced to clients and not in use yet; `new`: it was made at this start.

    `was_empty`: the key was made because its file was empty. `spare`: the key is announced but not used, because
    another key of its type comes first.
    """

    key_type: str
    fingerprint: str
    next: bool
    new: bool = False
    was_empty: bool = False
    spare: bool = False


class HostCertificateReport(msgspec.Struct, frozen=True):
    """A certificate of a key of the server; with a `problem` it is not offered to clients.

    `key` and `authority` are fingerprints, empty if it could not be read; `valid_before` None: it does not expire.
    """

    path: str
    problem: str
    key: str = ""
    authority: str = ""
    key_id: str = ""
    serial: int = 0
    principals: tuple[str, ...] = ()
    valid_after: float = 0.0
    valid_before: float | None = None


class SessionReport(msgspec.Struct, frozen=True):
    """A session that has run for `seconds`; `command` is empty for a shell, `tty` is empty without a terminal."""

    session: str
    kind: str
    command: str
    tty: str
    bytes_in: int
    bytes_out: int
    pid: int = 0
    seconds: float = 0.0


class ConnectionReport(msgspec.Struct, frozen=True):
    """A logged-in connection, open since `since`. The bytes are those on the wire in all."""

    conn: str
    user: str
    identity: Identity | None
    peer: str
    since: float
    sessions: tuple[SessionReport, ...]
    bytes_in: int = 0
    bytes_out: int = 0


class ReasonReport(msgspec.Struct, frozen=True):
    """A reason why the machine is up. `kind` is a `core.idle.tracker.Kind`; `ends_in` is in seconds, None: unknown."""

    kind: str
    text: str
    ends_in: float | None


class IdleReport(msgspec.Struct, frozen=True):
    """Whether the machine is needed. `timeout` None: it never stops by itself; `stops_in` None: no stop is foreseeable.

    `quiet`: the clients that are connected but, because they are not used, do not keep the machine up.
    """

    timeout: float | None
    in_use: bool
    stops_in: float | None
    reasons: tuple[ReasonReport, ...] = ()
    quiet: tuple[str, ...] = ()


class HoldReport(msgspec.Struct, frozen=True):
    """A hold of the account `user`, until `until`. `pid` is the process for which it is held, 0 for none."""

    hold: str
    user: str
    reason: str
    since: float
    until: float
    pid: int


class StopReport(msgspec.Struct, frozen=True):
    """An earlier stop of the machine: when, and why in words. `awake` seconds had passed since it was started.

    `for_nobody`: nothing had kept it up since, so it was awake in vain.
    """

    time: float
    why: str
    awake: float
    for_nobody: bool = False


class SourceOfWakesReport(msgspec.Struct, frozen=True):
    """How often a source woke the machine for nobody, and how many seconds it was awake for that.

    `kind` is a `core.idle.nobody.Kind`; `source` is an address, an IPv6 /64 or a person, empty for a start without a
    connection. The machine stopped for the first time at `since`, and for the last time at `until`.
    """

    kind: str
    source: str
    count: int
    seconds: float
    since: float
    until: float


class ForNobodyReport(msgspec.Struct, frozen=True):
    """How often the machine was awake for nobody in the last `days` days, today included, and for how long in all.

    `sources` are those that woke it, the longest awake first; `others` counts the times of sources that are not told
    apart. Both are empty for an account that may not see them.
    """

    days: int
    count: int = 0
    seconds: float = 0.0
    sources: tuple[SourceOfWakesReport, ...] = ()
    others: int = 0
