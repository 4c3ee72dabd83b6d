"""The system's login records: utmp, wtmp and lastlog, for `who`, `w`, `last` and `lastlog`.

The spawner, which is root, writes them as sshd's loginrec.c does. A missing file is not wanted on the machine, so none
is ever created. Nothing here waits for long, and nothing raises: a login must not fail because of its record.
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
"""Accounts above this uid get no lastlog entry. The file is indexed by uid, so the high uids of a directory service
would make it appear hundreds of gigabytes long, and backups would read all of that."""

_DEAD_PROCESS = 8
_PROCESSES = range(5, 9)
"""INIT_PROCESS to DEAD_PROCESS: the entries of terminal lines. Others record boots, run levels, clock changes."""

_LINE_BYTES = 32
"""UT_LINESIZE in bits/utmp.h."""


class Files(msgspec.Struct, frozen=True):
    """The paths of the records, as in paths.h."""

    utmp: str = UTMP
    wtmp: str = "/var/log/wtmp"
    lastlog: str = "/var/log/lastlog"


class _Entry(msgspec.Struct, frozen=True):
    """An entry, which is the same in utmp and wtmp."""

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

    `pid` is the process that leads the session: who(1) leaves out entries whose process has gone. Returns the problems,
    one sentence each; empty if there were none.
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
    """Record that the session of process `pid` on `tty` ended at `when`; returns the problems, as `record_login`.

    If another session has the terminal by now, its entry must stay, and nothing is written.
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
    """Tell the kernel that this process and its descendants belong to a login of `uid`, as pam_loginuid does.

    For the session's process, while it is still root. last(1) shows a session as gone if its process belongs to no
    login, and the kernel's audit names the account by it, even after su and sudo. Returns the problem, or "".
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
    """Whether another process has a lock on utmp or wtmp at this moment, so that a record should be written later."""
    for path in (files.utmp, files.wtmp):
        try:
            descriptor = _open(path, os.O_RDWR)
        except (OSError, _RecordError):
            continue  # the attempt to write the record will report why
        try:
            if not _lock(descriptor):
                return True
        finally:
            os.close(descriptor)
    return False


def line_id(line: bytes) -> bytes:
    """The entry's key for a line: its last four characters, without a leading `tty` (sshd's line_abbrevname)."""
    return line.removeprefix(b"tty")[-4:] if len(line) > len(b"tty") else line


def _problems(*writers: Callable[[], object]) -> tuple[str, ...]:
    """Run every writer, even if others fail; returns the problems."""
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
    """Write `entry` over its line's entry, or at the end. False: it is a logout, and another session has the line."""
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
    """The offset in a utmp file for the entry of `line`, and the pid of the session on that line at present, if any.

    An entry of another line with the same id is overwritten: programs that share utmp find entries by their id.
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
        # Write even without the lock: the kernel does not mix appended data, and otherwise any account that may read
        # the file could block all records by holding a lock.
        locked = _lock(descriptor)
        size = os.fstat(descriptor).st_size
        if locked and size % len(record):
            size -= size % len(record)
            os.ftruncate(descriptor, size)  # after half an entry, all later ones would be unreadable
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
    # Without waiting: a FIFO at `path` must not stop the spawner.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _RecordError(f"{path} is not a regular file")
    return descriptor


def _lock(descriptor: int) -> bool:
    """Take the lock that glibc's utmp functions take on the whole file; returns whether it was free."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _pwrite(path: str, descriptor: int, record: bytes, place: int) -> None:
    if _blamed(path, lambda: os.pwrite(descriptor, record, place)) != len(record):
        raise _RecordError(f"{path}: no room for the whole entry")


def _blamed(path: str, write: Callable[[], int]) -> int:
    """Return what `write` returns; add the file's name to an error, because write(2) does not name it."""
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
    """`peer` as in the entry: in network order, an IPv4 address in the first four bytes; empty if it is a name."""
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
