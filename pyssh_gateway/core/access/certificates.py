"""The parser of certificates (OpenSSH's PROTOCOL.certkeys, draft-miller-ssh-cert).

A certificate is a key, a few facts about its owner, and an authority's signature over both. It comes from an
unauthenticated client, and is read before any signature has been verified, so everything that is not exactly as
prescribed is refused, and all sizes are bounded. This module does not know which authorities are trusted, what the time
is, or how a signature is verified.
"""

import binascii
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType

import msgspec

from pyssh_gateway.core.access.authorized_keys import parse as parse_keys
from pyssh_gateway.core.access.wire import MalformedError, Reader, string

MAX_BYTES = 32 * 1024
"""Length of one certificate. An RSA 4096 key certified by another is 2.2 KiB, and MAX_PRINCIPALS names of the longest
that Linux's useradd takes, 32 characters, are 9 KiB."""

MAX_PRINCIPALS = 256
"""OpenSSH's SSHKEY_CERT_MAX_PRINCIPALS."""

FOREVER = 2**64 - 1
"""`valid_before` of a certificate that does not expire."""

USER, HOST = 1, 2  # SSH_CERT_TYPE_USER, SSH_CERT_TYPE_HOST

_SUFFIX = "-cert-v01@openssh.com"

_KEY_FIELDS = {
    "ssh-ed25519": 1,  # point
    "ecdsa-sha2-nistp256": 2,  # curve, point
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-rsa": 2,  # exponent, modulus
    "sk-ssh-ed25519@openssh.com": 2,  # point, application
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,  # curve, point, application
}
"""Key type -> how many strings its public key consists of, after the type's name."""


def certified(name: str) -> str:
    """The certificate's name for a key type or signature algorithm: `ssh-rsa` gives `ssh-rsa-cert-v01@openssh.com`."""
    return name.removesuffix("@openssh.com") + _SUFFIX


# The names rsa-sha2-256-cert-v01@openssh.com and rsa-sha2-512-... are for requests, never for the certificate itself.
CERTIFICATE_TYPES: Mapping[str, str] = MappingProxyType({certified(key_type): key_type for key_type in _KEY_FIELDS})
"""Certificate type -> type of the key that it certifies."""


class CertificateError(Exception):
    """The reason why nobody can use a certificate."""


class Certificate(msgspec.Struct, frozen=True):
    """A certificate's content. None of it may be trusted before `signature` has been verified.

    `public_blob` is the certified key, of type `key_type`, as an RFC 4253 section 6.6 public key, and so is `ca_blob`
    that of the authority, of type `ca_type`. `kind` is USER or HOST. `valid_after` (inclusive) and `valid_before`
    (exclusive) are Unix seconds. Options are names and raw values, in their order. `signature` is the authority's over
    `signed`, and names `signature_algorithm` as its algorithm.
    """

    key_type: str
    public_blob: bytes
    serial: int
    kind: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: tuple[tuple[bytes, bytes], ...]
    extensions: tuple[tuple[bytes, bytes], ...]
    ca_type: str
    ca_blob: bytes
    signed: bytes
    signature: bytes
    signature_algorithm: str


