"""The file operations of a copy by scp's old protocol, from the bytes of its session into the event stream."""

import errno
import os
import re

from pyssh_gateway.core.transfers import scp_command
from pyssh_gateway.core.transfers.scp_copy import Asked, Copied, Copy, split
from pyssh_gateway.postauth.files.file_events import Say

_BRACKETED = re.compile(rb"\[([*?[])\]")
"""A quoted wildcard, which `scp_command.parse` returns in brackets."""

MAX_PARSED_BYTES = 16 * 1024
"""The longest paths of a command that are parsed: four times PATH_MAX. Parsing them takes 10 ms, in which all other
connections wait."""

_ERRORS = {os.strerror(number): name for number, name in errno.errorcode.items()}


class ScpEvents:
    """Reads the bytes of one session. `say` publishes; `told` says whether the command that runs is itself scp.

    A forced command may do anything else with its input. Bytes that are not scp's protocol are then no event.
    """

    def __init__(self, asked: Asked, home: bytes, say: Say, *, told: bool) -> None:
        self._copy = Copy(asked, home)
        self._to_server = self._copy.receiver if asked.source else self._copy.sender
        self._to_client = self._copy.sender if asked.source else self._copy.receiver
        self._source = asked.source
        self._say = say
        self._told = told

    def from_client(self, data: bytes) -> None:
        """Input for the process."""
        self._tell(self._to_server(data))

    def from_server(self, data: bytes) -> None:
        """Output of the process."""
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
    """The copy that `command` asks for; None if it is not a command that starts scp on the remote side."""
    found = split(command)
    if found is None:
        return None
    flags, paths = found
    words = None
    if len(paths) <= MAX_PARSED_BYTES:
        words = scp_command.parse(b"scp -" + (b"f" if b"f" in flags else b"t") + b" -- " + paths)
    # Paths that only a shell could expand are reported as the client sent them.
    named = (paths,) if words is None else tuple(_BRACKETED.sub(rb"\1", word) for word in words[3:])
    return Asked(source=b"f" in flags, words=named, into=b"d" in flags)


def _outcome(text: str) -> str:
    """The name of the error (ENOENT, ...), if scp's message ends with the text of one of the system's errors."""
    return _ERRORS.get(text.rpartition(": ")[2], text if text in {"ok", "unfinished"} else "failed")
