"""A small file of the gateway's own: what the next monitor has to know of this one.

It is written whole or not at all, and at once, so a crash of the monitor does not lose it. It is not synced to the
disk, because the event loop does the writing, and nothing that is kept here has to survive a power cut. This module
does not know what is in the files.
"""

import os
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.keys.files import UntrustedFileError, read_trusted
from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

_NEW = ".new"


def read_state(path: Path, limit: int) -> bytes:
    """What is in the file; nothing if there is none, or if others than we and root can have written it."""
    try:
        return read_trusted(path, limit=limit, forbidden_mode=OTHERS_MAY_WRITE, purpose="the server's state")
    except (OSError, UntrustedFileError):
        return b""


def write_state(path: Path, data: bytes) -> None:
    """Replace what is in the file by `data`. Raises OSError."""
    new = path.with_name(path.name + _NEW)
    with suppress(FileNotFoundError):
        new.unlink()  # of a monitor that was killed while it wrote
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    new.replace(path)
