"""The readers of the log beside a real server: new lines as they are written, and what hostile clients have sent."""

import asyncio
import json
import os
import re
import select
import subprocess
import sys
import time
from contextlib import suppress

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.commands import as_root
from tests.support.log_files import write_much
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until

ESCAPES = "\x1b[2J\x1b]52;c;AAAA\x07\x1b]0;title\x07\x9b31m\u202e"

COMMANDS = (
    "sessions", "sessions --json", "sessions --denied", "sessions --lost", "show c1", "show c1 --json",
    "search needle", "search needle --json", "search 52;c", "tail -n 1000", "tail -n 1000 --json", "export",
    "export --format csv", "export --format ecs", "export --format ocsf",
)  # fmt: skip


class Follower:
    """`audit tail -f --json` in a process of its own."""

    def __init__(self, client: Client) -> None:
        words = ["audit", "tail", "-f", "-n", "1", "--json", "--config", str(client.server.config)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyssh_gateway", *words], stdout=subprocess.PIPE, env=client_environment(), cwd=ROOT
        )
        self._rest = b""
        self.numbers: list[int] = []

    def read_until(self, seq: int) -> None:
        """Read until the line with that number has come."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not self.numbers or self.numbers[-1] < seq:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert data, f"{self.numbers[-1:]} is not yet {seq}"
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.numbers += [json.loads(line)["seq"] for line in lines]

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self._process.send_signal(2)
        code = self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return code


@pytest.mark.soak
def test_new_lines_are_followed_over_the_files(make_server: MakeServer, user_key: KeyPair) -> None:
    """`audit tail -f` prints each line once and in order, while the server closes and compresses its files."""
    server = make_server({"audit": {"segment_size": "64KiB"}})
    client = Client(server, user_key.private)
    follower = Follower(client)
    try:
        follower.read_until(1)  # from then on it follows
        for closed in range(3):
            mark = server.mark()
            write_much(client, 30)
            last = server.wait_for("connection.closed", since=mark)["seq"]
            until(lambda: len(list(server.audit_dir.glob("events-*"))) > closed, what="a file that was closed")  # noqa: B023 - called within the turn
        follower.read_until(last)
    finally:
        code = follower.interrupt()
    assert code == 130
    assert follower.numbers == list(range(follower.numbers[0], follower.numbers[-1] + 1))


@pytest.mark.soak
def test_nothing_that_clients_send_reaches_the_reader_raw(make_server: MakeServer, user_key: KeyPair) -> None:
    """In user names, commands, requests, paths and on the screens of recordings; and what was shown is found."""
    server = make_server({"audit": {"record": "all"}})
    client = Client(server, user_key.private)

    async def send() -> None:
        async with client.connect() as connection:
            for command in (
                f"echo '{ESCAPES}needle'",
                f"true #{ESCAPES}\n</script>\x00",
                b"true #\xff\xfe".decode("utf-8", "surrogateescape"),
                "true #" + "x" * 200_000,
            ):
                with suppress(asyncssh.Error, UnicodeEncodeError, ValueError):
                    await connection.run(command, term_type="xterm", encoding="utf-8", errors="surrogateescape")
            async with connection.start_sftp_client() as sftp:
                with suppress(asyncssh.SFTPError):
                    await sftp.remove(f"/tmp/needle{ESCAPES}\n")

    asyncio.run(send())
    for user in (f"root{ESCAPES}", "x" * 10_000):  # which some versions of ssh refuse to send
        assert client.run("true", user=user).status == 255
    server.wait_for("sftp.operation")
    assert server.stop() == 0
    for command in COMMANDS:
        done = as_root(client, "audit", *command.split())
        assert done.returncode == 0, (command, done)
        for line in (done.stdout + done.stderr).splitlines():
            assert line.isprintable(), (command, line[:300])
        if "json" in command or re.fullmatch("export( --format (ecs|ocsf))?", command):
            assert all(json.loads(line) for line in done.stdout.splitlines())
    hits = json.loads(as_root(client, "audit", "search", "needle", "--json").stdout)["hits"]
    assert {"command", "file removed, failed", "screen"} <= {hit["what"] for hit in hits}
    shown = next(hit for hit in hits if hit["what"] == "screen")
    assert re.fullmatch(r"pyssh-gateway audit replay c\d+\.\d+ --at \d+ --config \S+", shown["replay"])
    assert "is recorded; to see it" in as_root(client, "audit", "show", shown["session"]).stdout
