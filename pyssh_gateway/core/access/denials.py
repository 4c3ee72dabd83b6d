"""Why somebody was not let in, in a few words that never change: for figures, which are counted by reason.

A reason is a sentence with names, addresses and times in it, that a peer has a part in; counted one by one there would
be as many as a scanner likes. Pure.
"""

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
"""How a reason begins, and what it is counted as; the first counts. The sentences are those of `core.access.policy` and
`gateway.server`."""

OTHER = "other"


def class_of(reason: str) -> str:
    """As what a denial with this reason is counted."""
    return next((name for beginning, name in CLASSES if reason.startswith(beginning)), OTHER)
