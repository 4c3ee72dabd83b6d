"""Whether the log's disk takes anything: what a person asks before the server runs, and the server by writing."""

import os
from pathlib import Path

NO_ROOM_BYTES = 4096
"""With less free, the next lines do not fit."""


def why_not(audit_dir: Path) -> str | None:
    """Why nothing can be written in `audit_dir`, or where it will be made; None if that is possible, or unknown."""
    there = next((path for path in (audit_dir, *audit_dir.parents) if path.is_dir()), Path("/"))
    try:
        room = os.statvfs(there)
    except OSError:
        return None
    if room.f_flag & os.ST_RDONLY:
        return f"{there} is read-only"
    free = room.f_bavail * room.f_frsize
    return f"{there} is full" if free < NO_ROOM_BYTES else None


def what_follows(*, required: bool) -> str:
    """What that means for people."""
    if required:
        return "nobody gets in, but by break_glass (audit.required)"
    return "nobody is kept out, and events wait in memory, where there is room for the last few thousand"
