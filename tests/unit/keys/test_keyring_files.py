"""keys.keyring: key files are read before a login is decided, at most so often, and for so long."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.freshness import Patience
from pyssh_gateway.events import KeysFailed, KeysLoaded
from pyssh_gateway.keys import looks as looks_module
from pyssh_gateway.keys.inquiry import MAX_FETCHES
from pyssh_gateway.keys.looks import FILE_SECONDS
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import ALICE, BOB, IMPATIENCE, REFRESH, Ring, copy_path, play
from tests.support.waiting import PATIENCE

LOGINS = (config.Login(user="dev", keys=("file:/keys",)), config.Login(user="other", keys=("ca:/authorities",)))


class FileRing(Ring):
    """A ring whose files are counted when they are read, and can be held up."""

    def __init__(self, store: Path, *lines: str, **settings: Any) -> None:  # noqa: ANN401 - those of Ring
        self.reads: list[str] = []
        self.gate: asyncio.Event | None = None
        given: dict[str, Any] = {"logins": LOGINS, "live": True, **settings}
        super().__init__(store, **given)
        self.files = {"/authorities": f"cert-authority {ALICE}\n".encode()}
        self.write(*lines)

    def write(self, *lines: str) -> None:
        """Put these lines into the file of the first login."""
        self.files = {**self.files, "/keys": "".join(f"{line}\n" for line in lines).encode()}

    async def read_file(self, path: str) -> bytes:
        """As any ring does, once the gate is open, if there is one."""
        self.reads.append(path)
        if self.gate is not None:
            await self.gate.wait()
        return await super().read_file(path)


def test_after_a_start_the_file_counts_and_not_its_copy(tmp_path: Path) -> None:
    """Protects: a key that was taken out, or restricted, while nobody served does not get in by what was known then."""
    FileRing(tmp_path, ALICE, BOB).refresh()
    ring = FileRing(tmp_path, f"restrict {BOB}")
    ring.keyring.load_last_good()
    assert ring.lets_in() == {ALICE, BOB}

    async def story() -> None:
        async with ring.running():
            await ring.keyring.looks.read_files()
            assert ring.lets_in() == {BOB}
            (key,) = ring.keyring.snapshot.find("dev", next(iter(ring.keyring.snapshot.accounts["dev"].keys)))
            assert not key.options.pty

    play(story())


def test_a_file_that_cannot_be_read_at_the_start_counts_as_it_did(tmp_path: Path) -> None:
    """Protects: a disk that fails does not lock out everybody, and the log says why the copy is still in force."""
    FileRing(tmp_path, ALICE).refresh()
    ring = FileRing(tmp_path)
    ring.files = {**ring.files, "/keys": OSError("it belongs to somebody else")}
    ring.keyring.load_last_good()

    async def story() -> None:
        async with ring.running():
            await ring.keyring.looks.read_files()

    play(story())
    assert ring.lets_in() == {ALICE}
    assert ring.failures() == ["cannot read /keys: it belongs to somebody else"]


def test_each_login_is_decided_by_the_file_as_it_is(tmp_path: Path) -> None:
    """Protects: a key that is taken out is refused a second later, for however many attempts a file is read once."""
    ring = FileRing(tmp_path, ALICE, BOB)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            ring.reads.clear()
            ring.write(ALICE)
            ring.now += FILE_SECONDS * 0.9
            await ring.keyring.looks.read_files()
            assert ring.reads == []
            ring.now += FILE_SECONDS * 0.1
            async with asyncio.TaskGroup() as attempts:
                for _ in range(100):
                    attempts.create_task(ring.keyring.looks.read_files())
            assert ring.lets_in() == {ALICE}
            # Once to see that it is another one, once to know it; the other login's file, whoever asks, once.
            assert sorted(ring.reads) == ["/authorities", "/keys", "/keys"]
            ring.now -= 60  # a clock that is set back makes nothing fresh
            await ring.keyring.looks.read_files()
            assert len(ring.reads) > 3
            await ring.quiet()

    play(story())


def test_strangers_do_not_fill_the_log_with_readings(tmp_path: Path) -> None:
    """Protects the log and the pace of refreshes: what a file says again is neither told nor written again."""
    ring = FileRing(tmp_path, ALICE)

    async def read() -> list[object]:
        ring.now += FILE_SECONDS
        told = len(ring.events)
        await ring.keyring.looks.read_files()
        await ring.quiet()
        return [event for event in ring.events[told:] if getattr(event, "source", "") == "file:/keys"]

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            await ring.quiet()
            due = ring.status("file:/keys").next_look
            assert due is not None
            written = copy_path(tmp_path, "file:/keys").stat().st_mtime_ns
            for _ in range(3):
                assert await read() == []
            assert ring.status("file:/keys").next_look == pytest.approx(due - 3 * FILE_SECONDS)
            assert copy_path(tmp_path, "file:/keys").stat().st_mtime_ns == written
            assert ring.status("file:/keys").age == 0.0
            ring.write(BOB)
            (changed,) = await read()
            assert isinstance(changed, KeysLoaded)
            assert changed.changed
            assert BOB.encode() in copy_path(tmp_path, "file:/keys").read_bytes()
            ring.files = {**ring.files, "/keys": OSError("the disk is gone")}
            (failed,) = await read()
            assert isinstance(failed, KeysFailed)
            assert await read() == []
            ring.write(BOB)
            (again,) = await read()
            assert isinstance(again, KeysLoaded)
            ring.now += REFRESH * 2
            assert len(await read()) == 1  # it was due anyway

    play(story())


def test_a_file_that_does_not_answer_holds_up_a_login_for_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Protects: a mount that hangs costs a login the time of a look, and what was known counts."""
    monkeypatch.setattr(looks_module, "LOOK_PATIENCE", IMPATIENCE)
    FileRing(tmp_path, ALICE).refresh()
    ring = FileRing(tmp_path, BOB)
    ring.keyring.load_last_good()

    async def story() -> None:
        ring.gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with ring.running():
            began = loop.time()
            await ring.keyring.looks.read_files()
            assert IMPATIENCE * 0.9 <= loop.time() - began < PATIENCE / 2
            assert ring.lets_in() == {ALICE}
            ring.gate.set()
            await ring.keyring.looks.read_files()
            assert ring.lets_in() == {BOB}
            await ring.quiet()

    play(story())


