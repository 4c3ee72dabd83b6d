"""The file of the times awake for nobody: it survives, stays within its limit, and damage does no harm."""

from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.core.idle.nobody import DAYS, MAX_NAME, MAX_SOURCES, Day, Entry, Ledger, Source, Tally, add
from pyssh_gateway.machine.nobody_file import FILE_NAME, MAX_BYTES, read, write

LEDGER = add(Ledger(), Source("address", "203.0.113.9"), 8.0, 1_795_000_000.0)
DAY = b'{"day":1,"entries":[]}'
ENTRY = b'{"source":{"kind":"start"},"tally":{"count":1,"seconds":1}}'


def test_it_is_kept(tmp_path: Path) -> None:
    """Protects the figures across a start: what was written is read, by nobody else, and no other file is left."""
    assert read(tmp_path) == Ledger()
    write(tmp_path, LEDGER)
    assert read(tmp_path) == LEDGER
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"days":[{}]}',
        b'{"days":[%b,%b]}' % (DAY, DAY),
        b'{"days":[{"day":1,"entries":[%b,%b]}]}' % (ENTRY, ENTRY),
        b'{"days":[{"day":1,"others":{"count":-1}}]}',
        b'{"days":[{"day":1,"others":{"count":1,"seconds":1e300}}]}',
        b'{"days":[{"day":-1}]}',
        b'{"days":[{"day":1,"entries":[{"source":{"kind":"else"},"tally":{}}]}]}',
    ],
)
def test_a_damaged_file_is_forgotten(tmp_path: Path, content: bytes) -> None:
    """Protects the start and the stop: whatever the file contains, it counts as empty, and is written anew."""
    (tmp_path / FILE_NAME).write_bytes(content)
    assert read(tmp_path) == Ledger()
    write(tmp_path, LEDGER)
    assert read(tmp_path) == LEDGER


def test_the_largest_ledger_is_read(tmp_path: Path) -> None:
    """Protects the limit of the file's size: the largest ledger that can be made is within it."""
    names = [f"{number:04}".ljust(MAX_NAME, "\x01") for number in range(MAX_SOURCES)]
    tally = Tally(10**9, 1e11 / 7, 1e11 / 7, 1e11 / 7)
    entries = tuple(Entry(Source("person", name), tally) for name in names)
    ledger = Ledger(tuple(Day(20_000 + number, entries, tally) for number in range(DAYS)))
    assert len(msgspec.json.encode(ledger)) < MAX_BYTES
    write(tmp_path, ledger)
    assert read(tmp_path) == ledger
