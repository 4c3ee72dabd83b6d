"""Which algorithms are offered, and asyncssh's settings: nothing that is not said here is on."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from asyncssh.connection import SSHServerConnectionOptions

from pyssh_gateway.config.types import Config
from pyssh_gateway.core.steering import GCM_CIPHERS
from pyssh_gateway.keys.host_keys import HostKey
from pyssh_gateway.ssh import host_key_signing

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


def options(host_keys: Sequence[HostKey], config: Config) -> SSHServerConnectionOptions:
    """asyncssh's settings for every connection: nothing that is not said here is on."""
    offered, announced = host_key_signing.pairs(host_keys)
    made = SSHServerConnectionOptions(
        server_version=config.listen.identification,
        server_host_keys=list(announced.values()),
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
        login_timeout=0,  # monitor.strangers has the clock
        keepalive_interval=config.session.keepalive or 0,
        keepalive_count_max=config.session.keepalive_misses,
        agent_forwarding=False,
        x11_forwarding=False,
        line_editor=False,
        encoding=None,
        allow_scp=False,
    )
    # What asyncssh has made of the keys has SHA-1 in it, and for key exchange also those that are only announced.
    made.server_host_keys, made.all_server_host_keys = offered, announced
    return made


def processor_has_aes() -> bool:
    """Whether the processor has AES instructions; false when it can't be known."""
    with suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        return b" aes" in file.read(8192)  # the first processor's flags (x86) or features (Arm) are within this
    return False
