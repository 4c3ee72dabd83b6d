"""Keeps on disk which sources have clients without AES-GCM: these fail at most once, and not after each start."""

from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core.steering import MAX_STATE_BYTES, Ciphers, CipherSteering
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("without-aes-gcm")
"""In the working directory, which is the monitor's own."""


class KeptSteering(CipherSteering):
    """Steering that outlives this process, as far as the disk allows."""

    def __init__(self, has_aes: bool, state: Path = STATE_FILE) -> None:
        super().__init__(has_aes, read_state(state, MAX_STATE_BYTES))
        self._state = state

    def serve_facts(self, peer: str) -> tuple[bool, bool]:
        """Whether the processor has AES instructions, and whether clients from there are known to lack AES-GCM."""
        return self.has_aes, self.lacks_gcm(peer)

    def chose(self, client: str, peer: str, cipher: str) -> None:
        """The client that calls itself `client` has logged in, and uses `cipher`: one without AES-GCM has no other."""
        only = frozenset({cipher})
        self.logged_in(client.encode("ascii", "replace"), peer, Ciphers(only, only))

    def logged_in(self, identification: bytes, peer: str, ciphers: Ciphers | None) -> bool:
        """As `CipherSteering`; new knowledge is written down. A full disk costs a client a second try, but no login."""
        is_new = super().logged_in(identification, peer, ciphers)
        if is_new:
            with suppress(OSError):
                write_state(self._state, self.encode())
        return is_new
