"""Descriptors that belong to no Python object: closed once, all of them, and duplicated in pairs."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


def close_all(descriptors: Iterable[int]) -> None:
    """Close every one of `descriptors`, which may have duplicates."""
    for descriptor in set(descriptors):
        os.close(descriptor)


@contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Close `descriptor` at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def two_more(descriptor: int) -> tuple[int, int]:
    """Two more descriptors of the same file: each direction closes its own. If it raises OSError, none is left open."""
    first = os.dup(descriptor)
    try:
        return first, os.dup(descriptor)
    except OSError:
        os.close(first)
        raise
