"""A keyring under test: its events, a clock that only the test moves, and the decisions about keys."""

import asyncio
import atexit
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import KeySnapshot, parse
from pyssh_gateway.core.access.denials import Deny
from pyssh_gateway.core.access.policy import Accept, Attempt, decide
from pyssh_gateway.events import AccountChanged, AnyEvent, Identity, KeysFailed
from pyssh_gateway.keys.copies import Copies
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.keys.source_state import SourceStatus
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.waiting import PATIENCE

ALICE, BOB, CAROL = (
    f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQ{last}"
    for last in ("EB", "EC", "ED")
)
BLOBS = {name: parse(name.encode(), "", allow_options=False).accepted[0].blob for name in (ALICE, BOB, CAROL)}
FINGERPRINTS = {
    name: parse(name.encode(), "", allow_options=False).accepted[0].fingerprint for name in (ALICE, BOB, CAROL)
}
SPEC = "github:example"
PEER = "192.0.2.7"
NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
HEADER = b"# github:example as fetched at 2026-09-21T14:13:20+00:00\n"
"""The first line of a copy of SPEC that was fetched at NOW."""
IMPATIENCE = 0.25
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
REFRESH = 600.0
MAX_WAKES = 10
"""Turns of `Keyring.run` between two pauses: a question, its consequences, and some to spare."""
DEV = (config.Login(user="dev", keys=(SPEC,)),)

T = TypeVar("T")

_RUNNER = asyncio.Runner()
"""All rings use one loop, as a keyring does: asyncio's locks belong to the loop on which they first had a waiter."""
atexit.register(_RUNNER.close)


def play(story: Coroutine[Any, Any, T]) -> T:
    """Run `story` to its end."""
    return _RUNNER.run(story)


