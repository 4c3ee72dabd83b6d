"""Deliberate changes of the server's keys: announce a next key, replace the old one by it, or import sshd's keys.

A server can start after every step, even if the change was interrupted there: the key in use always exists, and no key
is lost that clients have learned. This module does not know whether a server runs.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.access.authorized_keys import fingerprint
from pyssh_gateway.keys.files import replace_file
from pyssh_gateway.keys.host_keys import (
    COMMENT,
    KINDS,
    MAX_KEY_BYTES,
    NEXT_SUFFIX,
    EmptyKeyError,
    HostKey,
    HostKeyError,
    certificate_path,
    check_strength,
    create_key_pair,
    is_kind,
    key_path,
    load,
    parse_private,
    public_blob,
    public_line,
    public_path,
    read_private,
    store_key_pair,
)

OLD_SUFFIX = "_old"
"""The suffix of the file of a key that was in use before. Nothing reads that file."""

LEARNING_SECONDS = 86400.0
"""How long a next key has to exist before it is used: people log in once a day, and their clients learn it then."""

_GROUP_MAY_READ = 0o037
"""The bits that an imported key may not have. Fedora's sshd had its keys readable by the group ssh_keys, which only
ssh-keysign(8) has."""


class TooEarlyError(HostKeyError):
    """Clients have had little time to learn the next key."""


class Change(msgspec.Struct, frozen=True):
    """A change of the key of one kind; `done` False: it had been made already."""

    kind: str
    path: Path
    fingerprint: str
    done: bool


class _Found(msgspec.Struct, frozen=True):
    """A key to import: in OpenSSH's format, its public half, and the file of its certificate; empty if it has none."""

    kind: str
    private_pem: bytes
    public_blob: bytes
    certificate: bytes = b""


# -- rotation ------------------------------------------------------------------------------------------------------


def prepare_next(keys_dir: Path, kinds: Sequence[str]) -> tuple[Change, ...]:
    """Make a next key for the host key of each kind, which has to exist. Raises HostKeyError.

    A next key that is there already stays: clients may have learned it.
    """
    for kind in kinds:  # all of them first. An account that can read the key in use makes one the server can read
        _in_use(keys_dir, kind)
    changes = []
    for kind in kinds:
        path = _next_path(keys_dir, kind)
        try:
            done = create_key_pair(path, COMMENT, kind)
        except FileExistsError:
            done = _is_empty(path, kind) and create_key_pair(path, COMMENT, kind, in_place_of_empty=True)
        changes.append(Change(kind, path, _waiting(keys_dir, kind).fingerprint, done))
    return tuple(changes)


def finish(
    keys_dir: Path, kinds: Sequence[str], *, now: float, minimum_age: float = LEARNING_SECONDS
) -> tuple[Change, ...]:
    """Put the next key of each kind in the place of the one in use, which is kept as `_old`. Raises HostKeyError.

    Refused while one of them is younger than `minimum_age` seconds at `now` (Unix seconds). Interrupted at any point,
    it can be called again.
    """
    pairs = [(kind, _in_use(keys_dir, kind), _waiting(keys_dir, kind)) for kind in kinds]
    for _, old, new in pairs:
        age = max(0.0, now - new.path.stat().st_mtime)
        if age < minimum_age and old.public_blob != new.public_blob:
            raise TooEarlyError(
                f"{new.path} was made only {format_duration(round(age))} ago: whoever has not logged in since the "
                f"server announces it would be warned of a changed key"
            )
    for _, old, new in pairs:
        _put_in_place(old, new)
    return tuple(Change(kind, old.path, new.fingerprint, done=True) for kind, old, new in pairs)


def _put_in_place(old: HostKey, new: HostKey) -> None:
    try:
        if old.public_blob != new.public_blob:  # else an earlier call got this far, and `_old` must not become the new
            kept = old.path.with_name(old.path.name + OLD_SUFFIX)
            replace_file(kept, old.private_pem, 0o600)
            replace_file(public_path(kept), public_line(old.public_blob, COMMENT), 0o644)
            _move_certificate(old.path, kept)
            replace_file(old.path, new.private_pem, 0o600)
        replace_file(public_path(old.path), public_line(new.public_blob, COMMENT), 0o644)
        _move_certificate(new.path, old.path)
        _remove(new)
    except OSError as error:
        raise HostKeyError(
            f"cannot put {new.path} in the place of {old.path}: {error.strerror}; run this again when that is mended"
        ) from error


def _move_certificate(path: Path, target: Path) -> None:
    """Move a key's certificate, if it has one, along with the key."""
    with suppress(FileNotFoundError):
        certificate_path(path).replace(certificate_path(target))


