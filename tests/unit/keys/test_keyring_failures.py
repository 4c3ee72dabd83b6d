"""keys.keyring: which people get in before, during and after each failure of a source, for how long, and why."""

import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import InternalError, KeysFailed
from pyssh_gateway.keys.inquiry import Inquirer, Known
from pyssh_gateway.keys.sources import Source
from tests.support import github as gh
from tests.support.denials import deny
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path, in_json
from tests.support.keyring import (
    ALICE,
    BLOBS,
    BOB,
    CAROL,
    DAY,
    HOUR,
    IMPATIENCE,
    MINUTE,
    NOW,
    REFRESH,
    SPEC,
    Ring,
)
from tests.support.waiting import PATIENCE

TOKEN = "hush"
API = api_path("users/example")
FILE = (config.Login(user="dev", keys=("file:/keys",)),)
EVERYBODY, NOBODY = {ALICE, BOB}, set[str]()


Trouble = Callable[[FakeGitHub, Path], AbstractContextManager[str]]
"""Makes the source fail, and returns the URL at which it does."""


def answering(answer: gh.Answer) -> Trouble:
    """A server that gives this answer."""

    @contextlib.contextmanager
    def trouble(github: FakeGitHub, _: Path) -> Iterator[str]:
        github.script("example", answer)
        yield github.url

    return trouble


@contextlib.contextmanager
def nobody_listens(_: FakeGitHub, __: Path) -> Iterator[str]:
    """A server that is not there."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@contextlib.contextmanager
def no_tls(github: FakeGitHub, _: Path) -> Iterator[str]:
    """A server without TLS."""
    yield github.url.replace("http:", "https:")


@contextlib.contextmanager
def somebody_in_the_middle(_: FakeGitHub, directory: Path) -> Iterator[str]:
    """A server with valid keys, and a certificate that nobody has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - dt.timedelta(days=1),
        not_valid_after=now + dt.timedelta(days=1),
    ).sign(key, hashes.SHA256())
    path = directory / "certificate.pem"
    path.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with FakeGitHub(context) as other:
        other.script("example", gh.keys(CAROL))
        yield other.url


class Case(NamedTuple):
    """A failure of the source. Before it EVERYBODY gets in, and after it the people in the source's next answer.

    `during`: people who get in after the first look during the failure, `later`: after a look a minute later.
    `reason`: the backend error, empty if there is none.
    """

    trouble: Trouble
    during: set[str]
    later: set[str]
    reason: str


RESET = str(int(NOW) + 1800)
CASES = {
    "outage": Case(nobody_listens, EVERYBODY, EVERYBODY, "no connection to 127.0.0.1"),
    "Retry-After": Case(
        answering(gh.limited(429, Retry_After="120")), EVERYBODY, EVERYBODY, "wants to be left alone for 2m"
    ),
    "X-RateLimit-Reset": Case(
        answering(gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset=RESET)),
        EVERYBODY,
        EVERYBODY,
        "wants to be left alone for 30m",
    ),
    "time-out": Case(answering(gh.hang()), EVERYBODY, EVERYBODY, f"no answer within {IMPATIENCE:g} s"),
    "no TLS": Case(no_tls, EVERYBODY, EVERYBODY, "no TLS connection to 127.0.0.1"),
    "bad certificate": Case(somebody_in_the_middle, EVERYBODY, EVERYBODY, "is not trusted: self-signed certificate"),
    "500": Case(answering(gh.status(500)), EVERYBODY, EVERYBODY, "the server answered 500"),
    "502": Case(answering(gh.error_with_keys(502, CAROL)), EVERYBODY, EVERYBODY, "the server answered 502"),
    "503": Case(answering(gh.status(503)), EVERYBODY, EVERYBODY, "the server answered 503"),
    "truncated": Case(answering(gh.truncated(CAROL)), EVERYBODY, EVERYBODY, "the answer was cut off"),
    "oversized": Case(answering(gh.huge(line=CAROL)), EVERYBODY, EVERYBODY, "answer larger than"),
    "HTML": Case(answering(gh.html()), EVERYBODY, EVERYBODY, "got an HTML page instead of keys"),
    "another host": Case(
        answering(gh.redirect("https://keys.example/example.keys")),
        EVERYBODY,
        EVERYBODY,
        "redirected to another place, which is not followed: 'https://keys.example/example.keys'",
    ),
    "404": Case(answering(gh.status(404)), EVERYBODY, NOBODY, "no such account (404)"),
    "410": Case(answering(gh.status(410)), EVERYBODY, NOBODY, "no such account (410)"),
    "empty list": Case(answering(gh.empty()), NOBODY, NOBODY, ""),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_who_gets_in_before_during_and_after(github: FakeGitHub, tmp_path: Path, case: Case) -> None:
    """No failure locks anybody out or lets anybody in, removed keys end, and the log has the right reason."""
    store = tmp_path / "fetched"
    github.script("example", gh.keys(ALICE, BOB))
    before = Ring(store, github.url)
    before.refresh()
    assert before.lets_in() == EVERYBODY

    timeout = IMPATIENCE if "no answer" in case.reason else PATIENCE
    with case.trouble(github, tmp_path) as url:
        ring = before.restarted(store, url, timeout=timeout)
        ring.refresh()
        assert ring.lets_in() == case.during
        if case.reason:
            failed = ring.events[-1]
            assert isinstance(failed, KeysFailed)
            assert failed.source == SPEC
            assert failed.kept == len(EVERYBODY)
            assert case.reason in failed.reason
            assert ring.refusal(CAROL).startswith(f"key is not known; backend error: {SPEC}: ")
            assert case.reason in ring.refusal(CAROL)
            assert case.reason in ring.status().failure
        else:
            assert ring.failures() == []
            assert ring.refusal(ALICE) == "key is not known"
        ring.now += MINUTE
        ring.refresh()
        assert ring.lets_in() == case.later
        assert ring.restarted(store, url).lets_in() == case.later

    github.script("example", gh.keys(BOB, CAROL))
    after = ring if (url, timeout) == (github.url, PATIENCE) else ring.restarted(store, github.url)
    after.now += HOUR
    after.refresh()
    assert after.lets_in() == {BOB, CAROL}
    assert after.status().failure == ""
    assert after.refusal(ALICE) == "key is not known"


