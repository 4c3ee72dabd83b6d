"""The file operations of an SFTP session, from the pipe of its process into the event stream.

The process runs as the user and is not trusted: anything that is not a valid event ends the reading.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from pyssh_gateway.core.launch import PIPE_BYTES
from pyssh_gateway.events import FileOperation
from pyssh_gateway.ipc import file_events
from pyssh_gateway.ipc.postauth import Told
from pyssh_gateway.postauth.pump import Source

TURN_BYTES = 2048
"""Bytes read in a turn of the loop: some forty events, which take 3 ms. All other connections wait meanwhile, and a
client can make its SFTP server report 100,000 events a second. Those that do not fit into the pipe are counted
(`events.lost`)."""

MAX_LAST_READS = 32
"""Reads without a pause once the process has ended, so that its operations are reported before its end. If there were
more, the rest follows later."""


class Say(Protocol):
    """Publishes what was done to a file in one session."""

    def __call__(
        self,
        operation: str,
        path: bytes = b"",
        target: bytes = b"",
        *,
        detail: str = "",
        bytes_read: int = 0,
        bytes_written: int = 0,
        outcome: str = "ok",
    ) -> None:
        """See `FileOperation`."""


def saying(publish: Callable[[Told], None], *, conn: str, session: str, user: str) -> Say:
    """The function that publishes file operations of this session."""

    def say(
        operation: str,
        path: bytes = b"",
        target: bytes = b"",
        *,
        detail: str = "",
        bytes_read: int = 0,
        bytes_written: int = 0,
        outcome: str = "ok",
    ) -> None:
        publish(
            FileOperation(
                conn=conn,
                session=session,
                user=user,
                operation=operation,
                path=os.fsdecode(path),
                target=os.fsdecode(target),
                detail=detail,
                bytes_read=bytes_read,
                bytes_written=bytes_written,
                outcome=outcome,
            )
        )

    return say


class FileEvents:
    """Reads and owns `descriptor`, until the process has ended and all its events have been read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, descriptor: int, say: Say) -> None:
        self._loop = loop
        self._say = say
        self._buffer = b""
        self._source = Source(loop, descriptor, deliver=self._take, at_end=lambda: None, size=TURN_BYTES, is_pty=False)
        self._source.set_reading(True)

    def finish(self) -> None:
        """The process has ended: read its last events, which are still in the pipe."""
        for _ in range(MAX_LAST_READS):
            if not self._source.read_now():
                self._source.close()
                return
        self._source.set_reading(False)
        self._loop.call_soon(self._read_rest, PIPE_BYTES // TURN_BYTES)

    def _read_rest(self, left: int) -> None:
        if left and self._source.read_now():
            self._loop.call_soon(self._read_rest, left - 1)
        else:
            self._source.close()

    def _take(self, data: bytes) -> None:
        try:
            events, self._buffer = file_events.decode(self._buffer + data)
        except file_events.EventError as error:
            self._source.close()
            self._say("events.invalid", outcome=str(error))
            return
        for event in events:
            self._tell(event)

    def _tell(self, event: file_events.FileEvent) -> None:
        match event:
            case file_events.FileClosed():
                self._say(
                    "file.closed",
                    event.path,
                    detail=event.flags,
                    bytes_read=event.bytes_read,
                    bytes_written=event.bytes_written,
                    outcome=event.outcome,
                )
            case file_events.FileOpenFailed():
                self._say("file.open_failed", event.path, detail=event.flags, outcome=event.outcome)
            case file_events.FileRemoved():
                self._say("file.removed", event.path, outcome=event.outcome)
            case file_events.FileRenamed():
                self._say("file.renamed", event.source, event.target, outcome=event.outcome)
            case file_events.DirectoryMade():
                self._say("directory.made", event.path, outcome=event.outcome)
            case file_events.DirectoryRemoved():
                self._say("directory.removed", event.path, outcome=event.outcome)
            case file_events.LinkMade():
                detail = "symbolic" if event.symbolic else "hard"
                self._say("link.made", event.path, event.target, detail=detail, outcome=event.outcome)
            case file_events.AttributesSet():
                self._say("attributes.set", event.path, detail=" ".join(event.which), outcome=event.outcome)
            case file_events.EventsLost():
                self._say("events.lost", detail=str(event.count))
