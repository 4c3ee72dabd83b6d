"""Clients that guess the key exchange: dropbear's sends its first packet before it has our list (RFC 4253, 7).

Dropbear's versions differ in what they guess, and a machine has only one of them, so this module sends the packets.
"""

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.support.server import Server
from tests.wire.plain import PlainPeer, kexinit, packet, text

MSG_NEWKEYS, MSG_KEX_ECDH_INIT, MSG_KEX_ECDH_REPLY = 21, 30, 31

GUESSES2 = b",kexguess2@matt.ucc.asn.au"
"""With this, dropbear asks for a more tolerant rule. We do not offer it, so dropbear follows the RFC's rule."""


def init(key: bytes) -> bytes:
    """The guessed packet, which is sent again if the guess was wrong."""
    return packet(bytes([MSG_KEX_ECDH_INIT]) + text(key))


def public_key() -> bytes:
    """A client's public key for an exchange over curve25519."""
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


def hybrid_public_keys() -> bytes:
    """The same for mlkem768x25519-sha256."""
    return MLKEM768PrivateKey.generate().public_key().public_bytes_raw() + public_key()


WRONG = {
    "older dropbear": (b"curve25519-sha256@libssh.org,ecdh-sha2-nistp256", b"ssh-ed25519", public_key),
    "newer dropbear": (b"sntrup761x25519-sha512,curve25519-sha256", b"ssh-ed25519", public_key),
    "newer dropbear without sntrup": (b"mlkem768x25519-sha256,curve25519-sha256", b"ssh-ed25519", hybrid_public_keys),
    "another host key": (b"curve25519-sha256", b"rsa-sha2-256,ssh-ed25519", public_key),
}
"""Clients' lists whose first entries differ from ours, and the client's key for the algorithm that is chosen then."""


@pytest.mark.parametrize("guess", WRONG)
def test_wrong_guess_is_passed_over(server: Server, guess: str) -> None:
    """Protects dropbear's client: if the first entries differ, the guessed packet is ignored."""
    kex, host_key, keys = WRONG[guess]
    with PlainPeer(server.port) as peer:
        peer.greet(b"SSH-2.0-dropbear")
        # The first packet has no valid answer: a server that does not ignore it disconnects.
        peer.send(packet(kexinit(kex=kex + GUESSES2, host_key=host_key, follows=True)) + init(bytes(32)) + init(keys()))
        assert [peer.read_packet()[:1], peer.read_packet()[:1]] == [bytes([MSG_KEX_ECDH_REPLY]), bytes([MSG_NEWKEYS])]


def test_right_guess_is_answered(server: Server) -> None:
    """Protects the round trip that a right guess saves: the server answers the guessed packet."""
    with PlainPeer(server.port) as peer:
        peer.greet(b"SSH-2.0-dropbear")
        peer.send(packet(kexinit(kex=b"curve25519-sha256" + GUESSES2, follows=True)) + init(public_key()))
        assert [peer.read_packet()[:1], peer.read_packet()[:1]] == [bytes([MSG_KEX_ECDH_REPLY]), bytes([MSG_NEWKEYS])]
