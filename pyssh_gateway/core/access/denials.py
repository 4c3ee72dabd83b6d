"""Why somebody was not let in: a code that never changes, and a sentence for the log. Pure.

Decisions and figures go by the code. The sentence has names, addresses and times in it, that a peer has a part in;
counted one by one there would be as many as a scanner likes.
"""

from enum import StrEnum

import msgspec


class Denial(StrEnum):
    """As what a denial is counted (docs/metrics.md)."""

    UNKNOWN_ACCOUNT = "unknown-account"
    UNKNOWN_KEY = "unknown-key"
    STALE_SOURCE = "stale-source"
    EXPIRED = "expired"
    ADDRESS = "address"
    SIGNATURE = "signature"
    METHOD = "method"
    NO_KEY = "no-key"
    ALGORITHM = "algorithm"
    NARROWED = "narrowed"
    PRESENCE = "presence"
    CERTIFICATE = "certificate"
    REVOKED = "revoked"
    REVOKED_LIST = "revoked-list"
    OTHER = "other"


class Deny(msgspec.Struct, frozen=True):
    """The request fails. `reason` is for the log and never for the peer.

    `final`: the request is wrong by itself. Anything else may become right by a look at the sources, and gets one: else
    the time that looking takes would tell which accounts and keys there are.
    """

    code: Denial
    reason: str
    final: bool = False


UNKNOWN_ACCOUNT = Deny(Denial.UNKNOWN_ACCOUNT, "unknown account")
OTHER_METHOD = Deny(Denial.METHOD, "method is not offered")
NO_KEY = Deny(Denial.NO_KEY, "the client has offered no key")
WRONG_SIGNATURE = Deny(Denial.SIGNATURE, "signature is wrong")
WRONG_CERTIFICATE = Deny(Denial.SIGNATURE, "the certificate's signature is wrong")
