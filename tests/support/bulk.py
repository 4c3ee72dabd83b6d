"""Bulk data that is made and checked while it flows, and the memory that a server uses meanwhile."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import processes
from tests.support.server import Server

BLOCK = 1024 * 1024
SAMPLE_SECONDS = 0.02
"""Time between two samples of the memory: some hundred in a transfer of a few seconds."""


class Bulk:
    """`size` bytes (whole MiB), the same in every run; each MiB has its number in it, so a missing one is noticed."""

    def __init__(self, size: int) -> None:
        self.size = size
        # Not compressible, and not periodic within a block.
        self._filling = b"".join(
            (number * 2654435761 % 2**64).to_bytes(8, "little") for number in range(BLOCK // 8 - 1)
        )

    def blocks(self) -> Iterator[bytes]:
        """The data, a MiB at a time."""
        for number in range(self.size // BLOCK):
            yield number.to_bytes(8, "big") + self._filling

    def check(self, read: Callable[[int], bytes], at: Callable[[int], None] = lambda _: None) -> None:
        """Read to the end and compare every byte; after each correct MiB, `at` gets the number of MiB so far."""
        for number, block in enumerate(self.blocks()):
            got = b""
            while len(got) < BLOCK:
                data = read(BLOCK - len(got))
                assert data, f"the data ends after {number} MiB and {len(got)} bytes"
                got += data
            assert got == block, f"wrong data in MiB {number}"
            at(number + 1)
        assert not read(1), "there is more data than was sent"

    def checksum(self) -> bytes:
        """What cksum(1) prints for the data."""
        with subprocess.Popen(["cksum"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cksum:
            assert cksum.stdin is not None
            assert cksum.stdout is not None
            for block in self.blocks():
                cksum.stdin.write(block)
            cksum.stdin.close()
            return cksum.stdout.read().strip()


@contextmanager
def memory_directory(size: int) -> Iterator[Path]:
    """A directory that everybody may use, in memory if `size` bytes fit, so that tests do not measure a disk."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * size
    with tempfile.TemporaryDirectory(prefix="pyssh-test-", dir=memory if roomy else None) as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


class Memory:
    """Watches the memory of all of a server's own processes (not of its users') while a `with` block lasts.

    `grown` is the peak above the start, in bytes.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._program = Path(f"/proc/{server.pid}/exe").readlink()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")
        self._start = self.now()
        self._peak = self._start

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        """By how much the peak was above the start, in bytes."""
        return self._peak - self._start

    def now(self) -> int:
        """The bytes in use; memory that processes share since a fork counts once (Pss_Anon of proc_pid_smaps(5))."""
        return sum(_bytes(pid) for pid in self._own())

    def _own(self) -> Iterator[int]:
        for pid in (self._server.pid, *(process.pid for process in processes.descendants(self._server.pid))):
            with suppress(OSError):  # the process has ended meanwhile
                if Path(f"/proc/{pid}/exe").readlink() == self._program:
                    yield pid

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self.now())


def _bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # the process has ended meanwhile
        return 0
    return int(text.partition("Pss_Anon:")[2].split(maxsplit=1)[0]) * 1024 if "Pss_Anon:" in text else 0
