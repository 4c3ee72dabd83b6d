"""Signatures of users and authorities: what they state, and whether they are right. All of it is from strangers.

This module reads the formats, and cryptography does the mathematics. Which algorithms may be used is
`core.access.policy`'s table. This module does not know who may log in.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from types import MappingProxyType

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from pyssh_gateway.core.access.certificates import Certificate, type_of
from pyssh_gateway.core.access.policy import SECURITY_KEYS, SIGNATURE_ALGORITHMS, TOUCHED, Proof
from pyssh_gateway.core.access.wire import MalformedError, Reader

MALFORMED = "a malformed signature"
"""Takes the algorithm's place if the signature can't be read; no algorithm has a space in its name (RFC 4250 section
4.6.1)."""

CURVES: Mapping[bytes, tuple[type[ec.EllipticCurve], type[HashAlgorithm]]] = MappingProxyType(
    {b"nistp256": (ec.SECP256R1, SHA256), b"nistp384": (ec.SECP384R1, SHA384), b"nistp521": (ec.SECP521R1, SHA512)}
)
"""Curves by their SSH names, and the hash that each signs with (RFC 5656 section 6.2.1)."""

RSA_HASHES: Mapping[str, type[HashAlgorithm]] = MappingProxyType({"rsa-sha2-256": SHA256, "rsa-sha2-512": SHA512})
"""The hashes of RSA's signature algorithms (RFC 8332 section 3)."""


def read_proof(signature: bytes) -> Proof:
    """The algorithm and the flags that a signature (RFC 4253 section 6.6) states; never raises.

    In a signature of a security key, the flags and a counter come last (PROTOCOL.u2f).
    """
    reader = Reader(signature)
    try:
        algorithm = reader.string().decode("ascii", "backslashreplace")
        reader.string()
        return Proof(algorithm, reader.number(1) if algorithm in SECURITY_KEYS else None)
    except MalformedError:
        return Proof(MALFORMED)


def verified(signer: bytes, data: bytes, signature: bytes, *, touch_required: bool) -> bool:
    """Whether `signature` over `data` was made with the plain public key `signer`, by an algorithm that is accepted.

    With `touch_required`, a security key has to have been touched. Never raises: what can't be verified is wrong.
    """
    key_type, algorithm = type_of(signer), read_proof(signature).algorithm
    if algorithm not in SIGNATURE_ALGORITHMS.get(key_type, ()):
        return False
    key, proof = Reader(signer), Reader(signature)
    try:
        key.string()
        proof.string()
        if key_type in SECURITY_KEYS:
            _verify_security_key(key_type, key, data, proof, touch_required=touch_required)
        elif key_type == "ssh-rsa":
            _verify_rsa(key, data, proof, RSA_HASHES[algorithm]())
        else:
            _VERIFY[key_type](key)(data, proof.string())
            key.end()
            proof.end()
        return True
    # Wrong; malformed; a number of an RSA key is negative; OpenSSL was built without the curve or the digest.
    except (InvalidSignature, ValueError, OverflowError, UnsupportedAlgorithm):
        return False


def certificate_verified(certificate: Certificate) -> bool:
    """Whether the authority that the certificate names has signed it. As in sshd, it need not have touched its key."""
    return verified(certificate.ca_blob, certificate.signed, certificate.signature, touch_required=False)


# The functions below return if the signature is right, and raise otherwise. They read what is left of a key after its
# type, and of a signature after its algorithm.

_Verify = Callable[[bytes, bytes], None]
"""Takes the data and what is inside the signature."""


def _ed25519(key: Reader) -> _Verify:
    """RFC 8709."""
    public = Ed25519PublicKey.from_public_bytes(key.string())
    return lambda data, signature: public.verify(signature, data)


def _ecdsa(key: Reader, name: bytes) -> _Verify:
    """RFC 5656 section 3.1: the signature is two numbers."""
    if key.string() != name:
        raise MalformedError("it is on another curve")
    curve, hash_algorithm = CURVES[name]
    public = ec.EllipticCurvePublicKey.from_encoded_point(curve(), key.string())

    def verify(data: bytes, signature: bytes) -> None:
        numbers = Reader(signature)
        r, s = numbers.mpint(), numbers.mpint()
        numbers.end()
        public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hash_algorithm()))

    return verify


_VERIFY: Mapping[str, Callable[[Reader], _Verify]] = {
    "ssh-ed25519": _ed25519,
    "ecdsa-sha2-nistp256": lambda key: _ecdsa(key, b"nistp256"),
    "ecdsa-sha2-nistp384": lambda key: _ecdsa(key, b"nistp384"),
    "ecdsa-sha2-nistp521": lambda key: _ecdsa(key, b"nistp521"),
    "sk-ssh-ed25519@openssh.com": _ed25519,
    "sk-ecdsa-sha2-nistp256@openssh.com": lambda key: _ecdsa(key, b"nistp256"),
}


def _verify_rsa(key: Reader, data: bytes, proof: Reader, hash_algorithm: HashAlgorithm) -> None:
    """RFC 8332 section 3.

    The signature is a number, "without lengths or padding" (RFC 4253 section 6.6), but cryptography insists on one as
    long as the modulus. One signature in 256 has leading zeros, which PuTTY leaves out; they are put back here, as sshd
    does (ssh-rsa.c).
    """
    exponent, modulus = key.mpint(), key.mpint()
    key.end()
    size = (modulus.bit_length() + 7) // 8
    signature = proof.string().rjust(size, b"\0")
    proof.end()
    RSAPublicNumbers(exponent, modulus).public_key().verify(signature, data, PKCS1v15(), hash_algorithm)


def _verify_security_key(key_type: str, key: Reader, data: bytes, proof: Reader, *, touch_required: bool) -> None:
    """PROTOCOL.u2f: what is signed is the application, the flags, a counter and the data, the long ones as hashes."""
    verify = _VERIFY[key_type](key)
    application = key.string()
    key.end()
    application.decode()  # raises ValueError: no name of an application
    inner = proof.string()
    flags, counter = proof.take(1), proof.take(4)
    proof.end()
    if touch_required and not flags[0] & TOUCHED:
        raise InvalidSignature("not touched")
    verify(sha256(application).digest() + flags + counter + sha256(data).digest(), inner)
