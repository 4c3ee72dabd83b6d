"""A key exchange without a client, done by a process that was forked ahead, so that its login will be fast.

A fork shares its memory with the spawner, and the kernel copies each page at the first write. A login writes to some
two thousand pages, and copying them takes longer than the login itself. After a rehearsal they are copied already.
"""

import asyncio
import socket

import asyncssh
from asyncssh.packet import Boolean, NameList, String, UInt32

from pyssh_gateway.ipc.preauth import Answer, Attempt
from pyssh_gateway.preauth.authentication import Authentication
from pyssh_gateway.preauth.monitor_link import MonitorGone
from pyssh_gateway.ssh.ciphers import unencrypted
from pyssh_gateway.ssh.key_exchange import Services
from pyssh_gateway.ssh.options import options

SECONDS = 1.0
"""How long it may take; it takes some ten milliseconds."""

_HOST_KEY = b"ssh-ed25519"
_SIGNATURE = String(_HOST_KEY) + String(bytes(64))

_KEXINIT, _KEX_ECDH_INIT = 20, 30
"""RFC 4253 section 12, RFC 5656 section 7.1."""

_ALGORITHMS = (
    (b"curve25519-sha256",),
    (_HOST_KEY,),
    *((b"aes128-gcm@openssh.com",),) * 2,
    *((b"hmac-sha2-256",),) * 2,
    *((b"none",),) * 2,
    *((),) * 2,
)
"""The lists of a KEXINIT (RFC 4253 section 7.1), with the algorithms that most clients and we negotiate."""

_PUBLIC_KEY = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
"""The public key of RFC 7748 section 6.1. It protects nothing: its private key is printed beside it."""


async def rehearse() -> None:
    """Go through a key exchange, up to our reply. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    replied = asyncio.Event()

    async def sign(_algorithm: bytes, _hash: bytes) -> bytes:
        replied.set()
        return _SIGNATURE

    async def prove(_blobs: tuple[bytes, ...], _rsa: bytes) -> bytes | None:
        return None

    async def ask(_attempt: Attempt) -> Answer:
        raise MonitorGone("nobody logs in at a rehearsal")

    services = Services(
        sign=sign,
        prove=prove,
        spoke=lambda: None,
        greeted=lambda _line, _made: None,
        only_gcm=lambda _version, _ciphers: True,
        wait=lambda _version, _round_trip: 0.0,
        negotiation_failed=lambda: None,
        logged_in=lambda _version, _ciphers: None,
        is_direct=True,
        hand_over=lambda _state, sock: sock.close(),
    )
    ours, theirs = socket.socketpair()
    with theirs:
        settings = options([(_HOST_KEY, _SIGNATURE)], [], identification="rehearsal")
        connection = Authentication(loop, settings, services, Nobody(), ask)
        await loop.connect_accepted_socket(lambda: connection, ours)
        kexinit = (bytes(16), *map(NameList, _ALGORITHMS), Boolean(False), UInt32(0))
        theirs.sendall(
            b"SSH-2.0-rehearsal\r\n"
            + unencrypted(_KEXINIT, kexinit)
            + unencrypted(_KEX_ECDH_INIT, (String(_PUBLIC_KEY),))
        )
        async with asyncio.timeout(SECONDS):
            await replied.wait()
            await asyncio.sleep(0)  # let the connection make its reply and its keys from the signature
            connection.abort()
            theirs.close()
            await connection.closed.wait()


class Nobody(asyncssh.SSHServer):
    """asyncssh's callbacks for the rehearsal: they do nothing."""
