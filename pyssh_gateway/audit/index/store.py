"""Writes rows of a batch into the index's database, and gives back what the next lines of the log go on from."""

import sqlite3
from zlib import crc32

import msgspec

from pyssh_gateway.audit.index.ledger import REMEMBERED, Batch, Connection, Ledger, Mention, Place, Session

MOST_TEXTS_KNOWN = 200_000
"""Texts whose ids are kept in memory while the index is written."""


class Progress(msgspec.Struct):
    """The row of `state`."""

    next: int = 0
    first: int = 0
    last: bytes = b""
    file: int = 0
    offset: int = 0
    size: int = 0
    damaged: int = 0
    broken: int = 0
    time: float = 0.0


def _upsert(table: str, row: type[msgspec.Struct]) -> str:
    names = row.__struct_fields__
    return f"INSERT OR REPLACE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608 - a table and columns of ours; values are bound


_CONNECTION = _upsert("connections", Connection)
_SESSION = _upsert("sessions", Session)
_STATE = _upsert("state", Progress)
_MENTION = """
    INSERT INTO mentions (text, connection, session, what, user, line, last_line, first, last, count)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET last_line = excluded.last_line, last = excluded.last, count = count + excluded.count
"""


class Store:
    """The tables that the log's lines go to; the caller begins and commits transactions."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._texts: dict[str, int] = {}
        self._next_text = self._number("SELECT coalesce(max(id), 0) + 1 FROM texts")
        self._all_known = self._next_text == 1

    def progress(self) -> Progress:
        """How far the log has been read."""
        row = self._database.execute(f"SELECT {', '.join(Progress.__struct_fields__)} FROM state").fetchone()  # noqa: S608 - columns of ours
        return Progress(*row) if row else Progress()

    def ledger(self) -> Ledger:
        """The ledger of the next lines: it knows the connections that are open or have just ended."""
        ledger = Ledger(
            self._number("SELECT coalesce(max(id), 0) + 1 FROM connections"),
            self._number("SELECT coalesce(max(id), 0) + 1 FROM sessions"),
            self.progress().time,
        )
        names = ", ".join(Connection.__struct_fields__)
        ended = f"SELECT {names} FROM connections WHERE state != 'open' ORDER BY id DESC LIMIT ?"  # noqa: S608 - columns of ours
        rows = self._database.execute(
            f"SELECT {names} FROM connections WHERE state = 'open' UNION SELECT * FROM ({ended}) ORDER BY id",  # noqa: S608 - as above
            (REMEMBERED,),
        )
        connections = [Connection(*row) for row in rows]
        names = ", ".join(Session.__struct_fields__)
        sessions = [
            Session(*row)
            for connection in connections
            for row in self._database.execute(
                f"SELECT {names} FROM sessions WHERE connection = ? ORDER BY id",  # noqa: S608 - columns of ours; the id is bound
                (connection.id,),
            )
        ]
        ledger.remember(connections, sessions)
        return ledger

    def write(self, batch: Batch, progress: Progress) -> None:
        """Write rows and how far they go."""
        astuple = msgspec.structs.astuple
        self._database.executemany(_CONNECTION, map(astuple, batch.connections.values()))
        self._database.executemany(_SESSION, map(astuple, batch.sessions.values()))
        self._write_mentions(batch.mentions)
        self._database.execute("DELETE FROM state")
        self._database.execute(_STATE, astuple(progress))

    def forget(self, first: int) -> None:
        """Remove what was only in lines before `first`, whose files have been deleted."""
        run = self._database.execute
        run("DELETE FROM sessions WHERE connection IN (SELECT id FROM connections WHERE last_line < ?)", (first,))
        run("DELETE FROM connections WHERE last_line < ?", (first,))
        run("DELETE FROM mentions WHERE last_line < ?", (first,))
        gone = "FROM texts WHERE id NOT IN (SELECT text FROM mentions)"
        run(f"INSERT INTO text_parts (text_parts, rowid, text) SELECT 'delete', id, text {gone}")
        run(f"DELETE {gone}")
        self._texts.clear()
        self._all_known = False

    def _write_mentions(self, mentions: dict[Place, Mention]) -> None:
        rows = []
        new: list[tuple[int, int, str]] = []
        texts = self._texts
        for (text, connection, session, what, user), one in mentions.items():
            number = texts.get(text)
            if number is None:
                number = self._text(text, new)
            rows.append(
                (number, connection, session, what, user, one.line, one.last_line, one.first, one.last, one.count)
            )
        self._database.executemany("INSERT INTO texts (id, hash, text) VALUES (?, ?, ?)", new)
        self._database.executemany(
            "INSERT INTO text_parts (rowid, text) VALUES (?, ?)", ((number, text) for number, _, text in new)
        )
        rows.sort()
        self._database.executemany(_MENTION, rows)

    def _text(self, text: str, new: list[tuple[int, int, str]]) -> int:
        """The id of a text that is not in memory; one that is not in the database is added to `new`."""
        hashed = crc32(text.encode())
        if not self._all_known:
            row = self._database.execute("SELECT id FROM texts WHERE hash = ? AND text = ?", (hashed, text)).fetchone()
            if row:
                self._texts[text] = row[0]
                return int(row[0])
        number = self._next_text
        self._next_text += 1
        new.append((number, hashed, text))
        if len(self._texts) >= MOST_TEXTS_KNOWN:
            # Those of this batch are not in the database yet.
            self._texts = {text: number for number, _, text in new}
            self._all_known = False
        self._texts[text] = number
        return number

    def _number(self, question: str) -> int:
        return int(self._database.execute(question).fetchone()[0])
