"""keys.inquiry: the keys in a source's text, and which parts of an answer count."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import MAX_COMMENT, MAX_KEYS_BYTES
from pyssh_gateway.core.access.person_names import visible_name
from pyssh_gateway.keys.copies import Copies, Copy
from pyssh_gateway.keys.http_answer import FetchError, Validators
from pyssh_gateway.keys.inquiry import AccountChangedError, Inquirer, Known, known_from
from pyssh_gateway.keys.sources import parse_source
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.github_api import api_path
from tests.support.keyring import ALICE, BLOBS, BOB, CAROL, HOUR, NOW, SPEC

SOURCE = parse_source(SPEC)
LINES = {"ssh-ed25519": ALICE, "options": f"restrict {BOB}", "authority": f"cert-authority {CAROL}"}


def read(text: str, spec: str = SPEC, number: int | None = None) -> Known:
    """The keys and facts in the text of a source."""
    return known_from(parse_source(spec), Copy(text.encode(), NOW, account_id=number))


async def no_file(path: str) -> bytes:
    """A reader for files, of which none exists."""
    raise FileNotFoundError(2, "No such file or directory")


def ask(github: FakeGitHub, known: Known | None, trusted: int | None = 7, *, check: bool = False) -> Known:
    """The inquirer's result for the account's answer at NOW + HOUR."""
    inquirer = Inquirer(config.Keys(github_url=github.url), no_file, lambda: NOW + HOUR)
    return asyncio.run(inquirer.ask(SOURCE, known, trusted=trusted, check=check, now=NOW + HOUR))


# -- the keys in a text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [SPEC, "github:example#7", "gitlab:example", "url:https://keys.example/"])
def test_options_from_elsewhere_are_refused(spec: str) -> None:
    """A remote source can neither name authorities nor set options; a key with options from it is refused."""
    known = read("\n".join(LINES.values()), spec)
    assert known.blobs == {BLOBS[ALICE]}
    assert known.refused == 2
    assert all("options are not allowed" in refusal for refusal in known.refusals)


def test_options_of_a_file_count() -> None:
    """The options in a key file count, since its author may write on this machine; it may also name authorities."""
    known = read("\n".join(LINES.values()), "file:/keys")
    assert known.blobs == set(BLOBS.values())
    assert [key.options.cert_authority for key in known.keys] == [False, False, True]
    assert known.keys[1].options.pty is False


def test_every_key_of_an_authority_s_file_is_one() -> None:
    """A plain public key in a `ca:` file is an authority, and logs nobody in."""
    assert all(key.options.cert_authority for key in read(f"{ALICE}\n{BOB}", "ca:/ca.pub").keys)


@pytest.mark.parametrize(
    ("spec", "comment", "person"),
    [
        (SPEC, "amos@laptop", "github:example"),
        ("github:example#7", "", "github:example"),
        ("gitlab:example", "amos@laptop", "gitlab:example"),
        ("url:https://keys.example/", "amos@laptop", "url:https://keys.example/"),
        ("file:/keys", "amos@laptop", "file:amos@laptop"),
        ("file:/keys", "", "file:/keys"),
        ("file:/keys", "Amos Example\x1b[31m\u202e", "file:Amos␣Example<U+001B>[31m<U+202E>"),
        ("file:/keys", "jörg@büro", "file:jörg@büro"),
        ("file:/keys", "x" * MAX_COMMENT, f"file:{visible_name('x' * MAX_COMMENT)}"),
    ],
)
def test_whose_a_key_is(spec: str, comment: str, person: str) -> None:
    """Each key has one person, whose name is readable, and which a comment cannot turn into a GitHub account."""
    (key,) = read(f"{ALICE} {comment}", spec, 7).keys
    assert (key.person, key.person_id) == (person, 7)


def test_a_text_without_any_key_is_no_answer() -> None:
    """A text without any usable key is an error and takes nobody's keys away; an empty text does."""
    with pytest.raises(FetchError, match=r"no usable key in it \(2 bad lines, the first: line 1: not a public key\)"):
        read("Rate limit exceeded.\nCome back later.\n")
    assert read("").keys == ()
    assert read("# nobody\n").keys == ()


