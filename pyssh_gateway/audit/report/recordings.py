"""The recordings that are put into the report: newest sessions first, as far as the bound allows.

A recording is data from outside: it is decoded and written anew, so that the page has only events that are some, and
what can't be read is left out and counted.
"""

import gzip
from base64 import b64encode
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import msgspec

from pyssh_gateway.audit.recordings import files
from pyssh_gateway.audit.recordings.files import NoRecording
from pyssh_gateway.audit.recordings.reading import Recording as Reading
from pyssh_gateway.audit.recordings.screen_text import shown
from pyssh_gateway.audit.report.facts import Session
from pyssh_gateway.audit.report.words import visible
from pyssh_gateway.core.recordings.asciicast import Encoder, missing_bytes
from pyssh_gateway.core.recordings.command_marks import Command, CommandMarks
from pyssh_gateway.core.recordings.names import is_of

LARGEST = 64 * 1024 * 1024
"""A recording of more bytes is not put into the page: browsers play it, but only after a wait."""

MOST_SEARCHED = 16 * 1024 * 1024
"""Of so many bytes of recordings, the newest, the page has the text for its search: finding it takes seconds."""

MOST_LINES = 20_000
LONGEST_LINE = 500
"""So much of what a recording showed can be searched in the page: lines, and characters of a line."""

MOST_COMMANDS = 200
"""So many of the commands that a shell has marked are listed for a recording."""


class Recording(msgspec.Struct, frozen=True):
    """A recording, packed for the page (gzip, base64): the asciicast, and the lines that it showed, as JSON.

    `missing` bytes of output are not in it; `seconds` is its length.
    """

    name: str
    cast: str
    lines: str
    seconds: float
    missing: int
    broken: int
    commands: list[Command]
    more_commands: int

    @property
    def size(self) -> int:
        """What it takes in the page."""
        return len(self.cast) + len(self.lines)


class Chosen(msgspec.Struct, frozen=True):
    """What is in the page, by account and session.

    `left_out` recordings are not, of `left_out_bytes` on disk; `unreadable` ones can't be read; of `unsearched` ones
    the page does not have the text for its search. `problem`: why there are none, if they can't even be listed.
    """

    found: dict[tuple[str, str], Recording]
    left_out: int
    left_out_bytes: int
    unreadable: int
    unsearched: int
    problem: str = ""


def recorded_as(session: Session) -> tuple[str, str] | None:
    """The account and the name of a session's recording; None if its name is not one of its own connection.

    In old logs a process that its user had taken over could claim to have any session.
    """
    return (session.link.user, session.name) if is_of(session.name, session.link.conn) else None


def choose(audit_dir: Path, sessions: Iterable[Session], bound: int) -> Chosen:
    """The recordings of `sessions`, newest first, in at most `bound` bytes of the page."""
    on_disk: dict[tuple[str, str], list[tuple[int, Path]]] = {}
    try:
        for account, name, part, path in files.recordings(audit_dir) if bound else ():
            on_disk.setdefault((account, name), []).append((part, path))
    except NoRecording as error:  # who may read the log need not be allowed to read recordings
        return Chosen({}, 0, 0, 0, 0, str(error))
    found: dict[tuple[str, str], Recording] = {}
    left, searched = bound, 0
    left_out = left_out_bytes = unreadable = unsearched = 0
    for session in sessions:
        whose = recorded_as(session)
        if whose is None or whose not in on_disk:
            continue
        paths = [path for _, path in sorted(on_disk.pop(whose))]
        try:
            size = sum(path.stat().st_size for path in paths)
            # Base64 has four characters for three bytes, and gzip is hardly better than zstd.
            packed = _read(session.name, paths, MOST_SEARCHED - searched) if size <= left else None
        except (OSError, NoRecording):
            unreadable += 1
            continue
        if packed is None or packed[0].size > left:
            left_out, left_out_bytes = left_out + 1, left_out_bytes + size
            continue
        recording, text_bytes = packed
        found[whose] = recording
        left -= recording.size
        searched += text_bytes
        unsearched += not text_bytes
    return Chosen(found, left_out, left_out_bytes, unreadable, unsearched)


def _read(name: str, paths: list[Path], most_text: int) -> tuple[Recording, int] | None:
    """The recording in these files, and of how many bytes it has the text; None if it is too large.

    Raises NoRecording.
    """
    encoder, marks = Encoder(), CommandMarks()
    commands: list[Command] = []
    at, missing, size = 0.0, 0, 0
    with Reading(paths) as reading:
        parts = [encoder.header(reading.header)]
        while (events := reading.read()) is not None:
            for event in events:
                at, missing = event.at, missing + (missing_bytes(event) or 0)
                parts.append(encoder.event(event))
                size += len(parts[-1])
                commands += marks.feed(event)
            if size > LARGEST:
                return None
        broken = reading.broken
    commands += marks.end()
    is_searched = size <= most_text
    found = islice(shown(*paths), MOST_LINES) if is_searched else ()
    lines = [(round(line.time, 1), visible(line.text[:LONGEST_LINE])) for line in found]
    recording = Recording(
        name,
        _packed(b"".join(parts)),
        _packed(msgspec.json.encode(lines)),
        at,
        missing,
        broken,
        commands[:MOST_COMMANDS],
        max(0, len(commands) - MOST_COMMANDS),
    )
    return recording, size if is_searched else 0


def _packed(data: bytes) -> str:
    return b64encode(gzip.compress(data, 6, mtime=0)).decode()
