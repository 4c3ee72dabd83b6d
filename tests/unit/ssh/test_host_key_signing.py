"""ssh.host_key_signing: which signatures the server's keys make, and in which order they are offered."""

from pathlib import Path

import pytest
from asyncssh.packet import SSHPacket
from asyncssh.public_key import decode_ssh_public_key

from pyssh_gateway.keys.host_keys import HostKey, create_key_pair, load_next, load_or_create
from pyssh_gateway.ssh.host_key_signing import Pairs, pairs, prove, rsa_signature
from tests.support.key_lines import string

SESSION = b"session"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[HostKey, ...]:
    """An RSA key, an ed25519 key, and one that is to follow it."""
    directory: Path = tmp_path_factory.mktemp("keys")
    in_use = load_or_create(directory, ("rsa", "ed25519"))
    create_key_pair(directory / "ssh_host_ed25519_key_next", "next")
    return in_use + load_next(directory, ("rsa", "ed25519"))


def signatures(announced: Pairs, asked: list[bytes], rsa: bytes) -> list[bytes] | None:
    """The signatures of a proof."""
    proof = prove(announced, asked, SESSION, rsa)
    if proof is None:
        return None
    packet, found = SSHPacket(proof), []
    while packet:
        found.append(packet.get_string())
    return found


def test_keys_are_offered_in_order_and_next_ones_not_at_all(keys: tuple[HostKey, ...]) -> None:
    """Protects key exchanges: the configuration's order, no SHA-1, and never a key that is only announced."""
    offered, announced = pairs(keys)
    assert list(offered) == [b"rsa-sha2-512", b"rsa-sha2-256", b"ssh-ed25519"]
    assert list(announced) == [key.public_blob for key in keys]
    assert {pair.public_data for pair in offered.values()} == {key.public_blob for key in keys if not key.next}


def test_each_algorithm_stays_what_it_is(keys: tuple[HostKey, ...]) -> None:
    """Protects clients from each other's choice: asyncssh writes the chosen algorithm into the key that it took."""
    offered, announced = pairs(keys)
    for algorithm, pair in offered.items():
        assert SSHPacket(pair.sign(b"data")).get_string() == algorithm
    blob = keys[0].public_blob
    for rsa in (b"rsa-sha2-256", b"rsa-sha2-512"):
        (signature,) = signatures(announced, [blob], rsa) or []
        assert SSHPacket(signature).get_string() == rsa
    assert SSHPacket(offered[b"rsa-sha2-256"].sign(b"data")).get_string() == b"rsa-sha2-256"


def test_proofs_are_verified_by_the_keys(keys: tuple[HostKey, ...]) -> None:
    """Protects UpdateHostKeys: a client verifies each signature over the session with the key that it asked about."""
    _, announced = pairs(keys)
    asked = [key.public_blob for key in reversed(keys)]
    found = signatures(announced, asked, b"rsa-sha2-512") or []
    for blob, signature in zip(asked, found, strict=True):
        message = string(b"hostkeys-prove-00@openssh.com") + string(SESSION) + string(blob)
        assert decode_ssh_public_key(blob).verify(message, signature)


def test_nothing_is_signed_for_other_keys_or_twice(keys: tuple[HostKey, ...]) -> None:
    """Protects everybody's time: one request can't have a thousand RSA signatures made."""
    _, announced = pairs(keys)
    blob = keys[0].public_blob
    assert prove(announced, [blob, blob], SESSION, b"rsa-sha2-512") is None
    assert prove(announced, [blob, b"another"], SESSION, b"rsa-sha2-512") is None
    assert prove(announced, [], SESSION, b"rsa-sha2-512") == b""


@pytest.mark.parametrize(
    ("chosen", "client", "used"),
    [
        (b"rsa-sha2-256", [b"rsa-sha2-512", b"rsa-sha2-256"], b"rsa-sha2-256"),
        (b"rsa-sha2-512", [b"rsa-sha2-512"], b"rsa-sha2-512"),
        (b"ssh-ed25519", [b"ssh-ed25519", b"rsa-sha2-256"], b"rsa-sha2-256"),
        (b"ssh-ed25519", [b"rsa-sha2-256", b"rsa-sha2-512"], b"rsa-sha2-512"),
        (b"ssh-ed25519", [b"ssh-ed25519", b"ssh-rsa"], b"rsa-sha2-512"),
    ],
)
def test_rsa_proofs_are_made_as_the_client_expects(chosen: bytes, client: list[bytes], used: bytes) -> None:
    """Protects older OpenSSH clients, which insist on the algorithm of the key exchange if that was RSA's."""
    assert rsa_signature(chosen, client) == used
