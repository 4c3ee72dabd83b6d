"""keys.keyring: which sources are asked for an unknown key, or after a login, and how long a login waits for them."""

import asyncio
import threading
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.freshness import LOOK_SECONDS, LOOKS, LOOKS_PER_PEER, Patience
from pyssh_gateway.keys import looks as looks_module
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import (
    ALICE,
    BOB,
    CAROL,
    DAY,
    FINGERPRINTS,
    IMPATIENCE,
    MINUTE,
    PEER,
    SPEC,
    Ring,
    play,
)
from tests.support.waiting import PATIENCE

BOTH = (config.Login(user="dev", keys=(SPEC, "github:admin")),)
MANY = 1000


@pytest.fixture
def github(github: FakeGitHub) -> FakeGitHub:
    """A GitHub whose account `example` has Alice's key."""
    github.script("example", gh.keys(ALICE))
    return github


def known(store: Path, github: FakeGitHub) -> Ring:
    """A ring that knows an earlier answer; requests are counted from here on."""
    Ring(store, github.url).refresh()
    github.requests.clear()
    ring = Ring(store, github.url, live=True)
    ring.keyring.load_last_good()
    return ring


# -- an unknown key --------------------------------------------------------------------------------------------------


def test_a_key_that_was_added_a_moment_ago_gets_in(github: FakeGitHub, tmp_path: Path) -> None:
    """A key that was added at GitHub a moment ago lets in without waiting for the next refresh."""
    ring = known(tmp_path, github)

    async def story() -> None:
        async with ring.running():
            assert ring.lets_in() == {ALICE}
            github.script("example", gh.keys(ALICE, BOB))
            await ring.keyring.looks.look_again(PEER, FINGERPRINTS[BOB])
            assert ring.lets_in() == {ALICE, BOB}

    play(story())


