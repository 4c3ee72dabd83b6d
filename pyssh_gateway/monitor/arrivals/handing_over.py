"""A login, after its client has been accepted: prepares the account and its process, and hands the connection over.

Everything that postauth is told is the monitor's own knowledge, except the state, which only postauth reads.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import msgspec

from pyssh_gateway.core.access import policy
from pyssh_gateway.core.idle.probation import Return
from pyssh_gateway.core.launch import Endpoints, auth_info
from pyssh_gateway.core.login_rules import restrict
from pyssh_gateway.events import Identity
from pyssh_gateway.ipc.postauth import OfferedKey, TakeConnection
from pyssh_gateway.ipc.preauth import Greeted
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.connected.client import Client, ClientServices
from pyssh_gateway.monitor.connected.login import Login, digest, essence
from pyssh_gateway.monitor.connected.postauth_client import PostauthClient
from pyssh_gateway.monitor.connected.postauths import Postauths
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.connected.registry_file import RegistryFull
from pyssh_gateway.monitor.host_key_signing import HostKeySigner
from pyssh_gateway.monitor.log.required import Standing

TAKEN_SECONDS = 10.0
"""How long postauth may take to say that it serves a connection. It takes a few milliseconds; a process that its user
has stopped never answers."""


class NoLoginError(Exception):
    """A client was accepted but can't be served; the text says why, for the log."""


class Accounts(Protocol):
    """What is asked of the spawner."""

    async def await_account(self, user: str) -> bytes:
        """Wait until the account is set up; returns why it may not be used at present. Raises `SpawnRefused`."""


class Accepted(msgspec.Struct, frozen=True):
    """A connection whose client was accepted, with the session id that its signature was verified over.

    `opened` is the Unix time at which it came; `in_vain` are the keys that were offered before; `proved` is the key or
    certificate that was accepted. `host_keys` are our host keys, and their certificates, that the client was offered
    for the first key exchange and will be offered for later ones. `greeted` is what its preauth process said of it.
    """

    conn: str
    user: str
    key: policy.Accept
    endpoints: Endpoints
    session_id: bytes
    opened: float
    in_vain: tuple[str, ...]
    host_keys: tuple[tuple[bytes, bytes], ...]
    proved: bytes = b""
    greeted: Greeted | None = None


class Facts(msgspec.Struct, frozen=True):
    """What sessions are told of the server: its control socket's path (empty: none), and its TZ (None: it has none)."""

    control: bytes
    timezone: bytes | None


class Prepared:
    """A connection that is in the registry, and whose process is ready."""

    def __init__(
        self, client: Client, process: PostauthClient, make: Callable[[bytes], TakeConnection], registry: Registry
    ) -> None:
        self.client = client
        self._process = process
        self._make = make
        self._registry = registry
        self._handed_over = False

    async def hand_over(self, state: bytes, sock: socket.socket) -> None:
        """Give the connection to its process, and wait until it is served or over. The caller keeps the socket.

        A connection that is not taken in time is cut off: its process may have been stopped, and a later answer does
        not count.
        """
        try:
            self._process.take(self.client, self._make(state), sock)
        except ProtocolError as error:
            raise NoLoginError(str(error)) from error
        self._handed_over = True
        with suppress(TimeoutError):
            async with asyncio.timeout(TAKEN_SECONDS):
                await self.client.settled.wait()
        if not self.client.settled.is_set():
            self.cut_off("its process did not take it in time")

    def disconnect(self, reason: str) -> None:
        """Say goodbye."""
        self.client.disconnect(reason)

    def cut_off(self, reason: str) -> None:
        """End the connection at once."""
        self._process.give_up(self.client, reason)

    @property
    def is_told(self) -> bool:
        """Whether its process reports the connection's end to the log, or has reported it."""
        return self._handed_over

    def close(self) -> None:
        """Remove the login from the registry if it was not handed over."""
        if not self._handed_over:
            self._registry.leave(self.client)


def _received(_user: str, _identity: Identity) -> None:
    """Nobody comes back by themselves."""


