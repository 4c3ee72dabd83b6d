"""Logins with certificates: algorithms, touch and PIN of security keys, the person's name, and nobody else gets in."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from pyssh_gateway.core.access.authorized_keys import fingerprint
from pyssh_gateway.core.access.certificates import certified
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import TOUCHED, VERIFIED, Accept, Proof, still_holds
from pyssh_gateway.events import Identity
from tests.support.attempts import (
    AUTHORITY,
    CA,
    ED,
    EVERYTHING,
    FORCED,
    NEARBY,
    NOW,
    RSA,
    RSA_FIELDS,
    VERIFY,
    accepted,
    show,
)
from tests.support.certificates import made_up, option_list
from tests.support.denials import deny
from tests.support.key_lines import SK_ECDSA, SK_ED25519, string
from tests.support.snapshots import account, line, snapshot, with_account

SK_CERTIFICATE = certified(SK_ED25519).encode()
SK_FIELDS = string(b"\x05" * 32) + string(b"ssh:")


@pytest.mark.parametrize(
    ("named", "signed", "reason"),
    [
        ("rsa-sha2-256-cert-v01@openssh.com", "rsa-sha2-256", ""),
        ("rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512", ""),
        (
            "rsa-sha2-512-cert-v01@openssh.com",
            "rsa-sha2-256",
            "signature made with rsa-sha2-256, request says rsa-sha2-512-cert-v01@openssh.com",
        ),
        (
            "rsa-sha2-512-cert-v01@openssh.com",
            "rsa-sha2-512-cert-v01@openssh.com",
            "signature made with rsa-sha2-512-cert-v01@openssh.com, request says rsa-sha2-512-cert-v01@openssh.com",
        ),
        (
            "rsa-sha2-256-cert-v01@openssh.com",
            "ssh-rsa",
            "signature made with ssh-rsa, request says rsa-sha2-256-cert-v01@openssh.com",
        ),
        (
            "ssh-rsa-cert-v01@openssh.com",
            "rsa-sha2-256",
            "signature algorithm ssh-rsa-cert-v01@openssh.com is not accepted for a ssh-rsa-cert-v01@openssh.com key",
        ),
        (
            "ssh-rsa-cert-v01@openssh.com",
            "ssh-rsa",
            "signature algorithm ssh-rsa-cert-v01@openssh.com is not accepted for a ssh-rsa-cert-v01@openssh.com key",
        ),
        (
            "rsa-sha2-256",
            "rsa-sha2-256",
            "signature algorithm rsa-sha2-256 is not accepted for a ssh-rsa-cert-v01@openssh.com key",
        ),
    ],
)
def test_rsa_certificates_sign_with_sha2(named: str, signed: str, reason: str) -> None:
    """The request names the certificate's algorithm, and the signature the key's; SHA-1 is refused in both."""
    certificate = made_up(b"ssh-rsa-cert-v01@openssh.com", key=RSA_FIELDS)
    outcome = show(certificate, algorithm=named, proof=Proof(signed))
    assert outcome == deny(reason, final=True) if reason else accepted(outcome).signer == RSA


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512"])
def test_rsa_authorities_sign_with_sha2(algorithm: str) -> None:
    """An RSA authority may sign with SHA-2, as in OpenSSH's CASignatureAlgorithms."""
    certificate = made_up(authority=RSA, signature=string(algorithm.encode()) + string(b"\0"))
    accepted(show(certificate, snapshot(line(RSA, AUTHORITY))))


# -- security keys -----------------------------------------------------------------------------------------------

UNTOUCHED = "the security key was not touched"
UNVERIFIED = "the security key did not verify its user (verify-required)"


@pytest.mark.parametrize(
    ("of_line", "critical", "extensions", "flags", "reason"),
    [
        (KeyOptions(), b"", b"", TOUCHED, ""),
        (KeyOptions(), b"", b"", 0, UNTOUCHED),
        (KeyOptions(touch_required=False), b"", b"", 0, UNTOUCHED),
        (KeyOptions(), b"", option_list((b"no-touch-required", b"")), 0, UNTOUCHED),
        (KeyOptions(touch_required=False), b"", option_list((b"no-touch-required", b"")), 0, ""),
        (KeyOptions(), VERIFY, b"", TOUCHED, UNVERIFIED),
        (KeyOptions(), VERIFY, b"", TOUCHED | VERIFIED, ""),
        (KeyOptions(verify_required=True), b"", b"", TOUCHED, UNVERIFIED),
        (KeyOptions(verify_required=True), b"", b"", TOUCHED | VERIFIED, ""),
    ],
)
def test_somebody_has_to_be_at_a_certified_security_key(
    of_line: KeyOptions, critical: bytes, extensions: bytes, flags: int, reason: str
) -> None:
    """Only both together waive the touch, and either can require the PIN (PROTOCOL.certkeys)."""
    certificate = made_up(SK_CERTIFICATE, key=SK_FIELDS, critical=critical, extensions=extensions)
    keys = snapshot(line(CA, replace(of_line, cert_authority=True)))
    outcome = show(certificate, keys, algorithm=certified(SK_ED25519), proof=Proof(SK_ED25519, flags))
    assert outcome == deny(reason) if reason else isinstance(outcome, Accept)
    accepted(show(certificate, keys, algorithm=certified(SK_ED25519)))


