"""A keyring under test: its events, a clock that stands still, and whose keys are in force."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from pyssh_gateway import config
from pyssh_gateway.core.authorized_keys import KeySnapshot, parse
from pyssh_gateway.events import AnyEvent, KeysFailed
from pyssh_gateway.keys.copies import Copies
from pyssh_gateway.keys.keyring import Keyring

ALICE, BOB, CAROL = (
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ{last}"
    for last in ("EB", "EC", "ED")
)
BLOBS = {name: parse(name.encode(), "", allow_options=False).accepted[0].blob for name in (ALICE, BOB, CAROL)}
SPEC = "github:example"
NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
HEADER = b"# github:example as fetched at 2026-09-21T14:13:20+00:00\n"
"""The first line of a copy of SPEC that was fetched at NOW."""
PATIENCE = 10.0
IMPATIENCE = 0.25
DEV = (config.Login(user="dev", keys=(SPEC,)),)


class Ring:
    """A keyring in a directory, its events, and a clock that the test sets."""

    def __init__(
        self,
        store: Path,
        github_url: str = "",
        logins: Sequence[config.Login] = DEV,
        timeout: float = PATIENCE,
        files: dict[str, bytes] | None = None,
    ) -> None:
        self.events: list[AnyEvent] = []
        self.now = NOW
        self.files = files or {}
        self.delays: list[float] = []
        self.rounds = 0
        self.random = 0.5
        keys = config.Keys(timeout=config.Duration(timeout), github_url=github_url, refresh=config.Duration(600))
        self.keyring = Keyring(
            logins,
            keys,
            store,
            self.events.append,
            self.read_file,
            now=lambda: self.now,
            random=lambda: self.random,
            sleep=self.sleep,
        )

    async def read_file(self, path: str) -> bytes:
        """Read from `files`."""
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory")
        return self.files[path]

    async def sleep(self, delay: float) -> None:
        """Count `rounds` down and pass no time; then end `run`."""
        self.delays.append(delay)
        if len(self.delays) > self.rounds:
            raise EndOfTestError

    def run(self, rounds: int) -> list[float]:
        """The delays before each of `rounds` refreshes, and the one after them."""
        self.delays, self.rounds = [], rounds
        with pytest.raises(EndOfTestError):
            asyncio.run(self.keyring.run())
        return self.delays

    def refresh(self) -> None:
        """Ask all sources once."""
        asyncio.run(self.keyring.refresh())

    def lets_in(self, user: str = "dev") -> set[str]:
        """Whose keys would do now."""
        return who(self.keyring.snapshot, user)

    def failures(self) -> list[str]:
        """The reasons of all failures so far."""
        return [event.reason for event in self.events if isinstance(event, KeysFailed)]


class EndOfTestError(Exception):
    """Ends `Keyring.run`."""


def who(snapshot: KeySnapshot, user: str = "dev") -> set[str]:
    """Whose keys do for `user`."""
    return {name for name, blob in BLOBS.items() if snapshot.find(user, blob) is not None}


def copy_path(store: Path, spec: str = SPEC) -> Path:
    """Where the copy of a source is."""
    return Copies(store).path(spec)
