"""The other side of a legacy copy: the lines, bytes and answers of the rcp protocol over a pair of descriptors.

The only specification of the protocol is scp.c. Records are lines. Each is answered by a zero byte, or by a one (an
error; go on) or a two (an error; the end) and a line of text. Nothing here has a timeout: the connection decides how
long a client may be silent, and when it ends, this side reads an end of file.
"""

import os

CHUNK_BYTES = 256 * 1024
"""Bytes that are read or written at once: a quarter of a session's pipe, and nearly all the memory of a copy."""

MAX_RECORD_BYTES = 16 * 1024
"""A longer line is no record: scp.c's buffer (sink). Names have 255 bytes on Linux."""

MAX_TEXT_BYTES = 1024
"""Only the end of an error's text is sent: scp.c reads 2048 bytes as a line, and the rest as further answers."""

OK = b"\0"
WARNING = b"\1"
FATAL = b"\2"


class GoneError(Exception):
    """The peer has disconnected, or has said that it gives up."""


class ProtocolError(Exception):
    """The copy can't go on; the text is for the peer."""


class Peer:
    """The connection to the peer. `errors` counts the errors of both sides, which decide the exit status."""

    def __init__(self, stdin: int, stdout: int, stderr: int, *, verbose: bool) -> None:
        self.errors = 0
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._verbose = verbose
        self._buffer = bytearray(CHUNK_BYTES)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0

    def record(self) -> bytes | None:
        """The next line, without its end; None if the peer is done."""
        if self._start == self._end and not self._fill():
            return None
        line = self._line()
        if not line:
            raise ProtocolError("protocol error: unexpected <newline>")
        return line

    def chunk(self, most: int) -> memoryview:
        """Between 1 and `most` bytes of what the peer sent, valid until the next call."""
        if self._start == self._end and not self._fill():
            raise ProtocolError("dropped connection")
        start = self._start
        self._start = min(self._end, start + most)
        return self._view[start : self._start]

    def answered(self) -> bool:
        """Wait for the peer's answer to a record; returns whether to go on with it."""
        answer = bytes(self.chunk(1))
        if answer == OK:
            return True
        self._line()
        self.errors += 1
        if answer == WARNING:
            return False
        raise GoneError

    def ack(self) -> None:
        """Tell the peer to go on."""
        self.write(OK)

    def complain(self, text: bytes) -> None:
        """Send an error to the peer, which shows it to its user."""
        self.errors += 1
        self.write(WARNING + b"scp: " + text[-MAX_TEXT_BYTES:].replace(b"\n", b"?") + b"\n")

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, all of it."""
        write_all(self._stdout, data)

    def tell(self, text: bytes) -> None:
        """Write to standard error, if the peer asked for details (-v)."""
        if self._verbose:
            write_all(self._stderr, text + b"\n")

    def _line(self) -> bytes:
        """The next bytes up to a newline."""
        line = b""
        while len(line) <= MAX_RECORD_BYTES:
            if self._start == self._end and not self._fill():
                raise ProtocolError("protocol error: lost connection")
            found = self._buffer.find(b"\n", self._start, self._end)
            end = self._end if found < 0 else found
            line += self._view[self._start : end]
            self._start = end if found < 0 else end + 1
            if found >= 0 and len(line) <= MAX_RECORD_BYTES:
                return line
        raise ProtocolError("protocol error: record too long")

    def _fill(self) -> int:
        self._start = 0
        self._end = os.readv(self._stdin, [self._buffer])
        return self._end


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write `data` to `descriptor`, however many calls it takes."""
    done = os.write(descriptor, data)
    while done < len(data):
        done += os.write(descriptor, memoryview(data)[done:])


def reason(error: OSError | ValueError) -> bytes:
    """The system's text for the error."""
    return os.fsencode(getattr(error, "strerror", None) or str(error))
