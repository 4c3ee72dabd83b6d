"""keys.keyring: the accounts for which keys count, asking sources in parallel, and reports about sources."""

import asyncio
import threading
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import Identity, KeysLoaded
from pyssh_gateway.keys.inquiry import MAX_FETCHES
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.keys.refresher import FIRST_RETRY
from pyssh_gateway.keys.source_state import SourceStatus
from pyssh_gateway.keys.sources import SourceError
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import (
    ALICE,
    BLOBS,
    BOB,
    CAROL,
    DAY,
    FINGERPRINTS,
    HOUR,
    NOW,
    PEER,
    REFRESH,
    SPEC,
    Ring,
    play,
    threads,
    who,
)
from tests.support.waiting import PATIENCE


def test_a_snapshot_never_changes(github: FakeGitHub, tmp_path: Path) -> None:
    """A decision that begins with one state of the keys ends with the same."""
    github.script("example", gh.keys(ALICE), gh.keys(BOB))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    earlier = ring.keyring.snapshot
    ring.refresh()
    assert who(earlier) == {ALICE}
    assert ring.lets_in() == {BOB}


TWO_ACCOUNTS = (
    config.Login(user="dev", keys=(SPEC, "file:/keys/team.pub", "github:admin")),
    config.Login(user="ops", keys=("github:admin", SPEC)),
    config.Login(user="guest", keys=()),
)


def test_grants_each_account_its_own_sources(github: FakeGitHub, tmp_path: Path) -> None:
    """A key lets in to the accounts whose login names its source, and one request serves all of them."""
    github.script("example", gh.keys(ALICE))
    github.script("admin", gh.keys(BOB, ALICE))
    ring = Ring(tmp_path, github.url, TWO_ACCOUNTS, files={"/keys/team.pub": CAROL.encode()})
    ring.refresh()
    assert {user: ring.lets_in(user) for user in ("dev", "ops", "guest", "root")} == {
        "dev": {ALICE, BOB, CAROL},
        "ops": {ALICE, BOB},
        "guest": set(),
        "root": set(),
    }
    assert set(ring.keyring.snapshot.accounts) == {"dev", "ops", "guest"}
    assert github.requests == {"example": 1, "admin": 1}
    found = [ring.keyring.snapshot.find(user, BLOBS[ALICE]) for user in ("dev", "ops")]
    assert [[key.source for key in lines] for lines in found] == [[SPEC, "github:admin"], ["github:admin", SPEC]]


def test_one_source_s_failure_leaves_the_others_alone(github: FakeGitHub, tmp_path: Path) -> None:
    """A source that fails does not affect the keys of others."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url, TWO_ACCOUNTS)
    ring.refresh()
    assert ring.lets_in("dev") == {ALICE}
    assert sorted(ring.failures()) == [
        "cannot read /keys/team.pub: No such file or directory",
        "no such account (404)",
    ]
    assert ring.refusal(BOB, "ops") == "key is not known; backend error: github:admin: no such account (404)"
    assert ring.refusal(BOB, "guest") == "key is not known"
    assert [source.spec for source in ring.keyring.missing()] == ["file:/keys/team.pub", "github:admin"]


def test_options_count_where_the_machine_s_owner_wrote_them(tmp_path: Path) -> None:
    """A restriction in a key file applies, and a key whose restriction is not understood is refused."""
    ring = Ring(
        tmp_path,
        logins=(config.Login(user="dev", keys=("file:/keys",)),),
        files={"/keys": f'{ALICE}\nfrom="10.0.0.1" {BOB}\nfrm="10.0.0.1" {CAROL}\n'.encode()},
    )
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert ring.refusal(BOB) == f"the key may not be used from {PEER} (from)"
    (loaded,) = ring.events
    assert isinstance(loaded, KeysLoaded)
    assert (loaded.accepted, loaded.refused) == (2, 1)
    assert loaded.refusals[0].startswith("line 3: options: ")


def test_an_authority_s_key_certifies_and_does_not_log_in(tmp_path: Path) -> None:
    """Keys in a file of authorities do not log in themselves, and are not listed as persons."""
    logins = (config.Login(user="dev", keys=("ca:/ca.pub", "file:/keys")),)
    ring = Ring(tmp_path, logins=logins, files={"/ca.pub": ALICE.encode(), "/keys": f"{BOB} bob@laptop\n".encode()})
    ring.refresh()
    assert ring.lets_in() == {BOB}
    account = ring.keyring.snapshot.accounts["dev"]
    assert set(account.authorities) == {BLOBS[ALICE]}
    assert set(account.keys) == {BLOBS[BOB]}


def test_a_login_narrows_what_its_sources_have(github: FakeGitHub, tmp_path: Path) -> None:
    """A login's only_fingerprints and key_types keep out all other keys of its sources."""
    github.script("example", gh.keys(ALICE, BOB))
    logins = (
        config.Login(user="dev", keys=(SPEC,), only_fingerprints=(FINGERPRINTS[ALICE],)),
        config.Login(user="ops", keys=(SPEC,), key_types=("ssh-rsa",)),
    )
    ring = Ring(tmp_path, github.url, logins)
    ring.refresh()
    assert (ring.lets_in("dev"), ring.lets_in("ops")) == ({ALICE}, set())


