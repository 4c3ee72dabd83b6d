"""ssh.key_exchange: the signature of a key exchange is made elsewhere, and may take its time."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import asyncssh
import pytest

from pyssh_gateway.ssh.key_exchange import Services, SigningError
from pyssh_gateway.ssh.options import KEX_ALGORITHMS, options
from pyssh_gateway.ssh.transport import Transport
from tests.support.waiting import PATIENCE

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")

Sign = Callable[[bytes, bytes], Awaitable[bytes]]


class Owner(asyncssh.SSHServer):
    """The callbacks of a connection: `ended` is the error with which it ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.errors: list[object] = []

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end."""
        self.ended.set_result(exc)

    def internal_error(self, error: object = None) -> None:
        """Record a bug of ours."""
        self.errors.append(error)


class Server(Transport):
    """A transport that records whether it has sent the last step of a key exchange."""

    def __init__(self, owner: Owner, sign: Sign) -> None:
        async def prove(_asked: tuple[bytes, ...], _rsa_algorithm: bytes) -> None:
            return None

        services = Services(
            sign=sign,
            prove=prove,
            spoke=lambda: None,
            greeted=lambda _line, _made: None,
            only_gcm=lambda _version, _ciphers: False,
            wait=lambda _version, _round_trip: 0.0,
            negotiation_failed=lambda: None,
            logged_in=lambda _version, _ciphers: None,
            is_direct=True,
            hand_over=lambda _state, _sock: None,
        )
        offered = [(b"ssh-ed25519", HOST_KEY.public_data)]
        settings = options(offered, [HOST_KEY.public_data], identification="test")
        super().__init__(asyncio.get_running_loop(), settings, services)
        self._protocol_factory = lambda: owner
        self.has_replied = False

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """Record that the reply was sent."""
        self.has_replied = True
        super().send_newkeys(k, h)


def play(sign: Sign, scenario: Callable[[Server, Owner, socket.socket], Awaitable[None]]) -> None:
    """Serve one end of a connection, and run a scenario with the other end."""

    async def run() -> None:
        theirs, ours = socket.socketpair()
        for end in (theirs, ours):
            end.setblocking(False)
        owner = Owner()
        server = Server(owner, sign)
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().connect_accepted_socket(lambda: server, ours)
            await scenario(server, owner, theirs)
            server.abort()
            await owner.ended
        assert owner.errors == []

    asyncio.run(run())


async def host_key(sock: socket.socket, exchange: str) -> asyncssh.SSHKey | None:
    """The host key, if a correct client verifies its signature."""
    return await asyncssh.get_server_host_key("localhost", sock=sock, kex_algs=[exchange], config=None)


@pytest.mark.parametrize("exchange", KEX_ALGORITHMS)
def test_a_client_gets_the_signature_when_it_is_there(exchange: str) -> None:
    """Every offered key exchange waits for its signature, and then continues."""
    asked: list[tuple[bytes, int]] = []

    async def sign(algorithm: bytes, exchange_hash: bytes) -> bytes:
        asked.append((algorithm, len(exchange_hash)))
        waiting.set()
        await made.wait()
        return HOST_KEY.sign(exchange_hash, algorithm)

    async def scenario(server: Server, _owner: Owner, theirs: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            client = tasks.create_task(host_key(theirs, exchange))
            await waiting.wait()
            assert not server.has_replied
            made.set()
        found = client.result()
        assert found is not None
        assert found.public_data == HOST_KEY.public_data

    waiting, made = asyncio.Event(), asyncio.Event()
    play(sign, scenario)
    ((algorithm, size),) = asked
    assert algorithm == b"ssh-ed25519"
    assert size in {32, 48, 64}


def test_a_signature_that_can_not_be_had_ends_the_connection() -> None:
    """If there is no signature, the client is told, and no bug of ours is logged."""

    async def sign(_algorithm: bytes, _hash: bytes) -> bytes:
        raise SigningError("nobody signs")

    async def scenario(server: Server, owner: Owner, theirs: socket.socket) -> None:
        with pytest.raises(asyncssh.KeyExchangeFailed, match="nobody signs"):
            await host_key(theirs, KEX_ALGORITHMS[0])
        assert isinstance(await owner.ended, asyncssh.KeyExchangeFailed)
        assert not server.has_replied

    play(sign, scenario)


def test_nobody_waits_for_the_signature_of_a_connection_that_is_gone() -> None:
    """When the connection is gone, the request for a signature is cancelled."""

    async def sign(_algorithm: bytes, _hash: bytes) -> bytes:
        waiting.set()
        try:
            never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            return await never
        finally:
            given_up.set()

    async def scenario(server: Server, owner: Owner, theirs: socket.socket) -> None:
        async with asyncio.TaskGroup() as tasks:
            client = tasks.create_task(host_key(theirs, KEX_ALGORITHMS[0]))
            await waiting.wait()
            client.cancel()
        theirs.close()
        await given_up.wait()
        await owner.ended
        assert not server.has_replied

    waiting, given_up = asyncio.Event(), asyncio.Event()
    play(sign, scenario)
