"""The root directory of preauth processes: it belongs to root, is empty, and nobody else can write to it.

Like sshd's /run/sshd (PRIVSEP_PATH), with the same checks (sshd.c, main).
"""

import os
import stat

from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

EMPTY_DIRECTORY = "/run/pyssh-gateway/empty"
"""The same path on every machine. /run is usually emptied at boot; then the next start makes the directory again."""

_MODE = 0o755


class UnfitDirectory(Exception):
    """The directory can't be made, or fails a check; the text says what to do."""


def open_empty_directory(path: str = EMPTY_DIRECTORY) -> int:
    """Make the directory if it is missing, and open it; for root only. Raises `UnfitDirectory`.

    The descriptor can be used for `preauth.sandbox.enter` even if the directory is removed meanwhile.
    """
    try:
        os.makedirs(path, _MODE, exist_ok=True)  # noqa: PTH103 - the mode is for the last directory only
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise UnfitDirectory(f"can't use {path} as an empty directory: {error.strerror}") from error
    try:
        _check(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: str, descriptor: int) -> None:
    for place, found in ((path, os.fstat(descriptor)), (os.path.dirname(path), os.stat("..", dir_fd=descriptor))):  # noqa: PTH120 - as above
        if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & OTHERS_MAY_WRITE:
            raise UnfitDirectory(
                f"{place} must be root's, and writable by nobody else: run chown root {place} && chmod go-w {place}"
            )
    if os.listdir(descriptor):
        raise UnfitDirectory(f"{path} must be empty: remove what is in it")