def test_certified_ecdsa_security_keys_are_security_keys() -> None:
    """ECDSA security keys in certificates are security keys, too."""
    fields = string(b"nistp256") + string(b"\4" * 65) + string(b"ssh:")
    certificate = made_up(certified(SK_ECDSA).encode(), key=fields)
    for flags, reason in ((TOUCHED, ""), (0, UNTOUCHED)):
        outcome = show(certificate, algorithm=certified(SK_ECDSA), proof=Proof(SK_ECDSA, flags))
        assert outcome == deny(reason) if reason else isinstance(outcome, Accept)


# -- the person --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key_id", "person"),
    [
        (b"amos@example.com", "ca:amos@example.com"),
        (b"amos at\twork\r\n", "ca:amos␣at<U+0009>work<U+000D><U+000A>"),
        (b"a\0b\x1b[31m\x7f\xc2\x85", "ca:a<U+0000>b<U+001B>[31m<U+007F><U+0085>"),
        ("\u202eamos\u00a0\u3000\u200b".encode(), "ca:<U+202E>amos<U+00A0><U+3000><U+200B>"),
        ("zoë".encode(), "ca:zoë"),
        (b"\xff", "ca:<0xFF>"),
        (b" ", "ca:␣"),
        (b"", "ca:serial-7"),
        (b"x" * 125, "ca:" + "x" * 125),
        (b"x" * 9999, "ca:" + "x" * 119 + "~" + hashlib.sha256(b"x" * 9999).hexdigest()[:8]),
    ],
)
def test_the_person_is_the_certificates_key_id(key_id: bytes, person: str) -> None:
    """The person is one safe word of at most 128 characters after `ca:`; the fingerprint is the certified key's."""
    identity = accepted(show(made_up(key_id=key_id))).identity
    assert identity == Identity(person, None, fingerprint(ED))


def test_a_session_lasts_while_its_authority_is_the_accounts() -> None:
    """A session lasts while its account trusts the authority and its login allows the key; time is not rechecked."""
    outcome = accepted(show(made_up(valid=(NOW, NOW + 1))))
    trusted, other = line(CA, AUTHORITY), line(ED, AUTHORITY)
    assert still_holds("amos", outcome, snapshot(trusted))
    assert still_holds("amos", outcome, snapshot(trusted, max_stale=1.0))
    assert still_holds("amos", outcome, with_account(account(trusted, types=frozenset({"ssh-ed25519"}))))
    assert not still_holds("amos", outcome, snapshot(other))
    assert not still_holds("amos", outcome, snapshot(line(CA), line(ED)))
    assert not still_holds("amos", outcome, with_account(account(trusted, types=frozenset({"ssh-rsa"}))))
    assert not still_holds("amos", outcome, with_account(account(trusted, only=frozenset({fingerprint(CA)}))))
    assert not still_holds("eve", outcome, snapshot(trusted))


# -- properties --------------------------------------------------------------------------------------------------


CERTIFICATES = st.fixed_dictionaries(
    {
        "key_id": st.binary(max_size=40),
        "principals": st.lists(st.sampled_from([b"amos", b"eve", b"\xff", b""]).map(string), max_size=2).map(b"".join),
        "critical": st.sampled_from([b"", FORCED, NEARBY, VERIFY, option_list((b"x", b""))]),
        "extensions": st.sampled_from([b"", EVERYTHING, b"\0"]),
        "valid": st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
        "authority": st.sampled_from([CA, RSA, ED, b""]),
    }
)


@given(CERTIFICATES, st.floats(0, 2e10))
def test_nobody_is_certified_by_anybody_else(fields: dict[str, Any], now: float) -> None:
    """Any accepted certificate names the account, is within its time, and names a trusted authority."""
    outcome = show(made_up(**fields), now=now)
    if isinstance(outcome, Accept):
        assert fields["authority"] == CA
        assert string(b"amos") in fields["principals"]
        assert fields["valid"][0] <= now < fields["valid"][1]
        assert outcome.key.options.cert_authority
        assert outcome.identity.person.isprintable()
        assert " " not in outcome.identity.person
        assert outcome.options.x11_forwarding == (fields["extensions"] == EVERYTHING)
