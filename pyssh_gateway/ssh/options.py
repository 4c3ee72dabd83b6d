"""Which algorithms are offered, and asyncssh's settings: nothing that is not said here is on."""

from collections import OrderedDict
from collections.abc import Sequence

from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.public_key import SSHKeyPair

from pyssh_gateway.core.steering import GCM_CIPHERS

KEX_ALGORITHMS = (
    # First, so that a client that guesses (dropbear) guesses right; for all others the client's order decides.
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "mlkem768x25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
CIPHERS = (*GCM_CIPHERS, "chacha20-poly1305@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
SIGNATURE_ALGORITHMS = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


_NEVER = 365 * 86400.0
"""Seconds until a connection on which nobody has logged in makes new keys. It has ended long before."""


class PublicHostKey(SSHKeyPair):
    """A key of the server's, whose private half is elsewhere: it can't sign (see `KeyExchange`).

    There is one object for each signature algorithm. asyncssh would have one for a key, and write into it the algorithm
    that a client has chosen, so that another client gets it, too.
    """

    def __init__(self, algorithm: bytes, public_key: bytes) -> None:
        super().__init__(algorithm, algorithm, (algorithm,), (algorithm,), public_key, None)


def options(
    offered: Sequence[tuple[bytes, bytes]],
    announced: Sequence[bytes],
    *,
    identification: str,
    keepalive: float = 0,
    keepalive_misses: int = 3,
    rekey_bytes: int = 2**30,
    rekey_seconds: float = _NEVER,
) -> SSHServerConnectionOptions:
    """asyncssh's settings for every connection: nothing that is not said here is on.

    `offered` are signature algorithms and the public keys that sign with them in key exchange, in their order,
    `announced` all public keys that clients may learn. `identification` is what follows SSH-2.0- in our line. A client
    that is silent is asked every `keepalive` seconds (0: never) whether it is there, and is gone after so many misses.
    New keys are made after `rekey_bytes` either way, or after `rekey_seconds` (0: at no time).
    """
    keys = OrderedDict[bytes, SSHKeyPair]((name, PublicHostKey(name, blob)) for name, blob in offered)
    made = SSHServerConnectionOptions(
        server_version=identification,
        server_host_keys=list(keys.values()),
        send_server_host_keys=True,
        kex_algs=KEX_ALGORITHMS,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        compression_algs=("none",),  # zlib's output is not bounded by its input
        signature_algs=SIGNATURE_ALGORITHMS,
        x509_trusted_certs=None,
        public_key_auth=True,
        host_based_auth=False,
        password_auth=False,
        kbdint_auth=False,
        gss_host=None,  # the default looks our name up in the DNS
        gss_kex=False,
        gss_auth=False,
        login_timeout=0,  # monitor.arrivals.strangers has the clock
        keepalive_interval=keepalive,
        keepalive_count_max=keepalive_misses,
        rekey_bytes=rekey_bytes,
        rekey_seconds=rekey_seconds,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
        allow_scp=False,
    )
    made.server_host_keys = keys
    # asyncssh would announce those that are offered; of these it only wants the public keys.
    made.all_server_host_keys = OrderedDict((blob, PublicHostKey(b"", blob)) for blob in announced)
    return made
