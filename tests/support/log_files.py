"""The files of a real server's log: what is in them, and that nothing is missing."""

import asyncio
import json
from pathlib import Path
from typing import Any

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.segments import lines, log_lines, segments
from tests.support.client import Client
from tests.support.server import Server

LONG = "true #" + "x" * 3900
"""A command whose line in the log is about as long as lines get."""


def events(audit_dir: Path) -> list[dict[str, Any]]:
    """All events of the log, over its files."""
    return [json.loads(line) for line in log_lines(audit_dir)]


def last_seq(server: Server) -> int:
    """The number of the last event on standard output, which also has lines that are no events."""
    return max(int(event["seq"]) for event in server.events if "seq" in event)


def assert_indexes_fit(audit_dir: Path) -> None:
    """Fail unless each file begins where the one before it ends, and says so in its header and its name."""
    expected = None
    for segment in segments(audit_dir):
        found = list(lines(segment, header=True))
        begins = headers.decode(found[0].data)
        if expected is not None:
            assert begins is not None, segment
            assert begins.first == segment.first == expected, segment
        expected = segment.first + len(found) - (begins is not None)


def write_much(client: Client, count: int) -> None:
    """Write `count` long lines, and some others, over one connection."""

    async def run() -> None:
        async with client.connect() as connection:
            for _ in range(count):
                assert (await connection.run(LONG)).exit_status == 0

    asyncio.run(run())
