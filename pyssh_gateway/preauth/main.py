"""The life of a preauth process: enter the sandbox, serve one client, and end with its login or its connection."""

import asyncio
import pwd
import select
import socket
from collections.abc import Callable
from contextlib import suppress

import msgspec

from pyssh_gateway.core.steering import CipherSteering
from pyssh_gateway.ipc import preauth as messages
from pyssh_gateway.ipc.spawner import ProtocolError, receive
from pyssh_gateway.preauth import sandbox
from pyssh_gateway.preauth.authentication import Authentication, Stranger
from pyssh_gateway.preauth.monitor_link import MonitorGone, MonitorLink
from pyssh_gateway.preauth.rehearsal import rehearse
from pyssh_gateway.ssh.key_exchange import Services, SigningError
from pyssh_gateway.ssh.options import options
from pyssh_gateway.system.descriptors import close_all
from pyssh_gateway.system.process_name import name_process

NAME = "pyssh-preauth"

STANDARD_ERROR = 2
"""A memory file of the spawner's. When the process ends, the spawner prints what was written there: a traceback."""

LAST_WORDS_SECONDS = 2.0
"""How long the socket may take to close after the connection: longer than the transport takes to send what is left."""

_ONLY_SOURCE = ""
"""The source that the cipher steering is asked about: this process has one client, so it needs no address."""


class Walls(msgspec.Struct, frozen=True):
    """What confines a preauth process: its account, and a function that opens the directory that becomes its root.

    Both are None for a server that was not started by root.
    """

    account: pwd.struct_passwd | None = None
    open_directory: Callable[[], int] | None = None


def run_preauth(monitor: socket.socket, walls: Walls) -> int:
    """Serve the one client that the monitor sends over its socket; returns the exit code.

    Runs in a fork of the spawner, with the spawner's rights until it is in the sandbox.
    """
    name_process(NAME)
    directory = walls.open_directory() if walls.open_directory is not None else None
    missing = sandbox.enter(walls.account, directory, keep=[STANDARD_ERROR, monitor.fileno()])
    if not select.select([monitor], [], [], 0)[0]:  # forked ahead: no client waits for it yet
        with suppress(TimeoutError):  # the machine is too busy, and a client may be waiting by now
            asyncio.run(rehearse())
    with asyncio.Runner() as runner:
        runner.get_loop()  # make the loop now, before a client waits
        return _be_of_use(monitor, missing, runner)


def _be_of_use(monitor: socket.socket, missing: tuple[str, ...], runner: asyncio.Runner) -> int:
    """Wait for the client, and serve it."""
    monitor.setblocking(True)
    packet, descriptors = receive(monitor)
    try:
        serve = messages.decode_from_monitor(packet) if packet else None
    except ProtocolError:
        serve = None
    if not isinstance(serve, messages.Serve) or len(descriptors) != 1:
        close_all(descriptors)
        return 0  # the monitor does not need this process any more
    monitor.setblocking(False)
    runner.run(_serve(socket.socket(fileno=descriptors[0]), serve, monitor, missing))
    return 0


async def _serve(
    client: socket.socket, serve: messages.Serve, monitor: socket.socket, missing: tuple[str, ...]
) -> None:
    """Serve `client` until it has logged in, or it is gone, or the monitor is gone."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    stranger = Stranger(over)
    stranger.link = link = MonitorLink(monitor, loop, on_disconnect=stranger.disconnect, on_gone=over.set)
    if missing:
        link.tell(messages.Unwalled(missing))
    settings = options(
        [(key.algorithm, key.blob) for key in serve.host_keys],
        [],
        identification=serve.identification.decode("ascii", "replace").removeprefix("SSH-2.0-"),
    )
    connection = Authentication(
        loop, settings, _services(serve, link, over), stranger, link.attempt, banner=serve.banner
    )
    await loop.connect_accepted_socket(lambda: connection, client)
    await over.wait()
    with suppress(TimeoutError):
        async with asyncio.timeout(LAST_WORDS_SECONDS):
            await connection.closed.wait()


def _services(serve: messages.Serve, link: MonitorLink, over: asyncio.Event) -> Services:
    """The connection's callbacks: each asks or tells the monitor, or answers from what `serve` says."""
    steering = CipherSteering(serve.has_aes)
    if serve.without_gcm:
        steering.failed(_ONLY_SOURCE)

    async def sign(algorithm: bytes, exchange_hash: bytes) -> bytes:
        try:
            return await link.sign(algorithm, exchange_hash)
        except MonitorGone as error:
            raise SigningError(str(error)) from error

    async def prove(_blobs: tuple[bytes, ...], _rsa: bytes) -> bytes | None:
        return None  # host keys are proved only after the login

    def hand_over(state: bytes, sock: socket.socket) -> None:
        sock.close()  # the monitor has its own
        link.tell(messages.State(state))
        over.set()

    return Services(
        sign=sign,
        prove=prove,
        spoke=lambda: None,
        greeted=lambda line, made: link.tell(
            messages.Greeted(line[: messages.MAX_IDENTIFICATION], made.client, made.server)
        ),
        only_gcm=lambda version, ciphers: steering.offer_only_gcm(version, _ONLY_SOURCE, ciphers),
        wait=steering.wait,
        negotiation_failed=lambda: link.tell(messages.CiphersMissing()),
        logged_in=lambda _version, _ciphers: None,
        is_direct=serve.is_direct,
        hand_over=hand_over,
    )
