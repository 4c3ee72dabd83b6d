"""keys.copies.Pins: the account numbers that are trusted because they were seen first."""

import json
import resource
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pyssh_gateway.keys import copies
from pyssh_gateway.keys.copies import CopyError, Pins

SPEC, OTHER = "github:example", "github:admin"


def test_an_account_that_was_seen_is_remembered(tmp_path: Path) -> None:
    """Trust on first use survives a restart, in a private file that people can read."""
    pins = Pins(tmp_path / "new" / "fetched")
    assert pins.load() == {}
    pins.remember(SPEC, 583231)
    pins.remember(OTHER, 1)
    assert Pins(tmp_path / "new" / "fetched").load() == {SPEC: 583231, OTHER: 1}
    assert pins.path.read_text() == '{\n  "github:admin": 1,\n  "github:example": 583231\n}\n'
    assert stat.S_IMODE(pins.path.stat().st_mode) == 0o600
    assert [path.name for path in pins.path.parent.iterdir()] == ["account-ids.json"]


def test_another_account_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    """A second account never replaces the first, however often it is stored."""
    pins = Pins(tmp_path)
    pins.remember(SPEC, 1)
    with pytest.raises(CopyError, match=r"github:example is account 1 in .*/account-ids\.json, and not 2"):
        pins.remember(SPEC, 2)
    assert pins.load() == {SPEC: 1}


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    """A number that is known is not written again, so that a full or read-only disk does no harm."""
    pins = Pins(tmp_path)
    pins.remember(SPEC, 1)
    inode = pins.path.stat().st_ino
    (tmp_path / "keeps the inode number from being used again").hardlink_to(pins.path)
    pins.remember(SPEC, 1)
    pins.forget(OTHER)
    assert pins.path.stat().st_ino == inode


def test_an_account_can_be_forgotten(tmp_path: Path) -> None:
    """An account can be forgotten, for a person who decides to accept a renamed one."""
    pins = Pins(tmp_path)
    pins.remember(SPEC, 1)
    pins.remember(OTHER, 3)
    pins.forget(SPEC)
    assert pins.load() == {OTHER: 3}
    pins.remember(SPEC, 4)
    assert pins.load() == {SPEC: 4, OTHER: 3}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"github:example": "1"}',
        b'{"github:example": 0}',
        b'{"github:example": -1}',
        b'{"github:example": 1.5}',
        b'{"github:example": null}',
        b'{"github:example": 1, "github:admin": true}',
        b'{"github:example": 1000000000000000000}',
        b'{"github:example": 1}}',
        b"\xff\xfe{\0}\0",
        b'{"github:example": 1}' + b" " * (1 << 20),
    ],
)
def test_a_damaged_file_is_an_error_at_every_turn(tmp_path: Path, content: bytes) -> None:
    """Damage never counts as an empty file, after which any account would be trusted."""
    pins = Pins(tmp_path)
    pins.path.write_bytes(content)
    for use in (pins.load, lambda: pins.remember(SPEC, 2), lambda: pins.forget(SPEC)):
        with pytest.raises(CopyError, match=r"account-ids\.json"):
            use()
    assert pins.path.read_bytes() == content


@pytest.mark.parametrize("mode", [0o602, 0o620])
def test_a_file_that_others_can_write_is_not_believed(tmp_path: Path, mode: int) -> None:
    """Another account on the machine cannot decide which GitHub account is trusted."""
    pins = Pins(tmp_path)
    pins.remember(SPEC, 1)
    pins.path.chmod(mode)
    with pytest.raises(CopyError, match=f"mode {mode:04o}"):
        pins.load()


def test_a_full_disk_leaves_what_was_known(tmp_path: Path) -> None:
    """A full disk is reported, and the numbers that were stored before stay."""
    pins = Pins(tmp_path)
    pins.remember(SPEC, 1)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            pins.remember(OTHER, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert pins.load() == {SPEC: 1}
    assert list(tmp_path.iterdir()) == [pins.path]


def test_threads_do_not_lose_each_other_s_numbers(tmp_path: Path) -> None:
    """Two accounts that are first seen at the same moment are both stored."""
    pins = Pins(tmp_path)
    seen = {f"github:user-{number}": number for number in range(1, 17)}
    threads = [threading.Thread(target=pins.remember, args=pin) for pin in seen.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pins.load() == seen


def test_there_is_room_for_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of accounts is limited, and those that are stored stay."""
    monkeypatch.setattr(copies, "MAX_PINS", 2)
    pins = Pins(tmp_path)
    pins.remember(SPEC, 1)
    pins.remember(OTHER, 2)
    with pytest.raises(CopyError, match="has 2 accounts already"):
        pins.remember("github:one-more", 3)
    pins.remember(SPEC, 1)
    assert pins.load() == {SPEC: 1, OTHER: 2}


def test_the_most_that_there_is_room_for_can_be_read_again(tmp_path: Path) -> None:
    """The limits on accounts and on the file's size agree."""
    longest = {f"github:{'a' * 32}{number:07}": 10**18 - 1 for number in range(copies.MAX_PINS)}
    pins = Pins(tmp_path)
    pins.path.write_text(json.dumps(longest, indent=2), "ascii")  # as `remember` would write it, without 10,000 calls
    pins.path.chmod(0o600)
    assert pins.load() == longest


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.integers(1, 10**18 - 1), max_size=2
    )
)
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_whatever_is_remembered_is_read_again(tmp_path: Path, seen: dict[str, int]) -> None:
    """No name of a source damages the file for the others."""
    pins = Pins(tmp_path)
    pins.path.unlink(missing_ok=True)
    for spec, number in seen.items():
        pins.remember(spec, number)
    assert pins.load() == seen
