"""Finds the files of a session's recording."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pyssh_gateway.audit.segments import NoLog
from pyssh_gateway.core.printable import printable
from pyssh_gateway.core.recordings import names


class NoRecording(NoLog):
    """A recording can't be read. The message is one line for a person."""


class File(NamedTuple):
    """A file with a part of the recording of an account's session.

    The file's name is the account's claim: only account and session together say whose recording it is.
    """

    account: str
    session: str
    part: int
    path: Path


def recordings(audit_dir: Path) -> Iterator[File]:
    """Every file, in no order. Raises NoRecording if some can't be listed."""
    directory = audit_dir / names.DIRECTORY
    for account in _entries(directory):
        if account.is_dir(follow_symlinks=False):
            for entry in _entries(Path(account.path)):
                if (name := names.parsed(entry.name)) is not None:
                    yield File(account.name, *name, Path(entry.path))


def parts(audit_dir: Path, account: str, session: str) -> list[Path]:
    """The files of the recording of an account's session, in order. Raises NoRecording if there are none."""
    found = sorted(
        (one.part, one.path) for one in recordings(audit_dir) if (one.account, one.session) == (account, session)
    )
    if not found:
        where = audit_dir / names.DIRECTORY
        raise NoRecording(f"there is no recording of session {session} of the account {printable(account)} in {where}")
    return [path for _, path in found]


def accounts(audit_dir: Path, session: str) -> set[str]:
    """The accounts that have a recording of a session of this name. Raises NoRecording if there are none."""
    found = {one.account for one in recordings(audit_dir) if one.session == session}
    if not found:
        raise NoRecording(f"there is no recording of session {session} in {audit_dir / names.DIRECTORY}")
    return found


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except PermissionError:
        raise NoRecording(f"{directory} may not be read by this account: ask as root, or be in its group") from None
    except OSError as error:
        raise NoRecording(f"{directory} can't be read: {error.strerror}") from None
