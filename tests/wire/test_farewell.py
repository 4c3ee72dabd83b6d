"""What terminals are told when the server stops, on the wire: also those that belong to no session."""

import shlex
import signal

from tests.conftest import KeyPair
from tests.support.server import Server
from tests.wire.raw import CHANNEL_DATA, RawClient, play

INNER = "import pty, sys; pty.spawn(['sh', '-c', sys.argv[1]])"
"""What an editor's terminal is: a pty that a process without a terminal opens, and whose output it passes on."""

LINES = "chmod g+w $(tty); echo ready; sleep 60"


def test_a_terminal_of_no_session_gets_the_farewell(server: Server, user_key: KeyPair) -> None:
    """Protects people in an editor's terminal: they are told why their connection ends, before it does."""

    async def scenario(client: RawClient) -> None:
        await client.started(f"exec python3 -c {shlex.quote(INNER)} {shlex.quote(LINES)}".encode())
        seen = b""
        while b"ready" not in seen:
            _, payload = await client.hear(CHANNEL_DATA)
            seen += payload
        server.signal(signal.SIGTERM)
        while b"Goodbye!" not in seen:
            _, payload = await client.hear(CHANNEL_DATA)
            seen += payload
        assert b"pyssh-gateway: the server is stopping for a deploy, reconnect in a moment. Goodbye!" in seen

    play(server, user_key, scenario)
    assert server.wait() == 0
