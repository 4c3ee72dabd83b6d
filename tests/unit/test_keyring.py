"""keys.keyring: who is granted what, how sources are asked side by side, and what is said about them."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway import config
from pyssh_gateway.events import KeysLoaded
from pyssh_gateway.keys.keyring import MAX_FETCHES, Keyring, SourceStatus
from pyssh_gateway.keys.sources import SourceError
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import (
    ALICE,
    BLOBS,
    BOB,
    CAROL,
    NOW,
    PATIENCE,
    SPEC,
    Ring,
    who,
)


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """A GitHub whose answers the test writes."""
    with FakeGitHub() as server:
        yield server


def test_a_snapshot_never_changes(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a decision that has begun on one state of the keys ends on it."""
    github.script("example", gh.keys(ALICE), gh.keys(BOB))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    earlier = ring.keyring.snapshot
    ring.refresh()
    assert who(earlier) == {ALICE}
    assert ring.lets_in() == {BOB}


TWO_ACCOUNTS = (
    config.Login(user="dev", keys=(SPEC, "file:/keys/team.pub")),
    config.Login(user="ops", keys=("github:admin", SPEC)),
    config.Login(user="dev", keys=("github:admin",)),
    config.Login(user="guest", keys=()),
)


def test_grants_each_account_its_own_sources(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: keys let in to the accounts whose login names their source, one question serving all of them."""
    github.script("example", gh.keys(ALICE))
    github.script("admin", gh.keys(BOB, ALICE))
    ring = Ring(tmp_path, github.url, TWO_ACCOUNTS, files={"/keys/team.pub": CAROL.encode()})
    ring.refresh()
    assert {user: who(ring.keyring.snapshot, user) for user in ("dev", "ops", "guest", "root")} == {
        "dev": {ALICE, BOB, CAROL},
        "ops": {ALICE, BOB},
        "guest": set(),
        "root": set(),
    }
    assert set(ring.keyring.snapshot.accounts) == {"dev", "ops", "guest"}
    assert github.requests == {"example": 1, "admin": 1}
    found = [ring.keyring.snapshot.find(user, BLOBS[ALICE]) for user in ("dev", "ops")]
    assert [key.source for key in found if key is not None] == [SPEC, "github:admin"]


def test_one_source_s_failure_leaves_the_others_alone(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a colleague's broken account locks out nobody else."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url, TWO_ACCOUNTS)
    ring.refresh()
    assert ring.lets_in("dev") == {ALICE}
    assert sorted(ring.failures()) == [
        "cannot read /keys/team.pub: No such file or directory",
        "no such account (404)",
    ]
    assert [source.spec for source in ring.keyring.missing()] == ["file:/keys/team.pub", "github:admin"]


def test_options_in_a_file_are_refused_as_unsupported(tmp_path: Path) -> None:
    """Protects: an administrator's restriction is neither ignored nor blamed on the source."""
    ring = Ring(
        tmp_path,
        logins=(config.Login(user="dev", keys=("file:/keys",)),),
        files={"/keys": f'{ALICE}\nfrom="10.0.0.1" {BOB}\n'.encode()},
    )
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    (loaded,) = ring.events
    assert isinstance(loaded, KeysLoaded)
    assert loaded.refusals == ("line 2: options are not supported yet: from",)


def test_a_fast_source_does_not_wait_for_a_slow_one(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: at a cold start the keys that have arrived let people in while others are still on their way."""
    gate = threading.Event()
    github.script("example", gh.held(gh.keys(ALICE), gate))
    github.script("admin", gh.keys(BOB))
    logins = (config.Login(user="dev", keys=(SPEC, "github:admin")),)
    arrived = asyncio.Event()
    keyring = Keyring(
        logins,
        config.Keys(github_url=github.url),
        tmp_path,
        lambda event: arrived.set(),
        Ring(tmp_path).read_file,
    )

    async def look() -> None:
        refresh = asyncio.create_task(keyring.refresh())
        async with asyncio.timeout(PATIENCE):
            await arrived.wait()
        assert who(keyring.snapshot) == {BOB}
        gate.set()
        await refresh
        assert who(keyring.snapshot) == {ALICE, BOB}

    asyncio.run(look())


def test_asks_a_few_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a company's worth of accounts is asked side by side, within a bound on threads and sockets."""
    active: list[int] = [0]
    peak = 0
    lock, gate = threading.Lock(), threading.Event()

    def answer(handler: gh.Handler) -> None:
        nonlocal peak
        with lock:
            active[0] += 1
            peak = max(peak, active[0])
            if active[0] == MAX_FETCHES:
                gate.set()
        gate.wait(PATIENCE)
        with lock:
            active[0] -= 1
        gh.keys(ALICE)(handler)

    specs = tuple(f"github:example{number}" for number in range(3 * MAX_FETCHES))
    for spec in specs:
        github.script(spec.removeprefix("github:"), answer)
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=specs),))
    ring.refresh()
    assert peak == MAX_FETCHES
    assert github.requests.total() == len(specs)
    assert ring.keyring.missing() == ()


