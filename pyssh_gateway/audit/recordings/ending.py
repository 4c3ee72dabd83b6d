"""Learns from the log that a recording goes on no more, although the recording itself does not say so.

The recorder writes a session's end into the recording only if it saw one: not that of a client that was killed.
"""

from pathlib import Path

import msgspec

from pyssh_gateway.audit.reading.choosing import since_then
from pyssh_gateway.audit.reading.following import Follower
from pyssh_gateway.audit.segments import NoLog
from pyssh_gateway.core.recordings import names


class _Line(msgspec.Struct):
    event: str
    session: str
    user: str
    reason: str = ""


_decoder = msgspec.json.Decoder(_Line)

_STARTED, _ENDED, _CLOSED = "recording.started", "recording.ended", "session.closed"


class Ending:
    """For the recording in the file `path`, which began at the Unix time `since` (None: not known)."""

    def __init__(self, path: Path, since: float | None) -> None:
        name = names.parsed(path.name)
        account, directory = path.parent, path.parent.parent
        self._account, self._session = account.name, "" if name is None else name[0]
        self._reason: str | None = None
        self._lines = None
        if name is not None and directory.name == names.DIRECTORY:
            try:
                first = since_then(directory.parent, since)[0].first
            except NoLog:  # recordings without their log, or one that may not be read
                return
            self._lines = Follower(directory.parent, first - 1, lambda _: True).lines()

    def look(self) -> str | None:
        """Why it has ended, by what the log says now; None: it has not, or that is not known."""
        if self._lines is None:
            return None
        try:
            for line in self._lines:
                if line is None:
                    break
                self._see(line.data)
        except NoLog:
            self._lines = None
        return self._reason

    def _see(self, line: bytes) -> None:
        if self._session.encode() not in line:
            return
        try:
            found = _decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return
        if (found.user, found.session) != (self._account, self._session):
            return
        if found.event == _STARTED:  # another part, after its recorder died
            self._reason = None
        elif found.event in {_ENDED, _CLOSED}:
            self._reason = found.reason
