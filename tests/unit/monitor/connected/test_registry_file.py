"""monitor.connected.registry_file: a monitor that is killed in the middle of a write leaves the last good state."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.monitor.connected.registry_file import MOST_BYTES, RegistryFile, RegistryFull
from pyssh_gateway.monitor.log.progress import PROGRESS_BYTES


class _Killed(BaseException):
    """Stands for the monitor's death."""


@contextmanager
def memory() -> Iterator[int]:
    """A new memfd."""
    descriptor = os.memfd_create("registry")
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Cut(RegistryFile):
    """A file whose monitor is killed after writing `left` bytes, at any point."""

    left = 1 << 30

    def _put(self, data: bytes, offset: int) -> None:
        super()._put(data[: self.left], offset)
        if len(data) > self.left:
            raise _Killed
        self.left -= len(data)


def test_what_was_written_last_is_read() -> None:
    """Protects the next monitor: it reads the connections."""
    with memory() as descriptor:
        file = RegistryFile(descriptor)
        assert file.read() == b""
        for number in range(1, 6):
            file.write(b"x" * number)
            following = RegistryFile(descriptor)
            assert following.read() == b"x" * number
        following.write(b"of the next one")
        assert RegistryFile(descriptor).read() == b"of the next one"


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.integers(0, 400))
def test_a_cut_at_any_byte_leaves_the_block_before_or_the_new_one(blocks: list[bytes], cut: int) -> None:
    """Protects the registry from a monitor killed while it writes: the old or the new block is read, never a mix."""
    with memory() as descriptor:
        file = _Cut(descriptor)
        file.left = cut
        written, begun = b"", b""
        try:
            for block in blocks:
                begun = block
                file.write(block)
                written = block
        except _Killed:
            pass
        following = RegistryFile(descriptor)
        assert following.read() in (written, begun)
        following.write(b"next")
        assert RegistryFile(descriptor).read() == b"next"


def test_a_kill_in_the_middle_of_it() -> None:
    """Protects the same from a real SIGKILL: the block read is always one that was written, and complete."""
    with memory() as descriptor:
        for _ in range(20):
            reading, writing = os.pipe()
            pid = os.fork()
            if not pid:
                file = RegistryFile(descriptor)
                file.read()
                for letter in range(1 << 30):
                    file.write(bytes([letter % 256]) * 300_000)
                    os.write(writing, b".")
            os.close(writing)
            os.read(reading, 1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(reading)
            block = RegistryFile(descriptor).read()
            assert len(block) == 300_000
            assert len(set(block)) == 1


def test_what_is_too_long_changes_nothing() -> None:
    """Protects existing connections from one that does not fit: the block before stays."""
    with memory() as descriptor:
        file = RegistryFile(descriptor)
        file.write(b"x" * MOST_BYTES)
        with pytest.raises(RegistryFull):
            file.write(b"y" * (MOST_BYTES + 1))
        assert RegistryFile(descriptor).read() == b"x" * MOST_BYTES


@given(st.binary(max_size=10_000))
def test_rubbish_is_nothing(rubbish: bytes) -> None:
    """Protects a monitor's start from a file with arbitrary contents."""
    with memory() as descriptor:
        os.pwrite(descriptor, rubbish, PROGRESS_BYTES)
        file = RegistryFile(descriptor)
        file.read()
        file.write(b"new")
        assert RegistryFile(descriptor).read() == b"new"