def test_a_bug_in_asking_one_source_ends_nothing(
    github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug while one source is asked is reported, takes away no key, and the source is asked again."""
    github.script("example", gh.keys(ALICE))
    logins = (config.Login(user="dev", keys=(SPEC, "file:/keys")),)
    ring = Ring(tmp_path, github.url, logins, files={"/keys": BOB.encode()})
    ring.run(0)
    ask = Inquirer.ask

    async def stumble(inquirer: Inquirer, source: Source, *args: Any, **kwargs: Any) -> Known:  # noqa: ANN401 - those of the method it replaces
        if source.kind == "github":
            raise ZeroDivisionError("a bug")
        return await ask(inquirer, source, *args, **kwargs)

    async def stumble_too(inquirer: Inquirer, source: Source) -> int:
        raise ZeroDivisionError("another bug")

    monkeypatch.setattr(Inquirer, "ask", stumble)  # a real answer that brings out a bug is not known
    monkeypatch.setattr(Inquirer, "account_id", stumble_too)
    ring.files = {"/keys": CAROL.encode()}
    ring.pass_time(REFRESH)
    assert ring.lets_in() == {ALICE, CAROL}
    bugs = [event for event in ring.events if isinstance(event, InternalError)]
    assert {bug.where for bug in bugs} == {"keys"}
    told = {bug.error.splitlines()[-1] for bug in bugs}
    assert told == {"ZeroDivisionError: a bug", "ZeroDivisionError: another bug"}
    assert ring.failures() == ["internal error: ZeroDivisionError"]
    assert ring.status().failure == "internal error: ZeroDivisionError"

    monkeypatch.undo()
    github.script("example", gh.keys(BOB))
    ring.pass_time(REFRESH)
    assert ring.lets_in() == {BOB, CAROL}
    assert ring.status().failure == ""


def test_old_keys_let_in_for_max_stale_and_not_longer(github: FakeGitHub, tmp_path: Path) -> None:
    """An outage of days locks nobody out, but after weeks the keys of people who have left are not valid any more."""
    github.script("example", gh.conditional(gh.keys(ALICE), etag='"1"'))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    github.script("example", gh.status(500))
    ring.now = NOW + 7 * DAY
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert not ring.status().stale
    ring.now += 1
    assert ring.lets_in() == NOBODY
    assert ring.status().stale
    ring.now += DAY
    reason = f"the keys of {SPEC} were last confirmed 8d ago, more than max_stale (7d)"
    reason += f"; backend error: {SPEC}: the server answered 500 (Internal Server Error)"
    assert ring.decide(ALICE) == deny(reason)  # not final, so the sources are asked again before the refusal
    assert ring.restarted(tmp_path, github.url).lets_in() == NOBODY

    github.script("example", gh.conditional(gh.keys(ALICE), etag='"1"'))
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert not ring.status().stale
    assert ring.restarted(tmp_path, github.url).lets_in() == {ALICE}


def test_each_source_grows_old_by_itself(github: FakeGitHub, tmp_path: Path) -> None:
    """A key of two sources counts as long as one of them confirms it."""
    github.script("example", gh.keys(ALICE), gh.status(500))
    logins = (config.Login(user="dev", keys=(SPEC, "file:/keys")),)
    ring = Ring(tmp_path, github.url, logins, files={"/keys": f"{ALICE} alice\n{BOB}\n".encode()})
    ring.refresh()
    ring.now += 7 * DAY + 1
    ring.refresh()
    assert ring.lets_in() == {ALICE, BOB}
    assert ring.identity(ALICE).person == "file:alice"
    ring.files = {"/keys": BOB.encode()}
    ring.refresh()
    assert ring.lets_in() == {BOB}


def test_an_account_that_is_gone_gets_a_second_look(github: FakeGitHub, tmp_path: Path) -> None:
    """A single 404 locks nobody out, and a deleted account lets people in for a minute more, not for days."""
    github.script("example", gh.keys(ALICE), gh.status(404))
    ring = Ring(tmp_path, github.url)
    ring.run(0)
    ring.pass_time(REFRESH)
    assert ring.lets_in() == {ALICE}
    assert ring.failures() == ["no such account (404); if it still says so in a minute, its keys are revoked"]
    assert ring.status().next_look == MINUTE
    for _ in range(3):
        ring.now += 19
        ring.refresh()
        assert ring.lets_in() == {ALICE}
        assert ring.status().next_look == pytest.approx(NOW + REFRESH + MINUTE - ring.now)
    ring.pass_time(2)
    assert ring.lets_in() == {ALICE}
    ring.pass_time(1)
    assert ring.lets_in() == NOBODY
    revoked = "no such account (404), and so it was a minute before: its keys are revoked"
    failed = ring.events[-1]
    assert isinstance(failed, KeysFailed)
    assert (failed.reason, failed.kept) == (revoked, 0)
    assert ring.refusal(ALICE) == f"key is not known; backend error: {SPEC}: {revoked}"

    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.lets_in() == NOBODY
    assert restarted.status().failure == revoked
    restarted.refresh()
    assert restarted.status().failure == revoked
    github.script("example", gh.keys(ALICE))
    restarted.refresh()
    assert restarted.lets_in() == {ALICE}


def test_the_second_look_may_be_the_next_start_s(github: FakeGitHub, tmp_path: Path) -> None:
    """A deleted account ends after two looks, even if the machine is never up for the minute between them."""
    github.script("example", gh.keys(ALICE), gh.status(404))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    ring.now += HOUR
    ring.refresh()
    ring = ring.restarted(tmp_path, github.url, now=ring.now + MINUTE - 1)
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert ring.status().next_look == 1
    ring = ring.restarted(tmp_path, github.url, now=ring.now + 1)
    assert ring.lets_in() == {ALICE}
    ring.refresh()
    assert ring.lets_in() == NOBODY
    assert ring.restarted(tmp_path, github.url).lets_in() == NOBODY


def test_a_first_look_is_forgotten_when_it_has_answered(github: FakeGitHub, tmp_path: Path) -> None:
    """Two single 404s, before two starts and with good answers between, do not make an account count as gone."""
    github.script("example", gh.keys(ALICE), gh.status(404), gh.keys(ALICE), gh.status(404))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    for _ in range(3):
        ring = ring.restarted(tmp_path, github.url, now=ring.now + HOUR)
        ring.refresh()
        assert ring.lets_in() == {ALICE}


@pytest.mark.parametrize("between", [gh.keys(ALICE), gh.keys(ALICE, BOB)])
def test_an_account_that_is_back_was_not_gone(github: FakeGitHub, tmp_path: Path, between: gh.Answer) -> None:
    """Only two looks in a row count, so that one bad machine of the source's locks nobody out."""
    github.script("example", gh.keys(ALICE), gh.status(404), between, gh.status(404))
    ring = Ring(tmp_path, github.url)
    for _ in range(4):
        ring.refresh()
        ring.now += HOUR
        assert ALICE in ring.lets_in()
    ring.refresh()
    assert ring.lets_in() == NOBODY


def test_what_never_had_keys_is_not_revoked(github: FakeGitHub, tmp_path: Path) -> None:
    """A misspelt login is reported as missing, without claims about revoked keys."""
    ring = Ring(tmp_path, github.url)
    for _ in range(3):
        ring.refresh()
        ring.now += HOUR
    assert ring.failures() == ["no such account (404)"] * 3
    assert ring.keyring.missing() != ()


class Word(NamedTuple):
    """The API's answer about an account whose keys are gone, who gets in then, and the reported reason."""

    answer: gh.Answer
    lets_in: set[str]
    reason: str


def account(number: int) -> gh.Answer:
    """The API's answer with an account's number."""
    return in_json({"login": "example", "id": number})


WORDS = {
    "agrees": Word(gh.status(404), NOBODY, "and so it was a minute before: its keys are revoked"),
    "disagrees": Word(account(7), {ALICE}, "but the API knows the account"),
    "is down": Word(gh.status(500), {ALICE}, "the API could not confirm it: the server answered 500"),
    "hides it": Word(gh.status(403), {ALICE}, "the API could not confirm it: the server answered 403"),
    "knows another": Word(account(8), NOBODY, "and so it was a minute before: its keys are revoked"),
}


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS)
def test_with_a_token_the_api_has_to_agree(github: FakeGitHub, tmp_path: Path, word: Word) -> None:
    """With a token, keys are removed only if the API agrees, and another account of the same name is not believed."""
    github.account("example", 7)
    github.script("example", gh.keys(ALICE), gh.status(404))
    ring = Ring(tmp_path, github.url, token=TOKEN)
    ring.run(0)
    assert ring.status().remembered == 7
    github.script(API, word.answer)
    ring.pass_time(REFRESH)
    asked = github.requests[API]
    ring.pass_time(MINUTE)
    assert github.requests[API] == asked + 1
    assert github.headers_of[API][-1]["Authorization"] == f"Bearer {TOKEN}"
    assert ring.lets_in() == word.lets_in
    assert word.reason in ring.failures()[-1]

    github.script(API, gh.status(404))
    ring.pass_time(REFRESH)
    assert ring.lets_in() == NOBODY


