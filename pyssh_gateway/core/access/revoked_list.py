"""The parser of revocation lists, as sshd's RevokedKeys reads them: a KRL, or public keys, one per line.

A KRL (key revocation list) is binary, and `ssh-keygen -k` makes it: OpenSSH's PROTOCOL.krl. An entry that is not
understood makes the whole list unusable: it may be the one that matters. This module does not know where the text comes
from.
"""

import binascii
from enum import IntEnum

from pyssh_gateway.core.access import certificates
from pyssh_gateway.core.access.authorized_keys import ACCEPTED_TYPES, MIN_RSA_BITS
from pyssh_gateway.core.access.authorized_keys import parse as parse_keys
from pyssh_gateway.core.access.certificates import CertificateError, type_of
from pyssh_gateway.core.access.revocations import (
    ANY_AUTHORITY,
    MAX_BITMAP_BITS,
    Issued,
    Revocations,
    merged,
    short_id,
)
from pyssh_gateway.core.access.wire import MalformedError, Reader

MAX_BYTES = 4 * 1024 * 1024
"""Size of one list: 116,000 SHA256 fingerprints, or half a million serial numbers one by one. sshd needs smaller ones,
since it reads the whole list for every offered key."""

_MAGIC = b"SSHKRL\n\0"
_VERSION = 1

_MAX_SERIAL = 2**64 - 1

# How lines begin in a text from which ssh-keygen makes a KRL ("KEY REVOCATION LISTS" in ssh-keygen(1)).
_SPECIFICATIONS = (b"serial:", b"id:", b"key:", b"sha1:", b"sha256:", b"hash:")


class _Section(IntEnum):
    """The sections of a KRL."""

    CERTIFICATES = 1
    KEYS = 2
    SHA1 = 3
    SIGNATURE = 4
    SHA256 = 5
    EXTENSION = 255


class _Subsection(IntEnum):
    """The subsections of a section about certificates."""

    SERIALS = 0x20
    RANGE = 0x21
    BITMAP = 0x22
    KEY_IDS = 0x23
    EXTENSION = 0x39


class RevokedListError(Exception):
    """The reason why a list can't be used. The message completes "the list can't be used: ..."."""


def parse(text: bytes) -> Revocations:
    """Parse a list. Raises RevokedListError."""
    if len(text) > MAX_BYTES:
        raise RevokedListError(f"it is longer than {MAX_BYTES} bytes")
    if not text.startswith(_MAGIC):
        return _parse_keys(text)
    try:
        return _Krl().read(text)
    except MalformedError as error:
        raise RevokedListError(f"it is a KRL, and {error}") from None


# -- KRL -----------------------------------------------------------------------------------------------------------


class _Gathered:
    """What has been read about the certificates of one authority."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int]] = []
        self.bitmaps: list[tuple[int, int]] = []
        self.key_ids: set[str] = set()

    def issued(self) -> Issued:
        return Issued(merged(self.ranges), tuple(sorted(self.bitmaps)), frozenset(self.key_ids))


class _Krl:
    """Reads a KRL. Follows ssh_krl_from_blob in OpenSSH's krl.c."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()
        self._sha1: set[bytes] = set()
        self._sha256: set[bytes] = set()
        self._certificates: dict[bytes, _Gathered] = {}

    def read(self, text: bytes) -> Revocations:
        """Read the whole KRL. Raises MalformedError, RevokedListError."""
        reader = Reader(text)
        reader.take(len(_MAGIC))
        if reader.number(4) != _VERSION:
            raise RevokedListError("it is a KRL of another version than 1")
        version = reader.number(8)
        reader.number(8)  # when it was made
        reader.number(8)  # flags: "No flags are currently defined"
        reader.string()  # reserved
        reader.string()  # a comment
        while not reader.is_at_end:
            self._section(reader.number(1), reader)
        return Revocations(
            kind="krl",
            keys=frozenset(self._keys),
            sha1=frozenset(self._sha1),
            sha256=frozenset(self._sha256),
            certificates={ca: gathered.issued() for ca, gathered in self._certificates.items()},
            version=version,
        )

    def _section(self, kind: int, reader: Reader) -> None:
        data = reader.string()
        match kind:
            case _Section.CERTIFICATES:
                self._read_certificates(Reader(data))
            case _Section.KEYS:
                self._keys.update(_strings(data))
            case _Section.SHA1:
                self._sha1.update(_strings(data, 20))
            case _Section.SHA256:
                self._sha256.update(_strings(data, 32))
            case _Section.SIGNATURE:  # not verified: the file is trusted as it is
                reader.string()
            case _Section.EXTENSION:
                _extension(Reader(data))
            case _:
                raise RevokedListError(f"it is a KRL with a section of the unknown type {kind}")

    def _read_certificates(self, reader: Reader) -> None:
        authority = reader.string()
        if authority != ANY_AUTHORITY and not type_of(authority):
            raise MalformedError("the key of an authority in it is none")
        reader.string()  # reserved
        gathered = self._certificates.setdefault(authority, _Gathered())
        while not reader.is_at_end:
            kind = reader.number(1)
            data = Reader(reader.string())
            _read_issued(kind, data, gathered)
            data.end()


