"""The ciphers that a client is offered, depending on when it sends its own list."""

import asyncio
from pathlib import Path

import pytest

from pyssh_gateway.system.processor import processor_has_aes
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.server import Server
from tests.wire.plain import PlainPeer, kexinit, packet

OPENSSH = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"
ONLY_GCM = b"aes128-gcm@openssh.com,aes256-gcm@openssh.com"
CTR = b"aes256-ctr"

pytestmark = pytest.mark.skipif(not processor_has_aes(), reason="nobody is steered: the processor has no AES")


def offered(peer: PlainPeer) -> bytes:
    """The ciphers in the server's KEXINIT."""
    assert peer.read_line().startswith(b"SSH-2.0-")
    rest = peer.read_packet()[17:]
    for _ in range(2):
        rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    return rest[4 : 4 + int.from_bytes(rest[:4], "big")]


@pytest.mark.parametrize(
    ("cipher", "gcm"), [(CTR, False), (b"chacha20-poly1305@openssh.com,aes128-gcm@openssh.com", True)]
)
def test_a_kexinit_that_is_there_decides(server: Server, cipher: bytes, gcm: bool) -> None:
    """A client that sends its identification and KEXINIT at once is never offered ciphers that it does not have."""
    with PlainPeer(server.port) as peer:
        peer.send(OPENSSH + b"\r\n" + packet(kexinit(cipher=cipher)))
        assert (offered(peer) == ONLY_GCM) == gcm


def test_a_client_that_waits_for_our_kexinit_gets_it(server: Server) -> None:
    """The wait for a client's KEXINIT is limited: a client that waits for ours gets it."""
    with PlainPeer(server.port, source="127.0.0.9") as peer:
        peer.send(OPENSSH + b"\r\n")
        assert offered(peer) == ONLY_GCM


def test_a_client_that_is_near_is_asked(make_server: MakeServer, user_key: KeyPair) -> None:
    """Over loopback OpenSSH gets in at its first attempt with any cipher; on a busy machine, one of ten has to."""
    client = Client(make_server(), user_key.private)
    sources = [f"127.0.2.{number}" for number in range(1, 11)]
    cipher = f"Ciphers={CTR.decode()}"
    assert any(client.run("true", "-o", cipher, "-o", f"BindAddress={source}").status == 0 for source in sources)


def test_a_client_without_gcm_fails_once_in_its_life(make_server: MakeServer, user_key: KeyPair) -> None:
    """At most the first attempt fails: a source that has got in is offered all ciphers, also after the next start."""
    server = make_server()
    client = Client(server, user_key.private)
    tries = [client.run("true", "-o", f"Ciphers={CTR.decode()}").status for _ in range(2)]
    assert tries[-1] == 0
    assert (server.keys_dir / "fetched" / "without-aes-gcm").read_bytes() == b"127.0.0.1\n"
    server.stop()
    server.start()
    with PlainPeer(server.port) as peer:
        peer.send(OPENSSH + b"\r\n")
        assert offered(peer) != ONLY_GCM  # offered before the client's KEXINIT has come
    assert client.run("true", "-o", f"Ciphers={CTR.decode()}").status == 0


def test_strangers_write_nothing_to_the_disk(server: Server) -> None:
    """A stranger's failure affects that stranger only: neither the disk, nor clients that have logged in."""
    for number in range(5):
        with PlainPeer(server.port, source=f"127.0.1.{number + 1}") as peer:
            peer.send(OPENSSH + b"\r\n")
            assert offered(peer) == ONLY_GCM
            peer.send(packet(kexinit(cipher=CTR)))
            assert peer.is_closed()
        with PlainPeer(server.port, source=f"127.0.1.{number + 1}") as peer:
            peer.send(OPENSSH + b"\r\n")
            assert offered(peer) != ONLY_GCM
    assert not (server.keys_dir / "fetched" / "without-aes-gcm").exists()


def test_a_damaged_file_keeps_nobody_out(make_server: MakeServer, user_key: KeyPair) -> None:
    """Bad contents of the file are skipped, and the file is written again with its valid contents."""
    server = make_server(start=False)
    state: Path = server.keys_dir / "fetched" / "without-aes-gcm"
    server.start()
    state.write_bytes(b"\xff\0garbage\n192.0.2.7\n" * 3)
    server.stop()
    server.start()
    client = Client(server, user_key.private)
    assert client.run("true").status == 0
    assert 0 in [client.run("true", "-o", f"Ciphers={CTR.decode()}").status for _ in range(2)]
    assert state.read_bytes() == b"192.0.2.7\n127.0.0.1\n"


def test_post_quantum_key_exchange_is_offered(server: Server, user_key: KeyPair) -> None:
    """OpenSSH's clients since 9.9 get mlkem768x25519-sha256; the client chooses it, so it has to work."""
    client = Client(server, user_key.private)

    async def scenario() -> None:
        async with client.connect(kex_algs=["mlkem768x25519-sha256"]) as connection:
            assert (await connection.run("echo hello", check=True)).stdout == "hello\n"

    asyncio.run(scenario())