def test_all_sources_are_looked_at(github: FakeGitHub, tmp_path: Path) -> None:
    """All sources are asked, since any of them may have the unknown key."""
    github.script("admin", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, BOTH, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            github.script("admin", gh.keys(CAROL))
            await ring.keyring.looks.look_again(PEER, FINGERPRINTS[CAROL])
            assert ring.lets_in() == {ALICE, CAROL}
            assert github.requests["example"] == 2

    play(story())


@pytest.mark.parametrize(("peers", "most"), [(1, LOOKS_PER_PEER), (250, LOOKS)])
def test_a_thousand_unknown_keys_cause_a_handful_of_questions(
    github: FakeGitHub, tmp_path: Path, peers: int, most: int
) -> None:
    """Scanners, one or many, cause only a few requests to GitHub, and after these nobody waits for anything."""
    ring = known(tmp_path, github)

    async def story() -> None:
        async with ring.running():
            for number in range(MANY):
                await ring.keyring.looks.look_again(f"192.0.2.{number % peers}", f"SHA256:{number}")
            assert github.requests["example"] == most
            ring.now += LOOK_SECONDS
            for number in range(MANY):
                await ring.keyring.looks.look_again(f"198.51.100.{number % 250}", f"SHA256:{number}")
            assert github.requests["example"] <= most + 2

    play(story())
    assert ring.lets_in() == {ALICE}


def test_a_thousand_at_once_share_one_question(github: FakeGitHub, tmp_path: Path) -> None:
    """A client that comes while the sources are asked waits for that answer, and causes no further request."""
    ring = known(tmp_path, github)
    gate = threading.Event()
    github.script("example", gh.held(gh.keys(BOB), gate))

    async def look(peer: str, offered: str) -> set[str]:
        await ring.keyring.looks.look_again(peer, offered)
        return ring.lets_in()

    async def story() -> None:
        async with ring.running(), asyncio.TaskGroup() as tasks:
            looks = [
                tasks.create_task(look(f"192.0.{number // 250}.{number % 250}", f"SHA256:{number}"))
                for number in range(MANY)
            ]
            await asyncio.to_thread(github.wait_for_requests, "example", 1)
            waiting = [task for task in looks if not task.done()]
            assert len(waiting) == MANY
            gate.set()
            for task in waiting:
                assert await task == {BOB}

    play(story())
    assert github.requests["example"] == 1


def test_a_look_has_an_end(github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that hangs delays a login for seconds only, and answers of other sources count meanwhile."""
    monkeypatch.setattr(looks_module, "LOOK_PATIENCE", IMPATIENCE)
    gate = threading.Event()
    github.script("admin", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, BOTH, live=True)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with ring.running():
            await ring.keyring.refresh_all()
            github.script("example", gh.held(gh.empty(), gate))
            github.script("admin", gh.keys(CAROL))
            began = loop.time()
            await ring.keyring.looks.look_again(PEER, FINGERPRINTS[CAROL])
            assert IMPATIENCE * 0.9 <= loop.time() - began < PATIENCE / 2
            assert ring.lets_in() == {ALICE, CAROL}
            gate.set()
            await ring.keyring.settled()
            assert ring.lets_in() == {CAROL}

    play(story())
    assert github.requests["example"] == 2


@pytest.mark.parametrize("copy", [True, False], ids=["with a copy", "without"])
def test_a_connection_waits_once_for_all_its_keys(
    github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: bool
) -> None:
    """While a source hangs, an agent with twenty keys waits no longer than one with a single key.

    The wait is two seconds with a copy on the disk, and `keys.timeout` without one.
    """
    expected, other = (IMPATIENCE, PATIENCE) if copy else (PATIENCE, IMPATIENCE)
    monkeypatch.setattr(looks_module, "LOOK_PATIENCE", expected if copy else other)
    gate = threading.Event()
    ring = known(tmp_path, github) if copy else Ring(tmp_path, github.url, live=True, timeout=IMPATIENCE)
    github.script("example", gh.held(gh.keys(ALICE), gate))

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with ring.running():
            ring.keyring.want(ring.keyring.missing())
            patience, began = Patience(), loop.time()
            for number in range(20):
                await ring.keyring.looks.look_again(PEER, f"SHA256:{number}", patience)
            assert IMPATIENCE * 0.9 <= loop.time() - began < IMPATIENCE * 10
            gate.set()
            await ring.keyring.settled()
            await ring.quiet()

    play(story())


def test_a_connection_has_the_sources_asked_once(github: FakeGitHub, tmp_path: Path) -> None:
    """An agent with many keys uses up one look of its owner's, and its answer counts for all the keys."""
    ring = known(tmp_path, github)

    async def story() -> None:
        async with ring.running():
            patience = Patience()
            for number in range(20):
                await ring.keyring.looks.look_again(PEER, f"SHA256:{number}", patience)
            assert github.requests["example"] == 1
            await ring.keyring.looks.look_again(PEER, "SHA256:next", Patience())
            assert github.requests["example"] == 2

    play(story())


def test_the_first_answer_is_waited_for(github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first login on a new machine waits for its keys, longer than for an ordinary look."""
    monkeypatch.setattr(looks_module, "LOOK_PATIENCE", 0.0)
    gate = threading.Event()
    github.script("example", gh.held(gh.keys(ALICE), gate))
    ring = Ring(tmp_path, github.url)

    async def look(number: int) -> set[str]:
        await ring.keyring.looks.look_again(PEER, f"SHA256:{number}")
        return ring.lets_in()

    async def story() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ring.keyring.refresh(ring.keyring.missing()))
            looks = [tasks.create_task(look(number)) for number in range(MANY)]
            await asyncio.to_thread(github.wait_for_requests, "example", 1)
            assert not any(task.done() for task in looks)
            gate.set()
        assert [task.result() for task in looks] == [{ALICE}] * MANY

    play(story())
    assert github.requests["example"] == 1


def test_the_first_answer_is_waited_for_until_its_deadline(
    github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that hangs at a first start delays a login for `keys.timeout`, and the log says why."""
    monkeypatch.setattr(looks_module, "LOOK_PATIENCE", PATIENCE)
    github.script("example", gh.hang())
    ring = Ring(tmp_path, github.url, timeout=IMPATIENCE)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            began = loop.time()
            tasks.create_task(ring.keyring.refresh(ring.keyring.missing()))
            await asyncio.sleep(0)
            await ring.keyring.looks.look_again(PEER, FINGERPRINTS[ALICE])
            assert IMPATIENCE * 0.9 <= loop.time() - began < PATIENCE / 2

    play(story())
    assert ring.refusal(ALICE) == f"key is not known; backend error: {SPEC}: no answer within {IMPATIENCE:g} s"


def test_a_source_that_never_answered_holds_up_nobody_later(github: FakeGitHub, tmp_path: Path) -> None:
    """If a source has failed to answer, an unknown key waits no longer for it than for any other."""
    github.script("example", gh.status(500))
    ring = Ring(tmp_path, github.url, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            for number in range(MANY):
                await ring.keyring.looks.look_again(PEER, f"SHA256:{number}")

    play(story())
    assert github.requests["example"] == 1 + LOOKS_PER_PEER


def test_a_look_does_not_wait_for_the_first_refresh(github: FakeGitHub, tmp_path: Path) -> None:
    """A key that was added while the machine slept lets in at the login that wakes the machine."""
    github.script("example", gh.keys(ALICE))
    Ring(tmp_path, github.url).refresh()
    github.script("example", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, live=True)
    ring.keyring.load_last_good()

    async def story() -> None:
        async with ring.running():
            await ring.keyring.looks.look_again(PEER, FINGERPRINTS[BOB])
            assert ring.lets_in() == {BOB}

    play(story())


def test_a_look_leaves_alone_who_wants_to_be(github: FakeGitHub, tmp_path: Path) -> None:
    """Unknown keys do not make us break GitHub's rate limit."""
    ring = known(tmp_path, github)
    github.script("example", gh.limited(429, Retry_After="120"), gh.keys(BOB))

    async def story() -> None:
        async with ring.running():
            await ring.keyring.looks.look_again(PEER, "SHA256:1")
            await ring.keyring.looks.look_again(PEER, "SHA256:2")
            assert github.requests["example"] == 1
            assert ring.lets_in() == {ALICE}
            ring.now += 120
            await ring.keyring.looks.look_again(PEER, "SHA256:3")
            assert ring.lets_in() == {BOB}

    play(story())


def test_the_other_keys_of_an_agent_are_no_reason_to_look(github: FakeGitHub, tmp_path: Path) -> None:
    """The other keys of a user's agent do not make each login wait."""
    ring = known(tmp_path, github)
    others = ("SHA256:old", "SHA256:work")

    async def story() -> None:
        async with ring.running():
            for offered in others:
                await ring.keyring.looks.look_again(PEER, offered)
            assert github.requests["example"] == len(others)
            ring.keyring.looks.used(SPEC, PEER, others)
            ring.now += DAY
            for number in range(MANY):
                await ring.keyring.looks.look_again(PEER, others[number % 2])
            assert github.requests["example"] == len(others)
            await ring.keyring.looks.look_again(PEER, "SHA256:new")
            assert github.requests["example"] == len(others) + 1

    play(story())


# -- a key that lets somebody in -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "asked"), [(0, 0), (59, 0), (60, 1), (DAY, 1)])
def test_a_key_that_is_used_is_looked_up_again(github: FakeGitHub, tmp_path: Path, age: float, asked: int) -> None:
    """After a login, a key's source is asked again if its last answer is older than `revalidate`, to find a removal."""
    ring = known(tmp_path, github)
    github.script("example", gh.empty())

    async def story() -> None:
        async with ring.running():
            ring.now += age
            ring.keyring.looks.used(SPEC, PEER, ())
            assert ring.lets_in() == {ALICE}
            await ring.keyring.settled()

    play(story())
    assert github.requests["example"] == asked
    assert ring.lets_in() == (set() if asked else {ALICE})


def test_only_the_source_of_the_key_is_looked_up_again(github: FakeGitHub, tmp_path: Path) -> None:
    """A login causes no requests to sources that do not have its key."""
    github.script("admin", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, BOTH, live=True)

    async def story() -> None:
        async with ring.running():
            await ring.keyring.refresh_all()
            ring.now += MINUTE
            ring.keyring.looks.used("github:admin", PEER, ())
            ring.keyring.looks.used("github:nobody", PEER, ())
            await ring.keyring.settled()

    play(story())
    assert (github.requests["example"], github.requests["admin"]) == (1, 2)


def test_a_crowd_that_logs_in_is_one_question(github: FakeGitHub, tmp_path: Path) -> None:
    """Many logins at once, as of an editor that opens ten connections, cause one request."""
    ring = known(tmp_path, github)

    async def story() -> None:
        async with ring.running():
            ring.now += MINUTE
            for _ in range(MANY):
                ring.keyring.looks.used(SPEC, PEER, ())
            await ring.keyring.settled()
            for _ in range(MANY):
                ring.keyring.looks.used(SPEC, PEER, ())
            await ring.keyring.settled()

    play(story())
    assert github.requests["example"] == 1