def test_a_key_file_that_is_gone_gets_a_second_look(tmp_path: Path) -> None:
    """A file that an editor replaces locks nobody out, and a file that was removed loses its keys."""
    ring = Ring(tmp_path, logins=FILE, files={"/keys": ALICE.encode()})
    ring.run(0)
    ring.files = {}
    ring.pass_time(REFRESH)
    missing = "cannot read /keys: No such file or directory"
    assert ring.lets_in() == {ALICE}
    assert ring.failures() == [f"{missing}; if it still says so in a minute, its keys are revoked"]
    ring.pass_time(MINUTE - 1)
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    ring.pass_time(1)
    assert ring.lets_in() == NOBODY
    assert ring.failures()[-1] == f"{missing}, and so it was a minute before: its keys are revoked"
    assert ring.restarted(tmp_path, logins=FILE).lets_in() == NOBODY
    ring.files = {"/keys": BOB.encode()}
    ring.pass_time(REFRESH)
    assert ring.lets_in() == {BOB}


def test_a_key_file_that_can_t_be_read_is_not_gone(tmp_path: Path) -> None:
    """A file that can't be read, as on a failing disk, locks nobody out before max_stale."""
    ring = Ring(tmp_path, logins=FILE, files={"/keys": ALICE.encode()})
    ring.run(0)
    ring.files = {"/keys": PermissionError(13, "Permission denied")}
    ring.pass_time(DAY)
    assert ring.lets_in() == {ALICE}
    assert ring.failures()[-1] == "cannot read /keys: Permission denied"


def test_an_authority_that_is_gone_certifies_nobody(tmp_path: Path) -> None:
    """Removing an authority's file ends the logins with its certificates."""
    logins = (config.Login(user="dev", keys=("ca:/ca.pub",)),)
    ring = Ring(tmp_path, logins=logins, files={"/ca.pub": ALICE.encode()})
    ring.run(0)
    ring.files = {}
    ring.pass_time(REFRESH)
    assert set(ring.keyring.snapshot.accounts["dev"].authorities) == {BLOBS[ALICE]}
    ring.pass_time(MINUTE)
    assert ring.keyring.snapshot.accounts["dev"].authorities == {}
