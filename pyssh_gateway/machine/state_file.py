"""A small file of the gateway's own that outlives the machine's stops, as `history` and `nobody_file` keep them.

It is replaced as a whole, and synced to the disk, because the machine may lose its power a moment later. This module
does not know what is in the files.
"""

import contextlib
import os
from pathlib import Path


def read(path: Path, limit: int) -> bytes:
    """At most `limit` bytes of the file, nothing if there is none. Raises OSError only if the open file can't be read.

    A link is not followed, and a device or a pipe that is in the file's place is not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit)


def replace(path: Path, data: bytes) -> None:
    """Have `data` in the file, durably. Raises OSError."""
    # Only the monitor writes here, and only one runs at a time, so a temporary file that a crash left behind is
    # replaced.
    temporary = path.with_name(f".{path.name}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
