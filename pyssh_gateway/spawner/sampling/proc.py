"""Reads the files of /proc (proc(5)) that say something of a process, which may end at any moment."""

import os


def read_file(path: str, limit: int) -> bytes:
    """The content of the file, up to `limit` bytes; empty if the process has gone, or may not be looked into."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, limit)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