def test_a_connection_waits_once_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount that hangs costs an agent with twenty keys as much as one with a single key."""
    monkeypatch.setattr(looks_module, "LOOK_PATIENCE", IMPATIENCE)
    FileRing(tmp_path, ALICE).refresh()
    ring = FileRing(tmp_path, BOB)
    ring.keyring.load_last_good()

    async def story() -> None:
        ring.gate = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with ring.running():
            patience, began = Patience(), loop.time()
            for _ in range(20):
                await ring.keyring.looks.read_files(patience)
            assert IMPATIENCE * 0.9 <= loop.time() - began < IMPATIENCE * 10
            ring.gate.set()
            await ring.quiet()

    play(story())


def test_a_file_does_not_wait_behind_servers(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: servers that do not answer, however many, make nobody be judged by an old reading."""
    gate = threading.Event()
    names = [f"a{number}" for number in range(MAX_FETCHES + 1)]
    for name in names:
        github.script(name, gh.held(gh.keys(ALICE), gate))
    logins = (config.Login(user="dev", keys=(*(f"github:{name}" for name in names), "file:/keys")),)
    ring = FileRing(tmp_path, BOB, github_url=github.url, logins=logins)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.looks.read_files()
            assert ring.lets_in() == {BOB}
            gate.set()
            await ring.keyring.settled()
            await ring.quiet()

    play(story())
