"""The server's own keys: made at the first start, read at every other, refused if another account could have them.

Clients remember the keys, so they must never change by accident: an existing file is never overwritten, and two servers
that start at once end up with the same keys. This module knows nothing of users' keys; `host_key_changes` has the
deliberate changes.
"""

import binascii
import errno
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pyssh_gateway.core.access.authorized_keys import MIN_RSA_BITS, fingerprint
from pyssh_gateway.events import HostKeyCreated
from pyssh_gateway.keys.files import (
    UntrustedFileError,
    create_file,
    is_blank,
    make_directory,
    read_trusted,
    replace_empty_file,
    replace_file,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import SSHPrivateKeyTypes

KINDS = ("ed25519", "ecdsa", "rsa")
"""Kinds of keys, by the names that ssh-keygen -t has for them."""

NEXT_SUFFIX = "_next"
"""The suffix of the file of the next key, which is to replace the one in use and is announced to clients beside it."""

RSA_BITS = 3072
"""Size of a new RSA key: ssh-keygen's default, 128 bits of security by NIST SP 800-57."""

COMMENT = "pyssh-gateway host key"

MOST_KEYS = 32
"""Keys of a server: as many as a client may have proved on one connection (`ipc.postauth.MAX_PROOFS`)."""

MAX_KEY_BYTES = 64 * 1024  # an ed25519 key takes 400 bytes; the largest RSA key 13 KiB
_NOT_WRITABLE = frozenset({errno.EACCES, errno.EROFS})
GROUP_OR_OTHERS = 0o077  # the bits that OpenSSH's sshkey_perm_ok refuses


class HostKeyError(Exception):
    """A key cannot be used or made. The message is one line: what is wrong, where, what to do."""


class EmptyKeyError(HostKeyError):
    """There is a file, and nothing in it."""


class HostKey(msgspec.Struct, frozen=True):
    """A key of the server. `private_pem` is in OpenSSH's format; `created`: it did not exist before this start.

    `was_empty`: the created key replaced a file without a key. `next`: it is announced and not used yet. `spare`: it is
    announced and not used, because another key of its type comes first.
    """

    path: Path
    private_pem: bytes
    public_blob: bytes
    fingerprint: str
    created: bool
    next: bool = False
    was_empty: bool = False
    spare: bool = False

    @property
    def key_type(self) -> str:
        """The type in the key's blob, as from `key_type`."""
        return key_type(self.public_blob)


def key_path(keys_dir: Path, kind: str) -> Path:
    """The path of the key of that kind, with sshd's file name."""
    return keys_dir / f"ssh_host_{kind}_key"


def public_path(path: Path) -> Path:
    """The path of the public half of the key at `path`."""
    return path.with_name(path.name + ".pub")


def certificate_path(path: Path) -> Path:
    """The path where ssh-keygen puts the certificate of the key at `path`."""
    return path.with_name(f"{path.name}-cert.pub")


def server_keys(keys_dir: Path, kinds: Sequence[str], files: Sequence[str]) -> tuple[HostKey, ...]:
    """All keys of a server: those of these kinds (missing ones are made), those in `files`, and the kinds' next keys.

    Of several of one type the first is used in key exchange, as with sshd's HostKey lines, and the others are `spare`.
    A key that is there twice counts once. Raises HostKeyError.
    """
    in_use = (*load_or_create(keys_dir, kinds), *map(load_file, map(Path, files)))
    keys = _in_order(in_use, load_next(keys_dir, kinds))
    if len(keys) > MOST_KEYS:
        raise HostKeyError(f"there are {len(keys)} host keys, of which clients can learn {MOST_KEYS} at most")
    return keys


def existing_keys(keys_dir: Path, kinds: Sequence[str], files: Sequence[str]) -> tuple[HostKey, ...]:
    """Those of these keys that exist, and can be read and used."""
    found = []
    for path, kind in (*((key_path(keys_dir, kind), kind) for kind in kinds), *((Path(file), "") for file in files)):
        with suppress(FileNotFoundError, HostKeyError):
            found.append(load(path, kind) if kind else load_file(path))
    try:
        return _in_order(found, load_next(keys_dir, kinds))
    except HostKeyError:
        return _in_order(found, ())


def _in_order(in_use: Iterable[HostKey], following: Iterable[HostKey]) -> tuple[HostKey, ...]:
    keys: dict[bytes, HostKey] = {}
    types: set[str] = set()
    for key in in_use:
        keys.setdefault(key.public_blob, msgspec.structs.replace(key, spare=key.key_type in types))
        types.add(key.key_type)
    for key in following:
        keys.setdefault(key.public_blob, key)
    return tuple(keys.values())


def load_file(path: Path) -> HostKey:
    """The key at `path`, of any of `KINDS`, which is never made. Raises HostKeyError."""
    try:
        pem = read_private(path, GROUP_OR_OTHERS)
    except FileNotFoundError:
        raise HostKeyError(f"there is no host key {path}: host_keys.files names keys that are there already") from None
    key = parse_private(path, pem, ours=True)
    if key is None or not any(is_kind(key, kind) for kind in KINDS):
        raise HostKeyError(f"{path} is no private key of a kind that is used: {', '.join(KINDS)}")
    check_strength(path, key)
    blob = public_blob(key)
    return HostKey(path, pem, blob, fingerprint(blob), created=False)


def load_or_create(keys_dir: Path, kinds: Sequence[str]) -> tuple[HostKey, ...]:
    """The host keys of these kinds in `keys_dir`, in that order; missing ones are made. Raises HostKeyError."""
    return tuple(_load_or_create(key_path(keys_dir, kind), kind) for kind in dict.fromkeys(kinds))


def made_at_start(keys: Sequence[HostKey]) -> tuple[HostKeyCreated, ...]:
    """The events for the keys that did not exist before this start."""
    return tuple(
        HostKeyCreated(
            key_type=key.key_type,
            fingerprint=key.fingerprint,
            path=str(key.path),
            reason="empty" if key.was_empty else "missing",
        )
        for key in keys
        if key.created
    )


def load_next(keys_dir: Path, kinds: Sequence[str]) -> tuple[HostKey, ...]:
    """The next keys for the host keys of these kinds, if there are any. Raises HostKeyError.

    They are announced to clients and not used yet, so that clients learn them (OpenSSH's PROTOCOL section 2.5,
    UpdateHostKeys) before the old ones are replaced.
    """
    keys = []
    for kind in dict.fromkeys(kinds):
        path = key_path(keys_dir, kind)
        try:
            key = load(path.with_name(path.name + NEXT_SUFFIX), kind)
            in_use = read_private(path, GROUP_OR_OTHERS)
        except (FileNotFoundError, EmptyKeyError):  # no client can have learned it
            continue
        if key.private_pem != in_use:  # else it is in use already, and cleaning up was interrupted
            keys.append(msgspec.structs.replace(key, next=True))
    return tuple(keys)


def _load_or_create(path: Path, kind: str) -> HostKey:
    was_empty = False
    try:
        return load(path, kind)
    except FileNotFoundError:
        pass
    except EmptyKeyError:  # no key is lost by making another one
        was_empty = True
    try:
        created = create_key_pair(path, COMMENT, kind, in_place_of_empty=was_empty)
    except FileExistsError:
        created = False  # another server was faster; its key is used
    try:
        return msgspec.structs.replace(load(path, kind), created=created, was_empty=created and was_empty)
    except FileNotFoundError:
        raise HostKeyError(f"{path}: the file is gone again, or it is a link to nothing: remove it") from None


def create_key_pair(path: Path, comment: str, kind: str = "ed25519", *, in_place_of_empty: bool = False) -> bool:
    """Make a key pair without passphrase: the private key at `path`, the public one beside it in `.pub`.

    Raises FileExistsError if there is something at `path`, which is left alone, and HostKeyError if it cannot be
    written. With `in_place_of_empty` there is a file without a key, which is replaced; returns whether there still was.
    The directory is made, for its owner only, if it is missing.
    """
    # Late: takes time that a process that only reads users' keys does not need.
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = _generate(kind)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return store_key_pair(path, private, public_blob(key), comment, in_place_of_empty=in_place_of_empty)


def store_key_pair(path: Path, private: bytes, blob: bytes, comment: str, *, in_place_of_empty: bool = False) -> bool:
    """Put a key pair at `path`; `blob` is the public key. Returns and raises as `create_key_pair` does."""
    try:
        make_directory(path.parent)
    except OSError as error:
        raise HostKeyError(f"cannot make the directory {path.parent}: {error.strerror}") from error
    try:
        if not in_place_of_empty:
            create_file(path, private, 0o600)
        elif not replace_empty_file(path, private, 0o600):
            return False
        # After the private key: in a race the loser would otherwise put its public key beside the winner's private key.
        replace_file(public_path(path), public_line(blob, comment), 0o644)
    except FileExistsError:
        raise
    except OSError as error:
        advice = " (keys_dir has to be writable)" if error.errno in _NOT_WRITABLE else ""
        raise HostKeyError(f"cannot write a new key to {path}: {error.strerror}{advice}") from error
    return True


def _generate(kind: str) -> "SSHPrivateKeyTypes":
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match kind:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ecdsa":
            return ec.generate_private_key(ec.SECP256R1())
        case "rsa":
            return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    raise ValueError(f"no such kind of key: {kind}")


def load(path: Path, kind: str) -> HostKey:
    """The key of that kind at `path`. Raises FileNotFoundError, HostKeyError."""
    pem = read_private(path, GROUP_OR_OTHERS)
    if is_blank(pem):
        raise EmptyKeyError(
            f"{path} is empty, as a power cut may leave a file: unless the key is put back there, the next start makes "
            f"a new one (clients will have to accept it)"
        )
    key = parse_private(path, pem, ours=True)
    if key is None or not pem.startswith(b"-----BEGIN OPENSSH") or not is_kind(key, kind):
        raise HostKeyError(
            f"{path} is not an {kind} private key in OpenSSH's format: "
            f"move it away and a new one is made (clients will have to accept it)"
        )
    check_strength(path, key)
    blob = public_blob(key)
    return HostKey(path, pem, blob, fingerprint(blob), created=False)


def read_private(path: Path, forbidden_mode: int) -> bytes:
    """The text of a private key that no other account could have put there. Raises FileNotFoundError, HostKeyError."""
    try:
        return read_trusted(path, limit=MAX_KEY_BYTES, forbidden_mode=forbidden_mode, purpose="a private key")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HostKeyError(f"cannot read the host key {path}: {error.strerror}") from error
    except UntrustedFileError as error:
        raise HostKeyError(str(error)) from error


def parse_private(path: Path, pem: bytes, *, ours: bool) -> "SSHPrivateKeyTypes | None":
    """The private key in a text of OpenSSH's format or of PEM; None: it is none. Raises HostKeyError.

    The numbers of an RSA key are checked unless it is `ours`: that takes 150 ms, and a client may be waiting.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    openssh = pem.startswith(b"-----BEGIN OPENSSH")
    parse = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        with warnings.catch_warnings(action="ignore"):  # about DSA, which is refused anyway
            key = parse(pem, password=None, unsafe_skip_rsa_key_validation=ours)
    except TypeError:  # cryptography's error if a password is needed
        raise HostKeyError(f"{path} has a passphrase: remove it with ssh-keygen -p -N '' -f {path}") from None
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key  # type: ignore[return-value]  # of PEM also others, which are of none of our kinds


def is_kind(key: "SSHPrivateKeyTypes", kind: str) -> bool:
    """Whether the private key is of that kind."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    match key:
        case ed25519.Ed25519PrivateKey():
            return kind == "ed25519"
        case ec.EllipticCurvePrivateKey():
            return kind == "ecdsa" and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
        case rsa.RSAPrivateKey():
            return kind == "rsa"
    return False


def check_strength(path: Path, key: "SSHPrivateKeyTypes") -> None:
    """Raise HostKeyError if clients would refuse the key, or should."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < MIN_RSA_BITS:
        raise HostKeyError(
            f"{path}: an RSA key of {key.key_size} bits is too weak, at least {MIN_RSA_BITS} are needed: "
            f"move it away and a new one is made (clients will have to accept it)"
        )


def public_blob(key: "SSHPrivateKeyTypes") -> bytes:
    """The public half, as RFC 4253 section 6.6 has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return binascii.a2b_base64(line.split(b" ")[1])


def public_line(blob: bytes, comment: str) -> bytes:
    """The line in the `.pub` file of the public key `blob`."""
    encoded = binascii.b2a_base64(blob, newline=False)
    return key_type(blob).encode() + b" " + encoded + b" " + comment.encode() + b"\n"


def key_type(blob: bytes) -> str:
    """The type in a public key's blob (RFC 4253 section 6.6): ssh-ed25519, ecdsa-sha2-nistp256, ssh-rsa."""
    end = 4 + int.from_bytes(blob[:4], "big")
    return blob[4:end].decode("ascii")
