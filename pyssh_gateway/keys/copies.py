"""The last good text of every source, on disk: after a start without network, the same people can log in as before.

There is one readable file per source: a first line that names the source and the time, a second one with facts about
the text, then the text exactly as it was fetched. A copy has the authority of the source itself, so one that others
could have written, or that names another source, is not used.

Beside them are the numbers of the accounts that were seen first (`Pins`): a name that leads to another account later
lets nobody in.
"""

import datetime as dt
import hashlib
import re
import threading
from pathlib import Path
from typing import Annotated

import msgspec

from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys.files import UntrustedFileError, read_trusted, replace_file
from pyssh_gateway.keys.http_answer import NO_VALIDATORS, Validators
from pyssh_gateway.system.modes import OTHERS_MAY_WRITE

# A path is at most 4 KiB (PATH_MAX), servers take URLs of 8 KiB; two validators and a reason, written as JSON, are 10.
FETCHED_DIRECTORY = "fetched"
"""The directory in `keys_dir` that the monitor may write: last-good copies, and the numbers of trusted accounts."""

_HEADER_BYTES = 24 * 1024
MAX_REVOKED = 1024
"""Characters of the reason why a source lets nobody in, a sentence of ours."""

MAX_PINS = 10_000
"""Accounts whose numbers are remembered: more than a configuration names, and a file of less than a megabyte."""

_PINS_NAME = "account-ids.json"
_MAX_PINS_BYTES = 1024 * 1024
_SLUG = 40  # with the hash and the ending far below NAME_MAX
_FACTS_PREFIX = b"# "

_AccountId = Annotated[int, msgspec.Meta(gt=0, lt=10**18)]  # as many digits as a spec may have


class CopyError(Exception):
    """A copy that cannot be used; the message says which file and why."""


class Copy(msgspec.Struct, frozen=True):
    """A source's text as it was at `fetched`, in Unix seconds, and facts about it.

    `validators` came with the text. `account_id` is the number of the account that it came from, if that is known.
    `revoked` is the reason why the source lets nobody in any more; empty if it does. `gone_since` is the time, in Unix
    seconds, when its server first answered after that text that it does not exist any more.
    """

    text: bytes
    fetched: float
    validators: Validators = NO_VALIDATORS
    account_id: int | None = None
    revoked: str = ""
    gone_since: float | None = None


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A copy's second line. Fields that a copy of an earlier version lacks have defaults; nothing else is guessed."""

    validators: Validators
    account_id: _AccountId | None
    revoked: Annotated[str, msgspec.Meta(max_length=MAX_REVOKED)]
    gone_since: float | None = None


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
        data = _read(path, MAX_KEYS_BYTES + _HEADER_BYTES, "a list of who may log in")
        if data is None:
            return None
        header, newline, rest = data.partition(b"\n")
        fetched = _fetch_time(spec, header) if newline else None
        if fetched is None:
            raise CopyError(f"{path} does not begin with the line that names {spec} and a time")
        line, newline, text = rest.partition(b"\n")
        facts = _decode_facts(line) if newline else None
        if facts is None:
            raise CopyError(f"{path} has no second line that says what else was known, as this version writes it")
        return Copy(text, fetched, facts.validators, facts.account_id, facts.revoked, facts.gone_since)

    def save(self, spec: str, copy: Copy) -> None:
        """Write `copy` durably, in the place of an earlier one. Raises OSError."""
        fetched = dt.datetime.fromtimestamp(copy.fetched, dt.UTC).isoformat(timespec="seconds")
        revoked = copy.revoked[:MAX_REVOKED].encode("utf-8", "replace").decode()
        facts = _Facts(copy.validators, copy.account_id, revoked, copy.gone_since)
        head = _header_prefix(spec) + fetched.encode() + b"\n" + _FACTS_PREFIX + msgspec.json.encode(facts) + b"\n"
        self._store.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self.path(spec), head + copy.text, 0o600)


class Pins:
    """The numbers of the accounts that had the sources' names at first, by spec: `github:example` -> 583231.

    The file is read anew for every change, so that changes by others are neither lost nor missed. If it cannot be read,
    every method raises an error: without its content no new account is trusted, and the file is not overwritten.
    """

    def __init__(self, store: Path) -> None:
        self.path = store / _PINS_NAME
        self._changing = threading.Lock()

    def load(self) -> dict[str, int]:
        """All numbers by spec; empty if none was ever stored. Raises CopyError."""
        data = _read(self.path, _MAX_PINS_BYTES, "a list of trusted accounts")
        if data is None:
            return {}
        try:
            return msgspec.json.decode(data, type=dict[str, _AccountId])
        except msgspec.DecodeError as error:
            raise CopyError(
                f"{self.path} is damaged ({error}): put it right or remove it; removed, the account that has a "
                "login next is trusted"
            ) from error

    def remember(self, spec: str, number: int) -> None:
        """Store durably that `spec` means the account `number`. Raises CopyError if it means another one; OSError."""
        with self._changing:
            pins = self.load()
            known = pins.get(spec)
            if known == number:
                return
            if known is not None:
                raise CopyError(f"{spec} is account {known} in {self.path}, and not {number}")
            if len(pins) >= MAX_PINS:
                raise CopyError(f"{self.path} has {MAX_PINS} accounts already: remove those that are not used any more")
            self._write(pins | {spec: number})

    def forget(self, spec: str) -> None:
        """Forget which account `spec` means: the next one is trusted. Raises CopyError, OSError."""
        with self._changing:
            pins = self.load()
            if pins.pop(spec, None) is not None:
                self._write(pins)

    def _write(self, pins: dict[str, int], *, full: bool = False) -> None:
        if full:
            raise CopyError(
                f"{self.path} has {len(pins) - 1} accounts already: remove those that are not used any more"
            )
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(dict(sorted(pins.items()))), indent=2)
        replace_file(self.path, text + b"\n", 0o600)


def _read(path: Path, limit: int, purpose: str) -> bytes | None:
    """The content of the file; None if there is none. Raises CopyError."""
    try:
        return read_trusted(path, limit=limit, forbidden_mode=OTHERS_MAY_WRITE, purpose=purpose)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CopyError(f"cannot read {path}: {error.strerror or error}") from error
    except UntrustedFileError as error:
        raise CopyError(str(error)) from error


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


def _decode_facts(line: bytes) -> _Facts | None:
    """The facts in a copy's second line; None if it is not valid."""
    if not line.startswith(_FACTS_PREFIX):
        return None
    try:
        return msgspec.json.decode(line.removeprefix(_FACTS_PREFIX), type=_Facts)
    except msgspec.DecodeError:
        return None
