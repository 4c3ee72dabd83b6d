"""The first line of a file that does not begin the log: at which line it begins, and the tree over the lines before.

So the files before it may be deleted, and the rest still proves itself. It is no event: it has no time and no number,
is on standard output never, and no leaf of the tree.
"""

from typing import Annotated

import msgspec

BEGINNING = b'{"event":"log.segment",'
"""How every header begins."""

EVENT = "log.segment"

Hash = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9+/]{43}=\Z")]
"""SHA-256 in base64 (RFC 4648 section 4)."""


class Header(msgspec.Struct, frozen=True, tag_field="event", tag=EVENT):
    """The file begins at the line `first` of the log, counted from 0. `tree` is the compact range of the lines before.

    A compact range has the roots of the complete subtrees, from the largest one on: one for each bit that is set in
    `first`.
    """

    first: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    tree: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=64)]


_decoder = msgspec.json.Decoder(Header)


def encode(header: Header) -> bytes:
    """The header's line, without a newline."""
    return msgspec.json.encode(header)


def decode(line: bytes) -> Header | None:
    """The header in a file's first line, without its newline; None if that is none, or not written as `encode` does.

    A header whose hashes can't be the compact range of so many lines is none either.
    """
    if not line.startswith(BEGINNING):
        return None
    try:
        header = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if encode(header) != line or len(header.tree) != header.first.bit_count():
        return None
    return header
