"""The directories of the server's state: their owner, the processes that use them, and the free space."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pyssh_gateway.audit import room
from pyssh_gateway.cli.check import host_key_problems
from pyssh_gateway.cli.doctor.finding import Finding, ok, problem, warning
from pyssh_gateway.cli.output.text import size
from pyssh_gateway.config.types import Config
from pyssh_gateway.startup import state_lock
from pyssh_gateway.startup.preflight import place_problems

TOPIC = "files"

LITTLE_ROOM_BYTES = 100 * 1024 * 1024
"""Free bytes below which there is a warning: the log of a busy month."""

NO_ROOM_BYTES = 1024 * 1024
"""Free bytes below which lines of the log get lost, and copies of keys are not kept."""

FEW_FILES = 100
"""Free inodes below which there is a warning, if the file system limits them."""


def look_at_places(config: Config, own: Collection[int]) -> Iterator[Finding]:
    """A finding for each directory; `own` are processes of the running server, which may use them."""
    for each in place_problems(config):
        hint = "the server's account has to own its directories and run as an account that nobody else uses"
        yield problem(TOPIC, each, hint)
    if not own:
        for each in state_lock.problems(config):
            yield problem(TOPIC, each, "one server for each directory: stop the other one, or give this one its own")
    for each in host_key_problems(config):
        hint = "put a copy of the key back, or move the file away: a new one is made, of which clients warn"
        yield problem(TOPIC, each, hint)
    yield _room("keys_dir", Path(config.keys_dir).absolute())
    if (why := room.why_not(Path(config.audit_dir).absolute())) is None:
        yield _room("audit_dir", Path(config.audit_dir).absolute())
    else:
        hint = f"make it writable, or make room; until then {room.what_follows(required=config.audit.required)}"
        yield problem(TOPIC, f"audit_dir: the log can't be written: {why}", hint)


def _room(key: str, directory: Path) -> Finding:
    there = next((path for path in (directory, *directory.parents) if path.is_dir()), Path("/"))
    try:
        found = os.statvfs(there)
    except OSError as error:
        hint = "mount it again, or set the key to another directory"
        return problem(TOPIC, f"{key}: {there} can't be looked at: {error.strerror}", hint)
    free = found.f_bavail * found.f_frsize
    begins = "has" if there == directory else "is made at the start, where there is"
    shown = f"{key}: {directory} {begins} {size(free)} of room"
    hint = "remove what is old there (docs/audit.md has how the log is rotated), or enlarge the disk"
    if free < NO_ROOM_BYTES:
        return problem(TOPIC, shown, hint)
    if free < LITTLE_ROOM_BYTES or (found.f_files and found.f_favail < FEW_FILES):
        return warning(TOPIC, shown, hint)
    return ok(TOPIC, shown)
