"""Requests take effect in the order in which they were sent."""

import socket
import subprocess
from contextlib import suppress

from tests.support.client import Client, client_environment, terminate
from tests.support.forwards import Target, echo, free_port, read_exactly
from tests.support.waiting import PATIENCE, until

FORWARDS = 9


def test_a_forward_that_leads_to_one_of_the_same_client(client: Client) -> None:
    """Nine -R, and a -L to the last of them: its first connection succeeds, as with sshd."""
    local, remote = free_port(), [free_port() for _ in range(FORWARDS)]
    with Target(echo) as target:
        options = [option for port in remote for option in ("-R", f"127.0.0.1:{port}:127.0.0.1:{target.port}")]
        command = client.argv(None, "-N", "-L", f"127.0.0.1:{local}:127.0.0.1:{remote[-1]}", *options)
        ssh = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=client_environment())
        try:

            def dialled() -> socket.socket | None:
                with suppress(ConnectionRefusedError):
                    return socket.create_connection(("127.0.0.1", local), PATIENCE)
                return None

            connection = until(dialled, what="listener of -L")
            assert connection is not None
            with connection:
                connection.sendall(b"hello")
                assert read_exactly(connection, 5) == b"hello"
        finally:
            terminate(ssh)
