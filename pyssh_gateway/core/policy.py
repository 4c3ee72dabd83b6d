"""Who gets in.

One pure decision over facts that were gathered before; it never awaits, so nothing can change under it.
"""

import msgspec

from pyssh_gateway.core.authorized_keys import AuthorizedKey, KeySnapshot

SIGNATURE_ALGORITHMS: dict[str, frozenset[str]] = {
    "ssh-ed25519": frozenset({"ssh-ed25519"}),
    "ecdsa-sha2-nistp256": frozenset({"ecdsa-sha2-nistp256"}),
    "ecdsa-sha2-nistp384": frozenset({"ecdsa-sha2-nistp384"}),
    "ecdsa-sha2-nistp521": frozenset({"ecdsa-sha2-nistp521"}),
    # RFC 8332: an ssh-rsa key signs with SHA-2; the SHA-1 signature named "ssh-rsa" is not accepted.
    "ssh-rsa": frozenset({"rsa-sha2-256", "rsa-sha2-512"}),
    "sk-ssh-ed25519@openssh.com": frozenset({"sk-ssh-ed25519@openssh.com"}),
    "sk-ecdsa-sha2-nistp256@openssh.com": frozenset({"sk-ecdsa-sha2-nistp256@openssh.com"}),
}
"""Key type -> the signature algorithms that prove possession of such a key."""


class Attempt(msgspec.Struct, frozen=True):
    """A `publickey` request (RFC 4252 section 7).

    `user` is the account name as it was on the wire, `algorithm` the signature algorithm that the request names,
    `blob` the public key. `proof` is the algorithm named inside the signature, None while the key is only offered.
    """

    user: bytes
    algorithm: str
    blob: bytes
    proof: str | None


class Accept(msgspec.Struct, frozen=True):
    """The key may log in, once the signature has been verified (if there is one)."""

    key: AuthorizedKey


class Deny(msgspec.Struct, frozen=True):
    """The request fails. `reason` is for the log and never for the peer."""

    reason: str


def decide(attempt: Attempt, snapshot: KeySnapshot) -> Accept | Deny:
    """Whether the request may succeed, by the keys in `snapshot`.

    The account's name has to be the very bytes that were sent: a library that normalises names (RFC 4013) turns other
    names into this one.
    """
    try:
        user = attempt.user.decode("ascii")
    except UnicodeDecodeError:
        return Deny("unknown account")
    key = snapshot.find(user, attempt.blob)
    if key is None:
        return Deny("key is not authorised for this account" if user in snapshot.accounts else "unknown account")
    allowed = SIGNATURE_ALGORITHMS.get(key.key_type, frozenset())
    if attempt.algorithm not in allowed:
        return Deny(f"signature algorithm {attempt.algorithm} is not accepted for a {key.key_type} key")
    if attempt.proof is not None and attempt.proof != attempt.algorithm:
        return Deny(f"signature made with {attempt.proof}, request says {attempt.algorithm}")
    return Accept(key)
