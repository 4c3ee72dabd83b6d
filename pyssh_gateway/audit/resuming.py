"""Where a start goes on: the next line's index, the last event's number and the last connection's, of the log so far.

A client may be waiting for the start, so the log is not read: the state that was kept beside it says what is needed, up
to the byte where it was written, and the lines since then are few. What these and the file's header don't say is read
from the last sealed file, but only if the server died while it was changing files.
"""

import os
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.state import LogState, check_of
from pyssh_gateway.audit.tree import Tree

TAIL_BYTES = 256 * 1024
"""How much of the file's end is read: more than is written between two writes of the state, and than most lines."""

MAX_TAIL_BYTES = 16 * 1024 * 1024
"""How much of it is read if there is no event in `TAIL_BYTES`: several of the longest lines."""

HEAD_BYTES = 16 * 1024
"""More than a header and the beginning of the first line have."""

# Within a JSON text a quotation mark is escaped, so nothing that a peer has sent looks like one of these.
_SEQ = b'","seq":'
_NUMBER = re.compile(rb"[0-9]{1,18}")
_TIME = re.compile(rb'{"ts":"([0-9T:.Z-]{1,40})","seq":')
# Older servers' names had ten random hexadecimal digits, which may look like c and nine decimal ones.
_OLD_NAME = re.compile(rb'"conn":"[0-9a-f]{10}"')
_NAME = re.compile(rb'"conn":"c([0-9]{1,8}|[0-9]{10,15})"')


_UNKNOWN = "A" * 43 + "="
"""A hash that nothing has, in base64."""


class Found(msgspec.Struct):
    """The log as it was found.

    `first` is the index of the current file's first line. `tree` covers the lines up to the byte `covered` of this
    file, where a line ends; the others are still to be read. `seq` is the number of the last event, `written` that of
    the last one whose line is there as a whole, and `connections` that of the last connection. `began` is the Unix time
    of the first event in the file, if there is any.
    """

    tree: Tree
    first: int = 0
    covered: int = 0
    seq: int = 0
    connections: int = 0
    began: float | None = None
    written: int = 0


def find(log: int, state: LogState | None, audit_dir: Path) -> Found:
    """What is in the current file, open for reading and writing as `log`, and before it. Raises OSError."""
    size = os.fstat(log).st_size
    head = os.pread(log, HEAD_BYTES, 0)
    if b"\n" not in head and size < HEAD_BYTES and head.startswith(headers.BEGINNING[:size]):
        with suppress(OSError):  # the disk is read-only
            os.ftruncate(log, 0)  # a header that was cut off, or nothing at all
        return _before(state, audit_dir)
    line = head.partition(b"\n")[0]
    header = headers.decode(line)
    begin = 0 if header is None else len(line) + 1
    first = 0 if header is None else header.first
    if state is not None and state.first == first and begin <= state.offset <= size and _matches(log, state):
        found = Found(_tree(state.lines, state.tree), first, state.offset, state.seq, state.connections)
        is_exact = True
    else:
        found = Found(_tree(first, () if header is None else header.tree), first, begin)
        if state is not None:
            found.seq, found.connections = state.seq, state.connections
        is_exact = False
    found.began = _time_in(head[begin:])
    _look_at_end(log, size, found, audit_dir, is_exact=is_exact)
    return found


def _tree(size: int, hashes: tuple[str, ...]) -> Tree:
    """A tree of that size, also if somebody has changed its hashes: the count is still right, and no proof will be."""
    try:
        return Tree(size, hashes)
    except ValueError:
        return Tree(size, (_UNKNOWN,) * size.bit_count())


def _matches(log: int, state: LogState) -> bool:
    with suppress(OSError):
        return state.offset > 0 and state.check == check_of(log, state.offset)
    return False


def _look_at_end(log: int, size: int, found: Found, audit_dir: Path, *, is_exact: bool) -> None:
    """Take the last numbers from the end of the file. `is_exact`: `found` is the state that belongs to it."""
    begin = max(found.covered, size - TAIL_BYTES)
    tail = _read(log, begin, size)
    seq = last_seq(tail)
    if seq is None and begin > found.covered:
        begin = max(found.covered, size - MAX_TAIL_BYTES)
        tail = _read(log, begin, size)
        seq = last_seq(tail)
    found.written = last_seq(tail[: tail.rfind(b"\n") + 1]) or found.seq
    if seq is not None:
        found.seq = seq
    found.connections = max(found.connections, last_connection(tail))
    if seq is None and not is_exact:
        earlier = _newest(audit_dir)
        found.written = earlier.seq
        found.seq = max(found.seq, earlier.seq)
        found.connections = max(found.connections, earlier.connections)
    is_older = found.connections == 0 and _OLD_NAME.search(tail) is not None
    if not is_older and (not is_exact or begin > found.covered):
        # Not all names since the last state have been read. There are about eight events for each connection.
        found.connections = max(found.connections, found.seq)


def _before(state: LogState | None, audit_dir: Path) -> Found:
    """The current file is empty: go on after the files before it, of which the last may be newer than the state."""
    kept = LogState() if state is None else state
    found = Found(_tree(kept.lines, kept.tree), seq=kept.seq, connections=kept.connections)
    newest = _newest(audit_dir, since=None if state is None else state.first)
    if newest.tree.size > found.tree.size:
        found.tree = newest.tree
    found.seq = max(found.seq, newest.seq)
    found.connections = max(found.connections, newest.connections)
    found.first, found.written = found.tree.size, found.seq
    return found


def _newest(audit_dir: Path, since: int | None = None) -> Found:
    """What the last sealed file says; nothing if there is none, or it begins before the line `since`."""
    from pyssh_gateway.audit import segments  # late: rarely needed, and a client waits for the start
    from pyssh_gateway.audit.zstd import ZstdError

    found = Found(Tree())
    with suppress(segments.NoLog, EOFError, ZstdError):
        for segment in segments.sealed(audit_dir)[-1:]:
            if since is not None and segment.first < since:
                break
            found.first = segment.first
            for line in segments.lines(segment, header=True):
                if line.index < 0:
                    header = headers.decode(line.data)
                    found.tree = Tree() if header is None else _tree(header.first, header.tree)
                    continue
                found.tree.append(line.data)
                found.seq = last_seq(line.data) or found.seq
                found.connections = max(found.connections, last_connection(line.data))
    return found


def last_seq(text: bytes) -> int | None:
    """The number of the last event in some lines."""
    at = text.rfind(_SEQ)
    number = _NUMBER.match(text, at + len(_SEQ)) if at >= 0 else None
    return None if number is None else int(number[0])


def last_connection(text: bytes) -> int:
    """The highest number in the names of connections in some lines; 0 for none."""
    return max(map(int, _NAME.findall(text)), default=0)


def _time_in(text: bytes) -> float | None:
    """The Unix time of the event with which `text` begins."""
    found = _TIME.match(text)
    if found is None:
        return None
    try:
        return datetime.fromisoformat(found[1].decode()).timestamp()
    except ValueError:
        return None


def _read(log: int, begin: int, end: int) -> bytes:
    parts = []
    while begin < end and (part := os.pread(log, end - begin, begin)):
        parts.append(part)
        begin += len(part)
    return b"".join(parts)
