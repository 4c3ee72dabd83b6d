"""The sending side of a legacy copy: scp.c's `source` and `rsource`. Symbolic links are followed, as in scp.c.

scp.c recurses for a directory; here there is a stack with an open directory (and the C library's 32 KiB for it) for
each level. RLIMIT_NOFILE limits the depth, and so would PATH_MAX.
"""

# The names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH118

import errno
import os
import stat
from collections.abc import Generator

from pyssh_gateway.as_user.scp.peer import CHUNK_BYTES, Peer, reason
from pyssh_gateway.core.transfers.scp_command import Options

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
"""Non-blocking: a FIFO is refused instead of waited for."""


class Source:
    """Sends files, and directories if the peer wants them, to `peer`."""

    def __init__(self, peer: Peer, options: Options) -> None:
        self._peer = peer
        self._options = options
        self._open: list[tuple[bytes, Generator[bytes, None, None]]] = []

    def run(self, paths: list[bytes]) -> None:
        """Send the files at `paths`, once the peer is ready. A file that can't be sent is reported and left out."""
        self._peer.answered()
        try:
            for path in paths:
                self._send(path.rstrip(b"/") or path[:1])
                while self._open:
                    self._send_next(*self._open[-1])
        finally:
            for _, names in self._open:
                names.close()

    def _send_next(self, directory: bytes, names: Generator[bytes, None, None]) -> None:
        """Send the next file of the innermost directory, or its end."""
        try:
            name = next(names, None)
        except OSError as error:
            self._peer.complain(directory + b": " + reason(error))
            name = None
        if name is not None:
            self._send(os.path.join(directory, name))
            return
        self._open.pop()
        self._peer.write(b"E\n")
        self._peer.answered()

    def _send(self, path: bytes) -> None:
        """Send the file at `path`, or begin the directory there."""
        try:
            descriptor = os.open(path, _READ)
        except (OSError, ValueError) as error:
            self._peer.complain(path + b": " + reason(error))
            return
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                if self._announced(b"C", path, found, found.st_size):
                    self._send_content(path, descriptor, found.st_size)
            elif not stat.S_ISDIR(found.st_mode) or not self._options.recursive:
                self._peer.complain(path + b": not a regular file")
            elif self._announced(b"D", path, found, 0):
                self._open.append((path, _names(path)))
        finally:
            os.close(descriptor)

    def _announced(self, kind: bytes, path: bytes, found: os.stat_result, size: int) -> bool:
        """Announce a file or directory to the peer; returns whether the peer wants it."""
        if self._options.preserve:
            # Whole seconds, as in scp.c; the protocol has no times before 1970.
            times = b"T%d 0 %d 0" % (max(0, int(found.st_mtime)), max(0, int(found.st_atime)))
            if not self._told(times):
                return False
        return self._told(b"%s%04o %d %s" % (kind, stat.S_IMODE(found.st_mode), size, _sent_name(path)))

    def _told(self, record: bytes) -> bool:
        self._peer.tell(b"Sending file modes: " + record)
        self._peer.write(record + b"\n")
        return self._peer.answered()

    def _send_content(self, path: bytes, descriptor: int, size: int) -> None:
        """Send exactly as many bytes as were announced, even if the file changes or fails: the peer counts them."""
        problem = None
        left = size
        while left:
            chunk = b""
            if problem is None:
                try:
                    chunk = os.read(descriptor, min(left, CHUNK_BYTES))
                    if not chunk:  # the file got shorter
                        problem = os.fsencode(os.strerror(errno.EIO))
                except OSError as error:
                    problem = reason(error)
            chunk = chunk or bytes(min(left, CHUNK_BYTES))
            self._peer.write(chunk)
            left -= len(chunk)
        if problem is None:
            self._peer.ack()
        else:
            self._peer.complain(path + b": " + problem)
        self._peer.answered()


def _names(directory: bytes) -> Generator[bytes, None, None]:
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.name


def _sent_name(path: bytes) -> bytes:
    """The last part of `path`. Names in the protocol have no newlines: one is written as by scp.c's vis(3)."""
    name = path.rpartition(b"/")[2]
    return name.replace(b"\\", b"\\\\").replace(b"\n", b"\\^J") if b"\n" in name else name
