"""keys.keyring: key files are read before a login is decided, with limits on how often and how long."""

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
    """A ring that counts the reads of its files, and can delay them."""

    def __init__(self, store: Path, *lines: str, **settings: Any) -> None:  # noqa: ANN401 - those of Ring
        self.reads: list[str] = []
        self.gate: asyncio.Event | None = None
        given: dict[str, Any] = {"logins": LOGINS, "live": True, **settings}
        super().__init__(store, **given)
        self.files = {"/authorities": f"cert-authority {ALICE}\n".encode()}
        self.write(*lines)

    def write(self, *lines: str) -> None:
        """Write these lines into the file of the first login."""
        self.files = {**self.files, "/keys": "".join(f"{line}\n" for line in lines).encode()}

    async def read_file(self, path: str) -> bytes:
        """Read as any ring does, after the gate has opened, if there is one."""
        self.reads.append(path)
        if self.gate is not None:
            await self.gate.wait()
        return await super().read_file(path)


def test_after_a_start_the_file_counts_and_not_its_copy(tmp_path: Path) -> None:
    """A key that was removed or restricted while no server ran does not count in its earlier form."""
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
    """A disk that fails does not lock everybody out, and the log says why the copy is still in force."""
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
    """A removed key is refused a second later, and any number of attempts cause one read."""
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
            # /keys is read to see the change and again to parse it; the other login's file is read once in any case.
            assert sorted(ring.reads) == ["/authorities", "/keys", "/keys"]
            ring.now -= 60  # after a clock was set back, no earlier read counts as fresh
            await ring.keyring.looks.read_files()
            assert len(ring.reads) > 3
            await ring.quiet()

    play(story())


def test_strangers_do_not_fill_the_log_with_readings(tmp_path: Path) -> None:
    """Protects the log, and the pace of refreshes: unchanged content is neither reported nor stored again."""
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
            assert len(await read()) == 1  # the refresh was due in any case

    play(story())


def test_a_file_that_does_not_answer_holds_up_a_login_for_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount that hangs delays a login only by the limit for a look, and then the known keys count."""
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
    """A mount that hangs costs an agent with twenty keys no more than one with a single key."""
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
    """Servers that do not answer, however many, do not delay the reading of key files."""
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
