"""Between the two holders of a connection nobody has it: what ends it meanwhile still ends it."""

import asyncio
import socket
from types import SimpleNamespace
from typing import cast

import asyncssh
import pytest

from pyssh_gateway.core.access import policy
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.windows import Budgets
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionRevoked,
    Identity,
    InternalError,
)
from pyssh_gateway.gateway import server
from pyssh_gateway.gateway.hand_over import go_on
from pyssh_gateway.gateway.registry import Registry
from pyssh_gateway.gateway.server import Client, Services
from pyssh_gateway.ssh.key_exchange import Services as TransportServices


class Half:
    """Takes the place of a connection that knows how it was ended."""

    bytes_in = bytes_out = 0

    def __init__(self) -> None:
        self.ended: list[str] = []

    def disconnect(self, _code: int, reason: str) -> None:
        """Goodbye."""
        self.ended.append(reason)

    def cut_off(self, reason: str) -> None:
        """At once."""
        self.ended.append(reason)


class World:
    """A client, and what becomes of it."""

    def __init__(self) -> None:
        self.published: list[AnyEvent] = []
        self.released: list[str] = []
        self.registry = Registry()
        self.services = SimpleNamespace(
            registry=self.registry,
            publish=self.published.append,
            released=self.released.append,
            turned_away=lambda *_: None,
            now=lambda: 0.0,
        )
        endpoints = Endpoints("192.0.2.1", 1, "192.0.2.2", 22)
        loop = cast(asyncio.AbstractEventLoop, SimpleNamespace(time=lambda: 0.0))
        self.client = Client("conn", endpoints, cast(Services, self.services), loop)
        self.first, self.second = Half(), Half()
        self.client.connection_made(cast(asyncssh.SSHServerConnection, self.first))


@pytest.mark.parametrize("end", [Client.disconnect, Client.cut_off])
def test_an_end_between_the_two_ends_the_second(end: object) -> None:
    """A stop, or a grace that is over, in just that moment must not be forgotten."""
    world = World()
    assert callable(end)
    end(world.client, "over")
    world.client.connection_made(cast(asyncssh.SSHServerConnection, world.second))
    assert world.second.ended == ["over"]


def test_a_connection_that_nobody_ended_goes_on() -> None:
    """The second holder is asked for what the first one was."""
    world = World()
    world.client.connection_made(cast(asyncssh.SSHServerConnection, world.second))
    assert world.second.ended == []
    world.client.disconnect("later")
    assert (world.first.ended, world.second.ended) == ([], ["later"])


def test_a_key_that_went_between_the_two_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that change are checked on connections that are logged in, which this one has become only now."""
    world = World()
    connection = SimpleNamespace(
        wire_user=b"example",
        on_writable=None,
        create_task=None,
        is_closed=None,
        authenticated=lambda: None,
        get_extra_info=lambda *_: "",
    )
    identity = Identity(person="file:example", id=None, fingerprint="SHA256:x")
    accepted = SimpleNamespace(identity=identity, key=SimpleNamespace(source="file:x"), options=None)
    world.client._accepted = cast(policy.Accept, accepted)  # noqa: SLF001 - made by a decision, which is not the matter
    monkeypatch.setattr(server, "restrict", lambda *_: SimpleNamespace(forwarding=None))
    monkeypatch.setattr(policy, "still_holds", lambda *_: False)
    vars(world.services).update(
        rules={"example": None},
        budgets=Budgets(),
        sockets=None,
        snapshot=lambda: None,
        end_revoked=False,
        key_used=lambda *_: None,
    )
    world.client.connection_made(cast(asyncssh.SSHServerConnection, connection))
    world.client.auth_completed()
    assert [type(event) for event in world.published] == [ConnectionAuthenticated, ConnectionRevoked]


def test_a_state_that_is_none_ends_the_connection() -> None:
    """It is a bug of ours: it is told, the socket is closed, and the client is not counted any more."""
    world = World()
    ours, theirs = socket.socketpair()

    async def scenario() -> None:
        await go_on(
            b"rubbish",
            ours,
            loop=asyncio.get_running_loop(),
            options=asyncssh.SSHServerConnectionOptions(
                server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], gss_host=None
            ),
            services=cast(TransportServices, None),
            client=world.client,
        )

    with theirs:
        asyncio.run(scenario())
        assert theirs.recv(1) == b""
    assert [type(event) for event in world.published] == [InternalError, ConnectionClosed]
    assert world.registry.clients == ()
    assert world.released == ["conn"]
