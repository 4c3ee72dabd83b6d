"""The open files of an SFTP client, and the file system operations that take more than one system call."""

# The names of files are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH104, PTH108

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial

from pyssh_gateway.as_user.sftp import wire

NO_ID = 2**32 - 1
"""chown(2)'s value for "leave it unchanged": (uid_t) -1."""

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of link(2) if the file system has no hard links, or the kernel forbids this one (protected_hardlinks)."""

_FLAG_WORDS = {
    wire.FXF_READ: "read",
    wire.FXF_WRITE: "write",
    wire.FXF_APPEND: "append",
    wire.FXF_CREAT: "create",
    wire.FXF_TRUNC: "truncate",
    wire.FXF_EXCL: "exclusive",
}


class OpenFile:
    """A file that a client has open. `outcome` is the name of the first error that it met, or `ok`."""

    def __init__(self, descriptor: int, path: bytes, flags: int) -> None:
        self.descriptor = descriptor
        self.path = path
        self.flags = flags
        self.bytes_read = 0
        self.bytes_written = 0
        self.outcome = "ok"

    def read_into(self, buffer: memoryview, offset: int) -> int:
        """Fill `buffer` from `offset`; returns the number of bytes, which is smaller only at the end of the file."""
        try:
            count = os.preadv(self.descriptor, [buffer], offset)
        except OSError as error:
            self.met(error)
            raise
        self.bytes_read += count
        return count

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of `data` at `offset`, or at the end if the file was opened for that."""
        try:
            while data:
                if self.flags & wire.FXF_APPEND:
                    count = os.write(self.descriptor, data)
                else:
                    count = os.pwrite(self.descriptor, data, offset)
                self.bytes_written += count
                offset += count
                data = data[count:]
        except OSError as error:
            self.met(error)
            raise

    def close(self) -> None:
        """Close it. A network file system may report an error, such as a full disk, only now."""
        try:
            os.close(self.descriptor)
        except OSError as error:
            self.met(error)
            raise

    def met(self, error: OSError) -> None:
        """Remember `error`, if it is the first."""
        if self.outcome == "ok":
            self.outcome = error_name(error)


class OpenDirectory:
    """A directory that a client lists; it is read as the listing proceeds."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._entries = os.scandir(path)
        self._dots = [b"..", b"."]

    def names(self) -> Iterator[bytes]:
        """The names that were not listed yet. `.` and `..` come first: scandir leaves them out, sftp-server doesn't."""
        while self._dots:
            yield self._dots.pop()
        for entry in self._entries:
            yield entry.name

    def close(self) -> None:
        """Close it."""
        self._entries.close()


