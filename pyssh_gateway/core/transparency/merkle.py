"""Merkle trees over lines, as in RFC 9162 section 2.1: roots, and proofs that a line is in a tree.

A tree is kept as its compact range: the roots of its complete subtrees, the largest one first. Their sizes are the
powers of two in the number of leaves. So a tree of any size takes a few hashes, and grows without its older leaves.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
"""Bytes of a hash: SHA-256's."""

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of a node with two children."""
    return sha256(b"\1" + left + right).digest()


class CompactRange:
    """A growing tree: `size` leaves, and `edges`, the roots of its complete subtrees.

    Raises ValueError if there can't be `size` leaves under these edges.
    """

    __slots__ = ("edges", "size")

    def __init__(self, size: int = 0, edges: Iterable[bytes] = ()) -> None:
        self.size = size
        self.edges = list(edges)
        if len(self.edges) != size.bit_count() or any(len(edge) != HASH_BYTES for edge in self.edges):
            raise ValueError(f"these {len(self.edges)} hashes are no compact range of {size} leaves")

    def append(self, data: bytes) -> None:
        """Add a leaf."""
        self.append_hash(sha256(b"\0" + data).digest())

    def append_hash(self, node: bytes) -> None:
        """Add a leaf by its hash."""
        carry, edges = self.size, self.edges
        self.size += 1
        while carry & 1:  # as in binary addition: each carry joins two subtrees of the same size
            node = sha256(b"\1" + edges.pop() + node).digest()
            carry >>= 1
        edges.append(node)

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        if not self.edges:
            return EMPTY_ROOT
        node = self.edges[-1]
        for left in self.edges[-2::-1]:
            node = node_hash(left, node)
        return node


def inclusion_path(index: int, before: CompactRange, leaves: Sequence[bytes]) -> tuple[bytes, ...]:
    """The hashes that prove that the leaf `index` is in a tree (RFC 9162 section 2.1.3.1), lowest first.

    The tree has the leaves of `before`, of which no more needs to be known, and then those with the hashes `leaves`.
    Raises ValueError if `index` is not one of these.
    """
    if not before.size <= index < before.size + len(leaves):
        raise ValueError(f"leaf {index} is not among the {len(leaves)} leaves from {before.size} on")
    low, high = 0, before.size + len(leaves)
    path = []
    while high - low > 1:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if index < middle:
            path.append(_root_of(middle, high, before, leaves))
            high = middle
        else:
            path.append(_root_of(low, middle, before, leaves))
            low = middle
    return tuple(reversed(path))


def _root_of(low: int, high: int, before: CompactRange, leaves: Sequence[bytes]) -> bytes:
    """The root over the leaves from `low` to `high`, the sibling of a subtree that has a leaf after `before`.

    Such a sibling begins where one of the edges of `before` begins, or after them all.
    """
    start = max(low, before.size)
    known = min(high, before.size) - low if low < before.size else 0
    at, edges = 0, []
    for edge, bit in zip(before.edges, _powers(before.size), strict=True):
        if low <= at < high:
            edges.append(edge)
        at += bit
    tree = CompactRange(known, edges)
    for leaf in leaves[start - before.size : max(high, start) - before.size]:
        tree.append_hash(leaf)
    return tree.root()


def _powers(number: int) -> list[int]:
    """The powers of two in `number`, the largest first."""
    return [1 << bit for bit in range(number.bit_length() - 1, -1, -1) if number >> bit & 1]


def root_from_path(index: int, size: int, leaf: bytes, path: Sequence[bytes]) -> bytes:
    """The root of the tree of `size` leaves that the proof `path` leads to from the hash of the leaf `index`.

    The proof is right if this is the tree's root (RFC 9162 section 2.1.3.2). Raises ValueError if it can't be a proof.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    position, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ValueError("the proof is too long")
        if position & 1 or position == last:
            node = node_hash(sibling, node)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            node = node_hash(node, sibling)
        position >>= 1
        last >>= 1
    if last:
        raise ValueError("the proof is too short")
    return node
