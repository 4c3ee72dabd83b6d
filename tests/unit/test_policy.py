"""Who gets in, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.authorized_keys import AuthorizedKey, KeySnapshot, fingerprint
from pyssh_gateway.core.policy import SIGNATURE_ALGORITHMS, Accept, Attempt, Deny, decide


def key(key_type: str, blob: bytes) -> AuthorizedKey:
    """A key that may log in."""
    return AuthorizedKey(blob, key_type, fingerprint(blob), "a comment", "github:example")


ED, RSA, EC, ODD = b"ed25519", b"rsa", b"ecdsa", b"odd"
KEYS = {
    ED: key("ssh-ed25519", ED),
    RSA: key("ssh-rsa", RSA),
    EC: key("ecdsa-sha2-nistp256", EC),
    ODD: key("ssh-of-tomorrow", ODD),
}
SNAPSHOT = KeySnapshot(
    {"amos": KEYS, "user1": {ED: KEYS[ED]}, "nobody-yet": {}, "other": {b"theirs": key("ssh-ed25519", b"theirs")}}
)

UNKNOWN_ACCOUNT = "unknown account"
UNKNOWN_KEY = "key is not authorised for this account"


@pytest.mark.parametrize("proof", [None, "same"])
@pytest.mark.parametrize(
    ("blob", "algorithm"),
    [(ED, "ssh-ed25519"), (RSA, "rsa-sha2-256"), (RSA, "rsa-sha2-512"), (EC, "ecdsa-sha2-nistp256")],
)
def test_keys_of_the_account_get_in(blob: bytes, algorithm: str, proof: str | None) -> None:
    """Offered or proved, with an algorithm of the key's type."""
    attempt = Attempt(b"amos", algorithm, blob, algorithm if proof else None)
    assert decide(attempt, SNAPSHOT) == Accept(KEYS[blob])


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (Attempt(b"eve", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"AMOS", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"amos ", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"amos\0", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"amos\xc2\xad", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt("user¹".encode(), "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"\xff\xfe", "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"x" * 100_000, "ssh-ed25519", ED, None), UNKNOWN_ACCOUNT),
        (Attempt(b"nobody-yet", "ssh-ed25519", ED, None), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", b"", None), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", b"theirs", "ssh-ed25519"), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-ed25519", ED + b"\0", None), UNKNOWN_KEY),
        (Attempt(b"amos", "ssh-rsa", RSA, None), "signature algorithm ssh-rsa is not accepted for a ssh-rsa key"),
        (Attempt(b"amos", "ssh-rsa", RSA, "ssh-rsa"), "signature algorithm ssh-rsa is not accepted for a ssh-rsa key"),
        (
            Attempt(b"amos", "ssh-ed25519", RSA, None),
            "signature algorithm ssh-ed25519 is not accepted for a ssh-rsa key",
        ),
        (
            Attempt(b"amos", "rsa-sha2-256", ED, None),
            "signature algorithm rsa-sha2-256 is not accepted for a ssh-ed25519 key",
        ),
        (Attempt(b"amos", "", ED, None), "signature algorithm  is not accepted for a ssh-ed25519 key"),
        (
            Attempt(b"amos", "ssh-of-tomorrow", ODD, None),
            "signature algorithm ssh-of-tomorrow is not accepted for a ssh-of-tomorrow key",
        ),
        (
            Attempt(b"amos", "ecdsa-sha2-nistp384", EC, None),
            "signature algorithm ecdsa-sha2-nistp384 is not accepted for a ecdsa-sha2-nistp256 key",
        ),
        (Attempt(b"amos", "rsa-sha2-256", RSA, "ssh-rsa"), "signature made with ssh-rsa, request says rsa-sha2-256"),
        (
            Attempt(b"amos", "rsa-sha2-512", RSA, "rsa-sha2-256"),
            "signature made with rsa-sha2-256, request says rsa-sha2-512",
        ),
        (Attempt(b"amos", "ssh-ed25519", ED, ""), "signature made with , request says ssh-ed25519"),
    ],
)
def test_all_others_stay_out_and_the_log_knows_why(attempt: Attempt, reason: str) -> None:
    """Other accounts, other keys, other algorithms, other proofs."""
    assert decide(attempt, SNAPSHOT) == Deny(reason)


def test_an_empty_snapshot_lets_nobody_in() -> None:
    """Before any key is known."""
    assert decide(Attempt(b"amos", "ssh-ed25519", ED, None), KeySnapshot({})) == Deny(UNKNOWN_ACCOUNT)


def test_no_key_type_signs_with_sha1_or_dsa() -> None:
    """The table itself: modern algorithms, and each for one type of key."""
    algorithms = [algorithm for allowed in SIGNATURE_ALGORITHMS.values() for algorithm in allowed]
    assert len(algorithms) == len(set(algorithms))
    assert {"ssh-rsa", "ssh-dss"}.isdisjoint(algorithms)


@given(
    st.one_of(st.sampled_from([b"amos", b"user1", b"other"]), st.binary(max_size=20)),
    st.one_of(st.sampled_from(["ssh-ed25519", "ssh-rsa", "rsa-sha2-256"]), st.text(max_size=20)),
    st.one_of(st.sampled_from([ED, RSA, EC, b"theirs"]), st.binary(max_size=20)),
    st.one_of(st.none(), st.sampled_from(["ssh-ed25519", "rsa-sha2-256"]), st.text(max_size=20)),
)
def test_acceptance_is_never_a_matter_of_interpretation(
    user: bytes, algorithm: str, blob: bytes, proof: str | None
) -> None:
    """Who gets in is named exactly, has exactly that key, and proves it with an algorithm of its type."""
    outcome = decide(Attempt(user, algorithm, blob, proof), SNAPSHOT)
    if isinstance(outcome, Accept):
        assert SNAPSHOT.accounts[user.decode()][blob] is outcome.key
        assert algorithm in SIGNATURE_ALGORITHMS[outcome.key.key_type]
        assert proof in {None, algorithm}
