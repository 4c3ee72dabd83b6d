"""The server's keys: which signature algorithms each has, signatures with them, and the proofs of having them.

No other process has the private keys. No table has SHA-1 signatures, so none are ever made.
"""

from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from pyssh_gateway.core.access.certificates import certified
from pyssh_gateway.core.access.wire import mpint, string
from pyssh_gateway.core.compat import RSA_SIGNATURES, plain_algorithm
from pyssh_gateway.keys.host_keys import HostKey, HostKeyError, parse_private
from pyssh_gateway.monitor.host_certificates import HostCertificate
from pyssh_gateway.monitor.signatures import CURVES, RSA_HASHES

PROVE_REQUEST = b"hostkeys-prove-00@openssh.com"

_Sign = Callable[[bytes], bytes]
"""Makes what is inside a signature over the data (RFC 4253 section 6.6)."""


class HostKeySigner:
    """Signs with the server's keys. Raises HostKeyError for a key that can't be used.

    `offered` are the signature algorithms for key exchange with the public keys, in the order of `keys`; keys that are
    `next` are left out. `announced` are all public keys. `certificates` are those of keys that are offered.
    """

    def __init__(self, keys: Sequence[HostKey], certificates: tuple[HostCertificate, ...] = ()) -> None:
        self._keys = {key.public_blob: _signatures(key) for key in keys}
        self.announced: tuple[bytes, ...] = tuple(self._keys)
        offered: dict[bytes, bytes] = {}
        for key in keys:
            if not key.next:
                for algorithm in self._keys[key.public_blob]:
                    offered.setdefault(algorithm, key.public_blob)
        self.offered: tuple[tuple[bytes, bytes], ...] = tuple(offered.items())
        self._offered = offered
        self.certificates = certificates

    def offered_at(self, now: float) -> tuple[tuple[bytes, bytes], ...]:
        """What is offered, followed by the same keys in certificates that are good at `now` (Unix time).

        The certificates come last, because clients that guess (dropbear) look at the first one only; all others go by
        their own order.
        """
        blobs: dict[bytes, bytes] = {}
        for one in self.certificates:
            if one.certificate is not None and not one.trouble(now):
                blobs.setdefault(one.certificate.public_blob, one.blob)
        certified_keys = ((algorithm, blobs.get(blob)) for algorithm, blob in self.offered)
        return self.offered + tuple((_certified(name), blob) for name, blob in certified_keys if blob is not None)

    def key_for(self, algorithm: bytes) -> bytes | None:
        """The plain public key that signs for `algorithm`, which may be a certificate's; None if none is offered."""
        return self._offered.get(plain_algorithm(algorithm))

    def sign(self, algorithm: bytes, data: bytes) -> bytes:
        """The signature over `data` with the key that is offered for `algorithm`. Raises ValueError if none is.

        A key signs in the same way with and without a certificate.
        """
        blob = self.key_for(algorithm)
        if blob is None:
            raise ValueError("no host key is offered for this algorithm")
        return self._signature(blob, plain_algorithm(algorithm), data)

    def prove(self, asked: Sequence[bytes], session_id: bytes, rsa_algorithm: bytes) -> bytes | None:
        """The signatures that prove that we have the keys `asked` for (OpenSSH's PROTOCOL section 2.5).

        None: one of them is not ours; or one is asked for twice, which would make one request cost many signatures, and
        these hold up everybody; or an RSA key can't sign with `rsa_algorithm`.
        """
        if len(set(asked)) != len(asked) or not all(blob in self._keys for blob in asked):
            return None
        signatures = []
        for blob in asked:
            own = self._keys[blob]
            algorithm = rsa_algorithm if RSA_SIGNATURES[0] in own else next(iter(own))
            if algorithm not in own:
                return None
            data = string(PROVE_REQUEST) + string(session_id) + string(blob)
            signatures.append(string(self._signature(blob, algorithm, data)))
        return b"".join(signatures)

    def _signature(self, blob: bytes, algorithm: bytes, data: bytes) -> bytes:
        return string(algorithm) + string(self._keys[blob][algorithm](data))


def _certified(algorithm: bytes) -> bytes:
    return certified(algorithm.decode("ascii")).encode("ascii")


def _signatures(key: HostKey) -> dict[bytes, _Sign]:
    """The algorithms that the key signs with, the best one first."""
    # Our own file: checking the numbers of an RSA key would take 150 ms at every start.
    private = parse_private(key.path, key.private_pem, ours=True)
    match private:
        case ed25519.Ed25519PrivateKey():
            return {key.key_type.encode(): private.sign}
        case ec.EllipticCurvePrivateKey():
            return {key.key_type.encode(): _ecdsa(private, key.key_type)}
        case rsa.RSAPrivateKey():
            return {algorithm: _rsa(private, algorithm) for algorithm in RSA_SIGNATURES}
    raise HostKeyError(f"{key.path} is no host key")  # `load` has let it pass


def _ecdsa(private: ec.EllipticCurvePrivateKey, key_type: str) -> _Sign:
    """RFC 5656 section 3.1.2: two numbers."""
    _, hash_algorithm = CURVES[key_type.removeprefix("ecdsa-sha2-").encode()]

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(data, ec.ECDSA(hash_algorithm())))
        return mpint(r) + mpint(s)

    return sign


def _rsa(private: rsa.RSAPrivateKey, algorithm: bytes) -> _Sign:
    """RFC 8332 section 3."""
    hash_algorithm = RSA_HASHES[algorithm.decode()]
    return lambda data: private.sign(data, PKCS1v15(), hash_algorithm())