@given(
    st.builds(
        Copy,
        text=st.sampled_from([b"", ALICE.encode(), f"{BOB}\njunk\n{ALICE}\n".encode()]),
        fetched=st.floats(0, 4e9),
        validators=st.builds(Validators, st.sampled_from(["", '"1"'])),
        account_id=st.none() | st.integers(1, 10**18 - 1),
        revoked=st.sampled_from(["", "taken over"]),
    )
)
def test_what_is_kept_of_it_is_all_of_it(copy: Copy) -> None:
    """All facts of an answer are still known at the next start."""
    assert known_from(SOURCE, copy).copy == copy


@given(st.binary(max_size=200) | st.sampled_from([ALICE.encode() + b" \xff\x00", b"x" * (MAX_KEYS_BYTES + 1)]))
def test_no_text_is_too_odd(text: bytes) -> None:
    """Any text of a source or a disk gives keys or an error, for every kind of source."""
    for spec in (SPEC, "github-team:acme/ops", "url:https://keys.example/", "file:/keys", "ca:/ca.pub"):
        try:
            known = known_from(parse_source(spec), Copy(text, NOW))
        except FetchError:
            continue
        assert all(re.fullmatch(r"[!-~]+", key.person) for key in known.keys)


# -- the parts of an answer that count -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "listed", "trusted", "check", "asked"),
    [
        ("", ALICE, None, True, 0),
        ("", ALICE, 7, False, 1),
        (ALICE, ALICE, 7, False, 0),
        (ALICE, ALICE, 7, True, 1),
        (f"{ALICE}\n{BOB}", BOB, 7, False, 0),
        (ALICE, f"{ALICE}\n{BOB}", 7, False, 1),
        (ALICE, f"{ALICE}\n{BOB}", None, False, 0),
    ],
)
def test_asks_for_the_number_when_it_matters(
    before: str, listed: str, trusted: int | None, check: bool, asked: int
) -> None:
    """New keys count only after the account's number was checked, and otherwise the API is rarely asked."""
    with FakeGitHub() as github:
        github.account("example", 7)
        github.script("example", gh.keys(*listed.split("\n")))
        known = ask(github, read(before) if before else None, trusted, check=check)
        assert github.requests[api_path("users/example")] == asked
    assert known.blobs == read(listed).blobs
    assert (known.account_id, known.fetched, known.doubt) == (trusted, NOW + HOUR, "")
    assert known.confirmed == (NOW + HOUR if asked else 0.0)
    assert {key.person_id for key in known.keys} == {trusted}


def test_another_account_is_no_answer() -> None:
    """Keys of another account under the same login are not used."""
    with FakeGitHub() as github:
        github.account("example", 8)
        github.script("example", gh.keys(BOB))
        with pytest.raises(AccountChangedError) as caught:
            ask(github, read(ALICE))
    assert (caught.value.expected, caught.value.found) == (7, 8)
    assert str(caught.value) == "account 8 has this name now, trusted is account 7"


def test_keys_that_wait_are_not_kept(tmp_path: Path) -> None:
    """Unconfirmed keys do not become the last good copy, and the next request asks for all keys again."""
    with FakeGitHub() as github:
        github.script("example", gh.conditional(gh.keys(BOB, f"{ALICE} alice"), etag='"1"'))
        known = ask(github, read(ALICE, number=7))
    assert known.blobs == {BLOBS[ALICE]}
    assert known.doubt.startswith("new keys wait until it is certain that the account is still number 7: no such acc")
    assert not known.validators
    Copies(tmp_path).save(SPEC, known.copy)
    copy = Copies(tmp_path).load(SPEC)
    assert copy is not None
    assert known_from(SOURCE, copy).blobs == known.blobs
    assert copy.account_id == 7


def test_an_unchanged_answer_is_what_was_known() -> None:
    """A 304 confirms the earlier keys as of now, and gives them the number that is trusted now."""
    before = known_from(SOURCE, Copy(ALICE.encode(), NOW, Validators('"1"')))
    with FakeGitHub() as github:
        github.script("example", gh.conditional(gh.keys(BOB), etag='"1"'))
        known = ask(github, before)
    assert known.blobs == {BLOBS[ALICE]}
    assert (known.fetched, known.origin) == (NOW + HOUR, "fetched")
    assert [key.person_id for key in known.keys] == [7]
    assert known.validators == before.validators
