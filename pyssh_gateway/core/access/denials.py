"""The reasons for denying a login: a code that never changes, and a sentence for the log. Pure.

Decisions and metrics use the code. The sentence contains names, addresses and times that a peer can influence: as
labels of metrics, a scanner could make any number of them.
"""

from enum import StrEnum

import msgspec


class Denial(StrEnum):
    """The label under which the metrics count a denial (docs/metrics.md)."""

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

    `final`: the request itself is wrong. In every other case newer keys could change the answer, so the sources are
    asked again. That is done in all these cases alike: otherwise the time it takes would tell which accounts and keys
    exist.
    """

    code: Denial
    reason: str
    final: bool = False


UNKNOWN_ACCOUNT = Deny(Denial.UNKNOWN_ACCOUNT, "unknown account")
OTHER_METHOD = Deny(Denial.METHOD, "method is not offered")
NO_KEY = Deny(Denial.NO_KEY, "the client has offered no key")
WRONG_SIGNATURE = Deny(Denial.SIGNATURE, "signature is wrong")
WRONG_CERTIFICATE = Deny(Denial.SIGNATURE, "the certificate's signature is wrong")
