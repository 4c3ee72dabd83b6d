"""Properties of all bytes that a proxy may send, however they are cut into pieces.

The function takes raw bytes and raises AssertionError if a promise of `core.proxy_protocol` is broken. The unit tests
call it with hypothesis's examples, `fuzz.proxy_protocol` with atheris's. This module needs neither.
"""

from collections.abc import Iterator
from itertools import chain, cycle, repeat
from typing import NamedTuple

from pyssh_gateway.core.proxy_protocol import MAX_HEADER_BYTES, MAX_LINE_BYTES, Accepted, Header, ProxyError, Reader
from tests.support import proxy_headers

ACCEPTED: tuple[Accepted, ...] = ("v1", "v2", "any")

MAX_REASON = 400
"""The most characters of a reason, which is one line of a log."""


class Outcome(NamedTuple):
    """The header, if the bytes began with one, and how many bytes were read."""

    header: Header | None
    taken: int


def check_header(data: bytes) -> None:
    """Only ProxyError is raised; pieces make no difference; nothing behind a header is read.

    The first byte of `data` is the number of pieces, the bytes after it are their sizes; a proxy sends the rest.
    """
    pieces = list(data[1 : 1 + data[0]]) if data else []
    stream = data[1 + len(pieces) :]
    outcomes = [_check_pieces(stream, pieces, accepted) for accepted in ACCEPTED]
    v1, v2, either = outcomes
    assert v1.header is None or v2.header is None
    assert either == (v1 if v1.header is not None else v2 if v2.header is not None else either)
    assert (either.header is None) == (v1.header is None and v2.header is None)
    if either.header is not None:
        _check_read(either.header, stream, either.taken)


def read(stream: bytes, accepted: Accepted, pieces: Iterator[int]) -> Outcome:
    """Read a header from `stream` as from a socket that gives at most the next of `pieces` bytes at a time."""
    reader = Reader(accepted)
    taken = 0
    while True:
        assert 0 < reader.wanted <= MAX_HEADER_BYTES
        data = stream[taken : taken + min(reader.wanted, next(pieces))]
        taken += len(data)
        try:
            header = reader.feed(data)
        except ProxyError as error:
            _check_reason(str(error))
            return Outcome(None, taken)
        if header is not None:
            assert reader.wanted == 0
            return Outcome(header, taken)


def _check_pieces(stream: bytes, pieces: list[int], accepted: Accepted) -> Outcome:
    whole = read(stream, accepted, repeat(len(stream)))
    for cut in (repeat(1), chain([max(1, size) for size in pieces], cycle([7, 1, 13]))):
        other = read(stream, accepted, iter(cut))
        assert other.header == whole.header
        assert other.header is None or other.taken == whole.taken
    return whole


def _check_read(header: Header, stream: bytes, taken: int) -> None:
    """The header was read up to the end that it announces, and is what a proxy would have sent for these addresses."""
    if header.version == 1:
        assert taken == stream.index(b"\r\n") + 2 <= MAX_LINE_BYTES
        assert stream.startswith(b"PROXY UNKNOWN" if header.source is None else b"PROXY TCP")
    else:
        assert taken == 16 + int.from_bytes(stream[14:16], "big") <= MAX_HEADER_BYTES
        assert header.local == (stream[12] == proxy_headers.LOCAL)
    assert (header.source is None) == (header.destination is None)
    assert not header.local or header == Header(2, local=True)
    assert header.unique_id in stream[:taken]
    if header.source is None or header.destination is None:
        return
    ends = header.source, header.destination
    if header.version == 1:
        again = proxy_headers.line(*ends)
    else:
        again = proxy_headers.binary(*ends, tlvs=proxy_headers.tlv(proxy_headers.UNIQUE_ID, header.unique_id))
        assert stream[:taken].startswith(again[:14])
        assert stream[16:taken].startswith(again[16 : -3 - len(header.unique_id)])
    assert read(again + b"SSH-2.0-x", "any", repeat(len(again) + 9)) == Outcome(header, len(again))


def _check_reason(reason: str) -> None:
    assert reason
    assert reason.isprintable()
    assert reason.isascii()
    assert len(reason) <= MAX_REASON