class Ring:
    """A keyring in a directory, its events, and a clock that the test sets.

    `live`: `Keyring.run` uses the real time for its pauses, as in the gateway; see `running`. `settings` has further
    settings.
    """

    def __init__(
        self,
        store: Path,
        github_url: str = "",
        logins: Sequence[config.Login] = DEV,
        timeout: float = PATIENCE,
        files: Mapping[str, bytes | OSError] | None = None,
        *,
        now: float = NOW,
        token: str = "",
        live: bool = False,
        settings: config.Keys | None = None,
    ) -> None:
        self.events: list[AnyEvent] = []
        self.now = now
        self.files: Mapping[str, bytes | OSError] = files or {}
        self.delays: list[float] = []
        self.random = 0.5
        self._rounds = 0
        self._wakes = 0
        self._runner: asyncio.Task[None] | None = None
        keys = msgspec.structs.replace(
            settings or config.Keys(),
            timeout=config.Duration(timeout),
            github_url=github_url,
            github_token=config.Secret(token),
            refresh=config.Duration(REFRESH),
        )
        self.keyring = Keyring(
            logins,
            keys,
            store,
            self.events.append,
            self.read_file,
            now=lambda: self.now,
            random=lambda: self.random,
            sleep=None if live else self.sleep,
        )

    async def read_file(self, path: str) -> bytes:
        """Read from `files`; an OSError in there is raised."""
        content = self.files.get(path, FileNotFoundError(2, "No such file or directory"))
        if isinstance(content, OSError):
            raise content
        return content

    async def sleep(self, delay: float) -> None:
        """Wait for work that is under way, whose end wakes `run`; else advance the ring's clock by `delay` at once."""
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        if under_way:
            self._wakes += 1
            assert self._wakes <= MAX_WAKES, "one question follows the other, without a pause"
            assert delay > 0, "the processor is kept busy while an answer is on its way"
            await asyncio.wait(under_way)
            return
        self._wakes = 0
        self.delays.append(delay)
        if len(self.delays) > self._rounds:
            raise asyncio.CancelledError
        self.now += delay

    def run(self, rounds: int) -> list[float]:
        """Run `Keyring.run` for so many sleeps: returns each delay, and the next one."""
        self.delays, self._rounds, self._wakes = [], rounds, 0
        with pytest.raises(asyncio.CancelledError):
            play(self.keyring.run())
        return self.delays

    def pass_time(self, seconds: float) -> None:
        """Run `Keyring.run` for so long on the ring's clock."""
        end = self.now + seconds
        while self.run(0)[0] <= end - self.now:
            self.now += self.delays[0]
        self.now = end

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """With `Keyring.run` in the background (of a `live` ring)."""
        async with asyncio.TaskGroup() as tasks:
            self._runner = tasks.create_task(self.keyring.run())
            yield
            self._runner.cancel()

    async def quiet(self) -> None:
        """Wait until no task is left but the loop of `run`, and the waiting task itself."""
        while under_way := asyncio.all_tasks() - {asyncio.current_task(), self._runner}:
            await asyncio.wait(under_way)

    def restarted(self, store: Path, github_url: str = "", **settings: Any) -> "Ring":  # noqa: ANN401 - those of Ring
        """Another ring at the same time of the clock, with this one's files on the disk."""
        ring = Ring(store, github_url, **{"now": self.now, "files": self.files, **settings})
        ring.keyring.load_last_good()
        return ring

    def refresh(self) -> None:
        """Ask all sources once."""
        play(self.keyring.refresh())

    def decide(self, name: str, user: str = "dev") -> Accept | Deny:
        """The policy's present decision about an offer of this key."""
        attempt = Attempt(user.encode(), "ssh-ed25519", BLOBS[name], None, PEER)
        return decide(attempt, self.keyring.snapshot, self.now)

    def lets_in(self, user: str = "dev") -> set[str]:
        """The people whose keys would be accepted now."""
        return {name for name in BLOBS if isinstance(self.decide(name, user), Accept)}

    def identity(self, name: str, user: str = "dev") -> Identity:
        """The identity that the policy gives to this key."""
        accepted = self.decide(name, user)
        assert isinstance(accepted, Accept)
        return accepted.identity

    def refusal(self, name: str, user: str = "dev") -> str:
        """The reason why this key is refused."""
        denied = self.decide(name, user)
        assert isinstance(denied, Deny)
        return denied.reason

    def status(self, spec: str = SPEC) -> SourceStatus:
        """The state of a source."""
        (status,) = (status for status in self.keyring.describe() if status.spec == spec)
        return status

    def failures(self) -> list[str]:
        """The reasons of all failures so far, which the log calls backend errors."""
        return [event.reason for event in self.events if isinstance(event, KeysFailed)]

    def account_changes(self) -> list[AccountChanged]:
        """The reports of accounts whose number has changed."""
        return [event for event in self.events if isinstance(event, AccountChanged)]


def who(snapshot: KeySnapshot, user: str = "dev") -> set[str]:
    """The people whose keys are in a snapshot for `user`, of any age."""
    return {name for name, blob in BLOBS.items() if snapshot.find(user, blob)}


def threads(name: str) -> set[threading.Thread]:
    """The present threads for one kind of work."""
    return {thread for thread in threading.enumerate() if thread.name == name}


def copy_path(store: Path, spec: str = SPEC) -> Path:
    """The path of a source's copy."""
    return Copies(store).path(spec)


def remembered(store: Path) -> dict[str, int]:
    """The account numbers that are stored on the disk."""
    numbers: dict[str, int] = json.loads((store / "account-ids.json").read_text())
    return numbers


def recycle(github: FakeGitHub) -> None:
    """Somebody else has the login now, with Carol's key."""
    github.account("example", 8)
    github.script("example", gh.keys(CAROL))


def learned(store: Path, github: FakeGitHub, token: str = "") -> Ring:
    """A ring that has had its first answer, and has stored account number 7."""
    ring = Ring(store, github.url, token=token)
    ring.run(0)
    assert ring.status().remembered == 7
    return ring
