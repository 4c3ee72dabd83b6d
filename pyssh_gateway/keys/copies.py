"""The last good text of every source, on disk: a start without network lets in who could log in before.

One file per source, which a person can read: a first line that names the source and the time, then the text exactly
as it was fetched. What stands there has the force of the source itself, so a copy that others could have written, or
that names another source, is not used.
"""

import datetime as dt
import hashlib
import re
from pathlib import Path

import msgspec

from pyssh_gateway.core.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys.files import UntrustedFileError, read_trusted, replace_file

_HEADER_BYTES = 16 * 1024  # a path is at most 4 KiB (PATH_MAX); servers take URLs of 8 KiB
_SLUG = 40  # with the hash and the ending far below NAME_MAX
_GROUP_OR_OTHERS_WRITE = 0o022


class CopyError(Exception):
    """A copy that cannot be used; the message says which file and why."""


class Copy(msgspec.Struct, frozen=True):
    """A source's text as it was at `fetched`, in Unix seconds."""

    text: bytes
    fetched: float


class Copies:
    """The directory of copies. It is made when the first one is saved."""

    def __init__(self, store: Path) -> None:
        self._store = store

    def path(self, spec: str) -> Path:
        """Where the copy of the source `spec` is: readable, and never the same for two sources."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", spec)[:_SLUG].strip("-")
        return self._store / f"{slug}-{hashlib.sha256(spec.encode()).hexdigest()[:8]}.keys"

    def load(self, spec: str) -> Copy | None:
        """The copy of the source `spec`; None if there is none. Raises CopyError."""
        path = self.path(spec)
        try:
            data = read_trusted(
                path,
                limit=MAX_KEYS_BYTES + _HEADER_BYTES,
                forbidden_mode=_GROUP_OR_OTHERS_WRITE,
                purpose="a list of who may log in",
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CopyError(f"cannot read {path}: {error.strerror or error}") from error
        except UntrustedFileError as error:
            raise CopyError(str(error)) from error
        header, newline, text = data.partition(b"\n")
        fetched = _fetch_time(spec, header) if newline else None
        if fetched is None:
            raise CopyError(f"{path} does not begin with the line that names {spec} and a time")
        return Copy(text, fetched)

    def save(self, spec: str, copy: Copy) -> None:
        """Keep `copy`, durably, in the place of an earlier one. Raises OSError."""
        fetched = dt.datetime.fromtimestamp(copy.fetched, dt.UTC).isoformat(timespec="seconds")
        self._store.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.path(spec), _header_prefix(spec) + fetched.encode() + b"\n" + copy.text, 0o600)


def _header_prefix(spec: str) -> bytes:
    return f"# {spec} as fetched at ".encode()


def _fetch_time(spec: str, header: bytes) -> float | None:
    """The time that a copy's first line names, in Unix seconds, if it is the first line of a copy of `spec`."""
    prefix = _header_prefix(spec)
    if not header.startswith(prefix):
        return None
    try:
        return dt.datetime.fromisoformat(header.removeprefix(prefix).decode("ascii")).timestamp()
    except (ValueError, OverflowError):
        return None
