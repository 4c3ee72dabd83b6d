"""The lines of the log as leaves of a Merkle tree: how many there are, and the hashes that go on with it."""

import binascii
from collections.abc import Iterable

from pyssh_gateway.core.transparency.merkle import CompactRange


class Tree:
    """The leaves before the next line: `size` of them, whose compact range is `hashes` (base64, largest subtree first).

    A leaf is a line of the file without its newline. Headers of files are no leaves; the beginning of a line that was
    cut off is one, once the newline that ends it is in the file. Raises ValueError if there is no such tree.
    """

    __slots__ = ("_leaves", "append")

    def __init__(self, size: int = 0, hashes: Iterable[str] = ()) -> None:
        self._leaves = CompactRange(size, (binascii.a2b_base64(one, strict_mode=True) for one in hashes))
        self.append = self._leaves.append
        """Add a leaf."""

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._leaves.size

    def range(self) -> tuple[str, ...]:
        """The compact range, for the header of a file and for the state that is kept beside the log."""
        return tuple(binascii.b2a_base64(edge, newline=False).decode() for edge in self._leaves.edges)

    def root(self) -> bytes:
        """The root of the tree, for a checkpoint."""
        return self._leaves.root()
