"""The server's own key: made at the first start, read at every other, refused if a stranger could have it.

A client remembers the key, so it must never change by accident: an existing file is never overwritten, and two servers
that start at once end with one key. This module knows nothing of people's keys.
"""

import binascii
from pathlib import Path

import msgspec

from pyssh_gateway.core.authorized_keys import fingerprint
from pyssh_gateway.keys.files import UntrustedFileError, create_file, read_trusted, replace_file

HOST_KEY_NAME = "ssh_host_ed25519_key"
"""The file's name in the keys directory, the one that sshd uses."""

NEXT_HOST_KEY_NAME = "ssh_host_ed25519_key_next"
"""The key that is announced to clients beside the one in use. To rotate: put it here, wait, rename it to the other."""

_MAX_KEY_BYTES = 64 * 1024  # an ed25519 key takes 400 bytes; the largest RSA key, mistakenly put there, 13 KiB
_GROUP_OR_OTHERS = 0o077  # the bits that OpenSSH's sshkey_perm_ok refuses


class HostKeyError(Exception):
    """The key cannot be used or made. The message is one line: what is wrong, where, what to do."""


class HostKey(msgspec.Struct, frozen=True):
    """The server's key. `private_pem` is in OpenSSH's format; `created`: it did not exist before this start."""

    path: Path
    private_pem: bytes
    public_blob: bytes
    fingerprint: str
    created: bool


def load_or_create(keys_dir: Path) -> HostKey:
    """The host key in `keys_dir`, made if there is none. Raises HostKeyError."""
    path = keys_dir / HOST_KEY_NAME
    try:
        return _load(path, created=False)
    except FileNotFoundError:
        pass
    try:
        create_key_pair(path, "pyssh-gateway host key")
    except FileExistsError:
        created = False  # another server was faster; its key is the one
    else:
        created = True
    try:
        return _load(path, created=created)
    except FileNotFoundError:
        raise HostKeyError(f"{path}: the file is gone again, or it is a link to nothing: remove it") from None


def load_next(keys_dir: Path) -> HostKey | None:
    """The key that is to follow the host key, if there is one beside it. Raises HostKeyError.

    It is announced to clients and not used: they learn it (OpenSSH's PROTOCOL section 2.5, UpdateHostKeys) before the
    old one goes.
    """
    try:
        return _load(keys_dir / NEXT_HOST_KEY_NAME, created=False)
    except FileNotFoundError:
        return None


def create_key_pair(path: Path, comment: str) -> None:
    """Make an ed25519 key pair without passphrase: the private key at `path`, the public one beside it in `.pub`.

    Raises FileExistsError if there is something at `path`, which is left alone, and HostKeyError if it cannot be
    written. The directory is made, for its owner only, if it is missing.
    """
    # Late: whoever only reads people's keys does not pay for it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostKeyError(f"cannot make the directory {path.parent}: {error.strerror}") from error
    try:
        create_file(path, private, 0o600)
        # After the private key, or the loser of a race would put its own public key beside the winner's.
        replace_file(path.with_name(path.name + ".pub"), public + b" " + comment.encode() + b"\n", 0o644)
    except FileExistsError:
        raise
    except OSError as error:
        raise HostKeyError(
            f"cannot write a new key to {path}: {error.strerror} (keys_dir has to be writable)"
        ) from error


def _load(path: Path, *, created: bool) -> HostKey:
    try:
        pem = read_trusted(path, limit=_MAX_KEY_BYTES, forbidden_mode=_GROUP_OR_OTHERS, purpose="a private key")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise HostKeyError(f"cannot read the host key {path}: {error.strerror}") from error
    except UntrustedFileError as error:
        raise HostKeyError(str(error)) from error
    blob = _public_blob(path, pem)
    return HostKey(path, pem, blob, fingerprint(blob), created)


def _public_blob(path: Path, pem: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(pem, password=None)
    except TypeError:  # how cryptography says that a password is needed
        raise HostKeyError(f"{path} has a passphrase: remove it with ssh-keygen -p -N '' -f {path}") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise HostKeyError(
            f"{path} is not an ed25519 private key in OpenSSH's format: "
            f"move it away and a new one is made (clients will have to accept it)"
        )
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return binascii.a2b_base64(public.split(b" ")[1])
