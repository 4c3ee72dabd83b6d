"""Makes a log of 30 days and 20 people, and asks it with the real commands: `python -m bench.audit`.

Each time is that of a whole command, from the start of its process to its end, as the person waits for it. The bounds
are those that the commands promise: the index and a report within ten seconds, questions within one.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bench.audit.month import DAY, Month, encoded
from pyssh_gateway.audit import header
from pyssh_gateway.audit.segments import sealed_name
from pyssh_gateway.audit.tree import Tree
from pyssh_gateway.audit.zstd import ZstdCompressor

EVENTS = 1_000_000
DAYS = 30
PEOPLE = 20
STRANGERS = 6_800
"""Connections of scanners a day, so that 30 days have a million events: a port 22 that everybody can reach."""

SEGMENT = 16 * 1024 * 1024
"""The size at which the server closes a file (`audit.segment_size`)."""

BUILD_SECONDS = 10.0
ASK_SECONDS = 1.0
REPORT_SECONDS = 10.0

REPEATED = 3
"""How often each question is asked; the best time counts, as the machine may do other work."""


class Sizes(NamedTuple):
    """Bytes of the log: as it was written, and as it is kept."""

    written: int
    kept: int


def main(arguments: list[str]) -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"how many (default: {EVENTS})")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a bound is exceeded")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pyssh-bench-") as directory:
        place = Path(directory)
        place.chmod(0o750)
        sizes = write_log(place, options.events)
        build = ask(place, "sessions", "--since", "7d")
        index = (place / "index.sqlite").stat().st_size
        sessions = min(ask(place, "sessions", "--since", "7d") for _ in range(REPEATED))
        search = min(ask(place, "search", "rm -rf") for _ in range(REPEATED))
        report = ask(place, "report", "--since", f"{DAYS + 1}d", "--price", "0.50", "--output", "-")
    day, sealed_day = developer_day()
    rows = [
        ("events", f"{options.events}"),
        ("log as it was written", _mb(sizes.written)),
        ("log on the disk, with compressed files", _mb(sizes.kept)),
        ("index on the disk", _mb(index)),
        ("first question, which builds the index", f"{build:.2f} s"),
        ("audit sessions --since 7d", f"{sessions:.2f} s"),
        ("audit search 'rm -rf'", f"{search:.2f} s"),
        (f"audit report of {DAYS} days", f"{report:.2f} s"),
        ("a day of a busy developer", f"{day / 1e6:.2f} MB, compressed {sealed_day / 1e6:.2f} MB"),
    ]
    for name, value in rows:
        print(f"{name:<40}{value:>14}")
    is_late = build > BUILD_SECONDS or max(sessions, search) > ASK_SECONDS or report > REPORT_SECONDS
    return 1 if options.check and is_late else 0


def write_log(place: Path, events: int) -> Sizes:
    """Write the log as the server keeps it: closed files compressed, the last one not. It ends about now."""
    month = Month(PEOPLE, STRANGERS, beginning=(time.time() // DAY - DAYS) * DAY)
    made = itertools.islice(month.lines(2 * DAYS), events)
    first, written, kept = 0, 0, 0
    tree = Tree()
    for lines in _segments(made):
        data = b"".join(line + b"\n" for line in lines)
        written += len(data)
        if first:
            data = header.encode(header.Header(first, tree.range())) + b"\n" + data
        for line in lines:
            tree.append(line)
        last = first + len(lines) == events
        stored = data if last else _compressed(data)
        (place / ("events.jsonl" if last else sealed_name(first, compressed=True))).write_bytes(stored)
        kept += len(stored)
        first += len(lines)
    return Sizes(written, kept)


def developer_day() -> tuple[int, int]:
    """Bytes of the events of a day that a busy developer causes, and of the same compressed."""
    events = Month(1, 0).working_day(0, 1)
    data = b"".join(encoded(at, number, event) + b"\n" for number, (at, event) in enumerate(sorted(events, key=_time)))
    return len(data), len(_compressed(data))


def ask(place: Path, *words: str) -> float:
    """The seconds that a command takes. It may find nothing, in a small log."""
    environ = os.environ | {"PYSSH_GATEWAY_CONFIG": os.devnull}
    command = [sys.executable, "-m", "pyssh_gateway", "audit", *words, "--dir", str(place)]
    began = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, env=environ)
    if done.returncode not in {0, 1}:
        done.check_returncode()
    return time.perf_counter() - began


def _segments(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Lines in groups of the size of a file."""
    group: list[bytes] = []
    size = 0
    for line in lines:
        group.append(line)
        size += len(line) + 1
        if size >= SEGMENT:
            yield group
            group, size = [], 0
    if group:
        yield group


def _compressed(data: bytes) -> bytes:
    compressor = ZstdCompressor()
    return compressor.compress(data) + compressor.flush()


def _time(event: tuple[float, object]) -> float:
    return event[0]


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
