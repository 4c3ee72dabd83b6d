"""keys.keyring: an answer without any key is checked a second time before it ends a connection."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import KeysLoaded
from pyssh_gateway.keys import refresher
from pyssh_gateway.keys.looks import FILE_SECONDS
from pyssh_gateway.keys.refresher import EMPTY_SECOND_LOOK
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import ALICE, BOB, CAROL, HOUR, MINUTE, REFRESH, SPEC, Ring, play

FILE = (config.Login(user="dev", keys=("file:/keys",)),)
AUTHORITY = (config.Login(user="dev", keys=("ca:/keys",)),)
TOKEN = "hush"
MISSING = FileNotFoundError(2, "No such file or directory")


def line(text: str) -> bytes:
    """The content of a file with one line."""
    return f"{text}\n".encode()


class Written(Ring):
    """A ring whose file is being written: reads give `contents` in turn, and the last one for ever."""

    def __init__(self, store: Path, *contents: bytes | OSError, **settings: Any) -> None:  # noqa: ANN401 - those of Ring
        super().__init__(store, **{"logins": FILE, "live": True, **settings})
        self.contents = list(contents)
        self.reads = 0

    async def read_file(self, path: str) -> bytes:
        """Read the next content."""
        self.reads += 1
        self.files = {path: self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]}
        return await super().read_file(path)

    async def login(self) -> set[str]:
        """Read the files as at a login; returns the keys that let in then."""
        self.now += FILE_SECONDS
        await self.keyring.looks.read_files()
        return self.lets_in()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the second look at a file immediate."""
    monkeypatch.setattr(refresher, "FILE_SECOND_LOOK", 0.0)


@pytest.mark.parametrize(
    "garbled", [b"", b"\n# keys\n", b"ssh-ed25", b"\0" * 64], ids=["empty", "none", "cut", "zeros"]
)
def test_a_file_that_is_being_written_takes_nobody_s_key_away(tmp_path: Path, garbled: bytes) -> None:
    """A program that empties a file before it writes it revokes nobody's keys, and no revocation is reported."""
    ring = Written(tmp_path, line(ALICE))

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            told = len(ring.events)
            ring.contents = [garbled, line(ALICE)]
            assert await ring.login() == {ALICE}
            assert ring.contents == [line(ALICE)]
            await ring.quiet()
            assert not [event for event in ring.events[told:] if isinstance(event, KeysLoaded) and event.removed]

    play(story())


@pytest.mark.parametrize(("logins", "keys"), [(FILE, line(ALICE)), (AUTHORITY, line(ALICE))], ids=["file", "ca"])
def test_a_file_that_stays_empty_is_believed(tmp_path: Path, logins: tuple[config.Login, ...], keys: bytes) -> None:
    """A file that was emptied on purpose revokes its keys, already for the login that causes the read."""
    ring = Written(tmp_path, keys, logins=logins)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            assert ring.status(logins[0].keys[0]).accepted == 1
            ring.contents = [b""]
            await ring.login()
            assert ring.status(logins[0].keys[0]).accepted == 0
            await ring.quiet()

    play(story())


def test_a_login_waits_for_the_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login is decided after the second look at an emptied file, which many logins share."""
    monkeypatch.setattr(refresher, "FILE_SECOND_LOOK", 0.2)
    ring = Written(tmp_path, line(ALICE))

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            ring.contents = [b""]
            ring.reads = 0
            async with asyncio.TaskGroup() as logins:
                attempts = [logins.create_task(ring.login()) for _ in range(20)]
            assert all(attempt.result() == set() for attempt in attempts)
            # twice: one read to see the change, and one to parse the text
            assert ring.reads == 4
            await ring.quiet()

    play(story())


def test_a_file_with_another_key_is_believed_at_once(tmp_path: Path) -> None:
    """A key that was removed from a file is refused at the next login."""
    ring = Written(tmp_path, line(ALICE))

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            ring.contents = [line(BOB)]
            ring.reads = 0
            assert await ring.login() == {BOB}
            assert ring.reads == 2
            await ring.quiet()

    play(story())


def test_a_file_that_was_always_empty_is_read_once(tmp_path: Path) -> None:
    """A file without earlier keys is read once, since there is nothing to lose."""
    ring = Written(tmp_path, b"")

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            ring.reads = 0
            await ring.login()
            assert ring.reads == 1
            await ring.quiet()

    play(story())


def test_a_file_that_is_replaced_may_be_gone_for_a_moment(tmp_path: Path) -> None:
    """An editor that renames the old file away before it writes the new one revokes nobody."""
    ring = Written(tmp_path, line(ALICE))

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            moments: tuple[list[bytes | OSError], ...] = ([MISSING], [b"", MISSING], [MISSING, b"", line(ALICE)])
            for contents in moments:
                ring.contents = list(contents)
                assert await ring.login() == {ALICE}
            ring.contents = [line(ALICE)]
            assert await ring.login() == {ALICE}
            assert ring.status("file:/keys").failure == ""
            await ring.quiet()

    play(story())


def test_a_revoked_key_of_a_file_is_looked_up_again(tmp_path: Path) -> None:
    """Before a connection is ended the file is read once more, and its content is certain then."""
    ring = Written(tmp_path, line(BOB))

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            ring.contents = [line(ALICE)]
            ring.now += FILE_SECONDS
            assert await ring.keyring.looks.look_up("file:/keys")
            assert ring.lets_in() == {ALICE}
            await ring.quiet()

    play(story())


# -- servers -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub whose account `example` (7) has Alice's key."""
    github.account("example", 7)
    github.script("example", gh.keys(ALICE))
    return github


