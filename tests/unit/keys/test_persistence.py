"""keys.persistence: the state of earlier runs on the disk, and how it gets there."""

import asyncio
import json
import threading
from pathlib import Path

import pytest

from pyssh_gateway.events import AnyEvent, KeysFailed
from pyssh_gateway.keys import persistence
from pyssh_gateway.keys.copies import Copies, Copy, Pins
from pyssh_gateway.keys.inquiry import Known, known_from
from pyssh_gateway.keys.persistence import SAVE_AGAIN, Keeper, KeepingError
from pyssh_gateway.keys.source_state import Standing
from pyssh_gateway.keys.sources import parse_source
from tests.support.keyring import ALICE, BOB, NOW, SPEC, copy_path, threads
from tests.support.waiting import PATIENCE

SOURCE = parse_source(SPEC)


def standing_of(spec: str = SPEC, text: str = "", fetched: float = NOW, number: int | None = None) -> Standing:
    """The state of a source that has answered with `text`, or has not answered if that is empty."""
    standing = Standing(parse_source(spec), NOW)
    if text:
        known = known_from(standing.source, Copy(text.encode(), fetched, account_id=number), "fetched")
        standing.heard(known, "")
    return standing


def load(store: Path, *specs: str) -> tuple[list[Standing], dict[str, Known], list[str]]:
    """The result of loading: the sources' states, the known keys by source, and the reported failures."""
    events: list[AnyEvent] = []
    standings = [standing_of(spec) for spec in specs]
    known = {standing.source.spec: known for standing, known in Keeper(store, events.append).load(standings)}
    return standings, known, [event.reason for event in events if isinstance(event, KeysFailed)]


def keeper(store: Path) -> Keeper:
    """A keeper whose events are ignored."""
    return Keeper(store, lambda event: None)


def test_what_is_kept_is_found_again(tmp_path: Path) -> None:
    """A start without network knows the keys, their age and their account."""
    standing = standing_of(text=ALICE, number=7)
    asyncio.run(keeper(tmp_path).keep(standing))
    (found,), known, failures = load(tmp_path, SPEC)
    assert standing.known is not None
    assert (known[SPEC].keys, known[SPEC].fetched) == (standing.known.keys, NOW)
    assert (known[SPEC].origin, known[SPEC].account_id) == ("last-good", 7)
    assert found.remembered == 7
    assert found.saved == standing.saved
    assert failures == []


def test_capitals_do_not_hide_whose_keys_they_were(tmp_path: Path) -> None:
    """A login in other capitals is the same account, so that trust on first use is not lost."""
    asyncio.run(keeper(tmp_path).remember(standing_of("github:Example"), 7))
    (found,), _, _ = load(tmp_path, "github:eXample")
    assert found.remembered == 7
    asyncio.run(keeper(tmp_path).forget(found))
    (found,), _, _ = load(tmp_path, "github:Example")
    assert found.remembered is None


def test_nothing_is_found_where_nothing_was_kept(tmp_path: Path) -> None:
    """A first start is no failure."""
    (standing,), known, failures = load(tmp_path / "none", SPEC)
    assert (known, failures, standing.remembered, standing.pins_lost) == ({}, [], None, "")
    asyncio.run(keeper(tmp_path).keep(standing))
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_can_t_be_used_harms_no_other(tmp_path: Path) -> None:
    """A damaged copy gives one line in the log, and the other copies count."""
    Copies(tmp_path).save(SPEC, Copy(b"nonsense\n", NOW))
    Copies(tmp_path).save("github:admin", Copy(BOB.encode(), NOW))
    _, known, (failure,) = load(tmp_path, SPEC, "github:admin")
    assert set(known) == {"github:admin"}
    assert failure.startswith("last good copy not used: no usable key in it (1 bad lines")


def test_the_disk_is_written_to_when_there_is_something_new(tmp_path: Path) -> None:
    """The disk is written only for something new, or when its copy is too old."""
    keep = keeper(tmp_path).keep
    standing = standing_of(text=ALICE)
    asyncio.run(keep(standing))
    copy_path(tmp_path).unlink()
    for fetched, written in ((NOW + SAVE_AGAIN - 1, False), (NOW + SAVE_AGAIN, True)):
        standing.known = standing_of(text=ALICE, fetched=fetched).known
        asyncio.run(keep(standing))
        assert copy_path(tmp_path).exists() == written
    standing.known = standing_of(text=BOB, fetched=NOW + SAVE_AGAIN).known
    asyncio.run(keep(standing))
    copy = Copies(tmp_path).load(SPEC)
    assert copy is not None
    assert copy.text == BOB.encode()


