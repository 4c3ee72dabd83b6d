"""Reports about who may log in: the keys of a snapshot, their options in words, and the verdict on one key.

The verdict is made by `policy`, for an attempt such as a client would make; this module decides nothing itself.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pyssh_gateway.core.access import certificates, policy
from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot
from pyssh_gateway.core.access.certificates import Certificate
from pyssh_gateway.core.access.denials import WRONG_CERTIFICATE, Deny
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.access.revocations import RevokedList, revoked_by
from pyssh_gateway.core.access.wire import Reader
from pyssh_gateway.core.control import KeyReport, LoginReport, RevokedListReport, TryKey, Verdict

THIS_MACHINE = "127.0.0.1"
"""The client address for which a key is tried, unless the request names another one."""

MAX_COMMAND = 80
"""Characters shown of a forced command; some are pages of shell."""

_BITS = {
    "ssh-ed25519": 256,
    "sk-ssh-ed25519@openssh.com": 256,
    "ecdsa-sha2-nistp256": 256,
    "sk-ecdsa-sha2-nistp256@openssh.com": 256,
    "ecdsa-sha2-nistp384": 384,
    "ecdsa-sha2-nistp521": 521,
}

_BEST_SIGNATURES = {"ssh-rsa": "rsa-sha2-512"}
"""The signature algorithm of current clients, where its name differs from the key type's (RFC 8332)."""


def login_reports(snapshot: KeySnapshot) -> tuple[LoginReport, ...]:
    """The keys and authorities of every account, in the order of their sources."""
    reports = []
    for user, account in snapshot.accounts.items():
        lines = [line for lines in (*account.keys.values(), *account.authorities.values()) for line in lines]
        reports.append(LoginReport(user, tuple(_key_report(line, account, snapshot.revoked) for line in lines)))
    return tuple(reports)


def verdicts(
    request: TryKey, snapshot: KeySnapshot, now: float, is_signed: Callable[[Certificate], bool]
) -> tuple[Verdict, ...]:
    """Whether the key or certificate of `request` would be let in, account by account; `now` is Unix time.

    `is_signed` verifies the signature of a certificate's authority.
    """
    users = (request.user,) if request.user else tuple(snapshot.accounts)
    return tuple(_verdict(user, request, snapshot, now, is_signed) for user in users)


def _verdict(
    user: str, request: TryKey, snapshot: KeySnapshot, now: float, is_signed: Callable[[Certificate], bool]
) -> Verdict:
    attempt = policy.Attempt(
        user=user.encode("utf-8", "surrogateescape"),
        algorithm=request.algorithm or best_algorithm(request.blob),
        blob=request.blob,
        proof=None,
        peer=request.peer or THIS_MACHINE,
    )
    decision = policy.decide(attempt, snapshot, now)
    if isinstance(decision, Deny):
        return Verdict(user, accepted=False, reason=decision.reason)
    if decision.certificate is not None and not is_signed(decision.certificate):
        return Verdict(user, accepted=False, reason=WRONG_CERTIFICATE.reason)
    return Verdict(
        user,
        accepted=True,
        source=decision.key.source,
        options=options_text(decision.options),
        identity=decision.identity,
    )


def best_algorithm(blob: bytes) -> str:
    """The signature algorithm that current clients use for a key or certificate."""
    named = certificates.type_of(blob)
    key_type = certificates.CERTIFICATE_TYPES.get(named, named)
    algorithm = _BEST_SIGNATURES.get(key_type, key_type)
    return algorithm if key_type == named else certificates.certified(algorithm)


def revoked_list_reports(snapshot: KeySnapshot) -> tuple[RevokedListReport, ...]:
    """The lists of what is revoked, in the order of the configuration."""
    return tuple(
        RevokedListReport(listed.spec, "", 0, listed.failure)
        if listed.revocations is None
        else RevokedListReport(listed.spec, listed.revocations.kind, listed.revocations.entries, listed.failure)
        for listed in snapshot.revoked
    )


def _key_report(line: AuthorizedKey, account: AccountKeys, revoked: Iterable[RevokedList]) -> KeyReport:
    authority = line.options.cert_authority
    left_out = (account.key_types and line.key_type not in account.key_types) or (
        account.only_fingerprints and line.fingerprint not in account.only_fingerprints
    )
    return KeyReport(
        fingerprint=line.fingerprint,
        key_type=line.key_type,
        bits=size_of(line.key_type, line.blob),
        comment=line.comment,
        person=line.person,
        person_id=line.person_id,
        source=line.source,
        options=options_text(line.options),
        authority=authority,
        # For an authority, the restrictions apply to the keys that its certificates certify.
        narrowed_out=bool(left_out) and not authority,
        revoked=revoked_by(revoked, line.blob, None),
    )


def size_of(key_type: str, blob: bytes) -> int:
    """The size in bits that `ssh-keygen -l` shows; of an RSA key, that of its modulus (RFC 4253 section 6.6)."""
    if key_type != "ssh-rsa":
        return _BITS.get(key_type, 0)
    reader = Reader(blob)
    reader.string()
    reader.string()
    return reader.mpint().bit_length()


def options_text(options: KeyOptions) -> str:
    """`options` in the syntax of authorized_keys, the ones without effect left out.

    Of variables only the names are shown: their values may be secrets.
    """
    denied = {
        "no-pty": not options.pty,
        "no-port-forwarding": not options.port_forwarding,
        "no-agent-forwarding": not options.agent_forwarding,
        "no-X11-forwarding": not options.x11_forwarding,
        "no-user-rc": not options.user_rc,
    }
    flags = {
        "cert-authority": options.cert_authority,
        **({"restrict": True} if all(denied.values()) else denied),
        "verify-required": options.verify_required,
        "no-touch-required": not options.touch_required,
    }
    words = [name for name, is_set in flags.items() if is_set]
    if options.command is not None:
        command = options.command.decode("utf-8", "surrogateescape")
        shown = command if len(command) <= MAX_COMMAND else command[:MAX_COMMAND] + "..."
        words.append(_setting("command", shown))
    words += [
        _setting("environment", f"{name.decode('utf-8', 'surrogateescape')}=...") for name, _ in options.environment
    ]
    if options.source:
        words.append(_setting("from", ",".join(options.source)))
    words += [_setting("permitopen", target) for target in options.permit_open]
    words += [_setting("permitlisten", target) for target in options.permit_listen]
    if options.expires is not None:
        words.append(_setting("expiry-time", f"{datetime.fromtimestamp(options.expires, UTC):%Y%m%d%H%M%SZ}"))
    if options.principals:
        words.append(_setting("principals", ",".join(options.principals)))
    return ",".join(words)


def _setting(name: str, value: str) -> str:
    quoted = value.replace('"', '\\"')
    return f'{name}="{quoted}"'
