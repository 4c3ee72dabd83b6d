"""The system's records of who is logged in: utmp, wtmp and lastlog, for `who`, `w`, `last` and `lastlog`.

Written as sshd's loginrec.c writes them, by the spawner, which is root. A file that is not there is not wanted: nothing
is ever created. Nothing here waits for long, and nothing raises: a person logs in whatever becomes of the records.
"""

import fcntl
import os
import stat
import struct
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

import msgspec

from pyssh_gateway.system.utmp import MAX_UTMP_BYTES, USER_PROCESS, UTMP, Layout, layout

MAX_LASTLOG_UID = 2**24
"""Over this uid there is no lastlog entry. The file is indexed by uid, so that of a directory service's account would
make it appear to be of hundreds of gigabytes, which backups then read."""

_DEAD_PROCESS = 8
_PROCESSES = range(5, 9)
"""INIT_PROCESS to DEAD_PROCESS: the entries that stand for a line. Others record boots, run levels, clock changes."""

_LINE_BYTES = 32
"""UT_LINESIZE in bits/utmp.h."""


class Files(msgspec.Struct, frozen=True):
    """Where the records are: the places that paths.h gives them."""

    utmp: str = UTMP
    wtmp: str = "/var/log/wtmp"
    lastlog: str = "/var/log/lastlog"


class _Entry(msgspec.Struct, frozen=True):
    """What is the same in utmp and wtmp."""

    kind: int
    pid: int
    line: bytes
    when: float
    user: bytes = b""
    host: bytes = b""
    address: bytes = b""

    def packed(self, form: Layout) -> bytes:
        seconds, microseconds = _split(self.when)
        return form.utmp.pack(
            self.kind,
            self.pid,
            self.line,
            line_id(self.line),
            self.user,
            self.host,
            0,
            0,
            0,
            seconds,
            microseconds,
            self.address,
        )


class _RecordError(Exception):
    """An entry was not written; the text says why."""


def record_login(
    *, user: str, uid: int, pid: int, tty: str, peer: str, when: float, files: Files | None = None
) -> tuple[str, ...]:
    """Record that `user`, from the address `peer`, has the terminal `tty` (a path below /dev) since `when` (Unix time).

    `pid` is the process that leads the session: who(1) leaves out entries whose process has gone. Returns what went
    wrong, one sentence each; empty if nothing did.
    """
    files = files or Files()
    form = layout(os.uname().machine)
    line = _line(tty)
    host = _encoded(peer)
    entry = _Entry(USER_PROCESS, pid, line, when, _encoded(user), host, _address(peer))
    return _problems(
        lambda: _write_lastlog(files.lastlog, form, uid, form.lastlog.pack(_split(when)[0], line, host)),
        lambda: _write_utmp(files.utmp, form, entry),
        lambda: _append_wtmp(files.wtmp, entry.packed(form)),
    )


def record_logout(*, pid: int, tty: str, when: float, files: Files | None = None) -> tuple[str, ...]:
    """Record that the session of process `pid` on `tty` ended at `when`; returns what went wrong, as `record_login`.

    If somebody else has the line by now, theirs is the entry that counts, and nothing is written.
    """
    files = files or Files()
    form = layout(os.uname().machine)
    entry = _Entry(_DEAD_PROCESS, pid, _line(tty), when)
    taken = False

    def leave() -> None:
        nonlocal taken
        taken = not _write_utmp(files.utmp, form, entry)

    def append() -> None:
        if not taken:
            _append_wtmp(files.wtmp, entry.packed(form))

    return _problems(leave, append)


