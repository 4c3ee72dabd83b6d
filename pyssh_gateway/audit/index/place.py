"""Where the index is kept, and how it is opened: brought up to date, or made anew if it is of no use.

Beside the log if this account may write there and nobody else may, else in its cache directory, else in memory. The
index tells as much as the log, so nobody may read it who may not read that. Nothing is lost with it: whatever is wrong
with its file, the answer is a new one.
"""

import errno
import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pyssh_gateway.audit.index.schema import APPLICATION, TABLES, VERSION
from pyssh_gateway.audit.index.screens import add_screens
from pyssh_gateway.audit.index.update import Stale, update
from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.segments import NoLog

T = TypeVar("T")

NAME = "index.sqlite"

PATIENCE = 20.0
"""Seconds for which another reader may write to the index: it reads a million lines in less."""

ABANDONED = 3600.0
"""Seconds after which an unfinished index belongs to nobody."""

_SPEED = ("PRAGMA cache_size = -65536", "PRAGMA temp_store = MEMORY", "PRAGMA trusted_schema = OFF")
_HASH_SIZE = 16 * 1024 * 1024
"""Bytes of a full-text index that are gathered before they are written: fewer pieces to merge later."""


class Index:
    """The index of the log in `audit_dir`, up to date. `remark` tells people what did not go as it should."""

    def __init__(self, audit_dir: Path, environ: Mapping[str, str], remark: Callable[[str], None]) -> None:
        self._audit_dir = audit_dir
        self._environ = environ
        self._remark = remark
        self._path: Path | None = None
        self._database = self._open()
        (broken,) = self._database.execute("SELECT coalesce(max(broken), 0) FROM state").fetchone()
        if broken:
            remark(f"a part of the log can't be read: {broken} of its files are damaged; audit verify says where")

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add_screens(self) -> None:
        """Put in what recordings have shown since; without that `search` does not find it."""
        try:
            add_screens(self._database, self._audit_dir, self._remark)
        except sqlite3.Error as error:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            self._remark(f"what recordings showed is not searched: {error}")

    def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """The answer to a question; if the index turns out to be broken, that of a new one."""
        try:
            return question(self._database)
        except sqlite3.DatabaseError as error:
            self._remark(f"the index of the log can't be used ({error}), and a new one is made")
        self._database.close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
        self._database = self._open()
        return question(self._database)

    def _open(self) -> sqlite3.Connection:
        for path in _places(self._audit_dir, self._environ):
            try:
                database = self._open_at(path)
            except NoLog:
                raise
            except (OSError, sqlite3.Error) as error:
                if getattr(error, "errno", None) != errno.EROFS:
                    self._remark(f"there can be no index at {path}: {error}")
            else:
                self._path = path
                return database
        self._path = None
        return self._in_memory()

    def _open_at(self, path: Path) -> sqlite3.Connection:
        """The index at `path`, made if necessary. Raises OSError, sqlite3.Error."""
        if _is_ours(path):
            _narrow(path, _mode(path, self._audit_dir))
            try:
                return _refreshed(path, self._audit_dir)
            except (Stale, sqlite3.DatabaseError) as error:
                if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                    raise  # locked, full, read-only: a new one would meet the same
        return _remade(path, self._audit_dir)

    def _in_memory(self) -> sqlite3.Connection:
        database = _connect(":memory:")
        try:
            _fill(database, self._audit_dir)
        except sqlite3.Error as error:  # above all an SQLite that was built without full-text search
            database.close()
            raise NoLog(f"there can be no index of the log: {error}; audit tail and audit export do without") from None
        return database


def _places(audit_dir: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    if _is_safe(audit_dir):
        yield audit_dir / NAME
    home = environ.get("XDG_CACHE_HOME") or (f"{environ['HOME']}/.cache" if environ.get("HOME") else "")
    if not home.startswith("/"):
        return
    directory = Path(home, "pyssh-gateway")
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    if _is_safe(directory):
        which = hashlib.blake2b(str(audit_dir.resolve()).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
        yield directory / f"log-{which}.sqlite"


def _is_safe(directory: Path) -> bool:
    """Whether only this account may make files there: as root we would otherwise open what somebody else has put."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    ours = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return stat.S_ISDIR(status.st_mode) and ours and os.access(directory, os.W_OK | os.X_OK)


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()


def _mode(path: Path, audit_dir: Path) -> tuple[int, int]:
    """Mode and group of the index: beside the log those of the log, elsewhere this account's alone."""
    if path.parent == audit_dir:
        with suppress(OSError):
            status = (audit_dir / FILE_NAME).lstat()
            if stat.S_ISREG(status.st_mode):
                return status.st_mode & 0o640, status.st_gid
    return 0o600, -1


def _narrow(path: Path, like: tuple[int, int]) -> None:
    mode, group = like
    status = path.lstat()
    if stat.S_IMODE(status.st_mode) != mode or group not in {-1, status.st_gid}:
        path.chmod(0o600)
        with suppress(PermissionError):  # the log is of a group that this account is not in
            os.chown(path, -1, group)
            path.chmod(mode)


# -- the database ------------------------------------------------------------------------------------------------


def _connect(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    for line in _SPEED:
        database.execute(line)
    return database


def _refreshed(path: Path, audit_dir: Path) -> sqlite3.Connection:
    """The index that is there, brought up to date. Raises Stale, sqlite3.Error."""
    database = _connect(path)
    try:
        _check(database)
        database.execute("BEGIN IMMEDIATE")
        update(database, audit_dir)
        database.execute("COMMIT")
    except BaseException:
        database.close()
        raise
    return database


def _check(database: sqlite3.Connection) -> None:
    """Raises Stale if it is no index, or one of another version."""
    of = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if of != [APPLICATION, VERSION]:
        raise Stale


def _remade(path: Path, audit_dir: Path) -> sqlite3.Connection:
    """A new index in the place of the old one, which others may still be reading."""
    for old in path.parent.glob(f"{path.name}.*.new"):
        with suppress(OSError):
            if time.time() - old.lstat().st_mtime > ABANDONED:
                old.unlink()
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _narrow(new, _mode(path, audit_dir))
        with closing(_connect(new)) as database:
            # A crash leaves an unfinished file behind, which is never used. Its data is on the disk before its name is.
            database.execute("PRAGMA journal_mode = OFF")
            database.execute("PRAGMA synchronous = OFF")
            _fill(database, audit_dir)
        os.fsync(descriptor)
        for rest in ("-journal", "-wal", "-shm"):  # of the old one: it would be applied to the new one
            with suppress(FileNotFoundError):
                path.with_name(path.name + rest).unlink()
        new.replace(path)
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            new.unlink()
    return _connect(path)


def _fill(database: sqlite3.Connection, audit_dir: Path) -> None:
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute(f"PRAGMA user_version = {VERSION}")
    database.executescript(TABLES)
    database.execute("INSERT INTO text_parts (text_parts, rank) VALUES ('hashsize', ?)", (_HASH_SIZE,))
    database.execute("INSERT INTO screen_parts (screen_parts, rank) VALUES ('hashsize', ?)", (_HASH_SIZE,))
    with _transaction(database):
        update(database, audit_dir)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN")
    yield
    database.execute("COMMIT")
