"""Events about the keys of sources."""

from typing import Literal

from pyssh_gateway.events.base import Event


class KeysLoaded(Event, frozen=True, kw_only=True, tag="keys.loaded"):
    """A source's keys are in force. `origin` says whether they were just read or are the last good copy.

    `added` and `removed` are the fingerprints of the first few keys that were added and removed.
    """

    source: str
    origin: Literal["fetched", "last-good"]
    accepted: int
    refused: int
    changed: bool
    refusals: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class KeysFailed(Event, frozen=True, kw_only=True, tag="keys.failed"):
    """A source gave no usable answer (a backend error, not a failed login). `kept` keys stay in force."""

    source: str
    reason: str
    kept: int


class RevokedListLoaded(Event, frozen=True, kw_only=True, tag="keys.revoked_list"):
    """A revocation list is in force: `kind` is "krl" for a list made by ssh-keygen, "keys" for public keys."""

    list: str
    kind: Literal["keys", "krl"]
    entries: int
    changed: bool


class RevokedListFailed(Event, frozen=True, kw_only=True, tag="keys.revoked_list_failed"):
    """A revocation list can't be read or understood, so nobody gets in."""

    list: str
    reason: str


class AccountChanged(Event, frozen=True, kw_only=True, tag="keys.account_changed"):
    """The account that a source names is not the same as before: renamed, deleted, or taken by somebody else.

    Its keys let nobody in any more. `expected` is the number of the account that is trusted, `found` that of the one
    that has the name now.
    """

    source: str
    expected: int
    found: int
    message: str
