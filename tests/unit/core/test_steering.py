"""Which ciphers are offered to whom."""

import pytest

from pyssh_gateway.core.steering import MAX_REMEMBERED, CipherSteering

OPENSSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"


@pytest.mark.parametrize(
    ("has_aes", "identification", "only_gcm"),
    [
        (True, OPENSSH, True),
        (False, OPENSSH, False),
        (True, b"SSH-2.0-PuTTY_Release_0.78", False),
        (True, b"SSH-2.0-AsyncSSH_2.24.1", False),
        (True, b"SSH-2.0-dropbear_OpenSSH_", False),
        (True, b"", False),
    ],
)
def test_openssh_gets_gcm_where_it_is_fast(has_aes: bool, identification: bytes, only_gcm: bool) -> None:
    """Only clients that surely have AES-GCM, and only where the processor makes it worth while."""
    assert CipherSteering(has_aes).offer_only_gcm(identification, "192.0.2.1") is only_gcm


def test_who_could_not_do_it_gets_everything_the_next_time() -> None:
    """A client whose user took AES-GCM away gets in with its second try, from its whole /64; others don't change."""
    steering = CipherSteering(has_aes=True)
    steering.failed("2001:db8::1")
    assert not steering.offer_only_gcm(OPENSSH, "2001:db8::2")
    assert steering.offer_only_gcm(OPENSSH, "192.0.2.1")


def test_what_is_remembered_is_bounded() -> None:
    """Strangers that fail on purpose fill a list of fixed length; the oldest is forgotten."""
    steering = CipherSteering(has_aes=True)
    peers = [f"10.0.{number // 256}.{number % 256}" for number in range(MAX_REMEMBERED + 1)]
    for peer in peers:
        steering.failed(peer)
        steering.failed(peer)
    assert steering.offer_only_gcm(OPENSSH, peers[0])
    assert not steering.offer_only_gcm(OPENSSH, peers[1])
    assert not steering.offer_only_gcm(OPENSSH, peers[-1])
