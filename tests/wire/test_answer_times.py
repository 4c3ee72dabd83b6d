"""The time that a refusal takes: a client must not learn from it which accounts exist, or whose key it has."""

import asyncio
import os
import pwd
import random
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import asyncssh
import pytest

from pyssh_gateway.core.access.freshness import LOOKS
from tests.conftest import KeyPair, MakeServer
from tests.support import github as fake
from tests.support.server import Server
from tests.wire.plain import text
from tests.wire.raw import USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS, RawClient, connected

TRIES = 200
"""Requests of each kind."""

ON_A_CONNECTION = 50
"""How many of them use one connection, so that no kind always has the faster connection."""

NOISE = 0.1
"""By how much the medians of two kinds may differ, as a share of the smaller. On two cores with other load they
differ by 0.02 to 0.09 after 200 tries each, by 0.01 to 0.03 after 2,000. A refusal takes 0.4 to 0.7 ms; a verified
signature, which a server that knows the key might add, takes 0.16 ms more."""

MORE_TIMES = 4
"""How many times the tries are repeated at most, until the medians agree: repetition reduces noise only."""

PROMPT_SECONDS = 1.5
"""How long an answer may take that waits for nothing; waiting for the sources to the end takes 2 s."""

SOMEBODY = "daemon"
"""An account that every machine has, and that nobody logs in to. Its keys differ from the first
account's, and the network side does not run as it here."""


ELSEWHERE = "key that is to be used from elsewhere"


class Kind(NamedTuple):
    """A request that has to be refused."""

    name: str
    user: str
    key: asyncssh.SSHKey


MakeKinds = Callable[..., tuple[Server, list[Kind]]]


@pytest.fixture
def make_kinds(
    make_server: MakeServer,
    make_key: Callable[..., KeyPair],
    account: pwd.struct_passwd,
    user_key: KeyPair,
    is_root: bool,
) -> MakeKinds:
    """Makes a server whose account has these sources, and the kinds of requests that must be indistinguishable."""

    def make(sources: list[str], **keys: object) -> tuple[Server, list[Kind]]:
        theirs, elsewhere, stranger = make_key(), make_key(), asyncssh.read_private_key(make_key().private)
        lines = elsewhere.public.with_suffix(".lines")
        lines.write_text(f'from="192.0.2.99" {elsewhere.public.read_text()}')
        unknown = "x" * len(account.pw_name)  # a longer name takes longer to read
        logins = [{"user": account.pw_name, "keys": [*sources, f"file:{lines}"]}]
        kinds = [
            Kind("unknown account", unknown, stranger),
            Kind("unknown key", account.pw_name, stranger),
            Kind(ELSEWHERE, account.pw_name, asyncssh.read_private_key(elsewhere.private)),
            Kind("good key, unknown account", unknown, asyncssh.read_private_key(user_key.private)),
        ]
        if is_root:  # a server that is not root has one account only
            logins.append({"user": SOMEBODY, "keys": [f"file:{theirs.public}"]})
            kinds.append(Kind("another account's key", account.pw_name, asyncssh.read_private_key(theirs.private)))
        settings = {"login": logins, "limits": {"auth_attempts": 100}, "keys": keys}
        return make_server(settings), kinds

    return make


def ask(client: RawClient, kind: Kind, *, signed: bool) -> None:
    """Send the request, with a random signature if it is to have one."""
    if signed:
        signature = text(kind.key.algorithm) + text(os.urandom(64))
        client.prove(kind.key, user=kind.user.encode(), signature=signature)
    else:
        client.offer(kind.key, user=kind.user.encode())


async def refused(client: RawClient) -> None:
    """Wait for the refusal."""
    pkttype, payload = await client.hear(USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS)
    assert (pkttype, payload) == (USERAUTH_FAILURE, text(b"publickey") + b"\0")


async def measure(
    server: Server, key: KeyPair, kinds: list[Kind], taken: dict[str, list[float]], *, signed: bool
) -> None:
    """Add to `taken` the seconds from request to refusal of `TRIES` requests of each kind; the kinds take turns."""
    for _ in range(TRIES // ON_A_CONNECTION):
        async with AsyncExitStack() as stack:
            clients = [
                (kind, await stack.enter_async_context(connected(server, key.private, authenticate=False)))
                for kind in kinds
            ]
            for _ in range(ON_A_CONNECTION):
                random.shuffle(clients)  # otherwise each would always come after the same other one
                for kind, client in clients:
                    began = time.perf_counter()
                    ask(client, kind, signed=signed)
                    await refused(client)
                    taken[kind.name].append(time.perf_counter() - began)


@pytest.mark.parametrize("signed", [False, True], ids=["offered", "signed"])
@pytest.mark.alone
def test_refusals_take_the_same_time(make_kinds: MakeKinds, user_key: KeyPair, signed: bool) -> None:
    """Protects accounts and keys from a timing attack: every refusal takes the same time, whatever its reason."""
    server, kinds = make_kinds([f"file:{user_key.public}"])
    kinds = [kind for kind in kinds if kind.name != ELSEWHERE]  # reading the key's conditions takes 35 µs more
    taken: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    spread, times = NOISE, 0
    while spread >= NOISE and times < MORE_TIMES:
        asyncio.run(measure(server, user_key, kinds, taken, signed=signed))
        medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
        spread = max(medians.values()) / min(medians.values()) - 1
        times += 1
    assert spread < NOISE, medians
    reasons = {event["reason"] for event in server.find("auth.attempt", result="denied")}
    assert reasons == {"unknown account", "key is not known"}


def test_refusals_wait_alike_for_the_sources(make_kinds: MakeKinds, user_key: KeyPair) -> None:
    """Protects the same at the first attempt, for which the server asks the sources: each kind asks, and waits."""
    listed = fake.keys(user_key.public.read_text().strip())
    with fake.FakeGitHub() as github:
        github.script("example", listed)
        server, kinds = make_kinds(["github:example"], github_url=github.url)

        async def attempt(kind: Kind, source: str) -> None:
            gate = threading.Event()
            asked = github.requests["example"]
            github.script("example", fake.held(listed, gate))
            async with connected(server, user_key.private, source=source, authenticate=False) as client:
                ask(client, kind, signed=False)
                await asyncio.to_thread(github.wait_for_requests, "example", asked + 1)
                assert client.connection.heard.empty(), kind
                gate.set()
                began = time.perf_counter()
                await refused(client)
                assert time.perf_counter() - began < PROMPT_SECONDS, kind

        async def all_kinds() -> None:
            # One after the other, each from its own address: each may cause a look, up to LOOKS in a row.
            for number, kind in enumerate(kinds[:LOOKS], start=2):
                await attempt(kind, f"127.0.0.{number}")

        asyncio.run(all_kinds())
        server.end()
        assert github.requests["example"] == 1 + LOOKS
