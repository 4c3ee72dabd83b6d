"""A security key in software: it signs like a FIDO token (OpenSSH's PROTOCOL.u2f), with any flags that a test wants."""

import base64
from hashlib import sha256
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.key_lines import SK_ECDSA, SK_ED25519, blob, mpint, string

TOUCHED, VERIFIED = 0x01, 0x04

APPLICATION = b"ssh:"


class SecurityKey:
    """A new key. It has the part of an asyncssh key that `tests.wire.raw` needs; `flags` go into what it signs."""

    def __init__(self, kind: Literal["ed25519", "ecdsa"] = "ed25519", *, flags: int = TOUCHED) -> None:
        self.flags = flags
        self.counter = 0
        self._ed25519 = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else None
        self._ecdsa = ec.generate_private_key(ec.SECP256R1()) if kind == "ecdsa" else None
        self.key_type = SK_ED25519 if kind == "ed25519" else SK_ECDSA
        self.algorithm = self.key_type.encode()
        self.public_data = blob(self.key_type, *self._public_fields(), string(APPLICATION))

    def sign(self, data: bytes, algorithm: bytes = b"") -> bytes:
        """The signature over `data`, made with the key's own algorithm whatever the request names."""
        self.counter += 1
        after = bytes([self.flags]) + self.counter.to_bytes(4, "big")
        message = sha256(APPLICATION).digest() + after + sha256(data).digest()
        return string(self.algorithm) + string(self._sign(message)) + after

    @property
    def public_line(self) -> str:
        """The key as a line of authorized_keys."""
        return f"{self.key_type} {base64.b64encode(self.public_data).decode()}"

    def write(self, path: Path) -> Path:
        """Write the public key to a file, in ssh-keygen's format."""
        path.write_text(f"{self.public_line}\n")
        return path

    def _public_fields(self) -> tuple[bytes, ...]:
        if self._ed25519 is not None:
            return (string(self._ed25519.public_key().public_bytes_raw()),)
        assert self._ecdsa is not None
        point = self._ecdsa.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return string(b"nistp256"), string(point)

    def _sign(self, message: bytes) -> bytes:
        if self._ed25519 is not None:
            return self._ed25519.sign(message)
        assert self._ecdsa is not None
        r, s = decode_dss_signature(self._ecdsa.sign(message, ec.ECDSA(SHA256())))
        return mpint(r) + mpint(s)
