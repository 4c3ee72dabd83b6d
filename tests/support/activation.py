"""A server that is started with a listening socket, as sd_listen_fds(3) describes.

As a program (`python -m`), it does what systemd does between its fork and its exec: `DESCRIPTORS COMMAND...` becomes
COMMAND, with these descriptors as numbers 3 and up, and with the variables that announce them.
"""

import fcntl
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable

from tests.support.places import ROOT
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until


class Activated(Server):
    """A `Server` whose `launch` passes it `listening`. The test keeps that socket, as systemd keeps a unit's socket.

    The port is known before the server runs, but its host key is not: clients of the first run accept any key.
    """

    listening: socket.socket
    others: tuple[socket.socket, ...] = ()
    """Further sockets to pass to the server."""

    def open_socket(self, sock: socket.socket | None = None) -> None:
        """Listen on a free port of this machine, or use `sock` instead, whatever it is."""
        self.listening = sock or socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1] if sock is None else 0

    def launch(self) -> None:
        """Start the server, whether or not a client waits for it."""
        descriptors = tuple(sock.fileno() for sock in (self.listening, *self.others))
        self.launch_by(sys.executable, "-m", __name__, ",".join(map(str, descriptors)), passed=descriptors)

    def launch_by(self, *prefix: str, passed: tuple[int, ...] = ()) -> None:
        """Start the server through another program; `prefix` is the beginning of that program's command line."""
        self.exit_code = None
        self._ended = False
        self.lines, self.events = [], []
        with (self.directory / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "pyssh_gateway", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                pass_fds=passed,
            )
        assert process.stdout is not None
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process.stdout,), name="server-log")
        self._reader.start()

    def wait_for_client(self) -> None:
        """Wait until a connection waits to be accepted: the moment at which systemd starts the service."""
        ready, _, _ = select.select([self.listening], [], [], PATIENCE)
        assert ready, f"nobody has connected within {PATIENCE} s"

    def wait_for_stderr(self, text: str) -> None:
        """Wait until `text` has been written to standard error."""
        until(lambda: text in self.stderr, what=f"{text!r} on standard error")


MakeActivated = Callable[..., Activated]


def become(descriptors: list[int], command: list[str]) -> None:
    """Execute `command`, with `descriptors` as numbers 3 and up."""
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3 + len(descriptors)) for descriptor in descriptors]
    for index, descriptor in enumerate(moved):
        os.dup2(descriptor, 3 + index)
    os.closerange(3 + len(descriptors), max(moved) + 1)
    names = ":".join(["pyssh-gateway.socket"] * len(descriptors))
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors)), "LISTEN_FDNAMES": names}
    os.execvpe(command[0], command, os.environ | variables)


if __name__ == "__main__":
    become([int(number) for number in sys.argv[1].split(",")], sys.argv[2:])
