"""Directories that may be somebody's root directory: the way to them is root's alone, which that to /tmp is not."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def roots_own_directory() -> Iterator[Path]:
    """A directory that belongs to root, everywhere on the way to it as well; removed with all that is in it."""
    path = Path(tempfile.mkdtemp(prefix="pyssh-test-", dir="/run")).resolve()
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)
