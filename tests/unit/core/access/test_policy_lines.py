"""The conditions of a key's line and of its login: address, expiry, touch and PIN; and the key's person."""

import pytest

from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot, fingerprint
from pyssh_gateway.core.access.certificates import type_of
from pyssh_gateway.core.access.freshness import CLOCK_SKEW
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import TOUCHED, VERIFIED, Accept, Attempt, Proof, decide, still_holds
from pyssh_gateway.events import Identity
from tests.support.attempts import DAY, ED, NOW, OTHER, RSA, SK, SKEC, UNKNOWN_KEY, ask
from tests.support.denials import deny
from tests.support.snapshots import USER, account, line, snapshot, with_account


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (KeyOptions(expires=NOW), ""),
        (KeyOptions(expires=NOW - 1), "the key expired 1s ago (expiry-time)"),
        (KeyOptions(expires=NOW - 2 * DAY - 90), "the key expired 2d1m ago (expiry-time)"),
        (KeyOptions(source=("192.0.2.0/24",)), ""),
        (KeyOptions(source=("*", "!192.0.2.1")), "the key may not be used from 192.0.2.1 (from)"),
        (KeyOptions(source=("10.0.0.0/8",)), "the key may not be used from 192.0.2.1 (from)"),
        (KeyOptions(verify_required=True), "a ssh-ed25519 key can't verify its user (verify-required)"),
        (KeyOptions(touch_required=False, command=b"true", pty=False), ""),
    ],
)
def test_options_of_a_line_hold(options: KeyOptions, expected: str) -> None:
    """A key's address and expiry conditions are enforced, and its permissions are returned."""
    outcome = ask(ED, snapshot(line(ED, options)))
    if expected:
        assert outcome == deny(expected)
    else:
        assert isinstance(outcome, Accept)
        assert outcome.options == options


def test_an_authoritys_key_does_not_log_in() -> None:
    """An authority's key does not log in, not even if it is listed among keys that do."""
    authority = line(ED, KeyOptions(cert_authority=True))
    assert ask(ED, snapshot(authority)) == UNKNOWN_KEY
    confused = with_account(AccountKeys(keys={ED: (authority,)}))
    assert ask(ED, confused) == deny("the key is an authority's: it certifies, and does not log in")


def test_an_address_that_is_not_known_is_not_permitted() -> None:
    """Without the client's address, `from=` matches nothing."""
    attempt = Attempt(b"amos", "ssh-ed25519", ED, None)
    assert decide(attempt, snapshot(line(ED, KeyOptions(source=("*",)))), NOW) == deny(
        "the key may not be used from  (from)"
    )


def test_the_first_line_whose_conditions_hold_lets_in() -> None:
    """The first line whose conditions hold lets in, as in sshd; if none holds, the log has the first line's reason."""
    elsewhere, expired = line(ED, KeyOptions(source=("10.0.0.0/8",))), line(ED, KeyOptions(expires=NOW - 5))
    first, second = line(ED, KeyOptions(command=b"first")), line(ED, KeyOptions(command=b"second"))
    outcome = ask(ED, snapshot(elsewhere, first, second))
    assert isinstance(outcome, Accept)
    assert (outcome.key, outcome.options.command) == (first, b"first")
    assert ask(ED, snapshot(elsewhere, expired)) == deny("the key may not be used from 192.0.2.1 (from)")


@pytest.mark.parametrize(
    ("types", "only", "expected"),
    [
        ({"ssh-ed25519"}, set(), ""),
        ({"ssh-rsa"}, set(), "key_types of this login does not have ssh-ed25519"),
        (set(), {fingerprint(ED)}, ""),
        (set(), {fingerprint(RSA)}, "only_fingerprints of this login does not have this key"),
        ({"ssh-rsa"}, {fingerprint(ED)}, "key_types of this login does not have ssh-ed25519"),
    ],
)
def test_a_login_narrows_the_keys_of_its_sources(types: set[str], only: set[str], expected: str) -> None:
    """A login restricts keys by type and by fingerprint; a key must fit both, and the denial is not final."""
    outcome = ask(ED, with_account(account(line(ED), line(RSA), types=frozenset(types), only=frozenset(only))))
    assert outcome == deny(expected) if expected else isinstance(outcome, Accept)


# -- how old the keys are ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (0.0, ""),
        (-CLOCK_SKEW, ""),
        (-DAY, "the keys of github:example are dated 1d in the future, so nobody knows how old they are"),
        (7 * DAY, ""),
        (
            8 * DAY + 30,
            "the keys of github:example were last confirmed 8d ago, more than max_stale (7d)",
        ),
        (None, "the keys of github:example were never confirmed"),
    ],
)
def test_keys_that_nobody_confirms_stop_counting(age: float | None, expected: str) -> None:
    """Keys unconfirmed for max_stale are denied; the denial is not final, and names the failure of the source."""
    fetched = {} if age is None else {"github:example": NOW - age}
    outcome = ask(ED, snapshot(line(ED), fetched=fetched, max_stale=7 * DAY))
    assert outcome == deny(expected) if expected else isinstance(outcome, Accept)
    failing = {USER: account(line(ED), failures=("github:example: HTTP 503",))}
    outcome = ask(ED, KeySnapshot(failing, fetched=fetched, max_stale=7 * DAY))
    said = f"{expected}; backend error: github:example: HTTP 503"
    assert outcome == deny(said) if expected else isinstance(outcome, Accept)


