"""keys.copies: the last good answers on disk, and what makes a copy invalid."""

import os
import resource
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.events import KeysFailed, KeysLoaded
from pyssh_gateway.keys import persistence
from pyssh_gateway.keys.copies import MAX_REVOKED, Copies, Copy, CopyError
from pyssh_gateway.keys.http_answer import MAX_VALIDATOR, Validators
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.keyring import ALICE, BOB, HEADER, NOW, SPEC, Ring, copy_path
from tests.support.waiting import PATIENCE

NO_FACTS = b'# {"validators":{"etag":"","modified":""},"account_id":null,"revoked":""}\n'
HEAD = HEADER + NO_FACTS
"""The first lines of a copy of SPEC that was fetched at NOW, without further facts."""


def test_a_copy_is_private_and_readable_by_people(tmp_path: Path) -> None:
    """A copy is a private file that its owner can read and understand."""
    store = tmp_path / "new" / "fetched"
    copy = Copy(f"{ALICE}\n".encode(), NOW, Validators('W/"4d7a"', "Mon"), 583231, "no account (404)")
    Copies(store).save(SPEC, copy)
    (path,) = store.iterdir()
    assert path.name.startswith("github-example-")
    assert path.suffix == ".keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    assert path.read_text() == (
        "# github:example as fetched at 2026-09-21T14:13:20+00:00\n"
        '# {"validators":{"etag":"W/\\"4d7a\\"","modified":"Mon"},"account_id":583231,"revoked":"no account (404)"}\n'
        f"{ALICE}\n"
    )


COPIES = st.builds(
    Copy,
    text=st.binary(max_size=100),
    fetched=st.integers(0, 4_000_000_000).map(float),
    validators=st.builds(Validators, *[st.text(st.characters(min_codepoint=32, max_codepoint=126))] * 2),
    account_id=st.none() | st.integers(1, 10**18 - 1),
    revoked=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    gone_since=st.none() | st.floats(0, 4e9),
)


@given(COPIES)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_copy_is_loaded_as_it_was_saved(tmp_path: Path, copy: Copy) -> None:
    """After a restart exactly the same is known, for any text."""
    Copies(tmp_path).save(SPEC, copy)
    assert Copies(tmp_path).load(SPEC) == copy


def test_there_may_be_no_copy(tmp_path: Path) -> None:
    """A missing copy, as at the first start, is no error."""
    assert Copies(tmp_path / "nowhere").load(SPEC) is None