def test_the_newest_is_what_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow write of an older state never replaces a newer one."""
    gate, began = threading.Event(), threading.Event()
    save = Copies.save

    def slow(copies: Copies, spec: str, copy: Copy) -> None:  # no file system here can be made slow
        began.set()
        gate.wait(PATIENCE)
        save(copies, spec, copy)

    monkeypatch.setattr(Copies, "save", slow)
    keep = keeper(tmp_path).keep
    standing = standing_of(text=ALICE)
    others = threads("save-keys")  # threads of earlier tests that were abandoned

    async def keep_both() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(keep(standing))
            await asyncio.to_thread(began.wait, PATIENCE)
            standing.known = standing_of(text=BOB).known
            tasks.create_task(keep(standing))
            await asyncio.sleep(0)
            assert len(threads("save-keys") - others) == 1
            gate.set()

    asyncio.run(keep_both())
    assert load(tmp_path, SPEC)[1][SPEC].text == BOB.encode()


def test_a_disk_that_does_not_take_it_is_an_error_with_a_reason(tmp_path: Path) -> None:
    """A disk that refuses a write gives an error with file and reason, and the next attempt writes again."""
    (tmp_path / "volume").touch()
    store = tmp_path / "volume" / "fetched"
    keep = keeper(store).keep
    standing = standing_of(text=ALICE)
    with pytest.raises(KeepingError) as caught:
        asyncio.run(keep(standing))
    assert str(caught.value) == f"could not keep a copy: {copy_path(store)}: Not a directory"
    (tmp_path / "volume").unlink()
    asyncio.run(keep(standing))
    assert copy_path(store).exists()


def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs delays only what should be stored, and nothing else."""
    monkeypatch.setattr(persistence, "SAVE_TIMEOUT", 0.05)
    gate = threading.Event()
    for owner, name in ((Copies, "save"), (Pins, "remember"), (Pins, "forget")):
        monkeypatch.setattr(owner, name, lambda *_: gate.wait(PATIENCE))  # no file system here can be made to hang
    kept = keeper(tmp_path)
    standing = standing_of(text=ALICE)

    async def try_all() -> list[str]:
        errors = []
        for writing in (kept.keep(standing), kept.remember(standing, 7), kept.forget(standing)):
            with pytest.raises(KeepingError) as caught:
                await writing
            errors.append(str(caught.value))
        gate.set()
        return errors

    not_written = f"could not write {tmp_path / 'account-ids.json'}: no answer from the disk"
    assert asyncio.run(try_all()) == [
        f"could not keep a copy: {copy_path(tmp_path)}: no answer from the disk",
        not_written,
        not_written,
    ]
    assert standing.saved is None


# -- account numbers -------------------------------------------------------------------------------------------------


def test_numbers_are_remembered_and_forgotten(tmp_path: Path) -> None:
    """Account numbers are stored and forgotten one at a time."""
    kept, standing = keeper(tmp_path), standing_of()
    asyncio.run(kept.remember(standing, 7))
    asyncio.run(kept.remember(standing_of("github:admin"), 8))
    found, _, _ = load(tmp_path, SPEC, "github:admin", "github:other")
    assert [standing.remembered for standing in found] == [7, 8, None]
    asyncio.run(kept.forget(standing))
    asyncio.run(kept.forget(standing))
    found, _, _ = load(tmp_path, SPEC, "github:admin")
    assert [standing.remembered for standing in found] == [None, 8]


def test_a_number_is_not_written_over_by_another(tmp_path: Path) -> None:
    """The first number of an account stays, even if two servers that share a directory disagree."""
    kept = keeper(tmp_path)
    asyncio.run(kept.remember(standing_of(), 7))
    with pytest.raises(KeepingError, match=r"github:example is account 7 in .*, and not 8"):
        asyncio.run(kept.remember(standing_of(), 8))
    assert json.loads((tmp_path / "account-ids.json").read_text()) == {SPEC: 7}


def test_numbers_that_can_t_be_written_are_an_error(tmp_path: Path) -> None:
    """A number that can't be stored is an error, so that nobody thinks that it is remembered."""
    (tmp_path / "fetched").touch()
    with pytest.raises(KeepingError, match="Not a directory"):
        asyncio.run(keeper(tmp_path / "fetched").remember(standing_of(), 7))


def test_numbers_that_can_t_be_read_are_known_to_be_lost(tmp_path: Path) -> None:
    """A damaged file of numbers is told apart from a missing one, for each source."""
    (tmp_path / "account-ids.json").write_text("{")
    found, _, failures = load(tmp_path, SPEC, "github:admin")
    assert failures == []
    for standing in found:
        assert "account-ids.json is damaged" in standing.pins_lost
        assert standing.trusted is None


def test_a_copy_of_another_account_is_not_used(tmp_path: Path) -> None:
    """After the stored number was changed, a copy of the earlier account is not used."""
    asyncio.run(keeper(tmp_path).keep(standing_of(text=ALICE, number=7)))
    Pins(tmp_path).remember(SPEC, 8)
    (standing,), known, failures = load(tmp_path, SPEC)
    assert (known, standing.remembered) == ({}, 8)
    assert failures == ["last good copy not used: it is of account 7, trusted is account 8"]


def test_a_copy_without_a_number_is_used(tmp_path: Path) -> None:
    """A crash between storing the number and the copy locks nobody out: a copy without a number is used."""
    asyncio.run(keeper(tmp_path).keep(standing_of(text=ALICE)))
    Pins(tmp_path).remember(SPEC, 8)
    (standing,), known, failures = load(tmp_path, SPEC)
    assert (set(known), standing.remembered, failures) == ({SPEC}, 8, [])
