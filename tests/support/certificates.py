"""Certificates as real authorities make them, with `ssh-keygen -s`, and invalid ones, put together field by field."""

import base64
import subprocess
from pathlib import Path

from tests.support.key_lines import string
from tests.support.waiting import PATIENCE

PRINCIPAL = "amos"


def keygen(*arguments: str | Path) -> None:
    """Run ssh-keygen without a passphrase and without output."""
    command = ["ssh-keygen", "-q", *map(str, arguments)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)


def make_key(directory: Path, name: str, kind: str = "ed25519", *options: str) -> Path:
    """A key pair; returns the private key's file."""
    path = directory / name
    keygen("-t", kind, *options, "-N", "", "-C", name, "-f", path)
    return path


def blob_of(path: Path) -> bytes:
    """The decoded contents of a public key's or certificate's file."""
    return base64.b64decode(path.read_bytes().split()[1])


class Authority:
    """A new certificate authority, in `directory`."""

    def __init__(self, directory: Path, name: str = "authority", kind: str = "ed25519", *options: str) -> None:
        self.private = make_key(directory, name, kind, *options)
        self.public = self.private.with_name(f"{name}.pub")
        self.blob = blob_of(self.public)
        self._directory = directory
        self._certified = 0

    def certify(self, public: Path, *options: str, principals: str | None = PRINCIPAL) -> Path:
        """Certify the public key in a file; returns the certificate's file. `options` are ssh-keygen's."""
        self._certified += 1
        copy = self._directory / f"{self.private.name}-{self._certified}.pub"
        copy.write_bytes(public.read_bytes())
        names = ["-n", principals] if principals is not None else []
        keygen("-s", self.private, "-I", "example", *names, *options, copy)  # a second -I in `options` wins
        return copy.with_name(f"{copy.stem}-cert.pub")

    def blob_for(self, public: Path, *options: str, principals: str | None = PRINCIPAL) -> bytes:
        """Like `certify`, but returns the certificate itself."""
        return blob_of(self.certify(public, *options, principals=principals))


def option_list(*pairs: tuple[bytes, bytes]) -> bytes:
    """The options of a certificate, in the order given and with the values unchanged."""
    return b"".join(string(name) + string(value) for name, value in pairs)


def made_up(
    key_type: bytes = b"ssh-ed25519-cert-v01@openssh.com",
    *,
    key: bytes = string(b"\x05" * 32),
    kind: int = 1,
    key_id: bytes = b"example",
    principals: bytes = string(PRINCIPAL.encode()),
    valid: tuple[int, int] = (0, 2**64 - 1),
    critical: bytes = b"",
    extensions: bytes = b"",
    reserved: bytes = b"",
    authority: bytes = string(b"ssh-ed25519") + string(b"\x06" * 32),
    signature: bytes = string(b"ssh-ed25519") + string(b"\0" * 64),
    after: bytes = b"",
) -> bytes:
    """A certificate with a wrong signature, whose fields need not be valid."""
    numbers = (7).to_bytes(8, "big") + kind.to_bytes(4, "big")
    period = b"".join(moment.to_bytes(8, "big") for moment in valid)
    texts = string(key_id) + string(principals) + period + string(critical) + string(extensions) + string(reserved)
    return string(key_type) + string(b"nonce") + key + numbers + texts + string(authority) + string(signature) + after
