"""keys.source_state: the state of one source, and the accounts that its keys let in to."""

from typing import Any

import msgspec
import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import AuthorizedKey
from pyssh_gateway.core.access.freshness import CLOCK_SKEW
from pyssh_gateway.keys.copies import Copy
from pyssh_gateway.keys.http_answer import FetchError, Validators
from pyssh_gateway.keys.inquiry import Known, known_from
from pyssh_gateway.keys.source_state import Grants, SourceStatus, Standing
from pyssh_gateway.keys.sources import Source, parse_source
from tests.support.keyring import ALICE, BLOBS, BOB, CAROL, DAY, FINGERPRINTS, HOUR, MINUTE, NOW, SPEC

PINNED = f"{SPEC}#7"


def known(listed: str = ALICE, spec: str = SPEC, **changes: Any) -> Known:  # noqa: ANN401 - any of its fields
    """The keys and facts of a source's answer."""
    heard = known_from(parse_source(spec), Copy(listed.encode(), NOW), "fetched")
    return msgspec.structs.replace(heard, **changes)


def standing_of(spec: str = SPEC, listed: str = "", **changes: Any) -> Standing:  # noqa: ANN401 - any field's
    """The state of a source that has answered with `listed`, or has not answered if that is empty."""
    standing = Standing(parse_source(spec), NOW)
    if listed:
        standing.heard(known(listed, spec, **changes), "")
    return standing


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_source_is_due_when_it_is_time() -> None:
    """A new source is asked at once, and later at its planned times."""
    standing = standing_of()
    assert standing.is_due(NOW)
    standing.begin(NOW, NOW + HOUR)
    assert [standing.is_due(NOW + seconds) for seconds in (0, HOUR - 1, HOUR, DAY)] == [False, False, True, True]


def test_a_long_wait_is_a_wait() -> None:
    """A server that asks for a longer pause than the usual interval gets it."""
    standing = standing_of()
    standing.begin(NOW, NOW + MINUTE)
    standing.due = NOW + 365 * DAY
    assert not standing.is_due(NOW)
    assert not standing.is_due(NOW + HOUR)


def test_a_clock_that_is_set_back_makes_it_due() -> None:
    """After the clock was set back, nothing waits for times planned by the wrong clock."""
    standing = standing_of(listed=ALICE)
    standing.begin(NOW, NOW + HOUR)
    standing.gone_since = standing.learn_due = NOW + HOUR
    assert standing.is_due(NOW - 1)
    standing.begin(NOW - DAY, NOW - DAY + HOUR)
    assert not standing.is_due(NOW - DAY)
    assert standing.gone_since is None
    assert standing.learn_due == NOW - DAY
    standing.gone_since = NOW - DAY
    standing.begin(NOW - DAY + HOUR, NOW - DAY + 2 * HOUR)
    assert standing.gone_since == NOW - DAY


def test_a_second_look_that_an_earlier_run_began_goes_on() -> None:
    """A second look that an earlier run has planned is due at its time, unless that time is in the future."""
    standing = standing_of(listed=ALICE)
    for since, found in ((None, None), (NOW - MINUTE, NOW - MINUTE), (NOW, NOW), (NOW + 1, None)):
        standing.saved = Copy(ALICE.encode(), NOW, gone_since=since)
        standing.resume(NOW)
        assert standing.gone_since == found
    standing.saved = None
    standing.resume(NOW)
    assert standing.gone_since is None


def test_age_is_that_of_the_answer_in_force() -> None:
    """Unknown keys, and those from the future, are older than any limit, but clocks may differ a little."""
    forever = float("inf")
    assert standing_of().age(NOW) == forever
    standing = standing_of(listed=ALICE)
    times = (-HOUR, -CLOCK_SKEW - 1, -CLOCK_SKEW, 0, HOUR)
    assert [standing.age(NOW + seconds) for seconds in times] == [forever, forever, 0, 0, HOUR]


def test_what_is_from_the_future_is_shown_as_such() -> None:
    """A copy with a time in the future is reported as stale, with the difference."""
    standing = standing_of(listed=ALICE)
    shown = standing.status(("dev",), NOW - DAY, 7 * DAY)
    assert (shown.stale, shown.ahead, shown.age) == (True, DAY, 0.0)
    shown = standing.status(("dev",), NOW - CLOCK_SKEW, 7 * DAY)
    assert (shown.stale, shown.ahead, shown.age) == (False, 0.0, 0.0)


