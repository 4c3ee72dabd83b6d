"""Where the connection of an accepted client goes on: in another object, which gets what another process would get.

Between the two nobody has the connection. An end that comes meanwhile is remembered by its owner, `server.Client`.
"""

import asyncio
import socket
import traceback

from asyncssh.connection import SSHServerConnectionOptions

from pyssh_gateway.gateway.connection import Connection
from pyssh_gateway.gateway.server import Client
from pyssh_gateway.ipc.handover import decode
from pyssh_gateway.ssh.key_exchange import Services


async def go_on(
    state: bytes,
    sock: socket.socket,
    *,
    loop: asyncio.AbstractEventLoop,
    options: SSHServerConnectionOptions,
    services: Services,
    client: Client,
) -> None:
    """Go on with the connection `sock`, which is where `state` says, or end it."""
    try:
        taken_up = Connection(loop, options, services, client, decode(state))
        await loop.connect_accepted_socket(lambda: taken_up, sock)
    except Exception as error:  # noqa: BLE001 - one connection that can't go on must not end all the others
        sock.close()
        client.could_not_go_on(error, traceback.format_exc())
    except BaseException:
        sock.close()
        raise
