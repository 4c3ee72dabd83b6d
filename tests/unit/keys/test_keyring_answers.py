"""keys.keyring: the keys in force before, during and after each kind of answer."""

import asyncio
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.config import parser as config
from pyssh_gateway.events import KeysFailed, KeysLoaded
from pyssh_gateway.keys import refresher
from pyssh_gateway.keys.copies import Copies, Copy
from pyssh_gateway.keys.source_state import MAX_CHANGES
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.key_lines import ed25519, rsa
from tests.support.keyring import (
    ALICE,
    BOB,
    CAROL,
    FINGERPRINTS,
    HOUR,
    IMPATIENCE,
    MINUTE,
    SPEC,
    Ring,
    play,
)
from tests.support.waiting import PATIENCE

FILE = (config.Login(user="dev", keys=("file:/keys",)),)


BAD_ANSWERS = {
    "404": (gh.status(404), "no such account (404)"),
    "403": (gh.status(403), "the server answered 403"),
    "429": (gh.status(429), "the server answered 429 (Too Many Requests) and wants to be left alone for 1m"),
    "500": (gh.status(500), "the server answered 500"),
    "503 with keys in it": (gh.error_with_keys(503, CAROL), "the server answered 503"),
    "HTML": (gh.html(), "HTML page"),
    "HTML as text": (gh.html(content_type="text/plain"), "HTML page"),
    "10 MB": (gh.huge(line=CAROL), "answer larger than"),
    "10 MB in chunks": (gh.huge(line=CAROL, announced=False), "answer larger than"),
    "cut off": (gh.truncated(CAROL), "cut off"),
    "cut off in chunks": (gh.chunked_and_cut(CAROL), "cut off"),
    "no length": (gh.without_length(CAROL), "does not say how long it is"),
    "garbage": (gh.garbage(), "no usable key in it (2 bad lines, the first: line 1: not a public key)"),
    "talk about keys": (gh.raw(b"ssh-key list unavailable\n"), "no usable key in it (1 bad lines, the first"),
    "binary": (gh.binary(), "binary data"),
    "not HTTP": (gh.not_http(), "proper HTTP"),
    "hang up": (gh.hang_up(), "Remote end closed connection"),
    "redirect loop": (gh.redirect("/example.keys"), "redirected more than 3 times"),
    "redirect to nowhere": (gh.redirect_without_location(), "redirected to another place"),
    "hang": (gh.hang(), f"no answer within {IMPATIENCE:g} s"),
    "drip": (gh.drip(CAROL), f"no answer within {IMPATIENCE:g} s"),
    "dripping header": (gh.drip_headers(), f"no answer within {IMPATIENCE:g} s"),
}
bad_answers = pytest.mark.parametrize(("answer", "reason"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)


def timeout_for(reason: str) -> float:
    """A short timeout for answers that never end, so that the test does."""
    return IMPATIENCE if reason.startswith("no answer") else PATIENCE


def kept(store: Path) -> Copy:
    """The copy on disk, without the time of a first 404, which is no fact about its keys."""
    copy = Copies(store).load(SPEC)
    assert copy is not None
    return msgspec.structs.replace(copy, gone_since=None)


@bad_answers
def test_a_bad_answer_changes_nothing(github: FakeGitHub, tmp_path: Path, answer: gh.Answer, reason: str) -> None:
    """Bad answers change nothing: before, during and after them, and after a restart, the same people get in."""
    ring = Ring(tmp_path, github.url)
    github.script("example", gh.keys(ALICE, BOB))
    ring.refresh()
    before = kept(tmp_path)
    assert ring.lets_in() == {ALICE, BOB}

    ring = Ring(tmp_path, github.url, timeout=timeout_for(reason))
    ring.keyring.load_last_good()
    gate = threading.Event()
    github.script("example", answer if timeout_for(reason) == IMPATIENCE else gh.held(answer, gate))
    asked = github.requests["example"]

    async def refresh_and_look() -> None:
        refresh = asyncio.create_task(ring.keyring.refresh())
        await asyncio.to_thread(github.wait_for_requests, "example", asked + 1)
        assert ring.lets_in() == {ALICE, BOB}
        gate.set()
        await refresh

    play(refresh_and_look())
    assert ring.lets_in() == {ALICE, BOB}
    failed = ring.events[-1]
    assert isinstance(failed, KeysFailed)
    assert (failed.source, failed.kept) == (SPEC, 2)
    assert reason in failed.reason
    assert kept(tmp_path) == before
    assert reason in ring.keyring.describe()[0].failure

    restarted = Ring(tmp_path, github.url)
    restarted.keyring.load_last_good()
    assert restarted.lets_in() == {ALICE, BOB}

    github.script("example", gh.keys(BOB, CAROL))
    ring.now += MINUTE
    ring.refresh()
    assert ring.lets_in() == {BOB, CAROL}
    assert ring.keyring.describe()[0].failure == ""


@bad_answers
def test_a_bad_first_answer_lets_nobody_in(github: FakeGitHub, tmp_path: Path, answer: gh.Answer, reason: str) -> None:
    """A bad first answer gives neither keys nor a copy, and the source still counts as unknown."""
    ring = Ring(tmp_path, github.url, timeout=timeout_for(reason))
    github.script("example", answer)
    ring.refresh()
    assert ring.lets_in() == set()
    assert reason in ring.refusal(CAROL)
    assert [source.spec for source in ring.keyring.missing()] == [SPEC]
    assert list(tmp_path.iterdir()) == []
    (failed,) = ring.events
    assert isinstance(failed, KeysFailed)
    assert failed.kept == 0
    assert reason in failed.reason


def test_another_server_cannot_add_keys(github: FakeGitHub, tmp_path: Path) -> None:
    """A redirect to another server changes nothing, even if that has good keys."""
    with FakeGitHub() as other:
        other.script("example", gh.keys(CAROL))
        github.script("example", gh.keys(ALICE), gh.redirect(f"{other.url}/example.keys"))
        ring = Ring(tmp_path, github.url)
        ring.refresh()
        ring.refresh()
        assert other.requests.total() == 0
    assert ring.lets_in() == {ALICE}


def test_a_server_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """A start without network lets in the people who could log in before, once the copy is loaded."""
    with FakeGitHub() as github:
        github.script("example", gh.keys(ALICE))
        Ring(tmp_path, github.url).refresh()
    ring = Ring(tmp_path, github.url)
    assert ring.lets_in() == set()
    ring.keyring.load_last_good()
    assert ring.lets_in() == {ALICE}
    assert ring.keyring.missing() == ()
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert "no connection to 127.0.0.1" in ring.failures()[0]


@pytest.mark.parametrize("answer", [gh.empty(), gh.chunked(), gh.raw(b"\n"), gh.raw(b"# nobody\n")])
def test_an_empty_answer_takes_all_keys_away(github: FakeGitHub, tmp_path: Path, answer: gh.Answer) -> None:
    """Removing the last key of an account locks it out, also after a restart without network."""
    github.script("example", gh.keys(ALICE), answer)
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    ring.refresh()
    assert ring.lets_in() == set()
    assert ring.keyring.missing() == ()
    gone = (FINGERPRINTS[ALICE],)
    assert ring.events[-1] == KeysLoaded(
        source=SPEC, origin="fetched", accepted=0, refused=0, changed=True, removed=gone
    )
    restarted = Ring(tmp_path, "http://127.0.0.1:1")
    restarted.keyring.load_last_good()
    assert restarted.keyring.missing() == ()
    assert restarted.lets_in() == set()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (rsa(1024).decode(), "line 1: an RSA key of 1024 bits is too short"),
        ("ssh-dss AAAA", "line 1: DSA keys are too weak"),
        (f"restrict {CAROL}", "line 1: options are not allowed in keys from github:example"),
    ],
)
def test_refused_keys_are_an_answer(github: FakeGitHub, tmp_path: Path, line: str, reason: str) -> None:
    """A removed key is refused at once, even if only keys remain that can't log in."""
    github.script("example", gh.keys(ALICE, line), gh.keys(line))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    ring.refresh()
    assert ring.lets_in() == set()
    loaded = ring.events[-1]
    assert isinstance(loaded, KeysLoaded)
    assert (loaded.accepted, loaded.refused, loaded.removed) == (0, 1, (FINGERPRINTS[ALICE],))
    assert loaded.refusals[0].startswith(reason)
    restarted = ring.restarted(tmp_path)
    assert restarted.lets_in() == set()
    assert restarted.keyring.missing() == ()


