"""Signatures: what one says of itself, and whether it is right. What comes in here was written by nobody we know.

asyncssh knows the formats and cryptography does the mathematics. Which algorithms may be used is `core.access.policy`'s
table: asyncssh would verify SHA-1 signatures of RSA keys, and some that were not made for SSH's authentication at all.
This module does not know who may log in.
"""

from asyncssh.packet import PacketDecodeError, SSHPacket, String
from asyncssh.public_key import decode_ssh_public_key
from cryptography.exceptions import UnsupportedAlgorithm

from pyssh_gateway.core.access.certificates import Certificate, type_of
from pyssh_gateway.core.access.policy import SECURITY_KEYS, SIGNATURE_ALGORITHMS, Proof

MALFORMED = "a malformed signature"
"""Stands for the algorithm of what is no signature; no algorithm has a space in its name (RFC 4250 section 4.6.1)."""


def read_proof(signature: bytes) -> Proof:
    """What a signature (RFC 4253 section 6.6) says of itself; never raises.

    That of a security key has the flags and a counter after it (PROTOCOL.u2f).
    """
    packet = SSHPacket(signature)
    try:
        algorithm = packet.get_string().decode("ascii", "backslashreplace")
        packet.get_string()
        return Proof(algorithm, packet.get_byte() if algorithm in SECURITY_KEYS else None)
    except PacketDecodeError:
        return Proof(MALFORMED)


def verified(signer: bytes, data: bytes, signature: bytes, *, touch_required: bool) -> bool:
    """Whether `signature` over `data` was made with the plain public key `signer`, by an algorithm that is accepted.

    With `touch_required`, a security key has to have been touched. Never raises: what can't be verified is wrong.
    """
    key_type = type_of(signer)
    if read_proof(signature).algorithm not in SIGNATURE_ALGORITHMS.get(key_type, ()):
        return False
    try:
        key = decode_ssh_public_key(signer)
        key.set_touch_required(touch_required)
        return bool(key.verify(data, _padded(signer, signature) if key_type == "ssh-rsa" else signature))
    # Malformed; a number of an RSA key is negative; OpenSSL was built without the curve or the digest.
    except (ValueError, OverflowError, UnsupportedAlgorithm):
        return False


def certificate_verified(certificate: Certificate) -> bool:
    """Whether the authority that the certificate names has signed it. As for sshd, it need not have touched its key."""
    return verified(certificate.ca_blob, certificate.signed, certificate.signature, touch_required=False)


def _padded(signer: bytes, signature: bytes) -> bytes:
    """An RSA signature as long as the modulus, which cryptography insists on.

    It is a number, "without lengths or padding" (RFC 4253 section 6.6): PuTTY leaves out the leading zeros that one in
    256 signatures has, and sshd puts them back (ssh-rsa.c).
    """
    key = SSHPacket(signer)
    key.get_string()
    key.get_mpint()
    size = (key.get_mpint().bit_length() + 7) // 8
    packet = SSHPacket(signature)
    algorithm, number = packet.get_string(), packet.get_string()
    packet.check_end()
    return String(algorithm) + String(number.rjust(size, b"\0"))
