"""Questions to the index about sessions and connections.

Names that are not unique, as in old logs, give several rows. This module knows no terminal.
"""

import ipaddress
import sqlite3
from collections.abc import Iterator
from functools import lru_cache
from zlib import crc32

import msgspec

from pyssh_gateway.audit.index.ledger import KEY_REFUSED

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for; None: everything. Times are Unix times.

    `person` is a name as the log has it, with or without the number of the account, or a key's fingerprint. With
    `denied` connections on which nobody logged in are asked for, otherwise the others; with `lost` those of them that
    ended without the client's leave.
    """

    since: float | None = None
    until: float | None = None
    person: str | None = None
    user: str | None = None
    network: Network | None = None
    command: str | None = None
    denied: bool = False
    lost: bool = False


class SessionRow(msgspec.Struct, frozen=True):
    """A session, or, with an empty `session`, a connection without one."""

    session: str
    conn: str
    person: str
    person_id: int | None
    fingerprint: str
    user: str
    peer: str
    since: float
    until: float | None
    state: str
    kind: str
    command: str
    requested: str
    tty: str
    exit_status: int | None
    exit_signal: str | None
    reason: str
    bytes_in: int | None
    bytes_out: int | None
    files: int
    forwards: int
    listeners: int
    recorded: bool
    goodbye: bool | None
    connection_reason: str


class ConnectionRow(msgspec.Struct, frozen=True):
    """A connection: its name, the indexes of its first and its last line, when it was, and whether it is open."""

    conn: str
    line: int
    last_line: int
    since: float
    until: float | None
    state: str


_SESSIONS = """
    SELECT s.session, c.conn, c.person, c.person_id, c.fingerprint, s.user, c.peer, s.opened, s.ended, s.state, s.kind,
        s.command, s.requested, s.tty, s.exit_status, s.exit_signal, s.reason, s.bytes_in, s.bytes_out, s.files,
        c.forwards, c.listeners, s.recorded, c.goodbye, c.reason
    FROM sessions s JOIN connections c ON c.id = s.connection
"""
_CONNECTIONS = """
    SELECT '', c.conn, c.person, c.person_id,
        CASE WHEN c.authenticated IS NULL THEN c.denied_key ELSE c.fingerprint END,
        c.user, c.peer, c.opened, c.ended, c.state, '', '', '', '', NULL, NULL,
        CASE WHEN c.authenticated IS NULL AND c.denied THEN c.denied_reason ELSE c.reason END,
        c.bytes_in, c.bytes_out, 0, c.forwards, c.listeners, 0, c.goodbye, c.reason
    FROM connections c
"""


def accounts_of(database: sqlite3.Connection, session: str) -> set[str]:
    """The accounts that have had the session of this name: one, or more in old logs; none if the log has no such."""
    rows = database.execute("SELECT user FROM own_sessions WHERE session = ?", (session,))
    return {str(user) for (user,) in rows}


def sessions(database: sqlite3.Connection, wanted: Wanted) -> Iterator[SessionRow]:
    """The sessions, and the connections without one, in the order in which they began."""
    prepare(database, wanted)
    who, values = conditions_of(wanted)
    known = "c.authenticated IS NULL AND c.denied" if wanted.denied else "c.authenticated IS NOT NULL"
    if wanted.lost:
        known += " AND (c.state = 'lost' OR NOT c.goodbye)"
    where = f"{known} AND {who}"
    questions = [f"{_CONNECTIONS} WHERE {where} AND {_over('c', wanted)} AND c.sessions = 0 AND :command IS NULL"]
    if not wanted.denied:
        command = "(:command IS NULL OR holds(s.command) OR holds(s.requested))"
        questions.append(f"{_SESSIONS} WHERE {where} AND {_over('s', wanted)} AND {command}")
    rows = database.execute(f"{' UNION ALL '.join(questions)} ORDER BY 8, 2, 1", values)
    for row in rows:
        fields = dict(zip(SessionRow.__struct_fields__, row, strict=True))
        goodbye = fields["goodbye"]
        yield SessionRow(
            **fields | {"recorded": bool(fields["recorded"]), "goodbye": None if goodbye is None else bool(goodbye)}
        )


def find(database: sqlite3.Connection, name: str) -> list[ConnectionRow]:
    """The connections that a name of a connection or a session stands for, oldest first."""
    rows = database.execute(
        """
        SELECT conn, line, last_line, opened, ended, state FROM connections c WHERE conn = :name
            OR id IN (SELECT connection FROM sessions WHERE session = :name)
        ORDER BY line
        """,
        {"name": name},
    )
    return [ConnectionRow(*row) for row in rows]


def denied(database: sqlite3.Connection, wanted: Wanted) -> int:
    """On how many connections nobody got in, by the same person, from the same place, at the same time."""
    return sum(1 for _ in sessions(database, msgspec.structs.replace(wanted, denied=True, lost=False)))


def prepare(database: sqlite3.Connection, wanted: Wanted) -> None:
    """Give the database the functions that `conditions_of` and the questions here need."""
    network = wanted.network
    needle = (wanted.command or "").casefold()

    @lru_cache(maxsize=100_000)
    def within(address: str) -> bool:
        return network is None or is_within(address, network)

    database.create_function("within", 1, within, deterministic=True)
    database.create_function("holds", 1, lambda text: needle in text.casefold(), deterministic=True)


def is_within(address: str, network: Network) -> bool:
    """Whether an address, as the log has it, is one of the network's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found) in network


def conditions_of(wanted: Wanted) -> tuple[str, dict[str, object]]:
    """Conditions on the person, account and address of a connection `c`, and the values of their parameters."""
    person = wanted.person or ""
    conditions = ["1"]
    if wanted.person is not None:
        named = "c.person LIKE '%:' || :plain ESCAPE '\\'" if ":" not in person else "0"
        numbered = "c.person || '#' || c.person_id = :person"
        keys = "c.fingerprint = :person"
        if wanted.denied:
            keys += """ OR c.id IN (
                SELECT m.connection FROM mentions m JOIN texts t ON t.id = m.text
                WHERE t.hash = :hash AND t.text = :person AND m.what = :refused
            )"""
        conditions.append(f"(c.person = :person OR {numbered} OR {keys} OR {named})")
    if wanted.user is not None:
        conditions.append("c.user = :user")
    if wanted.network is not None:
        conditions.append("within(c.peer)")
    values: dict[str, object] = {
        "person": person,
        "hash": crc32(person.encode()),
        "refused": KEY_REFUSED,
        "plain": escaped(person),
        "user": wanted.user,
        "command": wanted.command,
        "since": wanted.since,
        "until": wanted.until,
    }
    return " AND ".join(conditions), values


def escaped(text: str) -> str:
    """`text` for LIKE, with a backslash as its ESCAPE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _over(table: str, wanted: Wanted) -> str:
    """The condition that a row lasted at some time that is asked for."""
    conditions = ["1"]
    if wanted.until is not None:
        conditions.append(f"{table}.opened <= :until")
    if wanted.since is not None:
        conditions.append(f"({table}.ended IS NULL OR {table}.ended >= :since)")
    return " AND ".join(conditions)
