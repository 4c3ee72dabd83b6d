"""HASSH: fingerprints of SSH software, made of what it offers for key exchange (https://github.com/salesforce/hassh).

A program offers the same algorithms in the same order whatever it calls itself, so a scanner that claims to be OpenSSH
is recognised. Anybody can imitate a fingerprint: it proves nothing.
"""

from hashlib import md5

import msgspec

from pyssh_gateway.core.steering import name_lists

PATTERN = "^[0-9a-f]{32}$"
"""The form of a fingerprint: an MD5 digest in hexadecimal digits."""

_KEX, _ENC, _MAC, _CMP = 0, 2, 4, 6
"""Positions of lists in a KEXINIT (RFC 4253 section 7.1); those for the way to the client follow one later."""


class Hassh(msgspec.Struct, frozen=True):
    """The fingerprints of a client and of a server, in hexadecimal digits; empty if the KEXINIT is malformed."""

    client: str
    server: str


def hassh(client_kexinit: bytes, server_kexinit: bytes) -> Hassh:
    """The fingerprints. Both messages come without their number.

    Of the client the algorithms from it to the server count, of the server those back.
    """
    return Hassh(_fingerprint(client_kexinit, 0), _fingerprint(server_kexinit, 1))


def _fingerprint(kexinit: bytes, direction: int) -> str:
    lists = name_lists(kexinit, _CMP + 2)
    if lists is None:
        return ""
    chosen = (lists[_KEX], lists[_ENC + direction], lists[_MAC + direction], lists[_CMP + direction])
    return md5(b";".join(chosen), usedforsecurity=False).hexdigest()
