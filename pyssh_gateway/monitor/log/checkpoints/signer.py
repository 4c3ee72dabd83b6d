"""What is signed of the log: its number of lines and its root, each state at most once."""

from typing import NamedTuple

from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.core.transparency import checkpoint
from pyssh_gateway.monitor.log.checkpoints.signing_key import SigningKey


class Claim(NamedTuple):
    """What the log is at a time: to be signed when it is on the disk."""

    size: int
    root: bytes


class Signer:
    """Signs with `key`. Without a key there are no checkpoints."""

    def __init__(self, key: SigningKey | None) -> None:
        self._key = key
        self._signed = -1

    def claim(self, tree: Tree) -> Claim | None:
        """What is to be signed of the tree now; None if there is nothing new."""
        return None if self._key is None or tree.size <= self._signed else Claim(tree.size, tree.root())

    def sign(self, claim: Claim) -> str | None:
        """The signed note; None if a later state was signed meanwhile."""
        if self._key is None or claim.size <= self._signed:
            return None
        self._signed = claim.size
        return checkpoint.signed(claim.size, claim.root, self._key.public, self._key.sign)
