"""A recording of a gibibyte of cat(1) on a real terminal: readable by all, in bounded memory."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyssh_gateway.audit.recordings.screen_text import BURST, RATE, shown
from pyssh_gateway.audit.zstd import ZstdCompressor
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from pyssh_gateway.system.pty_size import set_size
from tests.support.places import ROOT
from tests.support.player import needs_player, player
from tests.support.tmux import gateway

SIZE = (80, 24)
TIMES = 64
"""How often the file is shown: 16 MiB, so a gibibyte in all."""

MOST_MEMORY = 200 * 1024
"""KiB, of a reader with the interpreter and everything that it imports."""


LINES = 300_000


def lines(count: int = LINES) -> bytes:
    """16 MiB of lines, or fewer."""
    line = "%d: 漢 the quick brown fox jumps over the lazy dog"
    return "".join(f"{line % number}\n" for number in range(count)).encode()


def record(path: Path, source: Path, times: int) -> tuple[int, str]:
    """Record cat showing `source` so often in a terminal; returns how many bytes that were, and their SHA-256."""
    master, slave = os.openpty()
    set_size(master, *SIZE, 0, 0)
    encoder, compressor, began = Encoder(), ZstdCompressor(level=1), time.monotonic()
    size, digest = 0, hashlib.sha256()
    with path.open("wb") as file, subprocess.Popen(["cat", *[source] * times], stdout=slave) as cat:
        os.close(slave)
        file.write(compressor.compress(encoder.header(Header(cols=SIZE[0], rows=SIZE[1], term="xterm"))))
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the terminal has no other end any more
                break
            size += len(data)
            digest.update(data)
            file.write(compressor.compress(encoder.output(time.monotonic() - began, data)))
        file.write(compressor.compress(encoder.exit(time.monotonic() - began, cat.wait())) + compressor.flush())
    os.close(master)
    return size, digest.hexdigest()


MEASURED = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command and prints its memory. A small process has to do that: what a child has used includes its parent's
memory, from between fork and exec."""


def digest_of(argv: list[str], home: Path) -> tuple[str, int]:
    """The SHA-256 of what that command prints, and the memory in KiB that it has used at most."""
    digest = hashlib.sha256()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home), "LANG": "C.UTF-8"}
    command = [sys.executable, "-c", MEASURED, *argv]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        while data := reader.stdout.read(1024 * 1024):
            digest.update(data)
        said = reader.stderr.read().split()
    assert reader.returncode == 0
    return digest.hexdigest(), int(said[-1])


@pytest.mark.soak
def test_a_gibibyte_of_cat(tmp_path: Path) -> None:
    """asciinema's cat gives it back to the last byte; a search finds its beginning and its end."""
    source, path, version_2 = tmp_path / "lines", tmp_path / "c1.1.cast.zst", tmp_path / "v2.cast"
    source.write_bytes(lines())
    size, digest = record(path, source, TIMES)
    assert size > 2**30
    _, memory = digest_of(gateway("audit", "replay", str(path), "--format", "v2", "-o", str(version_2)), tmp_path)
    assert memory < MOST_MEMORY
    found, _ = digest_of([sys.executable, "-m", "asciinema", "cat", str(version_2)], tmp_path)
    assert found == digest
    version_2.unlink()
    count, last, seconds = 0, "", 0.0
    for each in shown(path):
        count, last, seconds = count + 1, each.text, each.time
    assert last.startswith(f"{LINES - 1}: 漢 the quick")
    assert BURST / 2 < count < BURST + seconds * RATE + 2 * SIZE[1]


@pytest.mark.soak
@needs_player
def test_the_web_player_shows_the_end_of_a_flood(tmp_path: Path) -> None:
    """A browser can't have a gibibyte as one text, and takes half a minute for 16 MiB: so 4, to the last line."""
    source, path, version_3 = tmp_path / "lines", tmp_path / "c1.1.cast.zst", tmp_path / "v3.cast"
    data = lines(LINES // 4)
    source.write_bytes(data)
    record(path, source, 1)
    digest_of(gateway("audit", "replay", str(path), "--format", "v3", "-o", str(version_3)), tmp_path)
    with player() as web:
        web.load(version_3)
        screen = web.screen()
        assert web.faults == []
    expected = data.decode().splitlines()[-23:]
    assert screen == [*expected, ""]