class HandingOver:
    """Prepares logins. `banner` makes the text that a login shell of that person shows first.

    `receive` is told of each person who logs in to an account, and says whether they may have come back by themselves.
    `standing` says whether an account gets in although the log can't be written.
    """

    def __init__(
        self,
        accounts: Accounts,
        postauths: Postauths,
        registry: Registry,
        signer: HostKeySigner,
        services: ClientServices,
        *,
        banner: Callable[[Identity], bytes],
        facts: Facts,
        receive: Callable[[str, Identity], Return | None] = _received,
        standing: Callable[[str], Standing] = lambda _: Standing(),
    ) -> None:
        self._accounts = accounts
        self._postauths = postauths
        self._registry = registry
        self._signer = signer
        self._services = services
        self._banner = banner
        self._receive = receive
        self._standing = standing
        self._facts = facts

    @asynccontextmanager
    async def prepare(self, accepted: Accepted) -> AsyncIterator[Prepared]:
        """Have the account and its process ready; its process stays until the block ends. Raises NoLoginError."""
        try:
            closed = await self._accounts.await_account(accepted.user)
            async with self._postauths.process_of(accepted.user) as process:
                prepared = self._prepared(accepted, process, closed)
                try:
                    yield prepared
                finally:
                    prepared.close()
        except SpawnRefused as error:
            raise NoLoginError(str(error)) from error

    def _prepared(self, accepted: Accepted, process: PostauthClient, closed: bytes) -> Prepared:
        """Decide again, because time has passed, and enter the login in the registry. From here on nothing awaits."""
        config, rules = self._services.in_force.config, self._services.in_force.rules.get(accepted.user)
        if rules is None:
            raise NoLoginError("the account may not log in any more")
        if not policy.still_holds(accepted.user, accepted.key, self._services.people.snapshot):
            raise NoLoginError("the key has been revoked meanwhile")
        standing = self._standing(accepted.user)
        received = self._receive(accepted.user, accepted.key.identity)
        login = Login(
            conn=accepted.conn,
            user=accepted.user,
            accepted=essence(accepted.key),
            endpoints=accepted.endpoints,
            session_id=accepted.session_id,
            opened=accepted.opened,
            process=process.spawned.id,
            host_keys=tuple({digest(blob) for _, blob in self._signer.offered}),
            sessions=2 * config.limits.sessions_per_connection,
            hassh="" if accepted.greeted is None else accepted.greeted.hassh,
            probation=None if received is None else received.leash,
            break_glass=standing.break_glass,
        )
        client = Client(login, process, self._services)
        client.in_vain = accepted.in_vain
        client.hassh_server = "" if accepted.greeted is None else accepted.greeted.hassh_server
        try:
            self._registry.enter(client)
        except RegistryFull:
            raise NoLoginError("there are too many connections") from None

        def make(state: bytes) -> TakeConnection:
            return TakeConnection(
                conn=accepted.conn,
                identity=login.identity,
                rules=restrict(rules, accepted.key.options),
                endpoints=accepted.endpoints,
                session_id=accepted.session_id,
                state=state,
                host_keys=tuple(OfferedKey(algorithm, blob) for algorithm, blob in accepted.host_keys),
                announced=self._signer.announced,
                identification=config.listen.identification,
                keepalive=None if config.session.keepalive is None else float(config.session.keepalive),
                keepalive_misses=config.session.keepalive_misses,
                sessions=config.limits.sessions_per_connection,
                rekey_bytes=int(config.session.rekey_bytes),
                rekey_seconds=float(config.session.rekey_time or 0),
                auth_info=auth_info(accepted.proved) if config.session.expose_auth_info else b"",
                banner=self._banner(login.identity),
                closed=closed,
                control=self._facts.control,
                timezone=self._facts.timezone,
                opened_seconds=client.seconds,
                asleep="" if received is None else received.asleep,
                recorded=self._services.in_force.recorded(accepted.user, login.identity.fingerprint),
                unlogged=standing.refused,
            )

        return Prepared(client, process, make, self._registry)


def facts(control: str | None, timezone: str | None) -> Facts:
    """The facts, encoded as a session's environment needs them."""
    return Facts(os.fsencode(control or ""), None if timezone is None else os.fsencode(timezone))
