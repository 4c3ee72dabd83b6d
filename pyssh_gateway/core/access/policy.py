"""The decision whether a login is accepted.

It is one pure function of facts that were gathered before, and never awaits, so nothing can change meanwhile. An
acceptance is conditional: the caller still has to verify the signature of the request, and the authority's signature
under a certificate.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.access import certificates
from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot, fingerprint
from pyssh_gateway.core.access.certificate_options import granted as granted_by
from pyssh_gateway.core.access.certificate_options import merged
from pyssh_gateway.core.access.certificates import Certificate, CertificateError
from pyssh_gateway.core.access.denials import UNKNOWN_ACCOUNT, Denial, Deny
from pyssh_gateway.core.access.freshness import age_of
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions
from pyssh_gateway.core.access.person_names import visible_name
from pyssh_gateway.core.access.revocations import revoked_by, unusable
from pyssh_gateway.core.access.source_match import matches
from pyssh_gateway.events import Identity

SIGNATURE_ALGORITHMS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ssh-ed25519": frozenset({"ssh-ed25519"}),
        "ecdsa-sha2-nistp256": frozenset({"ecdsa-sha2-nistp256"}),
        "ecdsa-sha2-nistp384": frozenset({"ecdsa-sha2-nistp384"}),
        "ecdsa-sha2-nistp521": frozenset({"ecdsa-sha2-nistp521"}),
        # RFC 8332: an ssh-rsa key signs with SHA-2; the SHA-1 signature named "ssh-rsa" is not accepted.
        "ssh-rsa": frozenset({"rsa-sha2-256", "rsa-sha2-512"}),
        "sk-ssh-ed25519@openssh.com": frozenset({"sk-ssh-ed25519@openssh.com"}),
        "sk-ecdsa-sha2-nistp256@openssh.com": frozenset({"sk-ecdsa-sha2-nistp256@openssh.com"}),
    }
)
"""Key type -> the signature algorithms that prove possession of such a key, or that such an authority signs with."""

SECURITY_KEYS = frozenset({"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"})
"""Key types whose signatures say whether a person was present."""

TOUCHED = 0x01
VERIFIED = 0x04
"""Flags that a security key signs with the data (PROTOCOL.u2f): it was touched; it verified its user (PIN,
fingerprint)."""


class Proof(msgspec.Struct, frozen=True):
    """What the signature of a request claims (RFC 4253 section 6.6), before it is verified.

    `flags` is what a security key signed with the data (OpenSSH's PROTOCOL.u2f): bit 0 touched, bit 2 user verified;
    None in the signature of any other key.
    """

    algorithm: str
    flags: int | None = None


class Attempt(msgspec.Struct, frozen=True):
    """A `publickey` request (RFC 4252 section 7).

    `user` is the account name as it was on the wire, `algorithm` the signature algorithm that the request names,
    `blob` the public key or certificate. `proof` is None while the key is only offered. `peer` is the client's address.
    """

    user: bytes
    algorithm: str
    blob: bytes
    proof: Proof | None
    peer: str = ""


class Accept(msgspec.Struct, frozen=True):
    """The key may log in, once the signature has been verified (if there is one).

    `key` is the line that let it in: the key's own, or that of the authority that signed `certificate`, whose signature
    is to be verified, too. `signer` is the plain public key that the request's signature is to be verified with.
    `options` are the line's and the certificate's together.
    """

    key: AuthorizedKey
    options: KeyOptions
    identity: Identity
    signer: bytes
    certificate: Certificate | None = None


class _Offer(msgspec.Struct, frozen=True):
    """A request without errors of its own. `granted` are the options of the certificate, if one is offered."""

    attempt: Attempt
    key_type: str
    signer: bytes
    fingerprint: str
    certificate: Certificate | None
    granted: KeyOptions


def decide(attempt: Attempt, snapshot: KeySnapshot, now: float) -> Accept | Deny:
    """Whether the request may succeed, by the keys in `snapshot`; `now` is Unix time in seconds. Never raises.

    The order of the checks is the security property. Errors of the request itself come first: newer keys would not
    change them, and the answer is the same for every account, existing or not. After that, a client that has no key of
    the account always gets one and the same answer.
    """
    offer = _read(attempt, now)
    if isinstance(offer, Deny):
        return offer
    revoked = _revoked(offer, snapshot)
    if revoked is not None:
        return revoked

    # The account's name has to be exactly the bytes that were sent: a library that normalises names (RFC 4013) would
    # turn other names into this one.
    user = attempt.user.decode("ascii", "replace") if attempt.user.isascii() else ""
    account = snapshot.accounts.get(user) if user else None
    if account is None:
        return UNKNOWN_ACCOUNT
    lines = _lines(account, attempt.blob, offer.certificate)
    if not lines:
        what = "key is not known" if offer.certificate is None else "the certificate's authority is not known"
        return Deny(Denial.UNKNOWN_KEY, what + _backend_error(account.failures))

    narrowed = _narrowed(account, offer.key_type, offer.fingerprint)
    if narrowed:
        return Deny(Denial.NARROWED, narrowed)
    denials: list[Deny] = []
    for line in lines:  # if one line's conditions don't hold, the next line may let the key in, as in sshd
        stale = _stale(line.source, snapshot, now)
        verdict: Accept | Deny
        if stale:
            verdict = Deny(Denial.STALE_SOURCE, stale + _backend_error(account.failures))
        else:
            verdict = _judge(line, offer, user, now)
        if isinstance(verdict, Accept):
            return verdict
        denials.append(verdict)
    return denials[0]


def still_holds(user: str, accepted: Accept, snapshot: KeySnapshot) -> bool:
    """Whether the key or authority that let a client in is still the account's, and nothing of it is revoked.

    Used to end sessions after a revocation. A source or list that can't be read, or a time that has passed, ends none.
    """
    account = snapshot.accounts.get(user)
    if account is None:
        return False
    certificate = accepted.certificate
    if revoked_by(snapshot.revoked, accepted.signer, certificate):
        return False
    key_type = accepted.key.key_type if certificate is None else certificate.key_type
    if _narrowed(account, key_type, accepted.identity.fingerprint):
        return False
    return bool(_lines(account, accepted.signer, certificate))


def _read(attempt: Attempt, now: float) -> _Offer | Deny:
    """The offered key or certificate, checked only for itself and against the time, or what is wrong with it."""
    named = certificates.type_of(attempt.blob)
    key_type, signer, certificate, granted = named, attempt.blob, None, NO_OPTIONS
    if named in certificates.CERTIFICATE_TYPES:
        try:
            certificate = certificates.parse(attempt.blob)
            granted = granted_by(certificate)
        except CertificateError as error:
            return Deny(Denial.CERTIFICATE, f"this certificate can't be used: {error}", final=True)
        problem = _not_a_login(certificate, now)
        if problem is not None:
            return problem
        key_type, signer = certificate.key_type, certificate.public_blob

    # With a certificate, the request and the signature name different algorithms: rsa-sha2-256-cert-v01@openssh.com and
    # rsa-sha2-256. With a plain key they are the same (RFC 4252 section 7).
    algorithms = SIGNATURE_ALGORITHMS.get(key_type, frozenset())
    named_as = {name if certificate is None else certificates.certified(name): name for name in algorithms}
    if not named_as:
        reason = f"key type {_shown(named)} is not accepted" if named else "not a public key"
        return Deny(Denial.ALGORITHM, reason, final=True)
    if attempt.algorithm not in named_as:
        reason = f"signature algorithm {_shown(attempt.algorithm)} is not accepted for a {named} key"
        return Deny(Denial.ALGORITHM, reason, final=True)
    if attempt.proof is not None and attempt.proof.algorithm != named_as[attempt.algorithm]:
        reason = f"signature made with {_shown(attempt.proof.algorithm)}, request says {attempt.algorithm}"
        return Deny(Denial.ALGORITHM, reason, final=True)
    return _Offer(attempt, key_type, signer, fingerprint(signer), certificate, granted)


def _not_a_login(certificate: Certificate, now: float) -> Deny | None:
    """Why nobody can log in with the certificate; None if somebody may."""
    if certificate.kind != certificates.USER:
        return Deny(Denial.CERTIFICATE, "this certificate is a host's, not a user's", final=True)
    if certificate.signature_algorithm not in SIGNATURE_ALGORITHMS[certificate.ca_type]:
        made_with = f"the certificate is signed with {_shown(certificate.signature_algorithm)}"
        reason = f"{made_with}, which is not accepted of a {certificate.ca_type} authority"
        return Deny(Denial.CERTIFICATE, reason, final=True)
    if now < certificate.valid_after:
        reason = f"the certificate is not yet valid, for another {_age(certificate.valid_after - now)}"
        return Deny(Denial.EXPIRED, reason, final=True)
    if now >= certificate.valid_before:
        return Deny(Denial.EXPIRED, f"the certificate expired {_age(now - certificate.valid_before)} ago", final=True)
    if not certificate.principals:  # PROTOCOL.certkeys: "valid for any principal"; no one should have every account
        return Deny(Denial.CERTIFICATE, "the certificate names no principals", final=True)
    return None


def _revoked(offer: _Offer, snapshot: KeySnapshot) -> Deny | None:
    """Why the revocation lists exclude the key or certificate; None if they don't.

    As with sshd, nobody gets in while a list can't be used, and every key gets the same answer then. A revoked key
    takes as long to refuse as an unknown one, so the time tells nobody what is on a list.
    """
    why_not = unusable(snapshot.revoked)
    if why_not:
        return Deny(Denial.REVOKED_LIST, f"nobody gets in without the list of what is revoked: {why_not}", final=True)
    why = revoked_by(snapshot.revoked, offer.signer, offer.certificate)
    return Deny(Denial.REVOKED, why) if why else None


def _lines(account: AccountKeys, blob: bytes, certificate: Certificate | None) -> tuple[AuthorizedKey, ...]:
    """The lines about the key, or about the authority that the certificate names as its signer."""
    if certificate is None:
        return account.keys.get(blob, ())
    return account.authorities.get(certificate.ca_blob, ())


def _narrowed(account: AccountKeys, key_type: str, key_fingerprint: str) -> str:
    """Why the login's own settings exclude a key that a source has; empty if they don't."""
    if account.key_types and key_type not in account.key_types:
        return f"key_types of this login does not have {key_type}"
    if account.only_fingerprints and key_fingerprint not in account.only_fingerprints:
        return "only_fingerprints of this login does not have this key"
    return ""


def _judge(line: AuthorizedKey, offer: _Offer, user: str, now: float) -> Accept | Deny:
    """Whether this line lets the key in, or why not. All conditions have to hold; none replaces another."""
    options, certificate, peer = line.options, offer.certificate, offer.attempt.peer
    if certificate is None and options.cert_authority:
        return Deny(Denial.OTHER, "the key is an authority's: it certifies, and does not log in")
    if certificate is not None and not options.cert_authority:
        return Deny(Denial.OTHER, "the key that signed the certificate is not an authority's (cert-authority)")
    if options.expires is not None and now > options.expires:
        return Deny(Denial.EXPIRED, f"the key expired {_age(now - options.expires)} ago (expiry-time)")
    if options.source and not matches(options.source, peer):
        return Deny(Denial.ADDRESS, f"the key may not be used from {peer} (from)")
    if certificate is not None:
        problem = _not_certified(options, certificate, offer.granted, user, peer)
        if problem is not None:
            return problem
        options = merged(options, offer.granted)
    problem = _not_present(options, offer)
    if problem is not None:
        return problem
    return Accept(line, options, _identity(line, offer), offer.signer, certificate)


def _not_certified(
    line: KeyOptions, certificate: Certificate, granted: KeyOptions, user: str, peer: str
) -> Deny | None:
    """Why the certificate may not log in to this account from the client's address; None if it may."""
    wanted = line.principals or (user,)
    if not any(principal in wanted for principal in certificate.principals):
        reason = f"the certificate names none of {_shown(', '.join(wanted))} as a principal"
        return Deny(Denial.CERTIFICATE, reason)
    if granted.source and not matches(granted.source, peer):
        return Deny(Denial.ADDRESS, f"the certificate may not be used from {peer} (source-address)")
    if line.command is not None and granted.command is not None and line.command != granted.command:
        return Deny(Denial.CERTIFICATE, "the certificate's forced command is not the authority's")
    return None


def _not_present(options: KeyOptions, offer: _Offer) -> Deny | None:
    """Why the presence of a person at the security key is not proved; None if it is, or if the key is only offered yet.

    sshd ignores verify-required for other keys. Here such a key is refused, because the option could not be enforced.
    """
    if offer.key_type not in SECURITY_KEYS:
        if options.verify_required:
            return Deny(Denial.OTHER, f"a {offer.key_type} key can't verify its user (verify-required)")
        return None
    if offer.attempt.proof is None:
        return None
    flags = offer.attempt.proof.flags or 0
    if options.touch_required and not flags & TOUCHED:
        return Deny(Denial.PRESENCE, "the security key was not touched")
    if options.verify_required and not flags & VERIFIED:
        return Deny(Denial.PRESENCE, "the security key did not verify its user (verify-required)")
    return None


def _stale(source: str, snapshot: KeySnapshot, now: float) -> str:
    """Why the keys of a source are too old to be used; empty if they are not."""
    if snapshot.max_stale is None:
        return ""
    fetched = snapshot.fetched.get(source)
    if fetched is None:
        return f"the keys of {source} were never confirmed"
    if age_of(fetched, now) <= snapshot.max_stale:
        return ""
    if fetched > now:
        return f"the keys of {source} are dated {_age(fetched - now)} in the future, so nobody knows how old they are"
    limit = format_duration(snapshot.max_stale)
    return f"the keys of {source} were last confirmed {_age(now - fetched)} ago, more than max_stale ({limit})"


def _backend_error(failures: tuple[str, ...]) -> str:
    """The addition to a reason when newer keys could not be fetched."""
    return f"; backend error: {failures[0]}" if failures else ""


def _identity(line: AuthorizedKey, offer: _Offer) -> Identity:
    certificate = offer.certificate
    if certificate is None:
        return Identity(line.person or line.source, line.person_id, offer.fingerprint)
    name = visible_name(certificate.key_id) or f"serial-{certificate.serial}"
    return Identity(f"ca:{name}", None, offer.fingerprint)


def _shown(text: str) -> str:
    """A text from the network, shortened for use in a reason."""
    return text[:64]


def _age(seconds: float) -> str:
    """An age for people: whole minutes, or seconds below a minute."""
    return format_duration(int(seconds) if seconds < 60 else seconds // 60 * 60)
