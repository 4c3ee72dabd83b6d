"""Lines, accounts and snapshots of keys, in the keyring's form."""

from collections.abc import Mapping

from pyssh_gateway.core.access.authorized_keys import AccountKeys, AuthorizedKey, KeySnapshot, fingerprint
from pyssh_gateway.core.access.certificates import type_of
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions

SOURCE = "github:example"
USER = "amos"


def line(key: bytes, options: KeyOptions = NO_OPTIONS, *, source: str = SOURCE) -> AuthorizedKey:
    """A line with the key `key`."""
    return AuthorizedKey(key, type_of(key), fingerprint(key), "a comment", source, options)


def account(
    *lines: AuthorizedKey,
    only: frozenset[str] = frozenset(),
    types: frozenset[str] = frozenset(),
    failures: tuple[str, ...] = (),
) -> AccountKeys:
    """An account with these lines; `only` and `types` are only_fingerprints and key_types."""
    keys: dict[bytes, tuple[AuthorizedKey, ...]] = {}
    authorities: dict[bytes, tuple[AuthorizedKey, ...]] = {}
    for one in lines:
        found = authorities if one.options.cert_authority else keys
        found[one.blob] = (*found.get(one.blob, ()), one)
    return AccountKeys(keys, authorities, only, types, failures)


def snapshot(
    *lines: AuthorizedKey, fetched: Mapping[str, float] | None = None, max_stale: float | None = None
) -> KeySnapshot:
    """A snapshot in which USER has these lines."""
    return KeySnapshot({USER: account(*lines)}, fetched or {}, max_stale)


def with_account(keys: AccountKeys) -> KeySnapshot:
    """A snapshot in which USER is this account."""
    return KeySnapshot({USER: keys})
