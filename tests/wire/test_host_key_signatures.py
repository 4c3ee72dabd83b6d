"""Signatures with the server's keys, as seen by peers that are not correct clients."""

import pwd
from collections.abc import Callable, Iterator

import asyncssh
import pytest
from asyncssh.packet import SSHPacket

from tests.conftest import KeyPair
from tests.support.server import Server
from tests.wire.plain import PlainPeer, kexinit, packet, text
from tests.wire.raw import GLOBAL_REQUEST, REQUEST_FAILURE, REQUEST_SUCCESS, RawClient, play

KEX_INIT, KEX_REPLY = b"\x1e", 31
X25519_PUBLIC = b"\x09" + bytes(31)
PROVE = b"hostkeys-prove-00@openssh.com"

Blob = Callable[[str], bytes]


@pytest.fixture(scope="module")
def with_rsa(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Server]:
    """A server with an RSA key, too."""
    keys = [f"file:{user_key.public}"]
    settings = {"host_keys": {"types": ["ed25519", "rsa"]}}
    with Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=keys, settings=settings) as running:
        yield running


@pytest.fixture
def blob(with_rsa: Server) -> Blob:
    """Gives the blob of the server's key of a given type."""

    def read(kind: str) -> bytes:
        return asyncssh.read_public_key(with_rsa.keys_dir / f"ssh_host_{kind}_key.pub").public_data

    return read


def signed_with(peer: PlainPeer) -> bytes:
    """Complete the key exchange; returns the algorithm of the server's signature."""
    peer.send(packet(KEX_INIT + text(X25519_PUBLIC)))
    while (payload := peer.read_packet())[0] != KEX_REPLY:
        pass
    reply = SSHPacket(payload[1:])
    reply.get_string()
    reply.get_string()
    return SSHPacket(reply.get_string()).get_string()


def test_clients_at_once_get_the_signatures_that_they_chose(with_rsa: Server) -> None:
    """Protects logins with RSA host keys: another client's choice of algorithm in the meantime must not become ours."""
    with PlainPeer(with_rsa.port) as slow, PlainPeer(with_rsa.port) as fast:
        slow.greet()
        slow.send(packet(kexinit(host_key=b"rsa-sha2-512")))
        fast.greet()
        fast.send(packet(kexinit(host_key=b"rsa-sha2-256")))
        assert signed_with(fast) == b"rsa-sha2-256"
        assert signed_with(slow) == b"rsa-sha2-512"


def test_proofs_are_given_for_our_keys_once(with_rsa: Server, user_key: KeyPair, blob: Blob) -> None:
    """Protects everybody's time: no request makes us sign a thousand times, or with a key that is not ours."""

    async def scenario(client: RawClient) -> None:
        async def proofs(*blobs: bytes) -> list[tuple[bytes, bytes]]:
            """The algorithms and signatures, or an empty list."""
            client.say(GLOBAL_REQUEST, text(PROVE), b"\1", *map(text, blobs))
            kind, payload = await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE)
            answer, found = SSHPacket(payload), []
            while kind == REQUEST_SUCCESS and answer:
                signature = answer.get_string()
                found.append((SSHPacket(signature).get_string(), signature))
            return found

        rsa, ed25519 = blob("rsa"), blob("ed25519")
        signatures = await proofs(rsa, ed25519)
        assert [algorithm for algorithm, _ in signatures] in (
            [b"rsa-sha2-512", b"ssh-ed25519"],
            [b"rsa-sha2-256", b"ssh-ed25519"],
        )
        for key, (_, signature) in zip((rsa, ed25519), signatures, strict=True):
            message = text(PROVE) + text(client.connection.session_identifier) + text(key)
            assert asyncssh.public_key.decode_ssh_public_key(key).verify(message, signature)
        assert not await proofs(rsa, rsa)
        assert not await proofs(client.key.public_data)
        for _ in range(100):
            if not await proofs(ed25519):
                break
        else:
            pytest.fail("the server signs without end")
        assert await client.is_alive()

    play(with_rsa, user_key, scenario)