def test_a_server_that_answers_with_nothing_is_asked_again_soon(github: FakeGitHub, tmp_path: Path) -> None:
    """After an empty answer new logins are refused at once, and the source is asked again soon."""
    ring = Ring(tmp_path, github.url)
    ring.run(0)
    due = ring.status().next_look
    github.script("example", gh.empty(), gh.keys(ALICE))
    ring.refresh()
    assert ring.lets_in() == set()
    assert ring.run(1)[0] == pytest.approx(EMPTY_SECOND_LOOK)
    assert ring.lets_in() == {ALICE}
    assert due is not None
    assert ring.status().next_look == pytest.approx(due - EMPTY_SECOND_LOOK)


def test_a_server_that_answers_with_nothing_twice_is_believed(github: FakeGitHub, tmp_path: Path) -> None:
    """After a second empty answer, the source is asked at the usual interval."""
    ring = Ring(tmp_path, github.url)
    ring.run(0)
    github.script("example", gh.empty())
    ring.refresh()
    asked = github.requests["example"]
    ring.pass_time(MINUTE)
    assert github.requests["example"] == asked + 1


@pytest.mark.parametrize(
    ("answers", "certain", "lets_in"),
    [
        pytest.param([gh.empty(), gh.empty()], True, set(), id="empty twice"),
        pytest.param([gh.empty(), gh.keys(ALICE)], True, {ALICE}, id="back"),
        pytest.param([gh.empty(), gh.status(500)], False, set(), id="empty and then down"),
        pytest.param([gh.empty(), gh.html()], False, set(), id="empty and then a page"),
        pytest.param([gh.keys(BOB), gh.status(500)], True, {BOB}, id="all keys exchanged and then down"),
        pytest.param([gh.keys(BOB), gh.keys(BOB)], True, {BOB}, id="all keys exchanged"),
    ],
)
def test_a_single_answer_that_takes_everything_is_not_certain(
    github: FakeGitHub, tmp_path: Path, answers: list[gh.Answer], certain: bool, lets_in: set[str]
) -> None:
    """An empty answer must be confirmed by another one before connections end; a failure confirms nothing."""
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            await ring.quiet()
            github.script("example", *answers)
            await ring.keyring.refresh_all()
            assert ring.lets_in() == lets_in - {ALICE}
            ring.now += FILE_SECONDS
            assert await ring.keyring.looks.look_up(SPEC) == certain
            assert ring.lets_in() == lets_in
            await ring.quiet()

    play(story())


@pytest.mark.parametrize(
    ("answer", "certain"), [(gh.keys(ALICE), True), (gh.status(500), True)], ids=["still gone", "down"]
)
def test_one_of_several_keys_that_is_gone_is_gone(
    github: FakeGitHub, tmp_path: Path, answer: gh.Answer, certain: bool
) -> None:
    """Removing one of several keys needs no confirmation."""
    github.script("example", gh.keys(ALICE, BOB))
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            github.script("example", gh.keys(ALICE), answer)
            await ring.keyring.refresh_all()
            ring.now += FILE_SECONDS
            assert await ring.keyring.looks.look_up(SPEC) == certain
            assert ring.lets_in() == {ALICE}
            await ring.quiet()

    play(story())


def test_a_crowd_that_is_put_out_asks_once(github: FakeGitHub, tmp_path: Path) -> None:
    """Fifty connections of somebody who has left cause one request, and those of an unknown source none."""
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            asked = github.requests["example"]
            ring.now += HOUR
            async with asyncio.TaskGroup() as windows:
                for _ in range(50):
                    windows.create_task(ring.keyring.looks.look_up(SPEC))
            for _ in range(50):
                await ring.keyring.looks.look_up(SPEC)
            assert github.requests["example"] == asked + 1
            assert await ring.keyring.looks.look_up("github:nobody")
            await ring.quiet()

    play(story())


def test_a_member_of_a_team_is_a_source_of_their_own(github: FakeGitHub, tmp_path: Path) -> None:
    """The empty page of one team member must be confirmed, too, whatever the others' pages contain."""
    github.account("carol", 9)
    github.script("carol", gh.keys(CAROL))
    github.team("acme", "ops", {"example": 7, "carol": 9}, TOKEN)
    spec = "github-team:acme/ops"
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=(spec,)),), token=TOKEN, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            github.script("example", gh.empty(), gh.status(500), gh.empty())
            await ring.keyring.refresh_all()
            assert ring.lets_in() == {CAROL}
            for certain in (False, True):
                ring.now += REFRESH
                assert await ring.keyring.looks.look_up(spec) == certain
            await ring.quiet()

    play(story())


def test_a_key_of_a_source_that_is_no_more_may_have_moved_to_one_that_is_silent(
    github: FakeGitHub, tmp_path: Path
) -> None:
    """If a key's source was replaced by one that has never answered, the connections of the key do not end yet."""
    github.script("example", gh.status(503), gh.keys(BOB))
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            for certain in (False, True):
                await ring.keyring.refresh_all()
                assert not ring.keyring.unasked()
                assert await ring.keyring.looks.look_up("file:/gone") == certain

    play(story())
