"""What a client supports, judged by its identification line (RFC 4253 section 4.2) or by what it has offered.

Follows OpenSSH's compat.c and serverloop.c.
"""

from collections.abc import Sequence

RSA_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")
"""The signature algorithms of an RSA host key (RFC 8332), in the order in which they are offered."""

_CERTIFIED = b"-cert-v01@openssh.com"
"""The suffix of the algorithm's name where the key is sent in a certificate (OpenSSH's PROTOCOL.certkeys)."""

_PREFIX = b"SSH-2.0-"

_BEFORE_EOW = (b"OpenSSH_2", b"OpenSSH_3", b"OpenSSH_4")
"""The versions for which compat.c does not set SSH_NEW_OPENSSH."""


def takes_eow(identification: bytes) -> bool:
    """Whether the client may be sent `eow@openssh.com` (OpenSSH's PROTOCOL section 2.1).

    Some other clients disconnect when they get an unknown request, contrary to RFC 4254 section 5.4.
    """
    software = identification.removeprefix(_PREFIX)
    return software.startswith(b"OpenSSH") and not software.startswith(_BEFORE_EOW)


def plain_algorithm(algorithm: bytes) -> bytes:
    """The algorithm that makes the signature, and that the signature names, without the suffix of certificates."""
    return algorithm.removesuffix(_CERTIFIED)


def rsa_signature(chosen: bytes, client_algorithms: Sequence[bytes]) -> bytes:
    """The signature algorithm for the proof of an RSA host key.

    This is the host key algorithm `chosen` in the key exchange, if it is RSA's; otherwise the best one in the client's
    list for that exchange (sshd's serverloop.c, server_input_hostkeys_prove).
    """
    chosen = plain_algorithm(chosen)
    if chosen in RSA_SIGNATURES:
        return chosen
    return next((algorithm for algorithm in RSA_SIGNATURES if algorithm in client_algorithms), RSA_SIGNATURES[0])
