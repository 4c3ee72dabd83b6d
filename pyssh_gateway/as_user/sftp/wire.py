"""SFTP version 3 as bytes: draft-ietf-secsh-filexfer-02 and OpenSSH's extensions (its PROTOCOL file, section 4).

Knows the layout of packets; knows nothing of files or descriptors.
"""

import errno
import os
import struct

import msgspec

MAX_PACKET = 256 * 1024
"""The largest packet in bytes, without its length: OpenSSH's SFTP_MAX_MSG_LENGTH (sftp-common.h)."""

MAX_DATA = MAX_PACKET - 1024
"""The most data in one READ or WRITE: OpenSSH's SFTP_MAX_READ_LENGTH, which `limits@openssh.com` announces."""

MAX_OFFSET = 2**63 - 1
"""File offsets are signed in the kernel (off_t)."""

PATH_MAX = 4096
"""The longest path that the kernel accepts (linux/limits.h)."""

VERSION = 3

FXP_INIT, FXP_VERSION = 1, 2
FXP_OPEN, FXP_CLOSE, FXP_READ, FXP_WRITE = 3, 4, 5, 6
FXP_LSTAT, FXP_FSTAT, FXP_SETSTAT, FXP_FSETSTAT = 7, 8, 9, 10
FXP_OPENDIR, FXP_READDIR, FXP_REMOVE, FXP_MKDIR, FXP_RMDIR = 11, 12, 13, 14, 15
FXP_REALPATH, FXP_STAT, FXP_RENAME, FXP_READLINK, FXP_SYMLINK = 16, 17, 18, 19, 20
FXP_STATUS, FXP_HANDLE, FXP_DATA, FXP_NAME, FXP_ATTRS = 101, 102, 103, 104, 105
FXP_EXTENDED, FXP_EXTENDED_REPLY = 200, 201

FX_OK, FX_EOF, FX_NO_SUCH_FILE, FX_PERMISSION_DENIED, FX_FAILURE, FX_BAD_MESSAGE = 0, 1, 2, 3, 4, 5
FX_OP_UNSUPPORTED = 8

FXF_READ, FXF_WRITE, FXF_APPEND, FXF_CREAT, FXF_TRUNC, FXF_EXCL = 1, 2, 4, 8, 16, 32

ATTR_SIZE, ATTR_UIDGID, ATTR_PERMISSIONS, ATTR_ACMODTIME = 1, 2, 4, 8
ATTR_EXTENDED = 0x80000000

_CODES = {
    errno.ENOENT: FX_NO_SUCH_FILE,
    errno.ENOTDIR: FX_NO_SUCH_FILE,
    errno.EBADF: FX_NO_SUCH_FILE,
    errno.ELOOP: FX_NO_SUCH_FILE,
    errno.EPERM: FX_PERMISSION_DENIED,
    errno.EACCES: FX_PERMISSION_DENIED,
    errno.EFAULT: FX_PERMISSION_DENIED,
    errno.ENAMETOOLONG: FX_BAD_MESSAGE,
    errno.EINVAL: FX_BAD_MESSAGE,
    errno.ENOSYS: FX_OP_UNSUPPORTED,
}
"""errno -> status, as errno_to_portable in sftp-server.c has it; every other errno is FX_FAILURE."""

_MAX_UINT32 = 2**32 - 1
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_STATUS = struct.Struct(">II")
_STAT = struct.Struct(">IQIIIII")
_STAT_FLAGS = ATTR_SIZE | ATTR_UIDGID | ATTR_PERMISSIONS | ATTR_ACMODTIME
_STATVFS = struct.Struct(">11Q")

NO_ATTRIBUTES = _U32.pack(0)

Reply = tuple[int, bytes | memoryview]
"""The answer to a request: its packet type, and the bytes that follow the request's id."""


class MalformedError(Exception):
    """The bytes are not SFTP. The start of the next packet can't be found any more, so the session ends."""


class ClientGoneError(Exception):
    """The client has disconnected and does not wait for the answer any more."""


class Refusal(Exception):
    """The request can't be done, for a reason that is not an errno: the status to answer with, and a text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Attributes(msgspec.Struct, frozen=True):
    """The attributes that a client sent; those that it did not send are None. `times`: access and modification time."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    mode: int | None = None
    times: tuple[int, int] | None = None


