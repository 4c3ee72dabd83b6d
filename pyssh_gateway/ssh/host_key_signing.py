"""The server's keys as asyncssh signs with them: which signature algorithms each has, and the proofs of having them.

asyncssh has one object for a key and writes into it the algorithm that a client has chosen, so that another client gets
it, too; here every algorithm has an object of its own. SHA-1 signatures are in no table, so nobody gets one.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import asyncssh
from asyncssh.packet import String
from asyncssh.public_key import SSHKeyPair, SSHLocalKeyPair

from pyssh_gateway.keys.host_keys import HostKey

RSA_SIGNATURES = (b"rsa-sha2-512", b"rsa-sha2-256")
"""What an RSA key signs with (RFC 8332), in the order in which it is offered."""

PROVE_REQUEST = b"hostkeys-prove-00@openssh.com"


Pairs = OrderedDict[bytes, SSHKeyPair]


def pairs(keys: Sequence[HostKey]) -> tuple[Pairs, Pairs]:
    """What is offered for key exchange, by algorithm and in the order of `keys`, and what is announced, by the blob.

    Keys that are `next` are announced only.
    """
    offered, announced = Pairs(), Pairs()
    for key in keys:
        # Our own file: checking the numbers of an RSA key would take 150 ms at every start.
        private = asyncssh.import_private_key(key.private_pem, unsafe_skip_rsa_key_validation=True)
        announced[key.public_blob] = _pair(private, private.algorithm)
        if not key.next:
            for algorithm in RSA_SIGNATURES if key.key_type == "ssh-rsa" else (private.algorithm,):
                offered[algorithm] = _pair(private, algorithm)
    return offered, announced


def _pair(key: asyncssh.SSHKey, algorithm: bytes) -> SSHKeyPair:
    pair = SSHLocalKeyPair(key, None, None, None)
    pair.set_sig_algorithm(algorithm)
    return pair


def rsa_signature(chosen: bytes, client_algorithms: Sequence[bytes]) -> bytes:
    """What an RSA key's proof is signed with.

    The host key algorithm `chosen` in the key exchange, if that was RSA's; else the best that the client knows, by what
    it would have taken there (sshd's serverloop.c, server_input_hostkeys_prove).
    """
    if chosen in RSA_SIGNATURES:
        return chosen
    return next((algorithm for algorithm in RSA_SIGNATURES if algorithm in client_algorithms), RSA_SIGNATURES[0])


def prove(keys: Mapping[bytes, SSHKeyPair], asked: Sequence[bytes], session_id: bytes, rsa: bytes) -> bytes | None:
    """The signatures that prove that we have the keys `asked` for, by their blobs (OpenSSH's PROTOCOL section 2.5).

    None: one of them is none of ours, or is asked for twice: that would be many signatures, which hold up everybody,
    for one request. `rsa` is the algorithm of RSA keys.
    """
    if len(set(asked)) != len(asked) or not all(blob in keys for blob in asked):
        return None
    signatures = []
    for blob in asked:
        pair = keys[blob]
        if pair.key_algorithm == b"ssh-rsa":
            pair.set_sig_algorithm(rsa)  # nothing awaits before it is used
        signatures.append(String(pair.sign(String(PROVE_REQUEST) + String(session_id) + String(blob))))
    return b"".join(signatures)
