"""The receiving side of a legacy copy: scp.c's `sink`. Makes the files and directories that the peer announces.

The peer chooses the names and is not trusted: a name must be one component of a path, below the target. scp.c recurses
for a directory; here there is a stack, because the peer decides how deep it gets.
"""

# The names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH102, PTH112, PTH116, PTH118

import errno
import os
import re
import stat
from collections.abc import Callable

import msgspec

from pyssh_gateway.as_user.scp.peer import (
    CHUNK_BYTES,
    FATAL,
    WARNING,
    GoneError,
    Peer,
    ProtocolError,
    reason,
    write_all,
)
from pyssh_gateway.core.transfers.scp_command import Options

MAX_SIZE = 2**63 - 1
"""The largest off_t."""

_ANNOUNCED = re.compile(rb"([CD])([0-7]{4}) ([0-9]{1,20}) (.*)", re.DOTALL)
"""The record of a file or directory: mode, size, name."""

_TIMES = re.compile(rb"T([0-9]{1,20}) ([0-9]{1,6}) ([0-9]{1,20}) ([0-9]{1,6})")
"""The record of times for the next file or directory: seconds and microseconds of modification and of access."""

_MAX_SECONDS = MAX_SIZE // 10**9
"""Times after this one, in the year 2262, can't be set in nanoseconds, and are left unset."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY

Times = tuple[int, int]
"""Access time and modification time, in nanoseconds."""


class _Announced(msgspec.Struct, frozen=True):
    """A file or directory that the peer is going to send, and where it goes."""

    path: bytes
    mode: int
    size: int
    times: Times | None


class _Directory(msgspec.Struct, frozen=True):
    """A directory that is being received. Its times, and its mode if one is to be set, are set when it is complete."""

    path: bytes
    mode: int | None
    times: Times | None


class Sink:
    """Receives the files that `peer` sends. `mask` is taken off the modes; the process's umask has to agree with it."""

    def __init__(self, peer: Peer, options: Options, mask: int) -> None:
        self._peer = peer
        self._options = options
        self._mask = mask
        self._open: list[_Directory] = []

    def run(self, target: bytes) -> None:
        """Receive into the directory `target`, or, if it is none, as `target` the one file or directory that comes."""
        if self._options.directory:
            _require_directory(target)
        self._peer.ack()
        times = None
        first = True
        while (record := self._peer.record()) is not None:
            self._peer.tell(b"Sink: " + record)
            kind = record[:1]
            if kind in {WARNING, FATAL}:  # an error of the client, which has shown it to its user
                self._peer.errors += 1
                if kind == FATAL:
                    raise GoneError
            elif kind == b"E":
                self._peer.ack()
                if not self._open:
                    return
                self._finish(self._open.pop())
            elif kind == b"T":
                times = _times(record)
                self._peer.ack()
            else:
                if first and kind not in b"CD":  # most likely the output of a login script
                    raise ProtocolError(os.fsdecode(record))
                self._receive(record[:1], self._announced(target, record, times))
                times = None
            first = False
        while self._open:
            self._finish(self._open.pop())

    def _announced(self, target: bytes, record: bytes, times: Times | None) -> _Announced:
        match = _ANNOUNCED.fullmatch(record)
        if match is None:
            raise ProtocolError("protocol error: expected control record")
        mode, size, name = int(match[2], 8), int(match[3]), match[4]
        if size > MAX_SIZE:
            raise ProtocolError("protocol error: size out of range")
        if b"/" in name or b"\0" in name or name in {b"", b".", b".."}:
            raise ProtocolError(f"error: unexpected filename: {os.fsdecode(name)}")
        if not self._options.preserve:
            mode &= ~self._mask
        parent = self._open[-1].path if self._open else target
        path = os.path.join(parent, name) if self._open or os.path.isdir(parent) else parent
        return _Announced(path, mode, size, times)

    def _receive(self, kind: bytes, announced: _Announced) -> None:
        if kind == b"D":
            if not self._options.recursive:
                raise ProtocolError("protocol error: received directory without -r")
            self._enter(announced)
            return
        try:
            existing = _existing(announced.path)
            # Writable for its owner while it is written; the final mode follows.
            descriptor = os.open(announced.path, _NEW_FILE, announced.mode | stat.S_IWUSR)
        except (OSError, ValueError) as error:
            self._peer.complain(announced.path + b": " + reason(error))
            return
        problem = self._receive_file(announced, existing, descriptor)
        self._peer.answered()
        if problem is None and announced.times is not None:
            problem = _tried(b": set times: ", _set_times, announced.path, announced.times)
        if problem is None:
            self._peer.ack()
        else:
            self._peer.complain(announced.path + problem)

    def _receive_file(self, announced: _Announced, existing: os.stat_result | None, descriptor: int) -> bytes | None:
        """Receive the content. All of it is read, or the two sides would get out of step. Returns the first error."""
        problem = None
        try:
            self._peer.ack()
            left = announced.size
            while left:
                chunk = self._peer.chunk(min(left, CHUNK_BYTES))
                left -= len(chunk)
                if problem is None:
                    problem = _tried(b": ", write_all, descriptor, chunk)
            if problem is None and (existing is None or stat.S_ISREG(existing.st_mode)):
                problem = _tried(b": truncate: ", os.ftruncate, descriptor, announced.size)
            mode = announced.mode
            if self._options.preserve or (existing is None and not mode & stat.S_IWUSR):
                mode_problem = _tried(b": set mode: ", os.fchmod, descriptor, mode)
                problem = problem or mode_problem
        except BaseException:
            os.close(descriptor)
            raise
        # Some errors are reported only by close(2): over quota, on a network file system.
        return problem or _tried(b": ", os.close, descriptor)

    def _enter(self, announced: _Announced) -> None:
        try:
            existing = _existing(announced.path)
            if existing is None:
                # Writable for its owner while it is filled; the final mode follows.
                os.mkdir(announced.path, announced.mode | stat.S_IRWXU)
            elif not stat.S_ISDIR(existing.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            elif self._options.preserve:
                os.chmod(announced.path, announced.mode | stat.S_IRWXU)
        except (OSError, ValueError) as error:
            self._peer.complain(announced.path + b": " + reason(error))
            return
        mode = announced.mode if existing is None or self._options.preserve else None
        self._open.append(_Directory(announced.path, mode, announced.times))
        self._peer.ack()

    def _finish(self, directory: _Directory) -> None:
        """Set the times, then the mode, which does not change them. No answer is due that could report an error."""
        if directory.times is not None:
            _tried(b"", _set_times, directory.path, directory.times)
        if directory.mode is not None:
            _tried(b"", os.chmod, directory.path, directory.mode)


def _require_directory(path: bytes) -> None:
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return
        problem = os.strerror(errno.ENOTDIR)
    except OSError as error:
        problem = os.fsdecode(reason(error))
    raise ProtocolError(f"{os.fsdecode(path)}: {problem}")


def _existing(path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # making the file reports the same error
        return None


def _times(record: bytes) -> Times | None:
    match = _TIMES.fullmatch(record)
    if match is None:
        raise ProtocolError("protocol error: times not delimited")
    changed, changed_us, accessed, accessed_us = map(int, match.groups())
    if max(changed, accessed) >= _MAX_SECONDS:
        return None
    return accessed * 10**9 + accessed_us * 1000, changed * 10**9 + changed_us * 1000


def _set_times(path: bytes, times: Times) -> None:
    os.utime(path, ns=times)


def _tried(what: bytes, act: Callable[..., None], *arguments: object) -> bytes | None:
    """Call `act`; returns the error's text, or None."""
    try:
        act(*arguments)
    except OSError as error:
        return what + reason(error)
    return None
