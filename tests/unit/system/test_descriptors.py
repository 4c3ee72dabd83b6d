"""system.descriptors: nothing is left open, and nothing is closed twice."""

import os
from contextlib import suppress

import pytest

from pyssh_gateway.system.descriptors import close_all, closing, two_more


def test_each_is_closed_once() -> None:
    """Protects other files: a descriptor that is listed twice is closed once."""
    reading, writing = os.pipe()
    close_all([reading, writing, reading])
    for descriptor in (reading, writing):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_it_is_closed_whatever_happens() -> None:
    """Protects against a descriptor leak: it is closed even if an exception is raised."""
    reading, writing = os.pipe()
    with closing(writing), suppress(KeyError), closing(reading) as same:
        assert same == reading
        raise KeyError
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reading)


def test_a_pair_is_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a descriptor leak if the second of two fails: the first is closed."""
    reading, writing = os.pipe()
    with closing(reading), closing(writing):
        pair = two_more(writing)
        assert {os.fstat(one).st_ino for one in pair} == {os.fstat(writing).st_ino}
        assert len({writing, *pair}) == 3
        close_all(pair)
        made: list[int] = []
        real = os.dup

        def dup(descriptor: int) -> int:
            if made:
                raise OSError(24, "Too many open files")
            made.append(real(descriptor))
            return made[0]

        monkeypatch.setattr(os, "dup", dup)
        with pytest.raises(OSError, match="Too many open files"):
            two_more(writing)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(made[0])