def claim_session(uid: int, path: str = "/proc/self/loginuid") -> str:
    """Tell the kernel that this process and those that it starts are of a login of `uid`, as pam_loginuid does.

    For the session's process, while it is root still: last(1) takes a session for gone if its process belongs to no
    login, and the kernel's audit names the account by it whatever su and sudo do. Returns what went wrong, or "".
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(uid).encode())
        finally:
            os.close(descriptor)
    except FileNotFoundError:  # a kernel without audit
        return ""
    except OSError as error:
        return f"can't write {path}: {error.strerror}"
    return ""


def are_locked(files: Files) -> bool:
    """Whether another process has a lock on utmp or wtmp at this moment, so that a record had better come later."""
    for path in (files.utmp, files.wtmp):
        try:
            descriptor = _open(path, os.O_RDWR)
        except (OSError, _RecordError):
            continue  # whoever writes there is told why it can't be
        try:
            if not _lock(descriptor):
                return True
        finally:
            os.close(descriptor)
    return False


def line_id(line: bytes) -> bytes:
    """The entry's key for a line: its last four characters, `tty` not counted (sshd's line_abbrevname)."""
    return line.removeprefix(b"tty")[-4:] if len(line) > len(b"tty") else line


def _problems(*writers: Callable[[], object]) -> tuple[str, ...]:
    """Run every writer, whatever becomes of the others."""
    problems = []
    for write in writers:
        try:
            write()
        except FileNotFoundError:  # not wanted on this machine
            continue
        except OSError as error:
            problems.append(f"can't write {error.filename or 'a login record'}: {error.strerror}")
        except (_RecordError, struct.error, ValueError, OverflowError) as error:
            problems.append(f"can't write a login record: {error}")
    return tuple(problems)


def _write_utmp(path: str, form: Layout, entry: _Entry) -> bool:
    """Put `entry` where its line's entry is, or at the end. False: it is a logout, and the line is somebody else's."""
    descriptor = _open(path, os.O_RDWR)
    try:
        if not _lock(descriptor):
            raise _RecordError(f"{path} is locked by another process")
        if os.fstat(descriptor).st_size > MAX_UTMP_BYTES:
            raise _RecordError(f"{path} has over {MAX_UTMP_BYTES} bytes; it is damaged, remove it")
        content = os.pread(descriptor, MAX_UTMP_BYTES, 0)
        place, pid = _slot(content, form, entry.line)
        if entry.kind == _DEAD_PROCESS and pid not in {None, entry.pid}:
            return False
        if entry.kind == USER_PROCESS or pid is not None:
            _pwrite(path, descriptor, entry.packed(form), place)
    finally:
        os.close(descriptor)
    return True


def _slot(content: bytes, form: Layout, line: bytes) -> tuple[int, int | None]:
    """Where in a utmp file the entry for `line` goes, and the process that is there on that line, if any.

    An entry of another line counts as free if it has the same id: programs that share utmp find entries by it.
    """
    key = line_id(line)
    by_id: int | None = None
    whole = len(content) - len(content) % form.utmp.size
    for place in range(0, whole, form.utmp.size):
        kind, pid, at, found, *_ = form.utmp.unpack_from(content, place)
        if kind not in _PROCESSES:
            continue
        if at.rstrip(b"\0") == line:
            return place, pid if kind == USER_PROCESS else None
        if by_id is None and found.rstrip(b"\0") == key:
            by_id = place
    return (whole if by_id is None else by_id), None


def _append_wtmp(path: str, record: bytes) -> None:
    descriptor = _open(path, os.O_WRONLY | os.O_APPEND)
    try:
        # Without the lock it is written all the same. The kernel does not mix what is appended, and whoever may read
        # the file could otherwise keep everybody out of it.
        locked = _lock(descriptor)
        size = os.fstat(descriptor).st_size
        if locked and size % len(record):
            size -= size % len(record)
            os.ftruncate(descriptor, size)  # half an entry would make nonsense of all that follow
        written = _blamed(path, lambda: os.write(descriptor, record))
        if written != len(record):
            if locked:
                os.ftruncate(descriptor, size)
            raise _RecordError(f"{path}: no room for the whole entry")
    finally:
        os.close(descriptor)


def _write_lastlog(path: str, form: Layout, uid: int, record: bytes) -> None:
    if uid > MAX_LASTLOG_UID:
        return
    descriptor = _open(path, os.O_WRONLY)
    try:
        _pwrite(path, descriptor, record, uid * form.lastlog.size)
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int:
    # Not waiting: a FIFO in this place must not stop the spawner.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _RecordError(f"{path} is not a regular file")
    return descriptor


def _lock(descriptor: int) -> bool:
    """The lock that glibc's utmp functions take on the whole file, if it can be had at once."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pwrite(path: str, descriptor: int, record: bytes, place: int) -> None:
    if _blamed(path, lambda: os.pwrite(descriptor, record, place)) != len(record):
        raise _RecordError(f"{path}: no room for the whole entry")


def _blamed(path: str, write: Callable[[], int]) -> int:
    """What `write` returns; an error that it raises names the file, which write(2) does not know."""
    try:
        return write()
    except OSError as error:
        error.filename = path
        raise


def _line(tty: str) -> bytes:
    return _encoded(tty.removeprefix("/dev/"))[:_LINE_BYTES]


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _address(peer: str) -> bytes:
    """`peer` as the entry has it: network order, an IPv4 address in the first four bytes; empty if it is a name."""
    try:
        address = ip_address(peer)
    except ValueError:
        return b""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


def _split(when: float) -> tuple[int, int]:
    seconds, fraction = divmod(when, 1)
    return int(seconds), int(fraction * 1_000_000)
