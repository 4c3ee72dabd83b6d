"""The names of recordings: `recordings/<account>/<session>.cast.zst` in `audit_dir`.

A session whose recording was interrupted, because the process that wrote it died, goes on in another file: `.2`, `.3`
and so on behind the session's name.
"""

import re

DIRECTORY = "recordings"
"""In `audit_dir`; in it is a directory for each account."""

SESSION = re.compile(r"c[0-9]{1,19}\.[0-9]{1,19}", re.ASCII)
"""The name of a session, as in the log: its connection's, and its number on it."""

_FILE = re.compile(rf"(?P<session>{SESSION.pattern})(?:\.(?P<part>[0-9]{{1,6}}))?\.cast\.zst", re.ASCII)


def is_of(session: str, conn: str) -> bool:
    """Whether a session with this name can be one of the connection `conn`."""
    return SESSION.fullmatch(session) is not None and session.rpartition(".")[0] == conn


def file_name(session: str, part: int = 1) -> str:
    """The name of the file with this part of the recording of a session; parts count from 1."""
    return f"{session}.cast.zst" if part == 1 else f"{session}.{part}.cast.zst"


def parsed(name: str) -> tuple[str, int] | None:
    """The session and the part of a file with this name; None if it is no recording."""
    match = _FILE.fullmatch(name)
    return (match["session"], int(match["part"] or 1)) if match else None
