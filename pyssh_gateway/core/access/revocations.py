"""Revoked keys and certificates, which let nobody in, whatever key line names them (sshd's RevokedKeys).

`revoked_list` parses such lists. This module knows neither accounts nor where a list comes from.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

MAX_BITMAP_BITS = 16384
"""Bits of one bitmap of serial numbers: the longest number that OpenSSH reads (SSHBUF_MAX_BIGNUM, 2 KiB)."""

ANY_AUTHORITY = b""
"""In place of an authority's key: the certificates of every authority."""

_LONG_ID = 128
"""Characters of a key id that are kept as they are; hardly any is longer."""


class Certified(Protocol):
    """The fields, beside its key, by which a certificate can be revoked."""

    @property
    def serial(self) -> int:
        """The number that its authority gave it; 0: none."""

    @property
    def key_id(self) -> str:
        """The authority's name for the certificate's owner."""

    @property
    def ca_blob(self) -> bytes:
        """The authority's public key."""


class Issued(msgspec.Struct, frozen=True):
    """The revoked certificates of one authority, or of any.

    `ranges` of serial numbers include both ends, are sorted and do not overlap. `bitmaps` are sorted: the number of the
    first bit, and the bits. `key_ids` are shortened by `short_id`.
    """

    ranges: tuple[tuple[int, int], ...] = ()
    bitmaps: tuple[tuple[int, int], ...] = ()
    key_ids: frozenset[str] = frozenset()

    @property
    def entries(self) -> int:
        """How many there are for people: a range counts once."""
        return len(self.ranges) + sum(bits.bit_count() for _, bits in self.bitmaps) + len(self.key_ids)

    def has_serial(self, serial: int) -> bool:
        """Whether the serial number is revoked. 0 means that the authority gave no number, and is never revoked."""
        if serial == 0:
            return False
        at = bisect_right(self.ranges, serial, key=lambda each: each[0]) - 1
        if at >= 0 and serial <= self.ranges[at][1]:
            return True
        first = bisect_right(self.bitmaps, serial - MAX_BITMAP_BITS, key=lambda each: each[0])
        last = bisect_right(self.bitmaps, serial, key=lambda each: each[0])
        return any(bits >> (serial - offset) & 1 for offset, bits in self.bitmaps[first:last])


class Revocations(msgspec.Struct, frozen=True):
    """The content of one list: public keys (RFC 4253 section 6.6), hashes of keys, and certificates by authority.

    `kind` is "keys" for a list of public keys, "krl" for a key revocation list (OpenSSH's PROTOCOL.krl), which has a
    `version` that its author increments.
    """

    kind: Literal["keys", "krl"]
    keys: frozenset[bytes] = frozenset()
    sha1: frozenset[bytes] = frozenset()
    sha256: frozenset[bytes] = frozenset()
    certificates: Mapping[bytes, Issued] = msgspec.field(default_factory=dict)
    version: int = 0

    @property
    def entries(self) -> int:
        """How many there are for people."""
        issued = sum(each.entries for each in self.certificates.values())
        return len(self.keys) + len(self.sha1) + len(self.sha256) + issued

    def has_key(self, blob: bytes) -> bool:
        """Whether the plain public key is revoked."""
        if blob in self.keys:
            return True
        if self.sha256 and hashlib.sha256(blob).digest() in self.sha256:
            return True
        # Not a security risk: a hash collision could only make another key revoked, too.
        return bool(self.sha1) and hashlib.sha1(blob, usedforsecurity=False).digest() in self.sha1


class RevokedList(msgspec.Struct, frozen=True):
    """The current state of a configured list; `spec` is its name.

    `revocations` is its content when it was last read successfully, None if it never was; `failure` says why it can't
    be read now, and is empty if it can.
    """

    spec: str
    revocations: Revocations | None
    failure: str = ""


def unusable(lists: Iterable[RevokedList]) -> str:
    """Why one of the lists can't be used now; empty if all can."""
    return next((f"{listed.spec}: {listed.failure}" for listed in lists if listed.failure), "")


def revoked_by(lists: Iterable[RevokedList], blob: bytes, certificate: Certified | None) -> str:
    """Why the plain public key `blob`, or the certificate around it, is revoked; empty if it is not.

    Uses the last known content of each list; see `unusable` for lists that can't be read.
    """
    for listed in lists:
        if listed.revocations is not None:
            why = _why(listed.revocations, blob, certificate)
            if why:
                return f"{why} is revoked by {listed.spec}"
    return ""


def short_id(key_id: str) -> str:
    """A certificate's key id as it is compared: it may be long, and is kept for every open connection.

    OpenSSH reads it as a C string, which may have one NUL at its end (sshbuf_get_cstring).
    """
    key_id = key_id.removesuffix("\0")
    if len(key_id) <= _LONG_ID:
        return key_id
    return "sha256:" + hashlib.sha256(key_id.encode("utf-8", "surrogateescape")).hexdigest()


def merged(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same numbers in sorted ranges that do not touch."""
    made: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if made and low <= made[-1][1] + 1:
            made[-1] = made[-1][0], max(made[-1][1], high)
        else:
            made.append((low, high))
    return tuple(made)


def _why(found: Revocations, blob: bytes, certificate: Certified | None) -> str:
    """What is revoked, as the subject of a sentence; empty if nothing is. Checked in OpenSSH's order (krl.c)."""
    if found.has_key(blob):
        return "the key" if certificate is None else "the key in the certificate"
    if certificate is None:
        return ""
    for issued in (found.certificates.get(certificate.ca_blob), found.certificates.get(ANY_AUTHORITY)):
        if issued is None:
            continue
        if short_id(certificate.key_id) in issued.key_ids:
            return f"the certificate's key id {certificate.key_id[:_LONG_ID]!a}"
        if issued.has_serial(certificate.serial):
            return f"the certificate's serial number {certificate.serial}"
    return "the authority that signed the certificate" if found.has_key(certificate.ca_blob) else ""