class Fields:
    """The fields of one packet, read in order.

    A field that extends beyond the packet is malformed. Bytes behind the last field are ignored: sftp-server.c ignores
    them too, and rclone's SFTP library sends WRITE requests with such bytes.
    """

    __slots__ = ("_at", "_packet")

    def __init__(self, packet: memoryview) -> None:
        self._packet = packet
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes have not been read yet."""
        return len(self._packet) - self._at

    def byte(self) -> int:
        """The next byte."""
        return self._take(1)[0]

    def u32(self) -> int:
        """The next uint32."""
        return int(_U32.unpack(self._take(4))[0])

    def u64(self) -> int:
        """The next uint64."""
        return int(_U64.unpack(self._take(8))[0])

    def view(self) -> memoryview:
        """The next string, not copied: valid until the next packet is read."""
        return self._take(self.u32())

    def string(self) -> bytes:
        """The next string."""
        return bytes(self.view())

    def path(self) -> bytes:
        """The next string as a name in the file system."""
        path = self.string()
        if b"\0" in path:
            raise Refusal(FX_BAD_MESSAGE, "no file name has a NUL byte in it")
        return path

    def offset(self) -> int:
        """The next uint64 as a position in a file."""
        offset = self.u64()
        if offset > MAX_OFFSET:
            raise Refusal(FX_BAD_MESSAGE, "no file is that long")
        return offset

    def attributes(self) -> Attributes:
        """The next ATTRS structure (section 5 of the draft)."""
        flags = self.u32()
        size = self.offset() if flags & ATTR_SIZE else None
        owner = (self.u32(), self.u32()) if flags & ATTR_UIDGID else None
        mode = self.u32() & 0o7777 if flags & ATTR_PERMISSIONS else None
        times = (self.u32(), self.u32()) if flags & ATTR_ACMODTIME else None
        if flags & ATTR_EXTENDED:
            for _ in range(self.u32()):
                self.view()
                self.view()
        return Attributes(size, owner, mode, times)

    def _take(self, length: int) -> memoryview:
        start, self._at = self._at, self._at + length
        if self._at > len(self._packet):
            raise MalformedError("a packet ends in the middle of a field")
        return self._packet[start : self._at]


def u32(value: int) -> bytes:
    """`value` as uint32."""
    return _U32.pack(value)


def string(value: bytes) -> bytes:
    """`value` with its length before it."""
    return _U32.pack(len(value)) + value


def status(code: int, text: str) -> Reply:
    """A STATUS with a text for people. Its language tag stays empty, as OpenSSH's does."""
    message = text.encode(errors="replace")
    return FXP_STATUS, _STATUS.pack(code, len(message)) + message + string(b"")


def failure(error: OSError) -> Reply:
    """The STATUS that stands for `error`."""
    number = error.errno or 0
    return status(_CODES.get(number, FX_FAILURE), os.strerror(number) if number else str(error))


def attributes(found: os.stat_result) -> bytes:
    """`found` as an ATTRS structure. Version 3 has no times before 1970 or after 2106; the nearest one is sent."""
    return _STAT.pack(
        _STAT_FLAGS,
        found.st_size,
        found.st_uid,
        found.st_gid,
        found.st_mode,
        min(max(int(found.st_atime), 0), _MAX_UINT32),
        min(max(int(found.st_mtime), 0), _MAX_UINT32),
    )


def names(*entries: bytes) -> Reply:
    """A NAME reply; `entries` are results of `name`."""
    return FXP_NAME, _U32.pack(len(entries)) + b"".join(entries)


def name(path: bytes, long_name: bytes | None = None, attrs: bytes = NO_ATTRIBUTES) -> bytes:
    """An entry of a NAME reply; without a `long_name`, the line for people is the name itself."""
    return string(path) + string(path if long_name is None else long_name) + attrs


def file_system(found: os.statvfs_result) -> Reply:
    """The EXTENDED_REPLY of statvfs@openssh.com. Its flags are ST_RDONLY and ST_NOSUID, with Linux's values."""
    return FXP_EXTENDED_REPLY, _STATVFS.pack(
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        found.f_flag & (os.ST_RDONLY | os.ST_NOSUID),
        found.f_namemax,
    )


def limits(open_handles: int) -> Reply:
    """The EXTENDED_REPLY of limits@openssh.com."""
    return FXP_EXTENDED_REPLY, struct.pack(">4Q", MAX_PACKET, MAX_DATA, MAX_DATA, open_handles)