def blobs_in(text: bytes) -> Iterator[bytes]:
    """The blobs of the keys and certificates in a text of lines as in a `.pub` file: type, base64, comment.

    Other lines are passed over, and lines whose type is not the blob's.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or line.startswith(b"#"):
            continue
        with suppress(binascii.Error):
            blob = binascii.a2b_base64(words[1], strict_mode=True)
            if type_of(blob).encode() == words[0]:
                yield blob


def type_of(blob: bytes) -> str:
    """The type that a public key or certificate says it is of; empty if it does not say."""
    try:
        return Reader(blob).string().decode("ascii")
    except (MalformedError, UnicodeDecodeError):
        return ""


def parse(blob: bytes) -> Certificate:
    """Read a certificate of one of `CERTIFICATE_TYPES`.

    Raises CertificateError, whose message completes "this certificate can't be used: ...".
    """
    if len(blob) > MAX_BYTES:
        raise CertificateError(f"it is longer than {MAX_BYTES} bytes")
    key_type = CERTIFICATE_TYPES.get(type_of(blob))
    if key_type is None:
        raise CertificateError("it is of no type that is accepted")
    try:
        return _parse(blob, key_type)
    except MalformedError as error:
        raise CertificateError(str(error)) from None


def certified_key(blob: bytes) -> bytes:
    """The plain public key in a certificate of one of `CERTIFICATE_TYPES`, whatever else is in it.

    Raises CertificateError.
    """
    key_type = CERTIFICATE_TYPES[type_of(blob)]
    reader = Reader(blob)
    try:
        reader.string()  # the type
        reader.string()  # a nonce
        return _public_blob(reader, key_type)
    except MalformedError as error:
        raise CertificateError(str(error)) from None


def _parse(blob: bytes, key_type: str) -> Certificate:
    reader = Reader(blob)
    reader.string()  # the type
    reader.string()  # a nonce, which only the authority needs
    public_blob = _public_blob(reader, key_type)
    serial = reader.number(8)
    kind = reader.number(4)
    if kind not in {USER, HOST}:
        raise CertificateError("it is neither a user's nor a host's")
    key_id = _text(reader.string())
    principals = _principals(reader.string())
    valid_after = reader.number(8)
    valid_before = reader.number(8)
    critical_options = _options(reader.string())
    extensions = _options(reader.string())
    reader.string()  # reserved: "ignored in this version of the protocol"
    ca_blob = reader.string()
    ca_type = _authority_type(ca_blob)
    signed = blob[: reader.position]
    signature = reader.string()
    reader.end()
    return Certificate(
        key_type=key_type,
        public_blob=public_blob,
        serial=serial,
        kind=kind,
        key_id=key_id,
        principals=principals,
        valid_after=valid_after,
        valid_before=valid_before,
        critical_options=critical_options,
        extensions=extensions,
        ca_type=ca_type,
        ca_blob=ca_blob,
        signed=signed,
        signature=signature,
        signature_algorithm=type_of(signature),  # RFC 4253 section 6.6: it begins with its name, as a key does
    )


def _public_blob(reader: Reader, key_type: str) -> bytes:
    """The certified key as a plain public key. It is refused unless a key line with it would be accepted."""
    start = reader.position
    for _ in range(_KEY_FIELDS[key_type]):
        reader.string()
    blob = string(key_type.encode()) + reader.data[start : reader.position]
    _check_key(key_type, blob, "the certified key")
    return blob


def _authority_type(blob: bytes) -> str:
    ca_type = type_of(blob)
    if ca_type in CERTIFICATE_TYPES:
        raise CertificateError("its authority is a certificate itself: chains are not supported")
    if ca_type not in _KEY_FIELDS:
        raise CertificateError("its authority's key is of no type that is accepted")
    _check_key(ca_type, blob, "the authority's key")
    return ca_type


def _check_key(key_type: str, blob: bytes, what: str) -> None:
    line = key_type.encode() + b" " + binascii.b2a_base64(blob, newline=False)
    parsed = parse_keys(line, "", False)
    if not parsed.accepted:
        raise CertificateError(f"{what} is refused: {parsed.refused[0].removeprefix('line 1: ')}")


def _principals(data: bytes) -> tuple[str, ...]:
    reader = Reader(data)
    principals: list[str] = []
    while not reader.is_at_end:
        if len(principals) == MAX_PRINCIPALS:
            raise CertificateError(f"it has more than {MAX_PRINCIPALS} principals")
        principals.append(_text(reader.string()))
    return tuple(principals)


def _options(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values. "Options must be lexically ordered", and each may be there once."""
    reader = Reader(data)
    options: list[tuple[bytes, bytes]] = []
    while not reader.is_at_end:
        name, value = reader.string(), reader.string()
        if options and name <= options[-1][0]:
            raise CertificateError(f"its option {shown(name)} is there twice or not in its place")
        options.append((name, value))
    return tuple(options)


def _text(data: bytes) -> str:
    """A name, unchanged: it is compared byte by byte, and bytes that are not UTF-8 are preserved."""
    return data.decode("utf-8", "surrogateescape")


def shown(name: bytes) -> str:
    """An option's name, as it goes into a reason."""
    return ascii(name[:64].decode("ascii", "replace"))
