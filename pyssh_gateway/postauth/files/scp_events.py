"""What a copy by scp's old protocol does to files, from the bytes of its session into the event stream."""

import errno
import os
import re

from pyssh_gateway.core.transfers import scp_command
from pyssh_gateway.core.transfers.scp_copy import Asked, Copied, Copy, split
from pyssh_gateway.postauth.files.file_events import Say

_BRACKETED = re.compile(rb"\[([*?[])\]")
"""How `scp_command.parse` puts what was quoted."""

MAX_PARSED_BYTES = 16 * 1024
"""Of the paths in a command: four of PATH_MAX. It takes 10 ms to take them apart, in which everybody waits."""

_ERRORS = {os.strerror(number): name for number, name in errno.errorcode.items()}


class ScpEvents:
    """Reads along one session. `say` publishes; `told` says whether the command itself was the copy.

    A forced command may do anything else with what it is sent: then it is no event that it was not understood.
    """

    def __init__(self, asked: Asked, home: bytes, say: Say, *, told: bool) -> None:
        self._copy = Copy(asked, home)
        self._to_server = self._copy.receiver if asked.source else self._copy.sender
        self._to_client = self._copy.sender if asked.source else self._copy.receiver
        self._source = asked.source
        self._say = say
        self._told = told

    def from_client(self, data: bytes) -> None:
        """Input of the process."""
        self._tell(self._to_server(data))

    def from_server(self, data: bytes) -> None:
        """Its output."""
        self._tell(self._to_client(data))

    def end(self) -> None:
        """The session is over."""
        self._tell(self._copy.end())

    def _tell(self, copied: list[Copied]) -> None:
        for file in copied:
            self._say(
                "file.closed" if file.opened else "file.open_failed",
                file.path,
                file.rest,
                detail="scp read" if self._source else "scp write",
                bytes_read=file.bytes if self._source else 0,
                bytes_written=0 if self._source else file.bytes,
                outcome=_outcome(file.outcome),
            )
        if self._copy.is_lost and self._told:
            self._told = False
            self._say("events.invalid", outcome="not scp's protocol")


def asked(command: bytes) -> Asked | None:
    """What `command` asks scp for; None if it is not how the far side of a copy is started."""
    found = split(command)
    if found is None:
        return None
    flags, paths = found
    words = None
    if len(paths) <= MAX_PARSED_BYTES:
        words = scp_command.parse(b"scp -" + (b"f" if b"f" in flags else b"t") + b" -- " + paths)
    # What needs a shell to be understood is told as it was asked for.
    named = (paths,) if words is None else tuple(_BRACKETED.sub(rb"\1", word) for word in words[3:])
    return Asked(source=b"f" in flags, words=named, into=b"d" in flags)


def _outcome(text: str) -> str:
    """The name of the error in what scp said, if it ends with one that the system has."""
    return _ERRORS.get(text.rpartition(": ")[2], text if text in {"ok", "unfinished"} else "failed")
