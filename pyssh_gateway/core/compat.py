"""What a client understands, by its identification line (RFC 4253 section 4.2) or by what it has offered.

Follows OpenSSH's compat.c and serverloop.c.
"""

from collections.abc import Sequence

RSA_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")
"""What an RSA host key signs with (RFC 8332), in the order in which it is offered."""

_CERTIFIED = b"-cert-v01@openssh.com"
"""What the algorithm is called in addition where the key is shown in a certificate (OpenSSH's PROTOCOL.certkeys)."""

_PREFIX = b"SSH-2.0-"

_BEFORE_EOW = (b"OpenSSH_2", b"OpenSSH_3", b"OpenSSH_4")
"""Those that compat.c gives no SSH_NEW_OPENSSH."""


def takes_eow(identification: bytes) -> bool:
    """Whether the client may be sent `eow@openssh.com` (OpenSSH's PROTOCOL section 2.1).

    Some others end the connection for a request that they don't know, against RFC 4254 section 5.4.
    """
    software = identification.removeprefix(_PREFIX)
    return software.startswith(b"OpenSSH") and not software.startswith(_BEFORE_EOW)


def plain_algorithm(algorithm: bytes) -> bytes:
    """What a signature is made with, and calls itself, where the key may be shown in a certificate."""
    return algorithm.removesuffix(_CERTIFIED)


def rsa_signature(chosen: bytes, client_algorithms: Sequence[bytes]) -> bytes:
    """What an RSA host key's proof is signed with.

    The host key algorithm `chosen` in the key exchange, if that was RSA's; else the best that the client knows, by what
    it would have taken there (sshd's serverloop.c, server_input_hostkeys_prove).
    """
    chosen = plain_algorithm(chosen)
    if chosen in RSA_SIGNATURES:
        return chosen
    return next((algorithm for algorithm in RSA_SIGNATURES if algorithm in client_algorithms), RSA_SIGNATURES[0])
