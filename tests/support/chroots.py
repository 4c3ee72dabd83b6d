"""Directories that are allowed as a chroot: only root may change the path to them, which is not so for /tmp."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def roots_own_directory() -> Iterator[Path]:
    """A directory that root owns, as well as every directory above it; removed with its contents."""
    path = Path(tempfile.mkdtemp(prefix="pyssh-test-", dir="/run")).resolve()
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