def test_a_stale_source_does_not_stand_in_anothers_way() -> None:
    """Each line depends on its own source only; if a denied line's source is stale, asking it again may help."""
    gone, file = line(ED), line(ED, source="file:/keys")
    fetched = {"github:example": NOW - 8 * DAY, "file:/keys": NOW}
    outcome = ask(ED, snapshot(gone, file, fetched=fetched, max_stale=7 * DAY))
    assert isinstance(outcome, Accept)
    assert outcome.key == file
    expired = line(ED, KeyOptions(expires=NOW - 1), source="file:/keys")
    outcome = ask(ED, snapshot(expired, gone, fetched=fetched, max_stale=7 * DAY))
    assert outcome == deny("the key expired 1s ago (expiry-time)")


# -- security keys -----------------------------------------------------------------------------------------------

NO_TOUCH = "the security key was not touched"
NO_PIN = "the security key did not verify its user (verify-required)"


@pytest.mark.parametrize("key", [SK, SKEC])
@pytest.mark.parametrize(
    ("options", "flags", "expected"),
    [
        (KeyOptions(), TOUCHED, ""),
        (KeyOptions(), TOUCHED | VERIFIED, ""),
        (KeyOptions(), 0, NO_TOUCH),
        (KeyOptions(), None, NO_TOUCH),
        (KeyOptions(), VERIFIED, NO_TOUCH),
        (KeyOptions(), 0xFE, NO_TOUCH),
        (KeyOptions(touch_required=False), 0, ""),
        (KeyOptions(touch_required=False), None, ""),
        (KeyOptions(verify_required=True), TOUCHED | VERIFIED, ""),
        (KeyOptions(verify_required=True), TOUCHED, NO_PIN),
        (KeyOptions(verify_required=True), 0xFB, NO_PIN),
        (KeyOptions(verify_required=True), VERIFIED, NO_TOUCH),
        (KeyOptions(verify_required=True, touch_required=False), VERIFIED, ""),
        (KeyOptions(verify_required=True, touch_required=False), TOUCHED, NO_PIN),
    ],
)
def test_somebody_has_to_be_there(key: bytes, options: KeyOptions, flags: int | None, expected: str) -> None:
    """A touch is required unless the line has no-touch-required, and a PIN if it has verify-required."""
    keys = snapshot(line(key, options))
    outcome = ask(key, keys, proof=Proof(type_of(key), flags))
    assert outcome == deny(expected) if expected else isinstance(outcome, Accept)
    assert isinstance(ask(key, keys), Accept)  # an offer has no signature yet


# -- the person --------------------------------------------------------------------------------------------------


def test_the_person_is_whose_key_it_is() -> None:
    """The person of a login is the key's, or the source's if that does not know more."""
    known = AuthorizedKey(
        ED, "ssh-ed25519", fingerprint(ED), "", "url:https://example.com/", person="amos@laptop", person_id=7
    )
    outcome = ask(ED, snapshot(known))
    assert isinstance(outcome, Accept)
    assert outcome.identity == Identity("amos@laptop", 7, fingerprint(ED))


def test_a_session_lasts_while_its_key_is_the_accounts() -> None:
    """A session ends when key or account is gone or the login excludes it, not for age, outage, expiry or address."""
    accepted = ask(ED, snapshot(line(ED)))
    assert isinstance(accepted, Accept)
    assert still_holds("amos", accepted, snapshot(line(ED)))
    assert still_holds("amos", accepted, snapshot(line(ED, KeyOptions(expires=NOW - DAY, source=("10.0.0.1",)))))
    assert still_holds("amos", accepted, snapshot(line(ED), max_stale=1.0))
    assert still_holds("amos", accepted, with_account(account(line(ED), failures=("HTTP 503",))))
    assert still_holds("amos", accepted, with_account(account(line(ED), types=frozenset({"ssh-ed25519"}))))
    assert not still_holds("amos", accepted, snapshot(line(OTHER)))
    assert not still_holds("amos", accepted, KeySnapshot({"eve": account(line(ED))}))
    assert not still_holds("amos", accepted, with_account(account(line(ED), types=frozenset({"ssh-rsa"}))))
    assert not still_holds("amos", accepted, with_account(account(line(ED), only=frozenset({fingerprint(OTHER)}))))
    assert not still_holds("amos", accepted, snapshot(line(ED, KeyOptions(cert_authority=True))))
