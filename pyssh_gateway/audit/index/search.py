"""Finds a text in commands, paths, targets and names, and in what recordings have shown.

A text of three characters or more is looked up by its trigrams, which gives candidates; a shorter one is compared with
every text. Upper and lower case are the same.
"""

import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from pyssh_gateway.audit.index.ledger import KEY_REFUSED, TEXTS
from pyssh_gateway.audit.index.queries import Wanted, conditions_of, escaped, prepare
from pyssh_gateway.audit.index.screens import AT_A_SHELL, SCREEN

MOST_TRIGRAMS = 32
"""Of a long text so many are looked up, the first and then others spread over it; all of it is compared afterwards."""

FIELDS = {
    "user": "account",
    "person": "person",
    "fingerprint": "key",
    "peer": "address",
    "client": "client software",
    "hassh": "client software",
    "denied_reason": "denied",
    "reason": "end",
}
"""Facts of a connection that are searched, and what they are."""


KINDS = (
    *("command", AT_A_SHELL, "requested", SCREEN, KEY_REFUSED, "refused", "listens at", "forward"),
    *("file read", "file written", "file closed", "file open failed", "file removed", "file renamed"),
    *("directory made", "directory removed", "link made", "attributes set", "events lost", "events invalid"),
    *dict.fromkeys(FIELDS.values()),
    *TEXTS,
)
"""What a text can be; `, failed` and the kind of a forward may follow."""


class Hit(msgspec.Struct, frozen=True):
    """Where a text was found: `count` times between `since` and `until`, on a connection if `conn` is not empty.

    `at` is for what a recording has shown: seconds since its beginning. `line` is the index of the first event.
    """

    since: float
    until: float
    session: str
    conn: str
    person: str
    person_id: int | None
    user: str
    peer: str
    what: str
    text: str
    count: int
    at: float | None
    line: int


_MENTIONS = """
    SELECT m.first, m.last, coalesce(s.session, ''), coalesce(c.conn, ''), coalesce(c.person, ''), c.person_id,
        coalesce(c.user, m.user), coalesce(c.peer, ''), m.what, t.text, m.count, NULL, m.line
    FROM temp.found f JOIN mentions m ON m.text = f.id JOIN texts t ON t.id = f.id
        LEFT JOIN connections c ON c.id = m.connection LEFT JOIN sessions s ON s.id = m.session
"""
_SHOWN_AT = "(coalesce(s.opened, r.began) + n.time)"
_SCREENS = """
    SELECT coalesce(s.opened, r.began) + n.time, coalesce(s.opened, r.began) + n.time,
        r.session, coalesce(c.conn, ''), coalesce(c.person, ''), c.person_id,
        coalesce(c.user, r.account), coalesce(c.peer, ''), n.what, n.text, 1, n.time, coalesce(s.line, 0)
    FROM temp.shown f JOIN screens n ON n.id = f.id JOIN recordings r ON r.id = n.recording
        LEFT JOIN own_sessions s ON s.session = r.session AND s.user = r.account
        LEFT JOIN connections c ON c.id = s.connection
"""


def search(database: sqlite3.Connection, text: str, wanted: Wanted, what: str = "") -> Iterator[Hit]:
    """Where `text` was found, oldest first; with `what` only where it is that, such as a `command`."""
    prepare(database, wanted)
    _keep(database, "found", _candidates(database, "texts", "text_parts", text))
    _keep(database, "shown", _candidates(database, "screens", "screen_parts", text))
    who, values = conditions_of(wanted)
    # Of what happens without a connection, such as a hold, only the account is known.
    whose = who
    if wanted.person is None and wanted.network is None and wanted.user is not None:
        whose = "coalesce(c.user, {0}) = :user"
    values["like"] = f"%{escaped(text)}%"
    time = "(:until IS NULL OR {0} <= :until) AND (:since IS NULL OR {1} >= :since)"
    questions = [
        f"{_MENTIONS} WHERE {whose.format('m.user')} AND {time.format('m.first', 'm.last')}",
        f"{_SCREENS} WHERE {whose.format('r.account')} AND {time.format(_SHOWN_AT, _SHOWN_AT)}",
    ]
    for field, fact in FIELDS.items():
        questions.append(f"""
            SELECT c.opened, coalesce(c.ended, c.opened), '', c.conn, c.person, c.person_id, c.user, c.peer, '{fact}',
                c.{field}, 1, NULL, c.line
            FROM connections c WHERE c.{field} LIKE :like ESCAPE '\\' AND {who}
                AND {time.format("c.opened", "coalesce(c.ended, c.opened)")}
        """)  # noqa: S608 - field and fact are from a constant table; what was asked is bound
    values["what"] = what
    every = " UNION ALL ".join(questions)
    only = " WHERE :what = '' OR what = :what OR substr(what, 1, length(:what) + 1) = :what || ','"
    columns = ", ".join(Hit.__struct_fields__)
    question = f"WITH hits ({columns}) AS ({every}) SELECT * FROM hits {only} ORDER BY since, line, what"  # noqa: S608 - parts of ours; what was asked is bound
    for row in database.execute(question, values):
        yield Hit(*row)


def _keep(database: sqlite3.Connection, table: str, numbers: Iterable[int]) -> None:
    """Put ids into a temporary table."""
    database.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY)")
    database.execute(f"DELETE FROM temp.{table}")  # noqa: S608 - both callers name a constant table
    database.executemany(f"INSERT INTO temp.{table} (id) VALUES (?)", ((number,) for number in numbers))  # noqa: S608 - as above; ids are bound


def _candidates(database: sqlite3.Connection, table: str, parts: str, text: str) -> Iterator[int]:
    """The ids of the texts that have `text` in them."""
    folded = text.casefold()
    question = f"SELECT id, text FROM {table}"  # noqa: S608 - both callers name a constant table
    if len(text) < 3:
        rows = database.execute(question)
    else:
        found = f" WHERE id IN (SELECT rowid FROM {parts} WHERE {parts} MATCH ?)"  # noqa: S608 - as above; the text is bound
        rows = database.execute(question + found, (_trigrams(text),))
    return (number for number, candidate in rows if folded in candidate.casefold())


def _trigrams(text: str) -> str:
    """The full-text query for texts with these trigrams."""
    every = list(dict.fromkeys(text[start : start + 3] for start in range(len(text) - 2)))
    step = max(1, -(-len(every) // MOST_TRIGRAMS))
    return " AND ".join('"' + one.replace('"', '""') + '"' for one in every[::step])