def test_a_clock_that_is_set_back_makes_a_question_old() -> None:
    """After the clock was set back, a question that seems to be in the future counts as an old one."""
    standing = standing_of(listed=ALICE)
    standing.asked = True
    assert [standing.unasked(NOW + seconds) for seconds in (0, MINUTE)] == [0, MINUTE]
    assert standing.unasked(NOW - MINUTE) == 0.0  # the answer is current, as far as can be known
    assert standing.unasked(NOW - DAY) == float("inf")


def test_a_copy_of_the_future_is_written_again() -> None:
    """A copy with a time in the future is written again, or the next start without network would let nobody in."""
    standing = standing_of(listed=ALICE)
    assert standing.known is not None
    standing.saved = msgspec.structs.replace(standing.known.copy, fetched=NOW + DAY)
    assert standing.copy_to_save(HOUR) == standing.known.copy


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answer_ends_what_was_wrong() -> None:
    """An answer ends earlier failures and a planned second look."""
    standing = standing_of()
    standing.failure, standing.fruitless, standing.gone_since = "down", 3, NOW
    standing.heard(known(), "")
    assert (standing.failure, standing.fruitless) == ("", 0)
    assert standing.gone_since is None
    assert standing.blobs == {BLOBS[ALICE]}
    standing.heard(known(), "some keys wait")
    assert standing.failure == "some keys wait"
    standing.heard(known(revoked="taken over"), "")
    assert standing.failure == "taken over"
    standing.heard(known(revoked="taken over"), "nobody knows by whom")
    assert standing.failure == "taken over; nobody knows by whom"


def test_why_nobody_gets_in_is_told_beside_what_goes_wrong() -> None:
    """A failure is reported beside the reason why nobody gets in, without repeating it."""
    standing = standing_of()
    standing.failed("down")
    assert standing.failure == "down"
    standing.heard(known(revoked="gone (404), twice"), "")
    standing.failed("down")
    assert standing.failure == "gone (404), twice; down"
    standing.failed("gone (404)")
    assert standing.failure == "gone (404), twice"


# -- the trusted account ---------------------------------------------------------------------------------------------


def test_the_configuration_s_number_is_the_one() -> None:
    """A number in the configuration overrides the remembered one."""
    standing = standing_of(PINNED)
    standing.remembered = 8
    assert standing.trusted == 7
    standing = standing_of()
    assert standing.trusted is None
    standing.remembered = 8
    assert standing.trusted == 8


@pytest.mark.parametrize(
    ("spec", "wanted"), [(SPEC, True), (PINNED, False), ("gitlab:example", False), ("file:/keys", False)]
)
def test_only_github_s_accounts_have_numbers_to_learn(spec: str, wanted: bool) -> None:
    """Only GitHub accounts without a configured number have a number to learn."""
    assert standing_of(spec, ALICE).wants_account == wanted


def test_a_number_is_learned_from_an_answer_of_this_run() -> None:
    """A number is learned only for an answer of this run, as earlier keys may be those of an earlier owner."""
    assert not standing_of().wants_account
    assert not standing_of(listed=ALICE, origin="last-good").wants_account
    standing = standing_of(listed=ALICE)
    assert standing.wants_account
    standing.pins_lost = "damaged"
    assert not standing.wants_account
    standing.pins_lost, standing.remembered = "", 7
    assert not standing.wants_account


def test_lost_numbers_stop_the_questions_that_depend_on_them() -> None:
    """With lost numbers, only sources that depend on a remembered number are not asked."""
    for spec in (SPEC, PINNED, "gitlab:example", "file:/keys"):
        standing_of(spec).check_pins()
    for spec, lost in ((SPEC, True), (PINNED, False), ("gitlab:example", False), ("file:/keys", False)):
        standing = standing_of(spec)
        standing.pins_lost = "account-ids.json is damaged"
        if lost:
            with pytest.raises(FetchError, match=r"nobody knows which account was trusted: account-ids\.json is dam"):
                standing.check_pins()
            standing.remembered = 7
        standing.check_pins()


def test_starting_anew_forgets_whose_it_was() -> None:
    """After acceptance the number is asked for at once, and nothing about the earlier account remains."""
    standing = standing_of(listed=ALICE, account_id=7, confirmed=NOW, revoked="taken over")
    standing.remembered, standing.pins_lost, standing.learn_due = 7, "damaged", NOW + HOUR
    standing.start_anew()
    assert (standing.trusted, standing.failure, standing.pins_lost) == (None, "", "")
    assert standing.known is not None
    assert (standing.known.account_id, standing.known.revoked, standing.known.confirmed) == (None, "", 0.0)
    assert standing.wants_account
    assert standing.learn_due <= NOW
    empty = standing_of()
    empty.start_anew()
    assert empty.known is None


