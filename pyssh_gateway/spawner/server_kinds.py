"""One preauth or postauth process, as the spawner sees it."""

import os
import select
import signal
from contextlib import suppress

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.account_requests import AccountRequests
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.processes.server_process import LastWords


class Server:
    """A preauth or postauth process, started by the monitor's request `number`."""

    def __init__(self, name: str, number: int, pid: int, words: LastWords) -> None:
        self.name = f"the {name} (pid {pid})"
        self.number = number
        self.pid = pid
        self.words = words
        self.killed = False

    def kill(self) -> None:
        """Kill it with SIGKILL, because it may be stopped (SIGSTOP)."""
        self.killed = True
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class Postauth:
    """A postauth process of `user`: its link, and the handler of its requests."""

    def __init__(
        self, server: Server, user: str, link: Link[protocol.PostauthRequest], requests: AccountRequests
    ) -> None:
        self.server = server
        self.user = user
        self.link = link
        self.requests = requests

    @property
    def events(self) -> int:
        """The events to poll its link for."""
        if not self.link.is_open:
            return 0
        return self.link.events & ~select.POLLIN if self.requests.full else self.link.events
