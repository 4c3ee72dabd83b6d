"""Which ciphers to offer to which client.

The client's order decides (RFC 4253 section 7.1). OpenSSH's puts chacha20-poly1305 first, and before 10.0 AES-CTR
before AES-GCM; both cost this server a multiple of AES-GCM where the processor has AES instructions. So an OpenSSH
client that has AES-GCM is offered nothing else.

Whether a client has AES-GCM is in its KEXINIT, which OpenSSH sends when it has our identification. If the round trip is
so short that it costs nothing, our KEXINIT waits for the client's; a more distant client is assumed to have AES-GCM,
which is wrong only if its user has disabled it. Then the connection fails, and the source is remembered and gets the
full list from then on: in this process at once, and on disk after a login from there, so that unauthenticated clients
can write nothing.
"""

import struct
from ipaddress import ip_address

import msgspec

from pyssh_gateway.core.limits import source_of

GCM_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")

MAX_REMEMBERED = 1024
"""Remembered sources, in each of two lists: with a login and without; the oldest is forgotten first. A stranger that
fills the second list makes a client in it fail once more, but keeps nobody out."""

MAX_STATE_BYTES = 64 * 1024
"""The largest output of `encode`: a source is shorter than 64 bytes."""

NEAR_SECONDS = 0.001
"""A round trip up to this is not worth saving: the network of a building takes half of it, and people notice fifty
times as much."""

WAIT_SECONDS = 0.005
"""How long our KEXINIT waits for that of a client that is near. OpenSSH takes a millisecond on an idle machine; a
client that takes longer is busy and loses nothing. If the near peer is only a proxy of a distant client, this time is
lost."""

_RTT_OFFSET, _MIN_RTT_OFFSET = 68, 148
"""tcpi_rtt and tcpi_min_rtt in `struct tcp_info` (linux/tcp.h), which only ever grows at its end. Microseconds."""

_COOKIE_BYTES = 16
_CIPHER_LISTS = (2, 3)
"""The positions of the cipher lists in a KEXINIT (RFC 4253 section 7.1): client to server, server to client."""


class Ciphers(msgspec.Struct, frozen=True):
    """The ciphers that a client supports, from client to server and from server to client."""

    to_server: frozenset[str]
    to_client: frozenset[str]

    @property
    def has_gcm(self) -> bool:
        """Whether the client can do with AES-GCM alone."""
        return not (self.to_server.isdisjoint(GCM_CIPHERS) or self.to_client.isdisjoint(GCM_CIPHERS))


def ciphers_of(kexinit: bytes) -> Ciphers | None:
    """The ciphers in a KEXINIT (without its message number); None if it is malformed."""
    lists = name_lists(kexinit, _CIPHER_LISTS[-1] + 1)
    if lists is None:
        return None
    return Ciphers(*(frozenset(lists[number].decode("ascii", "replace").split(",")) for number in _CIPHER_LISTS))


def name_lists(kexinit: bytes, count: int) -> list[bytes] | None:
    """The first `count` name-lists of a KEXINIT (without its message number); None if it is malformed."""
    lists, rest = [], kexinit[_COOKIE_BYTES:]
    for _ in range(count):
        end = 4 + int.from_bytes(rest[:4], "big")
        if len(rest) < end:
            return None
        lists.append(rest[4:end])
        rest = rest[end:]
    return lists


def round_trip(tcp_info: bytes) -> float | None:
    """The shortest round trip that the kernel has seen on a connection, in seconds; None if it has seen none.

    The shortest, because delayed acknowledgements make the others too long.
    """
    measured = [
        struct.unpack_from("=I", tcp_info, offset)[0]
        for offset in (_RTT_OFFSET, _MIN_RTT_OFFSET)
        if len(tcp_info) >= offset + 4
    ]
    if not measured or not measured[0]:  # no sample yet
        return None
    return float(min(measured)) / 1e6


class CipherSteering:
    """`has_aes`: whether the processor has AES instructions. `kept` is the output of `encode` of an earlier process."""

    def __init__(self, has_aes: bool, kept: bytes = b"") -> None:
        self.has_aes = has_aes
        self._known: dict[str, None] = dict.fromkeys(decode(kept))
        self._failed: dict[str, None] = {}

    def offer_only_gcm(self, identification: bytes, peer: str, ciphers: Ciphers | None = None) -> bool:
        """Whether to offer AES-GCM alone to the client at `peer` that sent this identification line.

        `ciphers` are those of its KEXINIT, None if that has not come yet.
        """
        if not self._steers(identification):
            return False
        if ciphers is not None:
            return ciphers.has_gcm
        return not self.lacks_gcm(peer)

    def lacks_gcm(self, peer: str) -> bool:
        """Whether a client at `peer` has failed because only AES-GCM was offered."""
        return source_of(peer) in self._known or source_of(peer) in self._failed

    def wait(self, identification: bytes, seconds: float | None) -> float:
        """How long our KEXINIT waits for the client's; `seconds` is the round trip (None: unknown).

        0 means: only look at what has already arrived before ours is sent.
        """
        near = seconds is not None and seconds < NEAR_SECONDS
        return WAIT_SECONDS if near and self._steers(identification) else 0.0

    def _steers(self, identification: bytes) -> bool:
        return self.has_aes and identification.startswith(b"SSH-2.0-OpenSSH_")

    def failed(self, peer: str) -> None:
        """The client at `peer` found no cipher in what it was offered."""
        _remember(self._failed, source_of(peer))

    def logged_in(self, identification: bytes, peer: str, ciphers: Ciphers | None) -> bool:
        """A client with these `ciphers` has logged in. Returns whether there is something new to store."""
        source = source_of(peer)
        if not self._steers(identification) or ciphers is None or ciphers.has_gcm or source in self._known:
            return False
        _remember(self._known, source)
        return True

    def encode(self) -> bytes:
        """The state to store for the next start: a line for each source."""
        return "".join(f"{source}\n" for source in self._known).encode("ascii", "ignore")


def decode(kept: bytes) -> list[str]:
    """The sources that `kept` names. A malformed line is skipped; the others stay valid."""
    lines = kept.decode("ascii", "replace").splitlines()
    return [line for line in lines if _is_source(line)][-MAX_REMEMBERED:]


def _is_source(line: str) -> bool:
    address = line.partition("/")[0]
    try:
        ip_address(address)
    except ValueError:
        return False
    return source_of(address) == line


def _remember(sources: dict[str, None], source: str) -> None:
    sources[source] = None
    if len(sources) > MAX_REMEMBERED:
        del sources[next(iter(sources))]
