"""Closed files of the log: compressed, and deleted when there is too much or too old. Runs in a child of the spawner.

It may be killed at any moment, and is run again later. A file is compressed under another name, synced to the disk, and
only then takes its place; so what has the name of a compressed file is complete, and what is left of an interrupted run
is recognised. It has the rights to the files, and so reads none of them.
"""

import math
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.audit.log_file import FILE_NAME
from pyssh_gateway.audit.proving.names import CHECKPOINTS_NAME, SEALED_CHECKPOINTS, sealed_checkpoints_name
from pyssh_gateway.audit.segments import SEALED_NAME, Segment, sealed, sealed_name
from pyssh_gateway.audit.zstd import CompressionParameter, ZstdCompressor
from pyssh_gateway.config.types import Audit
from pyssh_gateway.system.descriptors import closing

LEVEL = 9
"""Of zstd: a twelfth is left of these lines, at 60 MB/s."""

CHUNK = 256 * 1024

_UNFINISHED = re.compile(r"events-[0-9]{12,19}\.jsonl\.zst\.new", re.ASCII)

Compress = Callable[[int, int], None]


def tidy(audit_dir: Path, audit: Audit, now: float, compressed: Compress) -> None:
    """Compress the closed files, and delete those that `audit.keep` and `audit.keep_size` are over, oldest first.

    The sizes of all files of the log count for `keep_size`; the current one is never deleted. `now` is Unix time.
    `compressed` does the work of `compress`, without our rights. Raises OSError when everything possible is done.
    """
    problems: list[OSError] = []
    _finish(audit_dir)
    _delete([each for each in sealed(audit_dir) if now - _modified(each) > audit.keep])
    for segment in sealed(audit_dir):
        if not segment.is_compressed:
            try:
                _compress(segment, compressed)
            except OSError as error:
                problems.append(error)
    files = sealed(audit_dir)
    current = _size(audit_dir / FILE_NAME) + _size(audit_dir / CHECKPOINTS_NAME)
    too_much = current + sum(_size(each.path) + _size(_checkpoints(each)) for each in files) - audit.keep_size
    while files and too_much > 0:
        too_much -= _size(files[0].path) + _size(_checkpoints(files[0]))
        _delete([files.pop(0)])
    _delete_checkpoints(audit_dir)
    if problems:
        raise problems[0]


def compress(source: int, target: int) -> None:
    """Write to `target` what `source` has, compressed (RFC 8878) and with a checksum. Raises OSError."""
    packer = ZstdCompressor(
        options={CompressionParameter.compression_level: LEVEL, CompressionParameter.checksum_flag: 1}
    )
    while data := os.read(source, CHUNK):
        _write(target, packer.compress(data))
    _write(target, packer.flush())


def _compress(segment: Segment, compressed: Compress) -> None:
    path = segment.path.with_name(sealed_name(segment.first, compressed=True))
    unfinished = path.with_name(path.name + ".new")
    source = os.open(segment.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with closing(source):
        found = os.fstat(source)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            return  # not ours
        target = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with closing(target):
                compressed(source, target)
                _check_read(source, segment.path)
                if os.geteuid() == 0:
                    os.fchown(target, found.st_uid, found.st_gid)
                os.fchmod(target, stat.S_IMODE(found.st_mode))
                os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
                os.fsync(target)
            unfinished.rename(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
    _sync(path.parent)
    segment.path.unlink()


def _check_read(source: int, path: Path) -> None:
    """Check that the other process, with which we share the place in the file, has read all of it. Raises OSError."""
    if os.lseek(source, 0, os.SEEK_CUR) != os.fstat(source).st_size:
        raise OSError(f"{path} was not read to its end, or is still written to")


def _finish(audit_dir: Path) -> None:
    """Remove what is left of a run that was interrupted."""
    names = {entry.name for entry in os.scandir(audit_dir)}
    for name in names:
        is_compressed_too = f"{name}.zst" in names and SEALED_NAME.fullmatch(name) is not None
        if is_compressed_too or _UNFINISHED.fullmatch(name):
            with suppress(OSError):
                (audit_dir / name).unlink()


def _delete(files: list[Segment]) -> None:
    for segment in files:
        with suppress(OSError):
            segment.path.unlink()


def _checkpoints(segment: Segment) -> Path:
    """The checkpoints that were written beside a file."""
    return segment.path.with_name(sealed_checkpoints_name(segment.first))


def _delete_checkpoints(audit_dir: Path) -> None:
    """Delete the checkpoints of files that are gone: they can't be compared with anything any more."""
    kept = {segment.first for segment in sealed(audit_dir)}
    for entry in list(os.scandir(audit_dir)):
        if (match := SEALED_CHECKPOINTS.fullmatch(entry.name)) and int(match[1]) not in kept:
            with suppress(OSError):
                Path(entry.path).unlink()


def _modified(segment: Segment) -> float:
    """When something was written to it last: the time of the event in its last line, nearly."""
    try:
        return segment.path.lstat().st_mtime
    except OSError:
        return math.inf


def _size(path: Path) -> int:
    """The room that it takes. A hole in it takes none: the process that writes the log could make one of any size."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return min(found.st_size, 512 * found.st_blocks)


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _sync(directory: Path) -> None:
    """Make the new name survive a power cut, as fsync(2) says it has to be done."""
    with closing(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as descriptor:
        os.fsync(descriptor)