def test_an_older_answer_never_replaces_a_newer_one(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a key that was taken away does not come back with a slow answer to an earlier question."""
    gate = threading.Event()
    github.script("example", gh.held(gh.keys(ALICE), gate), gh.keys(BOB))
    ring = Ring(tmp_path, github.url)

    async def refresh_twice() -> None:
        first = asyncio.create_task(ring.keyring.refresh())
        await asyncio.to_thread(github.wait_for_requests, "example", 1)
        second = asyncio.create_task(ring.keyring.refresh(ring.keyring.missing()))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, second)

    asyncio.run(refresh_twice())
    assert ring.lets_in() == {BOB}
    assert github.requests["example"] == 2


def test_refreshes_only_what_it_is_asked_to(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: a start waits for the sources that it knows nothing of, not for all."""
    github.script("example", gh.keys(ALICE))
    Ring(tmp_path, github.url).refresh()
    github.script("admin", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=(SPEC, "github:admin")),))
    ring.keyring.load_last_good()
    assert [source.spec for source in ring.keyring.missing()] == ["github:admin"]
    asyncio.run(ring.keyring.refresh(ring.keyring.missing()))
    assert github.requests == {"example": 1, "admin": 1}
    assert ring.lets_in() == {ALICE, BOB}


def test_describes_every_source(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects: the start banner can say who gets in from where, how old that is, and what did not work."""
    github.script("example", gh.keys(ALICE, "junk"))
    earlier = Ring(tmp_path, github.url)
    earlier.refresh()
    github.script("example", gh.status(500))
    ring = Ring(tmp_path, github.url, TWO_ACCOUNTS, files={"/keys/team.pub": CAROL.encode()})
    assert {status.origin for status in ring.keyring.describe()} == {"none"}
    ring.now = NOW + 3600
    ring.keyring.load_last_good()
    ring.refresh()
    ring.now += 5
    assert ring.keyring.describe() == (
        SourceStatus(
            SPEC, ("dev", "ops"), 1, 1, "last-good", 3605.0, "the server answered 500 (Internal Server Error)"
        ),
        SourceStatus("file:/keys/team.pub", ("dev",), 1, 0, "fetched", 5.0, ""),
        SourceStatus("github:admin", ("ops", "dev"), 0, 0, "none", None, "no such account (404)"),
    )
    ring.now = NOW - 3600
    assert ring.keyring.describe()[0].age == 0.0


def test_refuses_a_login_whose_source_is_none(tmp_path: Path) -> None:
    """Protects: a spec that got past the configuration is an error at the start, not an account without keys."""
    with pytest.raises(SourceError, match="gopher"):
        Ring(tmp_path, logins=(config.Login(user="dev", keys=("gopher:example",)),))