# -- the disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "change", "saved"),
    [
        (0.0, {}, False),
        (99.0, {}, False),
        (100.0, {}, True),
        (0.0, {"text": b""}, True),
        (0.0, {"account_id": 7}, True),
        (0.0, {"validators": Validators('"2"')}, True),
        (0.0, {"revoked": "taken over"}, True),
    ],
)
def test_what_the_disk_lacks_is_written(later: float, change: dict[str, Any], saved: bool) -> None:
    """Each fact that a restart needs is stored, and nothing else causes a write."""
    standing = standing_of()
    assert standing.copy_to_save(100.0) is None
    standing.heard(known(), "")
    copy = standing.copy_to_save(100.0)
    assert standing.known is not None
    assert copy == standing.known.copy
    standing.saved = copy
    standing.heard(known(fetched=NOW + later, **change), "")
    assert standing.copy_to_save(100.0) == (standing.known.copy if saved else None)


def test_that_it_was_not_there_is_written() -> None:
    """The first 404 is stored, so the next start can take the second look; it does not make the keys younger."""
    standing = standing_of(listed=ALICE)
    standing.saved = standing.copy_to_save(100.0)
    standing.gone_since = NOW + HOUR
    copy = standing.copy_to_save(2 * HOUR)
    assert copy is not None
    assert (copy.gone_since, copy.fetched) == (NOW + HOUR, NOW)
    standing.saved = copy
    assert standing.copy_to_save(2 * HOUR) is None
    standing.heard(known(), "")
    copy = standing.copy_to_save(2 * HOUR)
    assert copy is not None
    assert copy.gone_since is None


# -- reports -----------------------------------------------------------------------------------------------------------


def test_says_how_it_stands() -> None:
    """The report shows the state that is in force."""
    standing = standing_of(PINNED)
    standing.failure, standing.due = "down", NOW + 5
    nothing = SourceStatus(PINNED, ("dev",), 0, 0, "none", None, "down", pinned=7, next_look=5.0)
    assert standing.status(("dev",), NOW, DAY) == nothing
    standing = standing_of(listed=f"{ALICE}\nnonsense\n{BOB}")
    standing.remembered = 8
    something = SourceStatus(SPEC, (), 2, 1, "fetched", DAY, "", remembered=8, next_look=0.0)
    assert standing.status((), NOW + DAY, DAY) == something
    assert standing.status((), NOW + DAY + 1, DAY).stale


# -- accounts ----------------------------------------------------------------------------------------------------------

LOGINS = (
    config.Login(user="dev", keys=("github:~b", "file:/keys", "github:a"), only_fingerprints=(FINGERPRINTS[ALICE],)),
    config.Login(user="ops", keys=("github:a",), key_types=("ssh-rsa",)),
)


def lines(keys: tuple[AuthorizedKey, ...]) -> list[str]:
    """The sources of these keys."""
    return [key.source for key in keys]


def test_grants_are_as_the_configuration_has_them() -> None:
    """Sources are in the configuration's order, without duplicates, and so are the lines of each key."""
    grants = Grants((LOGINS[0], LOGINS[1]), _parse)
    assert [source.spec for source in grants.sources] == ["github:b", "file:/keys", "github:a"]
    assert [grants.users_of(source) for source in grants.sources] == [("dev",), ("dev",), ("dev", "ops")]
    texts = {"github:a": f"{ALICE}\n{BOB}", "file:/keys": f"cert-authority {CAROL}\nrestrict {ALICE}\n{ALICE}"}
    standings = {source: standing_of(source.spec, texts.get(source.spec, "")) for source in grants.sources}
    standings[grants.sources[0]].failure = "down"
    accounts = grants.accounts(standings.__getitem__)
    dev, ops = accounts["dev"], accounts["ops"]
    assert {blob: lines(keys) for blob, keys in dev.keys.items()} == {
        BLOBS[ALICE]: ["file:/keys", "file:/keys", "github:a"],
        BLOBS[BOB]: ["github:a"],
    }
    assert {blob: lines(keys) for blob, keys in dev.authorities.items()} == {BLOBS[CAROL]: ["file:/keys"]}
    assert (set(ops.keys), ops.authorities) == ({BLOBS[ALICE], BLOBS[BOB]}, {})
    assert (dev.failures, ops.failures) == (("github:b: down",), ())
    assert (dev.only_fingerprints, ops.only_fingerprints) == (frozenset({FINGERPRINTS[ALICE]}), frozenset())
    assert (dev.key_types, ops.key_types) == (frozenset(), frozenset({"ssh-rsa"}))


def _parse(spec: str) -> Source:
    return parse_source(spec.replace("~", ""))
