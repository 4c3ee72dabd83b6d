"""Refusals as tests expect them: given by their sentence, from which the code for counting follows."""

from pyssh_gateway.core.access.denials import Denial, Deny

CLASSES = (
    ("unknown account", "unknown-account"),
    ("key is not known", "unknown-key"),
    ("the certificate's authority is not known", "unknown-key"),
    ("the keys of", "stale-source"),
    ("the key expired", "expired"),
    ("the certificate expired", "expired"),
    ("the certificate is not yet valid", "expired"),
    ("the key may not be used from", "address"),
    ("the certificate may not be used from", "address"),
    ("signature is wrong", "signature"),
    ("the certificate's signature is wrong", "signature"),
    ("method is not offered", "method"),
    ("the client has offered no key", "no-key"),
    ("key type", "algorithm"),
    ("signature algorithm", "algorithm"),
    ("signature made with", "algorithm"),
    ("not a public key", "algorithm"),
    ("key_types of this login", "narrowed"),
    ("only_fingerprints of this login", "narrowed"),
    ("the security key", "presence"),
    ("this certificate", "certificate"),
    ("the certificate", "certificate"),
)
"""The beginning of a reason, and the code that it is counted as; the first match counts."""


def deny(reason: str, *, final: bool = False) -> Deny:
    """A refusal with this reason."""
    code = next((name for beginning, name in CLASSES if reason.startswith(beginning)), "other")
    return Deny(Denial(code), reason, final)
