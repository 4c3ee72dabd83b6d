"""Properties of every revocation list, whatever is in it.

The function takes raw bytes and raises AssertionError if a promise of `core.access.revoked_list` or
`core.access.revocations` is broken. The unit tests call it with hypothesis's examples, `fuzz.revoked_lists` with
atheris's. This module needs neither.
"""

from pyssh_gateway.core.access.revocations import Issued, Revocations, RevokedList, revoked_by, short_id
from pyssh_gateway.core.access.revoked_list import RevokedListError, parse

MAX_REASON = 400
"""The most characters of a reason, which is one line of a log."""


class _Certified:
    """The parts of a certificate that revocation lists refer to."""

    def __init__(self, serial: int, key_id: str, ca_blob: bytes) -> None:
        self.serial = serial
        self.key_id = key_id
        self.ca_blob = ca_blob


def check_list(data: bytes) -> None:
    """`parse` raises one error only, whose reason is one line, and everything that is listed is revoked."""
    try:
        found = parse(data)
    except RevokedListError as error:
        _check_reason(str(error))
        return
    assert found.entries >= len(found.keys)
    lists = (RevokedList("file:/list", found),)
    for blob in found.keys:
        assert revoked_by(lists, blob, None)
        assert revoked_by(lists, b"another key", _Certified(0, "", blob))
    for authority, issued in found.certificates.items():
        _check_issued(issued)
        for serial in _some_serials(issued):
            assert revoked_by(lists, b"another key", _Certified(serial, "nobody", authority or b"any"))
        for key_id in issued.key_ids:
            assert revoked_by(lists, b"another key", _Certified(0, key_id, authority or b"any"))
    _check_cut(data, found)


def _check_reason(reason: str) -> None:
    assert 0 < len(reason) <= MAX_REASON
    assert "\n" not in reason


def _check_issued(issued: Issued) -> None:
    """The ranges for the binary search are sorted and don't overlap."""
    ends = [end for low, high in issued.ranges for end in (low, high + 1)]
    assert ends == sorted(set(ends))
    assert all(low > 0 for low, _ in issued.ranges)
    assert list(issued.bitmaps) == sorted(issued.bitmaps)
    assert all(short_id(key_id) == key_id for key_id in issued.key_ids)


def _some_serials(issued: Issued) -> set[int]:
    """The ends of ranges, and the last bits of bitmaps."""
    ends = {end for span in issued.ranges for end in span}
    return ends | {offset + bits.bit_length() - 1 for offset, bits in issued.bitmaps if bits}


def _check_cut(data: bytes, found: Revocations) -> None:
    """A KRL without its last byte is invalid, or has no more entries: that byte may have been the last section."""
    if found.kind == "krl":
        try:
            shorter = parse(data[:-1])
        except RevokedListError:
            return
        assert shorter.entries <= found.entries
