"""What peers that have not authenticated can use up: slots, time, memory, and other people's logins."""

import asyncio
import socket
import struct
import time
from contextlib import ExitStack

import pytest

from pyssh_gateway.core.strangers.admission import NEEDED
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE
from tests.wire.plain import PlainPeer, kexinit, packet, text
from tests.wire.raw import CHANNEL_DATA, RawClient, connected, play

GRACE_SECONDS = 1.0
PER_SOURCE = 10
TOTAL = 100


def test_who_does_not_log_in_is_cut_off_after_the_grace(make_server: MakeServer, user_key: KeyPair) -> None:
    """A slot is held for the login grace at most, whether the peer stops at some step, or is merely slow."""
    server = make_server({"limits": {"login_grace": f"{GRACE_SECONDS:.0f}s"}})
    steps = {"silent": b"", "version": b"SSH-2.0-x\r\n", "kexinit": b"SSH-2.0-x\r\n" + packet(kexinit())}
    peers = {name: PlainPeer(server.port) for name in steps}
    began = time.monotonic()
    for name, said in steps.items():
        peers[name].send(said)

    async def scenario(client: RawClient) -> None:
        await client.is_cut_off()

    play(server, user_key, scenario, authenticate=False)
    for peer in peers.values():
        with peer:
            assert peer.is_closed()
    assert GRACE_SECONDS - 0.1 < time.monotonic() - began < GRACE_SECONDS + AT_ONCE
    server.wait_for("connection.closed", count=4)


def test_the_grace_is_for_logins_only(make_server: MakeServer, user_key: KeyPair) -> None:
    """A session outlives the login grace."""
    server = make_server({"limits": {"login_grace": "4s"}})
    assert Client(server, user_key.private).run("sleep 4.5; exit 3").status == 3