def _read_issued(kind: int, data: Reader, gathered: _Gathered) -> None:
    match kind:
        case _Subsection.SERIALS:
            while not data.is_at_end:
                serial = data.number(8)
                gathered.ranges.append(_range(serial, serial))
        case _Subsection.RANGE:
            gathered.ranges.append(_range(data.number(8), data.number(8)))
        case _Subsection.BITMAP:
            gathered.bitmaps.append(_bitmap(data.number(8), data.mpint()))
        case _Subsection.KEY_IDS:
            while not data.is_at_end:
                gathered.key_ids.add(short_id(_key_id(data.string())))
        case _Subsection.EXTENSION:
            _extension(data)
        case _:
            raise RevokedListError(f"it is a KRL with certificates in a section of the unknown type {kind}")


def _range(low: int, high: int) -> tuple[int, int]:
    if not 0 < low <= high:
        raise MalformedError(f"the serial numbers {low} to {high} in it are none")
    return low, high


def _bitmap(offset: int, bits: int) -> tuple[int, int]:
    if bits < 0 or bits.bit_length() > MAX_BITMAP_BITS:
        raise MalformedError("a bitmap in it is negative or too long")
    if bits.bit_length() + offset - 1 > _MAX_SERIAL or (offset == 0 and bits & 1):
        raise MalformedError("a bitmap in it has numbers that are none")
    return offset, bits


def _key_id(data: bytes) -> str:
    """A key id, decoded like those of certificates."""
    if b"\0" in data[:-1]:
        raise MalformedError("a key id in it has a NUL in it")
    return data.decode("utf-8", "surrogateescape")


def _strings(data: bytes, size: int | None = None) -> list[bytes]:
    reader, found = Reader(data), []
    while not reader.is_at_end:
        one = reader.string()
        if size is not None and len(one) != size:
            raise MalformedError(f"a hash in it is {len(one)} bytes long, not {size}")
        found.append(one)
    return found


def _extension(reader: Reader) -> None:
    """Skip an extension; raise RevokedListError if it is marked critical, since none is known."""
    name = reader.string()
    is_critical = reader.number(1) != 0
    reader.string()
    reader.end()
    if is_critical:
        raise RevokedListError(f"it is a KRL with the critical extension {certificates.shown(name)}, which is unknown")


# -- public keys, one a line ---------------------------------------------------------------------------------------


def _parse_keys(text: bytes) -> Revocations:
    """Follows sshkey_in_file in OpenSSH's authfile.c, where a certificate stands for the key in it."""
    keys: set[bytes] = set()
    for number, raw_line in enumerate(text.split(b"\n"), start=1):
        line = raw_line.strip(b" \t\r")
        if line and not line.startswith(b"#"):
            blob = _key_of(line, number)
            if blob is not None:
                keys.add(blob)
    return Revocations(kind="keys", keys=frozenset(keys))


def _key_of(line: bytes, number: int) -> bytes | None:
    """The plain key that a line revokes; None if it could not be used here anyway. Raises RevokedListError."""
    type_word, _, rest = line.replace(b"\t", b" ").partition(b" ")
    encoded, _, _ = rest.lstrip(b" ").partition(b" ")
    if type_word.startswith(_SPECIFICATIONS):
        raise RevokedListError(f"line {number} is what a KRL is made from: name the file that ssh-keygen -k has made")
    try:
        blob = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        blob = b""
    named = type_of(blob)
    if not named or named.encode() != type_word:
        raise RevokedListError(f"line {number} is no public key in OpenSSH's one-line form (without options)")
    if named in certificates.CERTIFICATE_TYPES:
        try:
            return certificates.certified_key(blob)
        except CertificateError as error:
            raise RevokedListError(f"line {number} is a certificate that can't be read: {error}") from None
    if named not in ACCEPTED_TYPES or _is_short_rsa(named, blob):  # such a key can't log in anyway
        return None
    parsed = parse_keys(type_word + b" " + encoded, "", allow_options=False)
    if not parsed.accepted:
        raise RevokedListError(f"line {number}: {parsed.refused[0].removeprefix('line 1: ')}")
    return blob


def _is_short_rsa(named: str, blob: bytes) -> bool:
    """Whether it is an RSA key with fewer bits than are accepted, whatever the encoding of its numbers."""
    if named != "ssh-rsa":
        return False
    reader = Reader(blob)
    try:
        reader.string()
        reader.mpint()
        return abs(reader.mpint()).bit_length() < MIN_RSA_BITS
    except MalformedError:
        return False