class Handles:
    """The open files and directories of a session, at most `limit`, each under the handle that the client has for it.

    A handle is not reused (before 2**32 others): one that a client uses after closing it is invalid.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[bytes, OpenFile | OpenDirectory] = {}
        self._next = 0

    def reserve(self) -> None:
        """Raise EMFILE if there is no room for another one. To be called before opening, which may already truncate."""
        if len(self._open) >= self.limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def add(self, opened: OpenFile | OpenDirectory) -> bytes:
        """The handle for `opened`."""
        handle = wire.u32(self._next)
        self._next = (self._next + 1) % 2**32
        self._open[handle] = opened
        return handle

    def file(self, handle: bytes) -> OpenFile:
        """The open file that `handle` stands for."""
        opened = self._open.get(handle)
        if not isinstance(opened, OpenFile):
            raise wire.Refusal(wire.FX_FAILURE, "this is not the handle of an open file")
        return opened

    def directory(self, handle: bytes) -> OpenDirectory:
        """The open directory that `handle` stands for."""
        opened = self._open.get(handle)
        if not isinstance(opened, OpenDirectory):
            raise wire.Refusal(wire.FX_FAILURE, "this is not the handle of an open directory")
        return opened

    def remove(self, handle: bytes) -> OpenFile | OpenDirectory:
        """Forget `handle`; the caller closes the file or directory that it stood for."""
        try:
            return self._open.pop(handle)
        except KeyError:
            # The status that sftp-server.c gives: handle_close sets ENOENT.
            raise wire.Refusal(wire.FX_NO_SUCH_FILE, "this is not the handle of anything open") from None

    def remove_all(self) -> Iterator[OpenFile | OpenDirectory]:
        """Everything that is still open; each is forgotten as it is returned."""
        while self._open:
            yield self._open.popitem()[1]


def open_flags(flags: int) -> int:
    """The flags for open(2). Neither reading nor writing asked for means reading, as in sftp-server.c."""
    access = flags & (wire.FXF_READ | wire.FXF_WRITE)
    system = {wire.FXF_WRITE: os.O_WRONLY, wire.FXF_READ | wire.FXF_WRITE: os.O_RDWR}.get(access, os.O_RDONLY)
    for flag, meaning in (
        (wire.FXF_APPEND, os.O_APPEND),
        (wire.FXF_CREAT, os.O_CREAT),
        (wire.FXF_TRUNC, os.O_TRUNC),
        (wire.FXF_EXCL, os.O_EXCL),
    ):
        if flags & flag:
            system |= meaning
    # This process leads a session without a terminal: a tty device must not become its controlling terminal.
    return system | os.O_NOCTTY


def flag_words(flags: int) -> str:
    """`flags` of an OPEN request as text for the record."""
    return " ".join(word for flag, word in _FLAG_WORDS.items() if flags & flag)


def error_name(error: OSError) -> str:
    """The error's symbolic name."""
    return errno.errorcode.get(error.errno or 0, "EUNKNOWN")


def rename_new(source: bytes, target: bytes) -> None:
    """Rename, and fail if `target` exists, as SSH_FXP_RENAME must.

    A file is linked and then unlinked, so that nobody can create the target between the check and the rename. A
    directory, or a file on FAT, can't be linked: its target is checked, then it is renamed, as in sftp-server.c.
    """
    if stat.S_ISREG(os.lstat(source).st_mode) and _linked(source, target):
        try:
            os.unlink(source)
        except OSError:
            with suppress(OSError):
                os.unlink(target)
            raise
        return
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(source, target)


def _linked(source: bytes, target: bytes) -> bool:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_HARD_LINKS:
            return False
        raise
    return True


def set_attributes(target: bytes | int, attrs: wire.Attributes) -> None:
    """Set the attributes `attrs` on the path or descriptor `target`, following links."""
    calls: list[Callable[[], None]] = []
    if attrs.size is not None:
        calls.append(partial(os.truncate, target, attrs.size))
    if attrs.mode is not None:
        calls.append(partial(os.chmod, target, attrs.mode))
    if attrs.times is not None:
        calls.append(partial(os.utime, target, attrs.times))
    if attrs.owner is not None:
        calls.append(partial(os.chown, target, *map(_system_id, attrs.owner)))
    _try_all(calls)


def set_link_attributes(path: bytes, attrs: wire.Attributes) -> None:
    """Set the attributes `attrs` on `path`; if that is a symbolic link, on the link itself."""
    if attrs.size is not None:
        raise wire.Refusal(wire.FX_BAD_MESSAGE, "the size of a symbolic link can't be set")
    calls: list[Callable[[], None]] = []
    if attrs.mode is not None:
        calls.append(partial(_chmod_no_follow, path, attrs.mode))
    if attrs.times is not None:
        calls.append(partial(os.utime, path, attrs.times, follow_symlinks=False))
    if attrs.owner is not None:
        calls.append(partial(os.chown, path, *map(_system_id, attrs.owner), follow_symlinks=False))
    _try_all(calls)


def _try_all(calls: list[Callable[[], None]]) -> None:
    """Make every call, even after one has failed, and raise the last error: sftp-server.c reports that one."""
    failed: OSError | None = None
    for call in calls:
        try:
            call()
        except OSError as error:
            failed = error
    if failed is not None:
        raise failed


def _chmod_no_follow(path: bytes, mode: int) -> None:
    """Change the mode of anything but a link (Linux can't change a link's), by the same detour that glibc takes."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def _system_id(number: int) -> int:
    return -1 if number == NO_ID else number