def test_too_much_before_authentication_is_cut_off(server: Server) -> None:
    """600 KiB are not a login: an unknown peer can make the server read only a limited amount."""
    mark = server.mark()
    with PlainPeer(server.port) as peer:
        peer.greet()
        for _ in range(600 // 16):
            peer.send(packet(b"\2" + text(bytes(16 * 1024))))
        assert peer.is_closed()
    closed = server.wait_for("connection.closed", since=mark)
    assert closed["reason"] == "too much data before authentication"
    assert closed["bytes_in"] < 600 * 1024


@pytest.mark.alone
def test_tiny_packets_do_not_hold_up_others(server: Server, client: Client) -> None:
    """Tens of thousands of the smallest packets from strangers don't make a login take seconds."""
    flood = packet(b"\2" + text(b"")) * 30_000
    peers = [PlainPeer(server.port, f"127.0.1.{number}") for number in range(1, 6)]
    for peer in peers:
        peer.greet()
        peer.socket.setblocking(False)
    try:
        for peer in peers:
            peer.socket.send(flood)
        began = time.monotonic()
        assert client.run("true").status == 0
        assert time.monotonic() - began < 3
    finally:
        for peer in peers:
            peer.socket.close()


def _holds(port: int, source: str) -> PlainPeer | None:
    """A connection that was admitted, or None if it was refused."""
    peer = PlainPeer(port, source)
    if peer.read_line().startswith(b"SSH-2.0-"):
        return peer
    peer.socket.close()
    return None


def _admitted(port: int, source: str) -> PlainPeer:
    peer = _holds(port, source)
    assert peer is not None
    return peer


def test_places_are_bounded_by_source_and_in_all(server: Server, client: Client) -> None:
    """One scanner can't take others' slots, and all together have a limit; slots are free again when peers leave."""
    began = server.mark()
    with ExitStack() as stack:
        held = [stack.enter_context(_admitted(server.port, "127.0.0.2")) for _ in range(PER_SOURCE)]
        waiting = stack.enter_context(PlainPeer(server.port, "127.0.0.2"))
        assert client.run("true").status == 0, "a full source must not keep another one out"
        assert waiting.read_line(), "one that says nothing gives way to another one of its source"
        assert held[0].is_closed()
        gone = server.wait_for("connection.closed", since=began, peer="127.0.0.2")
        assert gone["reason"] == NEEDED
        for source in range(3, 2 + TOTAL // PER_SOURCE):
            for _ in range(PER_SOURCE):
                stack.enter_context(_admitted(server.port, f"127.0.0.{source}"))
        for _ in range(PER_SOURCE // 2):
            stack.enter_context(_admitted(server.port, "127.0.0.99"))
        opened = TOTAL + PER_SOURCE // 2 + 2
        assert len(server.find("connection.opened", began)) == opened
        assert len(server.find("connection.closed", began)) >= opened - TOTAL, "never more than there are"
    server.wait_for("connection.closed", since=began, count=opened)


def test_a_full_source_has_its_turns(server: Server) -> None:
    """An editor that opens fifty connections at once is served: those above the limit wait until others end."""
    held = [_admitted(server.port, "127.0.0.2") for _ in range(PER_SOURCE)]
    waiting = PlainPeer(server.port, "127.0.0.2")
    mark = server.mark()
    held.pop().socket.close()
    assert waiting.read_line()
    for peer in (*held, waiting):
        peer.socket.close()
    server.wait_for("connection.closed", since=mark, count=PER_SOURCE + 1)


def test_who_has_logged_in_holds_no_place(server: Server, user_key: KeyPair) -> None:
    """The limits are for strangers: one person may have fifteen connections."""

    async def scenario() -> None:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            together = asyncio.Barrier(15)
            turns = asyncio.Semaphore(PER_SOURCE - 1)

            async def one() -> None:
                async with turns:
                    manager = connected(server, user_key.private)
                    client = await manager.__aenter__()
                try:
                    await together.wait()
                    assert await client.is_alive()
                finally:
                    await manager.__aexit__(None, None, None)

            for _ in range(15):
                tasks.create_task(one())

    asyncio.run(scenario())


RESET_SECONDS = 3.0
RESET_PARALLEL = 20


async def _vanish_early(server: Server, source: str, step: int) -> None:
    """Get as far as `step` of the handshake, and reset the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(source, 0))
    _reset_at_close(writer.get_extra_info("socket"))
    if step > 0:
        await reader.readline()
    if step > 1:
        writer.write(b"SSH-2.0-x\r\n" + packet(kexinit()))
    if step > 2:
        await reader.read(100)
    writer.transport.abort()


async def _vanish_late(server: Server, user_key: KeyPair, source: str, step: int) -> None:
    """The same after the key exchange: during authentication, and while a command starts or runs."""
    async with connected(server, user_key.private, source=source, authenticate=step > 0) as client:
        _reset_at_close(client.connection.tcp.get_extra_info("socket"))
        if step == 0:
            client.offer(client.key)
        if step > 1:
            channel = await client.open_session()
            client.request(channel, b"exec", text(b"head -c 300000 /dev/zero; sleep 0.2"))
        if step > 2:
            await client.hear(CHANNEL_DATA)
        client.connection.tcp.abort()


@pytest.mark.slow
def test_resets_at_every_step_leave_nothing_behind(server: Server, user_key: KeyPair) -> None:
    """Peers that reset the connection at any moment free their slot, their descriptors and their processes."""

    async def one(number: int) -> None:
        deadline, step = time.monotonic() + RESET_SECONDS, number
        while time.monotonic() < deadline:
            step += 1
            if number % 2:
                await _vanish_early(server, f"127.0.2.{number}", step // 2 % 4)
            else:
                await _vanish_late(server, user_key, f"127.0.2.{number}", step // 2 % 4)

    async def all_of_them() -> None:
        async with asyncio.timeout(RESET_SECONDS + PATIENCE), asyncio.TaskGroup() as tasks:
            for number in range(1, RESET_PARALLEL + 1):
                tasks.create_task(one(number))

    mark = server.mark()
    asyncio.run(all_of_them())
    server.wait_for("connection.closed", since=mark, count=len(server.find("connection.opened", mark)))
    assert not server.find("internal.error", mark)
    for number in range(1, RESET_PARALLEL + 1):  # a slot that was not given back would be missing here
        for peer in [_admitted(server.port, f"127.0.2.{number}") for _ in range(PER_SOURCE)]:
            peer.socket.close()


def _reset_at_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