def abort(keys_dir: Path, kinds: Sequence[str]) -> tuple[Change, ...]:
    """Remove the next key of each kind; the one in use stays. Raises HostKeyError."""
    waiting = [(kind, _waiting(keys_dir, kind)) for kind in kinds]
    for _, key in waiting:
        try:
            _remove(key)
        except OSError as error:
            raise HostKeyError(f"cannot remove {key.path}: {error.strerror}") from error
    return tuple(Change(kind, key.path, key.fingerprint, done=True) for kind, key in waiting)


def kinds_waiting(keys_dir: Path) -> tuple[str, ...]:
    """The kinds of which there is a next key."""
    return tuple(kind for kind in KINDS if os.path.lexists(_next_path(keys_dir, kind)))


def _remove(key: HostKey) -> None:
    # The private half last: as long as it exists, the same command can complete an interrupted removal.
    certificate_path(key.path).unlink(missing_ok=True)
    public_path(key.path).unlink(missing_ok=True)
    key.path.unlink()


def _next_path(keys_dir: Path, kind: str) -> Path:
    path = key_path(keys_dir, kind)
    return path.with_name(path.name + NEXT_SUFFIX)


def _in_use(keys_dir: Path, kind: str) -> HostKey:
    path = key_path(keys_dir, kind)
    try:
        return load(path, kind)
    except FileNotFoundError:
        raise HostKeyError(f"there is no {kind} host key yet: {path} is made when the server starts") from None


def _waiting(keys_dir: Path, kind: str) -> HostKey:
    path = _next_path(keys_dir, kind)
    try:
        return load(path, kind)
    except FileNotFoundError:
        raise HostKeyError(f"no {kind} key waits to follow the one in use: there is no {path}") from None


# -- import --------------------------------------------------------------------------------------------------------


def import_from(directory: Path, keys_dir: Path) -> tuple[Change, ...]:
    """Copy sshd's keys of our kinds from `directory` to `keys_dir`; a key that was copied already is no error.

    A different key there is never overwritten. All are checked before the first one is written. Raises HostKeyError.
    """
    found = [key for kind in KINDS if (key := _read(key_path(directory, kind), kind)) is not None]
    if not found:
        raise HostKeyError(f"there is no ssh_host_*_key of {', '.join(KINDS)} in {directory}")
    present = {key.kind: _present(key_path(keys_dir, key.kind), key.kind) for key in found}
    if not any(present.values()):
        _check_owner(keys_dir)
    for key in found:
        there = present[key.kind]
        if there is not None and there.public_blob != key.public_blob:
            raise HostKeyError(
                f"{there.path} is another key ({there.fingerprint}), which clients of this server may know: "
                f"move it away first if the one in {directory} is to be used instead"
            )
    changes = []
    for key in found:
        path = key_path(keys_dir, key.kind)
        if present[key.kind] is None:
            _store(path, key)
        if key.certificate and not os.path.lexists(certificate_path(path)):
            replace_file(certificate_path(path), key.certificate, 0o644)
        changes.append(Change(key.kind, path, fingerprint(key.public_blob), done=present[key.kind] is None))
    return tuple(changes)


def _read(path: Path, kind: str) -> _Found | None:
    """The key at `path`, converted to OpenSSH's format; None: there is no such file."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    try:
        pem = read_private(path, _GROUP_MAY_READ)
    except FileNotFoundError:
        return None
    key = parse_private(path, pem, ours=False)
    if key is None or not is_kind(key, kind):
        raise HostKeyError(f"{path} is not an {kind} private key")
    check_strength(path, key)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return _Found(kind, pem, public_blob(key), _certificate_beside(path))


def _certificate_beside(path: Path) -> bytes:
    """The content of a key's certificate file, which is public; empty if there is none that can be read."""
    try:
        with certificate_path(path).open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except OSError:
        return b""


def _present(path: Path, kind: str) -> HostKey | None:
    try:
        return load(path, kind)
    except (FileNotFoundError, EmptyKeyError):
        return None


def _is_empty(path: Path, kind: str) -> bool:
    """Whether there is a file without a key, as a power cut leaves it. Raises HostKeyError."""
    try:
        load(path, kind)
    except EmptyKeyError:
        return True
    except FileNotFoundError:
        pass
    return False


def _check_owner(keys_dir: Path) -> None:
    """Refuse to make keys as root for a server of another account, which could not read them."""
    try:
        owner = keys_dir.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostKeyError(f"cannot look at {keys_dir}: {error.strerror}") from error
    if owner != os.geteuid():
        raise HostKeyError(
            f"{keys_dir} belongs to uid {owner}: run this as that account, or give the directory to uid {os.geteuid()}"
        )


def _store(path: Path, key: _Found) -> None:
    empty = _is_empty(path, key.kind)
    try:
        if store_key_pair(path, key.private_pem, key.public_blob, COMMENT, in_place_of_empty=empty):
            return
    except FileExistsError:
        pass
    raise HostKeyError(f"{path} has come into being meanwhile: run this again")
