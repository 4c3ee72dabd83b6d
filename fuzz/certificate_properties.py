"""Properties of every certificate, whatever is in it.

The function takes raw bytes and raises AssertionError if a promise of `core.access.certificates`,
`core.access.certificate_options` or `core.access.policy` is broken. The unit tests call it with hypothesis's examples,
`fuzz.certificates` with atheris's. This module needs neither.
"""

from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot, fingerprint
from pyssh_gateway.core.access.certificate_options import granted
from pyssh_gateway.core.access.certificates import Certificate, CertificateError, certified, parse
from pyssh_gateway.core.access.denials import Deny
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.policy import SIGNATURE_ALGORITHMS, Accept, Attempt, decide

USER = "amos"
NOW = 1_700_000_000.0

MAX_REASON = 400
"""The most characters of a reason, which is one line of a log."""


def check_certificate(data: bytes) -> None:
    """`parse` raises one error only and loses nothing; an accepted certificate names the account and is still valid."""
    try:
        certificate = parse(data)
    except CertificateError as error:
        _check_reason(str(error))
        assert isinstance(_asked(data, "ssh-ed25519", b"", "ssh-ed25519"), Deny)
        return
    _check_whole(certificate, data)
    for algorithm in SIGNATURE_ALGORITHMS[certificate.key_type]:
        outcome = _asked(data, certified(algorithm), certificate.ca_blob, certificate.ca_type)
        if isinstance(outcome, Deny):
            assert outcome.reason != "the certificate's authority is not known"
            continue
        _check_accepted(outcome, certificate)


def _asked(data: bytes, algorithm: str, authority: bytes, ca_type: str) -> Accept | Deny:
    """The decision if the certificate authority is trusted."""
    options = KeyOptions(cert_authority=True, agent_forwarding=False)
    line = AuthorizedKey(authority, ca_type, fingerprint(authority), "", "ca:/keys", options)
    account = AccountKeys(authorities={authority: (line,)})
    attempt = Attempt(USER.encode(), algorithm, data, None, "192.0.2.1")
    return decide(attempt, KeySnapshot({USER: account}), NOW)


def _check_whole(certificate: Certificate, data: bytes) -> None:
    assert certificate.signed + _string(certificate.signature) == data
    assert certificate.signed.endswith(_string(certificate.ca_blob))
    name = _string(certificate.key_type.encode())
    assert certificate.public_blob.startswith(name)
    assert certificate.public_blob[len(name) :] in data
    for options in (certificate.critical_options, certificate.extensions):
        names = [name for name, _ in options]
        assert names == sorted(set(names))


def _check_accepted(outcome: Accept, certificate: Certificate) -> None:
    assert certificate.kind == 1
    assert USER in certificate.principals
    assert certificate.valid_after <= NOW < certificate.valid_before
    assert certificate.signature_algorithm in SIGNATURE_ALGORITHMS[certificate.ca_type]
    assert {name for name, _ in certificate.critical_options} <= {
        b"force-command",
        b"source-address",
        b"verify-required",
    }
    own = granted(certificate)
    assert outcome.options.command == own.command
    assert outcome.options.pty == own.pty
    assert not outcome.options.agent_forwarding
    assert outcome.identity.person.startswith("ca:")
    assert outcome.identity.person.isprintable()
    assert " " not in outcome.identity.person
    assert len(outcome.identity.person) <= 128


def _check_reason(reason: str) -> None:
    assert reason
    assert reason.isprintable()
    assert len(reason) <= MAX_REASON


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
