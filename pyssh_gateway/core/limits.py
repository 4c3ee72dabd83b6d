"""What a peer may ask of us before we know who it is."""

from ipaddress import IPv6Address, ip_address

_IPV6_SOURCE_BITS = 64
"""One subscriber holds at least a /64 of IPv6 (RFC 6177), so limits per address would bind nobody."""


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
    """`address` as people know it: an IPv4 client of an IPv6 socket is shown as what it is (RFC 4291 2.5.5.2)."""
    mapped = address.removeprefix("::ffff:")
    return mapped if "." in mapped else address


class Admission:
    """Counts the connections that have not authenticated, in all and by source (sshd's MaxStartups).

    A source that has as many as it may have at a time waits its turn: fifty windows that an editor opens at once are no
    attack. What waits counts towards the total.
    """

    def __init__(self, total: int, per_source: int) -> None:
        self._limit = total
        self._per_source = per_source
        self._total = 0
        self._served: dict[str, int] = {}

    def resize(self, total: int, per_source: int) -> None:
        """Go by other limits from now on; what is there stays."""
        self._limit = total
        self._per_source = per_source

    @property
    def total(self) -> int:
        """How many connections are being served or wait."""
        return self._total

    def arrive(self) -> str | None:
        """Count a new connection, or say why there is no room for it (None: there is)."""
        if self._total >= self._limit:
            return f"{self._total} unauthenticated connections already"
        self._total += 1
        return None

    def serve(self, peer: str) -> bool:
        """Whether it is the turn of a connection from `peer` that has arrived; it counts as served then."""
        source = source_of(peer)
        served = self._served.get(source, 0)
        if served >= self._per_source:
            return False
        self._served[source] = served + 1
        return True

    def give_up(self) -> None:
        """A connection that waited for its turn has gone."""
        self._total -= 1

    def release(self, peer: str) -> None:
        """A connection from `peer` that was served has authenticated or gone."""
        source = source_of(peer)
        self._total -= 1
        self._served[source] -= 1
        if not self._served[source]:
            del self._served[source]


class AttemptBudget:
    """Counts authentication requests on one connection, as sshd does (auth2.c).

    Every failure counts but a first `none`, with which clients ask which methods there are. Requests that do not fail
    (a good key without its proof) cost nothing in sshd up to 1024; no honest client needs more than two for each
    failure that it may have.
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