def test_a_long_reason_does_not_spoil_a_copy(tmp_path: Path) -> None:
    """A revoked source stays revoked after a restart, also with a very long reason."""
    longest = "url:https://keys.example/" + "x" * 8000
    validators = Validators('"' * MAX_VALIDATOR, '"' * MAX_VALIDATOR)
    Copies(tmp_path).save(longest, Copy(b"#" * MAX_KEYS_BYTES, NOW, validators, revoked="\x1b\udc80" * 10_000))
    copy = Copies(tmp_path).load(longest)
    assert copy is not None
    assert copy.revoked == "\x1b?" * (MAX_REVOKED // 2)


def test_copies_of_similar_sources_are_different_files(tmp_path: Path) -> None:
    """No two sources share a copy, however similar their names, and none leaves the directory."""
    long = "url:https://keys.example/" + "x" * 300
    specs = ["github:a-b", "github:a_b", "url:https://a/b", "url:https://a.b", "file:/../../x", long + "1", long + "2"]
    paths = [copy_path(tmp_path, spec) for spec in specs]
    assert len(set(paths)) == len(specs)
    assert {path.parent for path in paths} == {tmp_path}
    assert max(len(path.name) for path in paths) < 64


def test_a_copy_is_written_only_when_the_answer_changes(github: FakeGitHub, tmp_path: Path) -> None:
    """Protects the disk from needless writes: a copy is written only when the answer changes, also after a restart."""
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    inode = copy_path(tmp_path).stat().st_ino
    os.link(copy_path(tmp_path), tmp_path / "keeps the inode number from being used again")
    ring.refresh()
    restarted = Ring(tmp_path, github.url)
    restarted.keyring.load_last_good()
    restarted.refresh()
    assert copy_path(tmp_path).stat().st_ino == inode
    github.script("example", gh.keys(BOB))
    restarted.refresh()
    assert copy_path(tmp_path).stat().st_ino != inode


FIRST_LINE, SECOND_LINE = "does not begin with the line that names", "has no second line that says what else"

BAD_COPIES = {
    "empty": (b"", FIRST_LINE),
    "no line end": (HEADER[:-1], FIRST_LINE),
    "no header": (ALICE.encode() + b"\n", FIRST_LINE),
    "another source": (HEAD.replace(b"example", b"somebody") + ALICE.encode(), "names github:example and a time"),
    "a longer name": (HEAD.replace(b"example", b"example2") + ALICE.encode(), "names github:example and a time"),
    "no time": (HEAD.replace(b"2026-09-21T14:13:20+00:00", b"noon") + ALICE.encode(), "and a time"),
    "impossible time": (HEAD.replace(b"2026", b"0000") + ALICE.encode(), "and a time"),
    "binary": (b"\x00\xff" * 1000, FIRST_LINE),
    "the first line only": (HEADER, SECOND_LINE),
    "of an earlier version": (HEADER + ALICE.encode() + b"\n", SECOND_LINE),
    "of an earlier version, a comment first": (HEADER + b"# x\n" + ALICE.encode() + b"\n", SECOND_LINE),
    "facts without an end": (HEAD[:-1], SECOND_LINE),
    "facts without a comment sign": (HEADER + NO_FACTS[2:] + ALICE.encode(), SECOND_LINE),
    "half of the facts": (HEAD.replace(b',"revoked":""', b"") + ALICE.encode(), SECOND_LINE),
    "facts that are not known": (HEAD.replace(b"}\n", b',"new":1}\n') + ALICE.encode(), SECOND_LINE),
    "an account of no number": (HEAD.replace(b"null", b"0") + ALICE.encode(), SECOND_LINE),
    "an account of text": (HEAD.replace(b"null", b'"1"') + ALICE.encode(), SECOND_LINE),
    "a tag with a line end": (HEAD.replace(b'etag":"', b'etag":"\\n') + ALICE.encode(), SECOND_LINE),
    "an endless tag": (HEAD.replace(b'etag":"', b'etag":"' + b"x" * 1025) + ALICE.encode(), SECOND_LINE),
    "gone since noon": (HEAD.replace(b"}\n", b',"gone_since":"noon"}\n') + ALICE.encode(), SECOND_LINE),
    "revoked by nothing": (HEAD.replace(b'revoked":""', b'revoked":false') + ALICE.encode(), SECOND_LINE),
    "too large": (HEAD + b"#" * (1 << 21), "too large for a list of who may log in"),
}


@pytest.mark.parametrize(("content", "reason"), BAD_COPIES.values(), ids=BAD_COPIES)
def test_a_corrupt_copy_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """Damage on disk lets nobody in, and a copy with one wrong line is refused as a whole."""
    copy_path(tmp_path).write_bytes(content)
    with pytest.raises(CopyError) as caught:
        Copies(tmp_path).load(SPEC)
    assert reason in str(caught.value)
    assert str(copy_path(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("content", [b"damaged", HEAD + b"\x00\xff\n"], ids=["damaged", "garbage below"])
def test_a_corrupt_copy_is_reported_and_left_out(tmp_path: Path, content: bytes) -> None:
    """A damaged copy does not stop the start, and the other copies still count."""
    copy_path(tmp_path).write_bytes(content)
    Copies(tmp_path).save("github:admin", Copy(BOB.encode(), NOW))
    ring = Ring(tmp_path, logins=(config.Login(user="dev", keys=(SPEC, "github:admin")),))
    ring.keyring.load_last_good()
    assert ring.lets_in() == {BOB}
    assert [source.spec for source in ring.keyring.missing()] == [SPEC]
    (failed,) = (event for event in ring.events if isinstance(event, KeysFailed))
    assert (failed.source, failed.kept) == (SPEC, 0)
    assert failed.reason.startswith("last good copy not used: ")


def test_a_corrupt_copy_is_replaced_by_the_next_good_answer(github: FakeGitHub, tmp_path: Path) -> None:
    """A damaged copy is replaced at the next good answer."""
    copy_path(tmp_path).write_bytes(b"damaged")
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.keyring.load_last_good()
    ring.refresh()
    assert copy_path(tmp_path).read_bytes() == HEAD + ALICE.encode() + b"\n"


def test_a_copy_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    """Another account on the machine cannot let itself in by writing a copy."""
    copy_path(tmp_path).write_bytes(HEAD + ALICE.encode())
    for mode in (0o602, 0o620, 0o666):
        copy_path(tmp_path).chmod(mode)
        with pytest.raises(CopyError, match=f"mode {mode:04o}"):
            Copies(tmp_path).load(SPEC)
    copy_path(tmp_path).chmod(0o644)
    assert Copies(tmp_path).load(SPEC) == Copy(ALICE.encode(), NOW)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link to a device", "loop"])
def test_a_copy_that_is_no_file_is_not_used(tmp_path: Path, kind: str) -> None:
    """Nothing in the place of a copy can hang or stop the start."""
    path = copy_path(tmp_path)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "link to a device":
            path.symlink_to("/dev/zero")
        case _:
            path.symlink_to(path)
    with pytest.raises(CopyError, match=str(path)):
        Copies(tmp_path).load(SPEC)


def test_a_copy_that_cannot_be_written_stops_nobody(github: FakeGitHub, tmp_path: Path) -> None:
    """A copy that can't be written, as on a read-only disk, is reported, and the keys are in force all the same."""
    (tmp_path / "file").touch()
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path / "file" / "fetched", github.url)
    ring.refresh()
    assert ring.lets_in() == {ALICE}
    assert isinstance(ring.events[0], KeysLoaded)
    failed = ring.events[1]
    assert isinstance(failed, KeysFailed)
    assert failed.reason.startswith("could not keep a copy: ")
    assert failed.reason.endswith(": Not a directory")
    assert failed.kept == 1


def test_a_copy_that_fails_in_the_middle_leaves_the_old_one(github: FakeGitHub, tmp_path: Path) -> None:
    """An error while writing leaves no partial file, and the next refresh tries again."""
    copy_path(tmp_path).mkdir()
    (copy_path(tmp_path) / "in the way").touch()
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    assert "could not keep a copy" in ring.failures()[0]
    assert list(tmp_path.iterdir()) == [copy_path(tmp_path)]
    (copy_path(tmp_path) / "in the way").unlink()
    copy_path(tmp_path).rmdir()
    ring.refresh()
    assert copy_path(tmp_path).read_bytes() == HEAD + ALICE.encode() + b"\n"


def test_a_full_disk_leaves_no_debris(github: FakeGitHub, tmp_path: Path) -> None:
    """A copy that does not fit on the disk is removed, and the earlier one stays whole."""
    github.script("example", gh.keys(ALICE), gh.keys(ALICE, BOB))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(HEAD) + len(ALICE) + 10, unlimited[1]))
    try:
        ring.refresh()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert ring.lets_in() == {ALICE, BOB}
    assert ring.failures()[0].endswith(": File too large")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [HEAD + ALICE.encode() + b"\n"]


def test_a_disk_that_hangs_does_not_hold_up_the_refresh(
    github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A volume that hangs is reported like any other failure, within a limited time."""
    monkeypatch.setattr(persistence, "SAVE_TIMEOUT", 0.05)
    gate = threading.Event()
    monkeypatch.setattr(Copies, "save", lambda *_: gate.wait(PATIENCE))  # no file system here can be made to hang
    github.script("example", gh.keys(ALICE))
    ring = Ring(tmp_path, github.url)
    ring.refresh()
    gate.set()
    assert ring.lets_in() == {ALICE}
    assert ring.failures()[0].endswith("no answer from the disk")
