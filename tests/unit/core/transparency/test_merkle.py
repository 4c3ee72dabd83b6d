"""Merkle trees: the published vectors, an independent implementation, and every proof of small trees."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_inclusion  # type: ignore[import-untyped]  # it has no types

from pyssh_gateway.core.transparency.merkle import (
    EMPTY_ROOT,
    CompactRange,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_from_path,
)

LEAVES = st.lists(st.binary(max_size=40), max_size=70)

# The eight leaves of Certificate Transparency's own tests, and the roots of their trees.
# https://github.com/transparency-dev/merkle/blob/main/testonly/reference_test.go
KNOWN_LEAVES = tuple(
    map(
        bytes.fromhex,
        ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
)
KNOWN_ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def trees(leaves: Sequence[bytes]) -> list[CompactRange]:
    """The trees of the first 0, 1, 2 ... leaves."""
    growing, made = CompactRange(), [CompactRange()]
    for leaf in leaves:
        growing.append(leaf)
        made.append(CompactRange(growing.size, growing.edges))
    return made


def other(leaves: Sequence[bytes]) -> InmemoryTree:
    """The same tree as pymerkle makes it."""
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    return tree


def test_published_roots() -> None:
    """The roots are those that everybody else computes."""
    assert CompactRange().root() == EMPTY_ROOT
    assert [tree.root().hex() for tree in trees(KNOWN_LEAVES)[1:]] == list(KNOWN_ROOTS)


@given(LEAVES)
def test_roots_of_another_implementation(leaves: list[bytes]) -> None:
    """Trees of any leaves have the roots that pymerkle computes, also when they are continued from their edges."""
    expected = other(leaves)
    for size, tree in enumerate(trees(leaves)):
        if size:
            assert tree.root() == expected.get_root(size)
        for leaf in leaves[size:]:
            tree.append(leaf)
        assert tree.edges == trees(leaves)[-1].edges


@given(LEAVES.filter(bool), st.data())
def test_proofs_of_another_implementation(leaves: list[bytes], data: st.DataObject) -> None:
    """A proof has exactly the hashes of pymerkle's, even if of the first leaves only the edges are known."""
    index = data.draw(st.integers(0, len(leaves) - 1))
    first = data.draw(st.integers(0, index))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    path = inclusion_path(index, trees(leaves)[first], hashes[first:])
    theirs = other(leaves).prove_inclusion(index + 1, len(leaves))
    assert {*path, hashes[index]} == {bytes.fromhex(one) for one in theirs.serialize()["path"]}
    root = root_from_path(index, len(leaves), hashes[index], path)
    verify_inclusion(hashes[index], root, theirs)  # raises InvalidProof


def test_every_proof_of_small_trees() -> None:
    """Each proof leads to the root, and with any other index, size or hash it does not."""
    leaves = [b"%d" % number for number in range(17)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    for size in range(1, len(leaves)):
        root = trees(leaves)[size].root()
        for index in range(size):
            path = inclusion_path(index, CompactRange(), hashes[:size])
            assert root_from_path(index, size, hashes[index], path) == root
            assert root_from_path(index, size, leaf_hash(b"other"), path) != root
            for wrong in range(size):
                if wrong != index and len(inclusion_path(wrong, CompactRange(), hashes[:size])) == len(path):
                    assert root_from_path(wrong, size, hashes[index], path) != root
            for at in range(len(path)):
                changed = (*path[:at], node_hash(path[at], path[at]), *path[at + 1 :])
                assert root_from_path(index, size, hashes[index], changed) != root


@pytest.mark.parametrize("size", [2, 3, 5, 8, 11])
def test_proofs_of_a_wrong_length(size: int) -> None:
    """A proof that is too short or too long leads nowhere."""
    hashes = [leaf_hash(b"%d" % number) for number in range(size)]
    for index in range(size):
        path = inclusion_path(index, CompactRange(), hashes)
        with pytest.raises(ValueError, match="too short"):
            root_from_path(index, size, hashes[index], path[:-1])
        with pytest.raises(ValueError, match="too long"):
            root_from_path(index, size, hashes[index], (*path, hashes[0]))


def test_what_there_is_no_proof_of() -> None:
    """A leaf outside of the tree, or among those that are known by their edges only, can't be proved."""
    hashes = [leaf_hash(b"a"), leaf_hash(b"b")]
    before = CompactRange(1, hashes[:1])
    for index in (-1, 0, 2):
        with pytest.raises(ValueError, match="is not among"):
            inclusion_path(index, before, hashes[1:])
    for index in (-1, 2):
        with pytest.raises(ValueError, match="no leaf"):
            root_from_path(index, 2, hashes[0], hashes[1:])


def test_what_is_no_tree() -> None:
    """There is an edge for each power of two in the number of leaves, and it is a hash."""
    edge = leaf_hash(b"a")
    for size, edges in ((0, [edge]), (3, [edge]), (1, [edge[:-1]])):
        with pytest.raises(ValueError, match="no compact range"):
            CompactRange(size, edges)