def test_says_whose_each_key_is(github: FakeGitHub, tmp_path: Path) -> None:
    """On a shared account, every login still has a person."""
    github.script("example", gh.keys(ALICE))
    logins = (config.Login(user="dev", keys=(SPEC, "file:/keys", "file:/more")),)
    files = {"/keys": f"{BOB} bob smith\t(laptop)".encode(), "/more": CAROL.encode()}
    ring = Ring(tmp_path, github.url, logins, files=files)
    ring.refresh()
    assert [ring.identity(name).person for name in (ALICE, BOB, CAROL)] == [
        "github:example",
        "file:bob␣smith␣(laptop)",
        "file:/more",
    ]
    assert ring.identity(ALICE) == Identity("github:example", None, FINGERPRINTS[ALICE])


def test_a_fast_source_does_not_wait_for_a_slow_one(github: FakeGitHub, tmp_path: Path) -> None:
    """At a cold start, keys that have arrived let people in while slower sources are still being asked."""
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

    play(look())


def test_asks_a_few_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """Many accounts are asked in parallel, within a limit on threads and sockets."""
    gate = threading.Event()
    logins = [f"example{number}" for number in range(3 * MAX_FETCHES)]
    for login in logins:
        github.script(login, gh.held(gh.keys(ALICE), gate))
    keys = tuple(f"github:{login}" for login in logins)
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=keys),))
    others = threads("fetch-keys")  # threads of earlier tests whose downloads were abandoned

    async def look() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ring.keyring.refresh())
            for login in logins[:MAX_FETCHES]:
                await asyncio.to_thread(github.wait_for_requests, login, 1)
            assert len(threads("fetch-keys") - others) == MAX_FETCHES
            gate.set()

    play(look())
    assert github.requests.total() == len(logins)
    assert ring.keyring.missing() == ()


def test_a_source_is_not_asked_twice_at_once(github: FakeGitHub, tmp_path: Path) -> None:
    """Any number of refreshes at once make one request for a source, and an older answer never replaces a newer one."""
    gate = threading.Event()
    github.script("example", gh.held(gh.keys(ALICE), gate), gh.keys(BOB))
    ring = Ring(tmp_path, github.url)

    async def refresh_often() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ring.keyring.refresh())
            await asyncio.to_thread(github.wait_for_requests, "example", 1)
            others = [tasks.create_task(ring.keyring.refresh(ring.keyring.missing())) for _ in range(1000)]
            await asyncio.sleep(0)
            assert not any(other.done() for other in others)
            gate.set()

    play(refresh_often())
    assert ring.lets_in() == {ALICE}
    assert github.requests["example"] == 1
    ring.refresh()
    assert ring.lets_in() == {BOB}


def test_refreshes_only_what_it_is_asked_to(github: FakeGitHub, tmp_path: Path) -> None:
    """A start waits only for the sources of which nothing is known."""
    github.script("example", gh.keys(ALICE))
    Ring(tmp_path, github.url).refresh()
    github.script("admin", gh.keys(BOB))
    ring = Ring(tmp_path, github.url, (config.Login(user="dev", keys=(SPEC, "github:admin")),))
    ring.keyring.load_last_good()
    assert [source.spec for source in ring.keyring.missing()] == ["github:admin"]
    play(ring.keyring.refresh(ring.keyring.missing()))
    assert github.requests == {"example": 1, "admin": 1}
    assert ring.lets_in() == {ALICE, BOB}


def test_describes_every_source(github: FakeGitHub, tmp_path: Path) -> None:
    """Each source has its accounts, its age, its failure and its next look."""
    github.script("example", gh.keys(ALICE, "junk"))
    Ring(tmp_path, github.url).refresh()
    github.script("example", gh.status(500))
    ring = Ring(tmp_path, github.url, TWO_ACCOUNTS, files={"/keys/team.pub": CAROL.encode()})
    assert {status.origin for status in ring.keyring.describe()} == {"none"}
    ring.now = NOW + HOUR
    ring.keyring.load_last_good()
    ring.refresh()
    ring.now += 4
    failed = "the server answered 500 (Internal Server Error)"
    everything = SourceStatus(SPEC, ("dev", "ops"), 1, 1, "last-good", HOUR + 4, failed, next_look=REFRESH - 4)
    assert ring.keyring.describe() == (
        everything,
        SourceStatus("file:/keys/team.pub", ("dev",), 1, 0, "fetched", 4.0, "", next_look=REFRESH - 4),
        SourceStatus(
            "github:admin", ("dev", "ops"), 0, 0, "none", None, "no such account (404)", next_look=FIRST_RETRY - 4
        ),
    )
    ring.now = NOW + 7 * DAY + 1
    assert (ring.status().stale, ring.status("file:/keys/team.pub").stale) == (True, False)
    assert ring.status().next_look == 0.0
    ring.now = NOW - HOUR
    assert ring.status().age == 0.0


def test_refuses_a_login_whose_source_is_none(tmp_path: Path) -> None:
    """A source that is wrong, but got past the configuration, is an error at the start, or its account had no keys."""
    with pytest.raises(SourceError, match="gopher"):
        Ring(tmp_path, logins=(config.Login(user="dev", keys=("gopher:example",)),))
