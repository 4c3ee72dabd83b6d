"""A rehearsal: one made-up connection and command, served by a process that was forked ahead and has no account yet.

After a fork, each page shared with the spawner is copied at the first write to it. That takes longer than all else that
a login needs of this process, and the rehearsal gets it done beforehand. No foreign data is parsed here.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from typing import Any

from asyncssh.constants import MSG_CHANNEL_OPEN, MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_REQUEST
from asyncssh.packet import Boolean, String, UInt32

from pyssh_gateway.core.forwarding import ForwardingRules
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.login_rules import LoginRules
from pyssh_gateway.events import ConnectionClosed, Identity
from pyssh_gateway.ipc import handover
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.handover import CipherState, ConnectionState
from pyssh_gateway.ssh.ciphers import TAG_BYTES, GcmCipher

SECONDS = 1.0
"""How long the rehearsal may take; it takes some twenty milliseconds."""

Serve = Callable[[socket.socket, socket.socket], Coroutine[Any, Any, int]]
"""The function to rehearse: (socket to the monitor, socket to the spawner) -> exit code, when ordered to leave."""

_CIPHER = "aes128-gcm@openssh.com"
_KEY = CipherState(_CIPHER, bytes(16), bytes(12))
"""A key that protects nothing: both ends of the connection are in this process."""

_LENGTH_BYTES = 4
_WINDOW_BYTES = 2 * 1024 * 1024
_PACKET_BYTES = 32 * 1024

_STATE = ConnectionState(
    client_version=b"SSH-2.0-rehearsal",
    server_version=b"SSH-2.0-rehearsal",
    session_id=bytes(32),
    strict_kex=True,
    send_sequence=0,
    receive_sequence=0,
    sending=_KEY,
    receiving=_KEY,
    kex="curve25519-sha256",
    host_key="ssh-ed25519",
    send_compression="none",
    receive_compression="none",
    offered_ciphers=(_CIPHER,),
    client_ciphers=None,
    client_host_keys=("ssh-ed25519",),
    user=b"rehearsal",
    can_send_ext_info=False,
    rekey_bytes=0,
    rekey_seconds=3600.0,
    bytes_in=0,
    bytes_out=0,
    unparsed=b"",
)

_HOST_KEY = messages.OfferedKey(b"ssh-ed25519", String("ssh-ed25519") + String(bytes(32)))

_ORDER = messages.TakeConnection(
    conn="rehearsal",
    identity=Identity("rehearsal", None, ""),
    rules=LoginRules(forwarding=ForwardingRules(), force_command=None, env={}, accept_env=("LANG",), linger=0.0),
    endpoints=Endpoints("192.0.2.1", 1, "192.0.2.2", 22),
    session_id=bytes(32),
    state=handover.encode(_STATE),
    host_keys=(_HOST_KEY,),
    announced=(_HOST_KEY.blob,),
    identification="rehearsal",
    keepalive=None,
    keepalive_misses=1,
    sessions=1,
)


async def rehearse(serve: Serve) -> None:
    """Have one connection taken over, refuse its command as the spawner, and order to leave. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    (monitor, to_monitor), (spawner, to_spawner) = protocol.socket_pair(), protocol.socket_pair()
    client, connection = socket.socketpair()
    with closing(monitor), closing(spawner), closing(client):
        for end in (monitor, spawner):
            end.setblocking(False)
        with connection:
            socket.send_fds(monitor, [messages.encode(_ORDER)], [connection.fileno()])
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(to_monitor, to_spawner))
            await _ask_for_a_command(client)
            request = protocol.decode_postauth_request(await loop.sock_recv(spawner, protocol.MAX_MESSAGE))
            spawner.send(protocol.encode(protocol.Refused(request.id, "it is a rehearsal")))
            client.close()
            while packet := await loop.sock_recv(monitor, protocol.MAX_MESSAGE):
                for order in _orders_after(messages.decode_from_postauth(packet)):
                    monitor.send(messages.encode(order))
            await serving


async def _ask_for_a_command(client: socket.socket) -> None:
    """Send what a client sends: a session, a variable, a command (RFC 4254 sections 5.1, 6.1, 6.4 and 6.5)."""
    loop = asyncio.get_running_loop()
    client.setblocking(False)
    sending, receiving = GcmCipher(_KEY), GcmCipher(_KEY)
    window = (UInt32(_WINDOW_BYTES), UInt32(_PACKET_BYTES))
    await loop.sock_sendall(client, sending.seal(0, MSG_CHANNEL_OPEN, (String("session"), UInt32(0), *window)))
    received = bytearray()
    number = None
    while number is None:
        received += await loop.sock_recv(client, _PACKET_BYTES)
        number = _opened_channel(received, receiving)
    requests = (
        (UInt32(number), String("env"), Boolean(False), String("LANG"), String("C.UTF-8")),
        (UInt32(number), String("exec"), Boolean(True), String("true")),
    )
    await loop.sock_sendall(client, b"".join(sending.seal(0, MSG_CHANNEL_REQUEST, parts) for parts in requests))


def _opened_channel(received: bytearray, cipher: GcmCipher) -> int | None:
    """The number of the channel, if its confirmation has come; whole packets are removed from `received`."""
    while len(received) >= _LENGTH_BYTES:
        end = _LENGTH_BYTES + int.from_bytes(received[:_LENGTH_BYTES], "big") + TAG_BYTES
        if len(received) < end:
            return None
        message = cipher.open(memoryview(bytes(received[:end]))) or b""
        del received[:end]
        if message[1] == MSG_CHANNEL_OPEN_CONFIRMATION:  # after the length of the padding
            return int.from_bytes(message[6:10], "big")
    return None


def _orders_after(told: messages.FromPostauth) -> Iterator[messages.FromMonitor]:
    """What the monitor says to that: the log has it; and leave, once the connection is over."""
    match told:
        case messages.Happened(first=first, events=events):
            yield messages.Logged(first + len(events) - 1)
            if any(isinstance(messages.unpack(event), ConnectionClosed) for event in events):
                yield messages.Leave()
        case messages.Taken(number=number) | messages.Crashed(number=number):
            yield messages.Logged(number)
        case messages.Busy():
            yield messages.Leave()
