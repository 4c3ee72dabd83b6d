"""Rekeys in the middle of everything (RFC 4253 section 9), with checksums over the data."""

import asyncio
import hashlib

import asyncssh
import pytest

from pyssh_gateway.ssh.options import CIPHERS, MACS
from tests.conftest import KeyPair
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import PATIENCE

SIZE = 8 * 1024 * 1024
REKEY_BYTES = 100 * 1024

DATA = hashlib.shake_128(b"rekey").digest(SIZE)
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize(
    "cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"]
)
def test_asyncssh_rekeys_under_load(server: Server, client: Client, cipher: str) -> None:
    """Eighty key exchanges during a transfer in both directions change no byte, with each kind of cipher."""

    async def scenario() -> None:
        async with (
            asyncio.timeout(2 * PATIENCE),
            client.connect(rekey_bytes=REKEY_BYTES, encryption_algs=[cipher]) as connection,
        ):
            process = await connection.create_process("tee >(cat >&2)", encoding=None)

            async def digest(stream: asyncssh.SSHReader[bytes]) -> str:
                whole = hashlib.sha256()
                while data := await stream.read(65536):
                    whole.update(data)
                return whole.hexdigest()

            async with asyncio.TaskGroup() as tasks:
                readers = [tasks.create_task(digest(stream)) for stream in (process.stdout, process.stderr)]
                for start in range(0, SIZE, 65536):
                    process.stdin.write(DATA[start : start + 65536])
                    await process.stdin.drain()
                process.stdin.write_eof()
            assert [reader.result() for reader in readers] == [DIGEST, DIGEST]
            await process.wait()
            assert process.returncode == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"])
def test_openssh_rekeys_under_load(server: Server, client: Client, cipher: str) -> None:
    """OpenSSH's client works with a rekey for every megabyte in both directions."""
    result = client.run("cat", "-o", "RekeyLimit=1M", "-o", f"Ciphers={cipher}", input=DATA)
    assert (result.status, hashlib.sha256(result.stdout).hexdigest()) == (0, DIGEST), result.stderr


def test_a_rekey_in_an_idle_session(server: Server, client: Client, user_key: KeyPair) -> None:
    """The session goes on after a key exchange that happened while nobody typed."""

    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE), client.connect(rekey_bytes=1) as connection:
            process = await connection.create_process("cat")
            for number in range(20):
                process.stdin.write(f"{number}\n")
                assert await process.stdout.readline() == f"{number}\n"
            process.stdin.write_eof()
            await process.wait()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("cipher", "mac"),
    [
        *((cipher, MACS[0]) for cipher in CIPHERS if "ctr" not in cipher),  # which need no MAC
        *((cipher, mac) for cipher in CIPHERS if "ctr" in cipher for mac in MACS),
    ],
)
def test_openssh_rekeys_every_64_kib(server: Server, client: Client, cipher: str, mac: str) -> None:
    """Packets that the real client sends right after NEWKEYS are read with the new keys, for each cipher and MAC."""
    data = DATA[: 1024 * 1024]
    options = ("-o", "RekeyLimit=64K", "-o", f"Ciphers={cipher}", "-o", f"MACs={mac}")
    client.run("true", *options)  # may fail, and teaches the server what this client lacks (core/steering.py)
    result = client.run("cat", *options, input=data)
    assert (result.status, hashlib.sha256(result.stdout).digest()) == (0, hashlib.sha256(data).digest()), result.stderr
