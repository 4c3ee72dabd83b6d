"""What clients understand, judged by their version string."""

import pytest

from pyssh_gateway.core.compat import rsa_signature, takes_eow


@pytest.mark.parametrize(
    ("software", "takes"),
    [
        (b"OpenSSH_5.1", True),
        (b"OpenSSH_9.2p1 Debian-2+deb12u3", True),
        (b"OpenSSH_10.0", True),
        (b"OpenSSH_for_Windows_9.5", True),
        (b"OpenSSH_4.9", False),
        (b"OpenSSH_3.9p1", False),
        (b"OpenSSH_2.9.9p2", False),
        (b"PuTTY_Release_0.83", False),
        (b"AsyncSSH_2.24.1", False),
        (b"not_OpenSSH_9.9", False),
        (b"", False),
    ],
)
def test_end_of_write_is_for_openssh(software: bytes, takes: bool) -> None:
    """Protects clients that close the connection at an unknown request: only OpenSSH gets eow."""
    assert takes_eow(b"SSH-2.0-" + software) is takes


@pytest.mark.parametrize(
    ("chosen", "client", "used"),
    [
        (b"rsa-sha2-256", [b"rsa-sha2-512", b"rsa-sha2-256"], b"rsa-sha2-256"),
        (b"rsa-sha2-512", [b"rsa-sha2-512"], b"rsa-sha2-512"),
        (b"rsa-sha2-256-cert-v01@openssh.com", [b"rsa-sha2-512", b"rsa-sha2-256"], b"rsa-sha2-256"),
        (b"ssh-ed25519", [b"ssh-ed25519", b"rsa-sha2-256"], b"rsa-sha2-256"),
        (b"ssh-ed25519", [b"rsa-sha2-256", b"rsa-sha2-512"], b"rsa-sha2-512"),
        (b"ssh-ed25519", [b"ssh-ed25519", b"ssh-rsa"], b"rsa-sha2-512"),
    ],
)
def test_rsa_proofs_are_made_as_the_client_expects(chosen: bytes, client: list[bytes], used: bytes) -> None:
    """Protects older OpenSSH clients, which require the signature algorithm of the key exchange if that was RSA's."""
    assert rsa_signature(chosen, client) == used
