"""The key that signs checkpoints of the log: made at the first start, read at every other, as the host keys are.

It is read before this process gives up its rights, and no other process has it. Its public half is put beside the log.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pyssh_gateway.audit.proving.names import KEY_NAME
from pyssh_gateway.core.transparency.checkpoint import log_key
from pyssh_gateway.core.transparency.signed_note import VerifierKey
from pyssh_gateway.keys.files import is_blank, replace_file
from pyssh_gateway.keys.host_keys import (
    GROUP_OR_OTHERS,
    HostKeyError,
    create_key_pair,
    parse_private,
    read_private,
)

FILE_NAME = "audit_key"
"""In `keys_dir`: a private Ed25519 key in OpenSSH's format."""

COMMENT = "pyssh-gateway log key"

_MAX_PUBLIC_BYTES = 64 * 1024


class SigningKeyError(Exception):
    """The key can't be used or made. The message is one line: what is wrong, where, what to do."""


class SigningKey(NamedTuple):
    """The public key, by which the log is called, and a function that signs with the private one."""

    public: VerifierKey
    sign: Callable[[bytes], bytes]


def load_or_create(keys_dir: Path) -> SigningKey:
    """The key in `keys_dir`, which is made if it is missing. Raises SigningKeyError."""
    path = keys_dir / FILE_NAME
    try:
        with suppress(FileNotFoundError):
            if not is_blank(read_private(path, GROUP_OR_OTHERS)):
                return _load(path)
            # Nothing was lost but the key: a power failure may leave an empty file.
            create_key_pair(path, COMMENT, in_place_of_empty=True)
            return _load(path)
        with suppress(FileExistsError):  # another server was faster; its key is used
            create_key_pair(path, COMMENT)
        return _load(path)
    except FileNotFoundError:
        raise SigningKeyError(f"{path}: the file is gone again, or it is a link to nothing: remove it") from None
    except HostKeyError as error:
        raise SigningKeyError(str(error)) from error


def _load(path: Path) -> SigningKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    private = parse_private(path, read_private(path, GROUP_OR_OTHERS), ours=True)
    if not isinstance(private, Ed25519PrivateKey):
        raise SigningKeyError(
            f"{path} is not an ed25519 private key: move it away and a new one is made (checkpoints of the log will "
            f"have another signer from then on)"
        )
    return SigningKey(log_key(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)), private.sign)


def publish(key: VerifierKey, audit_dir: Path) -> None:
    """Put the public key into its file beside the log, after those that were used before. Raises OSError."""
    path = audit_dir / KEY_NAME
    known = b""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            known = file.read(_MAX_PUBLIC_BYTES)
    line = key.text.encode()
    lines = [one for one in known.splitlines() if one]
    if lines[-1:] != [line]:
        replace_file(path, b"".join(one + b"\n" for one in [*(one for one in lines if one != line), line]), 0o644)
