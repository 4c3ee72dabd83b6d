"""A server whose configuration file changes while it runs, and its log while the log's file is moved."""

import json
import signal
from pathlib import Path

from pyssh_gateway.audit.header import BEGINNING
from tests.support.server import EventFields, Server, Settings


class Config:
    """The configuration of `server`, as a test may change it."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def reload(self, changes: Settings | None = None) -> EventFields:
        """Write the configuration, send SIGHUP, and wait until it is in force; returns the event."""
        if changes is not None:
            self._server.write_config(changes)
        since = self._server.mark()
        self._server.signal(signal.SIGHUP)
        return self._server.wait_for("config.reloaded", since=since)

    def reload_in_vain(self, text: str) -> EventFields:
        """Write `text` to the file, send SIGHUP, and wait until it is refused; returns the event."""
        self._server.config.write_text(text)
        since = self._server.mark()
        self._server.signal(signal.SIGHUP)
        return self._server.wait_for("config.rejected", since=since)


def numbers(*files: Path) -> list[int]:
    """The sequence numbers of all lines in `files`, sorted; every line has to be complete. Headers are left out."""
    lines = [line for file in files if file.exists() for line in file.read_bytes().splitlines(keepends=True)]
    assert all(line.endswith(b"\n") for line in lines)
    return sorted(json.loads(line)["seq"] for line in lines if not line.startswith(BEGINNING))
