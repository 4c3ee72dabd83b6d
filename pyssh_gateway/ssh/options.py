"""The algorithms that are offered, and asyncssh's settings: every feature not named here is off."""

from collections import OrderedDict
from collections.abc import Sequence

from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.public_key import SSHKeyPair

from pyssh_gateway.core.steering import GCM_CIPHERS

KEX_ALGORITHMS = (
    # First, so that the guess of a client that guesses (dropbear) is right; otherwise the client's order decides.
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
"""Rekey interval before login, in seconds: in effect never, since the login timeout is much shorter."""


class PublicHostKey(SSHKeyPair):
    """A host key without its private half, which another process holds: it can't sign (see `KeyExchange`).

    There is one object for each signature algorithm. asyncssh would use one object for each key, and write into it the
    algorithm that one client has chosen, which would then apply to other clients, too.
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
    """asyncssh's settings for every connection: every feature not named here is off.

    `offered` are the pairs of signature algorithm and public key for key exchange, in order of preference. `announced`
    are all public keys that clients may learn. `identification` follows SSH-2.0- in our identification line. A silent
    client gets a keepalive every `keepalive` seconds (0: never), and is disconnected after `keepalive_misses` without
    an answer. New keys are made after `rekey_bytes` in either direction, or after `rekey_seconds` (0: no time limit).
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
        gss_host=None,  # by default asyncssh looks our host name up in the DNS
        gss_kex=False,
        gss_auth=False,
        login_timeout=0,  # monitor.arrivals.strangers enforces the timeout
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
    # asyncssh would announce only the offered keys. It uses nothing but the public keys of these objects.
    made.all_server_host_keys = OrderedDict((blob, PublicHostKey(b"", blob)) for blob in announced)
    return made
