"""Which attempts with a plain key are accepted, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access.authorized_keys import AccountKeys, KeySnapshot, fingerprint
from pyssh_gateway.core.access.certificates import type_of
from pyssh_gateway.core.access.denials import Deny
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import (
    SECURITY_KEYS,
    SIGNATURE_ALGORITHMS,
    TOUCHED,
    Accept,
    Attempt,
    Proof,
    decide,
)
from pyssh_gateway.events import Identity
from tests.support.attempts import EC, ED, NOW, ODD, OTHER, RSA, SK, SKEC, UNKNOWN_ACCOUNT, UNKNOWN_KEY, ask
from tests.support.certificates import made_up
from tests.support.denials import deny
from tests.support.key_lines import SK_ECDSA, SK_ED25519, blob
from tests.support.snapshots import account, line, with_account

EVERYBODY = KeySnapshot(
    {
        "amos": account(*(line(key) for key in (ED, RSA, EC, SK, SKEC, ODD))),
        "user1": account(line(ED)),
        "nobody-yet": AccountKeys(),
        "other": account(line(OTHER)),
    }
)


@pytest.mark.parametrize("proved", [False, True])
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ED, "ssh-ed25519"),
        (RSA, "rsa-sha2-256"),
        (RSA, "rsa-sha2-512"),
        (EC, "ecdsa-sha2-nistp256"),
        (SK, SK_ED25519),
        (SKEC, SK_ECDSA),
    ],
)
def test_keys_of_the_account_get_in(key: bytes, algorithm: str, proved: bool) -> None:
    """A key of the account is accepted, offered or proved, with an algorithm of its type."""
    proof = Proof(algorithm, TOUCHED if type_of(key) in SECURITY_KEYS else None) if proved else None
    found = line(key)
    assert ask(key, EVERYBODY, algorithm=algorithm, proof=proof) == Accept(
        key=found,
        options=KeyOptions(),
        identity=Identity("github:example", None, fingerprint(key)),
        signer=key,
    )


@pytest.mark.parametrize(
    "user",
    [
        b"eve",
        b"",
        b"AMOS",
        b"amos ",
        b"amos\0",
        b"amos\xc2\xad",
        "amos¹".encode(),
        b"\xff\xfe",
        b"x" * 100_000,
    ],
)
def test_accounts_are_named_byte_by_byte(user: bytes) -> None:
    """A user name that only looks like the account's is unknown: names are compared byte by byte."""
    assert ask(ED, EVERYBODY, user=user) == UNKNOWN_ACCOUNT
    assert (
        ask(ED, KeySnapshot({"": account(line(ED)), "\ufffd\ufffd": account(line(ED))}), user=user) == UNKNOWN_ACCOUNT
    )


