"""Which ciphers to offer to whom.

The client's order decides (RFC 4253 section 7.1). OpenSSH's puts chacha20-poly1305 first, and before 10.0 AES-CTR
before AES-GCM; both cost this server a multiple of AES-GCM where the processor has AES instructions. An OpenSSH client
has AES-GCM unless its user took it away, so it is offered nothing else. If that turns out wrong for a client, its
address is remembered and gets the full list from then on.
"""

from pyssh_gateway.core.limits import source_of

MAX_REMEMBERED = 1024
"""Addresses that are remembered; the oldest goes first. Who fills the list makes others try twice, no more."""


class CipherSteering:
    """`has_aes`: whether the processor has AES instructions."""

    def __init__(self, has_aes: bool) -> None:
        self._has_aes = has_aes
        self._full_list: dict[str, None] = {}

    def offer_only_gcm(self, identification: bytes, peer: str) -> bool:
        """Whether to offer AES-GCM alone to the client at `peer` that sent this identification line."""
        is_openssh = identification.startswith(b"SSH-2.0-OpenSSH_")
        return self._has_aes and is_openssh and source_of(peer) not in self._full_list

    def failed(self, peer: str) -> None:
        """The client at `peer` found no cipher in what it was offered."""
        self._full_list[source_of(peer)] = None
        if len(self._full_list) > MAX_REMEMBERED:
            del self._full_list[next(iter(self._full_list))]
