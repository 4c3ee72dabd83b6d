"""monitor.host_key_signing: which signatures the host keys make, and in which order they are offered."""

from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import SSHPacket
from asyncssh.public_key import decode_ssh_public_key

from pyssh_gateway.keys.host_keys import HostKey, create_key_pair, load, load_next, load_or_create, store_key_pair
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from tests.support.key_lines import string

SESSION = b"session"
DATA = b"what is signed"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[HostKey, ...]:
    """An RSA key, an ed25519 key, and the next ed25519 key."""
    directory: Path = tmp_path_factory.mktemp("keys")
    in_use = load_or_create(directory, ("rsa", "ed25519"))
    create_key_pair(directory / "ssh_host_ed25519_key_next", "next")
    return in_use + load_next(directory, ("rsa", "ed25519"))


@pytest.fixture(scope="module")
def signer(keys: tuple[HostKey, ...]) -> HostKeySigner:
    """A signer with these keys."""
    return HostKeySigner(keys)


def signatures(signer: HostKeySigner, asked: list[bytes], rsa: bytes) -> list[bytes] | None:
    """The signatures in a proof."""
    proof = signer.prove(asked, SESSION, rsa)
    if proof is None:
        return None
    packet, found = SSHPacket(proof), []
    while packet:
        found.append(packet.get_string())
    return found


def test_keys_are_offered_in_order_and_next_ones_not_at_all(signer: HostKeySigner, keys: tuple[HostKey, ...]) -> None:
    """Protects key exchanges: keys are offered in the configured order, without SHA-1 and announced-only keys."""
    rsa, ed25519, _ = (key.public_blob for key in keys)
    assert signer.offered == ((b"rsa-sha2-512", rsa), (b"rsa-sha2-256", rsa), (b"ssh-ed25519", ed25519))
    assert signer.announced == tuple(key.public_blob for key in keys)


@pytest.mark.parametrize(
    ("key_type", "kind"),
    [
        ("ssh-ed25519", "ed25519"),
        ("ecdsa-sha2-nistp256", "ecdsa"),
        ("ecdsa-sha2-nistp384", "ecdsa"),
        ("ecdsa-sha2-nistp521", "ecdsa"),
        ("ssh-rsa", "rsa"),
    ],
)
def test_asyncssh_takes_the_signatures(key_type: str, kind: str, tmp_path: Path) -> None:
    """Another implementation verifies each key's signature, with each of its algorithms, over that data only."""
    made = asyncssh.generate_private_key(key_type)
    path = tmp_path / "key"
    store_key_pair(path, made.export_private_key("openssh"), made.public_data, "")
    signer = HostKeySigner([load(path, kind)])
    for algorithm, blob in signer.offered:
        for number in range(20):
            data = DATA + bytes([number])
            signature = signer.sign(algorithm, data)
            assert SSHPacket(signature).get_string() == algorithm
            assert decode_ssh_public_key(blob).verify(data, signature)
            assert not decode_ssh_public_key(blob).verify(DATA, signature)


def test_each_algorithm_stays_what_it_is(signer: HostKeySigner, keys: tuple[HostKey, ...]) -> None:
    """Protects clients from each other: the algorithm that one uses does not change another's."""
    for algorithm, _ in signer.offered:
        assert SSHPacket(signer.sign(algorithm, DATA)).get_string() == algorithm
    for rsa in (b"rsa-sha2-256", b"rsa-sha2-512"):
        (signature,) = signatures(signer, [keys[0].public_blob], rsa) or []
        assert SSHPacket(signature).get_string() == rsa
    assert SSHPacket(signer.sign(b"rsa-sha2-256", DATA)).get_string() == b"rsa-sha2-256"


@pytest.mark.parametrize("algorithm", [b"ssh-rsa", b"ecdsa-sha2-nistp256", b"", b"none"])
def test_only_what_is_offered_signs(signer: HostKeySigner, algorithm: bytes) -> None:
    """Protects the keys: SHA-1 and algorithms without a key are refused."""
    with pytest.raises(ValueError, match="no host key"):
        signer.sign(algorithm, DATA)


def test_a_key_that_is_next_signs_proofs_only(keys: tuple[HostKey, ...]) -> None:
    """Protects clients that do not know the next key yet: it only signs proofs."""
    signer = HostKeySigner(keys[2:])
    assert signer.offered == ()
    assert signatures(signer, [keys[2].public_blob], b"rsa-sha2-512")
    with pytest.raises(ValueError, match="no host key"):
        signer.sign(b"ssh-ed25519", DATA)


def test_proofs_are_verified_by_the_keys(signer: HostKeySigner, keys: tuple[HostKey, ...]) -> None:
    """Protects UpdateHostKeys: each signature in a proof can be verified with its key, over the session."""
    asked = [key.public_blob for key in reversed(keys)]
    found = signatures(signer, asked, b"rsa-sha2-512") or []
    for blob, signature in zip(asked, found, strict=True):
        message = string(b"hostkeys-prove-00@openssh.com") + string(SESSION) + string(blob)
        assert decode_ssh_public_key(blob).verify(message, signature)


def test_nothing_is_signed_for_other_keys_or_twice(signer: HostKeySigner, keys: tuple[HostKey, ...]) -> None:
    """Protects the server's time: one request can't cause a thousand RSA signatures."""
    blob = keys[0].public_blob
    assert signer.prove([blob, blob], SESSION, b"rsa-sha2-512") is None
    assert signer.prove([blob, b"another"], SESSION, b"rsa-sha2-512") is None
    assert signer.prove([blob], SESSION, b"ssh-rsa") is None
    assert signer.prove([], SESSION, b"rsa-sha2-512") == b""