@pytest.mark.parametrize(
    ("attempt", "expected"),
    [
        (Attempt(b"nobody-yet", "ssh-ed25519", ED, None), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", OTHER, None), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", OTHER, Proof("ssh-ed25519")), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", ED + b"\0", None), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", b"", None), deny("not a public key", final=True)),
        (Attempt(b"amos", "ssh-ed25519", b"\xff" * 8, None), deny("not a public key", final=True)),
        (Attempt(b"amos", "ssh-dss", blob("ssh-dss"), None), deny("key type ssh-dss is not accepted", final=True)),
        (
            Attempt(b"amos", "ssh-of-tomorrow", ODD, Proof("ssh-of-tomorrow")),
            deny("key type ssh-of-tomorrow is not accepted", final=True),
        ),
        (Attempt(b"amos", "a", blob("a" * 99), None), deny(f"key type {'a' * 64} is not accepted", final=True)),
        (
            Attempt(b"amos", "ssh-rsa", RSA, None),
            deny("signature algorithm ssh-rsa is not accepted for a ssh-rsa key", final=True),
        ),
        (
            Attempt(b"amos", "ssh-rsa", RSA, Proof("ssh-rsa")),
            deny("signature algorithm ssh-rsa is not accepted for a ssh-rsa key", final=True),
        ),
        (
            Attempt(b"amos", "ssh-ed25519", RSA, None),
            deny("signature algorithm ssh-ed25519 is not accepted for a ssh-rsa key", final=True),
        ),
        (
            Attempt(b"amos", "rsa-sha2-256", ED, None),
            deny("signature algorithm rsa-sha2-256 is not accepted for a ssh-ed25519 key", final=True),
        ),
        (
            Attempt(b"amos", "rsa-sha2-256-cert-v01@openssh.com", RSA, None),
            deny("signature algorithm rsa-sha2-256-cert-v01@openssh.com is not accepted for a ssh-rsa key", final=True),
        ),
        (
            Attempt(b"amos", f"webauthn-{SK_ECDSA}", SKEC, None),
            deny(f"signature algorithm webauthn-{SK_ECDSA} is not accepted for a {SK_ECDSA} key", final=True),
        ),
        (
            Attempt(b"amos", "", ED, None),
            deny("signature algorithm  is not accepted for a ssh-ed25519 key", final=True),
        ),
        (
            Attempt(b"amos", "x" * 99, ED, None),
            deny(f"signature algorithm {'x' * 64} is not accepted for a ssh-ed25519 key", final=True),
        ),
        (
            Attempt(b"amos", "ecdsa-sha2-nistp384", EC, None),
            deny("signature algorithm ecdsa-sha2-nistp384 is not accepted for a ecdsa-sha2-nistp256 key", final=True),
        ),
        (
            Attempt(b"amos", "rsa-sha2-256", RSA, Proof("ssh-rsa")),
            deny("signature made with ssh-rsa, request says rsa-sha2-256", final=True),
        ),
        (
            Attempt(b"amos", "rsa-sha2-512", RSA, Proof("rsa-sha2-256")),
            deny("signature made with rsa-sha2-256, request says rsa-sha2-512", final=True),
        ),
        (
            Attempt(b"amos", "ssh-ed25519", ED, Proof("")),
            deny("signature made with , request says ssh-ed25519", final=True),
        ),
    ],
)
def test_all_others_stay_out_and_the_log_knows_why(attempt: Attempt, expected: Deny) -> None:
    """Other keys, algorithms and proofs are denied with a reason; only a wrong request is final, without a look."""
    assert decide(attempt, EVERYBODY, NOW) == expected


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (b"", "ssh-ed25519"),
        (ODD, "ssh-of-tomorrow"),
        (RSA, "ssh-rsa"),
        (made_up()[:-1], "ssh-ed25519"),
        (OTHER, "ssh-ed25519"),
    ],
)
def test_whether_an_account_exists_does_not_show(key: bytes, algorithm: str) -> None:
    """A client without a key of the account gets the same answer, and causes the same looks, if there is no account."""
    answers = [decide(Attempt(user, algorithm, key, None), EVERYBODY, NOW) for user in (b"amos", b"eve", b"nobody-yet")]
    assert len({answer.final for answer in answers if isinstance(answer, Deny)}) == 1
    assert all(isinstance(answer, Deny) for answer in answers)


def test_an_empty_snapshot_lets_nobody_in() -> None:
    """Before any key is known, nobody gets in."""
    assert ask(ED, KeySnapshot({})) == UNKNOWN_ACCOUNT


def test_an_outage_is_told_from_a_bad_key() -> None:
    """A refusal names the first failure of the account's sources; for an unknown account it names none."""
    failures = ("github:example: HTTP 503", "url:https://example.com/: timed out")
    keys = with_account(account(line(ED), failures=failures))
    assert ask(OTHER, keys) == deny("key is not known; backend error: github:example: HTTP 503")
    assert ask(OTHER, keys, user=b"eve") == UNKNOWN_ACCOUNT
    assert isinstance(ask(ED, keys), Accept)


# -- properties --------------------------------------------------------------------------------------------------


def test_no_key_type_signs_with_sha1_or_dsa() -> None:
    """The table has only modern algorithms, each for one type of key."""
    algorithms = [algorithm for allowed in SIGNATURE_ALGORITHMS.values() for algorithm in allowed]
    assert len(algorithms) == len(set(algorithms))
    assert {"ssh-rsa", "ssh-dss"}.isdisjoint(algorithms)
    assert set(SIGNATURE_ALGORITHMS) > SECURITY_KEYS


@given(
    st.one_of(st.sampled_from([b"amos", b"user1", b"other"]), st.binary(max_size=20)),
    st.one_of(st.sampled_from(["ssh-ed25519", "ssh-rsa", "rsa-sha2-256"]), st.text(max_size=20)),
    st.one_of(st.sampled_from([ED, RSA, EC, OTHER, SK, ODD, made_up()]), st.binary(max_size=20)),
    st.one_of(
        st.none(),
        st.builds(
            Proof,
            st.one_of(st.sampled_from(["ssh-ed25519", "rsa-sha2-256", SK_ED25519]), st.text(max_size=20)),
            st.one_of(st.none(), st.integers(0, 255)),
        ),
    ),
    st.text(max_size=10),
)
def test_acceptance_is_never_a_matter_of_interpretation(
    user: bytes, algorithm: str, key: bytes, proof: Proof | None, peer: str
) -> None:
    """An accepted attempt names the account exactly, and proves one of its keys with an algorithm of the key's type."""
    outcome = decide(Attempt(user, algorithm, key, proof, peer), EVERYBODY, NOW)
    if isinstance(outcome, Accept):
        assert outcome.key in EVERYBODY.accounts[user.decode()].keys[key]
        assert outcome.signer == key
        assert algorithm in SIGNATURE_ALGORITHMS[outcome.key.key_type]
        assert proof is None or proof.algorithm == algorithm
