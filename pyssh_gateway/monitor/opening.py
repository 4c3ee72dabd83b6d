"""The start of a monitor: what it is given, what waits for the first answers of sources, what is shown and logged."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.config.source import Endpoint, shown_endpoint
from pyssh_gateway.events import AnyEvent, ServerStarted
from pyssh_gateway.keys.host_keys import HostKey, made_at_start
from pyssh_gateway.keys.keyring import Keyring
from pyssh_gateway.monitor.complaining import STDERR
from pyssh_gateway.monitor.facts import Facts
from pyssh_gateway.monitor.host_certificates import HostCertificate, loaded
from pyssh_gateway.monitor.log.checkpoints.signer import Signer
from pyssh_gateway.monitor.reporting.start_banner import start_banner


class Given(msgspec.Struct, frozen=True):
    """What the monitor is started with: the network's sockets, the sockets for questions, and what outlives it.

    `control` leads to the spawner; `registry` is the descriptor of the memory file that is passed on to the next
    monitor; `owner` is the account that started the server; `signer` signs the log; `certificates` are those of
    the host keys.
    """

    listening: Sequence[socket.socket]
    control: socket.socket
    asking: socket.socket | None
    metrics: socket.socket | None
    registry: int
    owner: int
    signer: Signer
    certificates: tuple[HostCertificate, ...] = ()


async def first_answers(keyring: Keyring, somebody: asyncio.Event, wanted: "asyncio.Future[Any]") -> None:
    """Wait for the sources of which nothing is known, but only until somebody logs in or it is time to leave.

    A login and a stop have to be logged, and the log waits for the banner.
    """
    missing = keyring.missing()
    if not missing:
        return
    keyring.want(missing)
    async with asyncio.TaskGroup() as waits:
        answered = waits.create_task(keyring.settled())
        used = waits.create_task(somebody.wait())
        either: list[asyncio.Future[Any]] = [answered, used, wanted]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        answered.cancel()
        used.cancel()


def show_banner(
    facts: Facts, endpoints: tuple[Endpoint, ...], host_keys: tuple[HostKey, ...], keyring: Keyring
) -> None:
    """Say on standard error who may log in, and how."""
    banner = start_banner(
        facts.config,
        endpoints,
        host_keys,
        snapshot=keyring.snapshot,
        sources=keyring.describe(),
        identity=facts.identity,
    )
    with suppress(OSError):
        os.write(STDERR, banner.encode())


def started(facts: Facts, endpoints: tuple[Endpoint, ...], host_keys: tuple[HostKey, ...]) -> ServerStarted:
    """The event of this process's start."""
    address, port = endpoints[0]
    return ServerStarted(
        version=__version__,
        address=address,
        port=port,
        addresses=tuple(shown_endpoint(*endpoint) for endpoint in endpoints),
        pid=os.getpid(),
        generation=facts.generation,
        host_keys=tuple(key.fingerprint for key in host_keys),
        users=tuple(login.user for login in facts.config.login),
        idle_timeout=facts.config.idle.timeout,
    )


def first_events(
    host_keys: tuple[HostKey, ...],
    certificates: tuple[HostCertificate, ...],
) -> Iterator[AnyEvent]:
    """What was made and read at the start."""
    yield from made_at_start(host_keys)
    yield from loaded(certificates, time.time())