@pytest.mark.parametrize("text", [f'restrict,comand="/bin/true" {ALICE}'.encode(), b"junk\n", b"\xff\x00"])
def test_a_file_is_taken_as_it_is(tmp_path: Path, text: bytes) -> None:
    """A misspelt restriction in a key file does not leave the earlier, unrestricted line in force."""
    ring = Ring(tmp_path, logins=FILE, files={"/keys": ALICE.encode()})
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    ring.files = {"/keys": text}
    ring.refresh()
    assert ring.lets_in() == set()
    assert (ring.status("file:/keys").accepted, ring.status("file:/keys").refused) == (0, 1)
    assert ring.restarted(tmp_path, logins=FILE).lets_in() == set()


def test_says_what_was_loaded(github: FakeGitHub, tmp_path: Path) -> None:
    """The log says how many keys a source has, which lines were refused and why, and what changed."""
    github.script("example", gh.keys(ALICE, "ssh-dss AAAA", BOB), gh.keys(BOB, ALICE), gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    for _ in range(3):
        ring.refresh()
    first, second, third = ring.events
    assert isinstance(first, KeysLoaded)
    assert (first.source, first.origin, first.accepted, first.refused, first.changed) == (SPEC, "fetched", 2, 1, True)
    assert first.refusals[0].startswith("line 2: DSA keys are too weak")
    assert first.added == (FINGERPRINTS[ALICE], FINGERPRINTS[BOB])
    assert second == KeysLoaded(source=SPEC, origin="fetched", accepted=2, refused=0, changed=False)
    removed = (FINGERPRINTS[BOB],)
    assert third == KeysLoaded(source=SPEC, origin="fetched", accepted=1, refused=0, changed=True, removed=removed)
    restarted = ring.restarted(tmp_path)
    added = (FINGERPRINTS[ALICE],)
    assert restarted.events == [
        KeysLoaded(source=SPEC, origin="last-good", accepted=1, refused=0, changed=True, added=added)
    ]


def test_says_only_so_much_of_what_changed(tmp_path: Path) -> None:
    """The log lists only a limited number of changed keys."""
    lines = b"".join(ed25519(number) + b"\n" for number in range(100))
    ring = Ring(tmp_path, logins=FILE, files={"/keys": lines})
    ring.refresh()
    ring.files = {"/keys": b""}
    ring.refresh()
    loaded, emptied = ring.events
    assert isinstance(loaded, KeysLoaded)
    assert isinstance(emptied, KeysLoaded)
    assert (loaded.accepted, len(loaded.added), len(emptied.removed)) == (100, MAX_CHANGES, MAX_CHANGES)


def test_an_unchanged_answer_counts_like_the_whole_one(github: FakeGitHub, tmp_path: Path) -> None:
    """An answer of "not modified" confirms the keys as of now, also with validators from an earlier run."""
    github.script("example", gh.conditional(gh.keys(ALICE), etag='W/"1"'))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    ring.now += HOUR
    ring.refresh()
    assert ring.status().age == 0.0
    restarted = ring.restarted(tmp_path, github.url)
    assert restarted.status().origin == "last-good"
    restarted.refresh()
    assert (restarted.status().origin, restarted.lets_in(), restarted.failures()) == ("fetched", {ALICE}, [])
    assert [headers.get("If-None-Match") for headers in github.headers] == [None, 'W/"1"', 'W/"1"']
    github.script("example", gh.conditional(gh.keys(BOB), etag='W/"2"'))
    restarted.refresh()
    assert restarted.lets_in() == {BOB}


TEXTS = {
    b"": set[str](),
    b"# nobody\n": set[str](),
    ALICE.encode(): {ALICE},
    f"{BOB}\r\n{ALICE}\n".encode(): {ALICE, BOB},
    f"{CAROL}\njunk\n".encode(): {CAROL},
    b"junk\n": set(),
    f"restrict {CAROL}".encode(): {CAROL},
    f'from="203.0.113.1" {CAROL}'.encode(): set(),
    f"restrikt {CAROL}".encode(): set(),
    b"x" * (1 << 21): None,
    b"\xff\x00": set(),
}


@given(st.lists(st.one_of(st.sampled_from([*TEXTS]), st.sampled_from(["gone", "restart"])), max_size=8))
@settings(max_examples=60, deadline=None)
def test_in_force_is_always_the_last_usable_answer(history: list[bytes | str]) -> None:
    """After any sequence of answers and restarts, exactly the last good answer lets people in."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresher, "FILE_SECOND_LOOK", 0.0)  # a real second for each file without keys
        ring, expected = Ring(Path(directory), logins=FILE), set[str]()
        for step in history:
            match step:
                case "restart":
                    ring = ring.restarted(Path(directory), logins=FILE)
                case "gone":
                    ring.files = {}
                    ring.refresh()
                case bytes():
                    ring.files = {"/keys": step}
                    ring.refresh()
                    usable = TEXTS[step]
                    expected = expected if usable is None else usable
            assert ring.lets_in() == expected
