"""Limits for peers before they have authenticated."""

from ipaddress import IPv6Address, ip_address

import msgspec

_IPV6_SOURCE_BITS = 64
"""A subscriber has at least a /64 of IPv6 (RFC 6177), so limits per IPv6 address would have no effect."""


def source_of(peer: str) -> str:
    """The source that `peer` (an address as text) is counted under: an IPv4 address or an IPv6 /64.

    An IPv4-mapped IPv6 address counts as the IPv4 address; what is not an address counts as itself.
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> _IPV6_SOURCE_BITS << _IPV6_SOURCE_BITS)}/{_IPV6_SOURCE_BITS}"


def plain(address: str) -> str:
    """`address` for people: an IPv4-mapped address, of an IPv4 client of an IPv6 socket, as IPv4 (RFC 4291 2.5.5.2)."""
    mapped = address.removeprefix("::ffff:")
    return mapped if "." in mapped else address


def early_drop(count: int, *, start: int, rate: int, full: int, roll: int) -> bool:
    """Whether random early drop (sshd's MaxStartups `start:rate:full`) takes a place when `count` are in use.

    From `start` on it does so with a probability of `rate` percent, which rises with `count` to 100 percent at `full`.
    `roll` is a random whole number from 0 to 99. The arithmetic is that of should_drop_connection (sshd.c).
    """
    if count >= full:
        return True
    if count < start:
        return False
    if rate >= 100:
        return True
    percent = (100 - rate) * (count - start) // (full - start) + rate
    return roll < percent


_MANY_KEYS = "set IdentitiesOnly=yes and IdentityFile for this host"
"""The advice when an agent offers one key after the other until the connection is closed (ssh_config(5))."""


class TooMany(msgspec.Struct, frozen=True):
    """The texts for a connection that has used up its attempts: for its client, and for the log."""

    message: str
    reason: str


def too_many(attempts: int, method: str) -> TooMany:
    """The texts after `attempts` failed attempts, of which the last was by `method`.

    The message begins like sshd's (auth.c, auth_maxtries_exceeded), because programs search for that. The rest depends
    only on what the client has sent.
    """
    message = f"Too many authentication failures: this server allows {attempts}"
    reason = f"closed by the server after {attempts} failed attempts to log in (limits.auth_attempts)"
    if method == "publickey":
        message += f". If your agent holds many keys, {_MANY_KEYS}"
        reason += f"; a client whose agent holds many keys has to {_MANY_KEYS}"
    return TooMany(message, reason)


class AttemptBudget:
    """Counts authentication requests on one connection, as sshd does (auth2.c).

    Every failure counts except a first `none`, with which clients ask for the list of methods. Requests that do not
    fail (a good key without a signature) are free in sshd, up to 1024 of them; an honest client needs at most two for
    each failure that it may have.
    """

    def __init__(self, attempts: int) -> None:
        self._failures_left = attempts
        self._requests_left = 2 * attempts + 2
        self._first = True

    def request(self) -> bool:
        """Count a request; False when the connection has used up all that it may make."""
        self._requests_left -= 1
        return self._requests_left >= 0

    def failure(self, method: str) -> bool:
        """Count a failed request; False when it was the last that the connection may have."""
        free = self._first and method == "none"
        self._first = False
        if not free:
            self._failures_left -= 1
        return self._failures_left > 0
