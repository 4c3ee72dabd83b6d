"""The process that makes sockets, as a thread of the test's own, and the gateway's end of its socket."""

import socket
import threading
from collections.abc import Callable

from pyssh_gateway.as_user.sockets import SocketMaker
from pyssh_gateway.ipc import sockets as messages
from pyssh_gateway.ipc.spawner import receive, socket_pair
from tests.support.waiting import PATIENCE


class Maker:
    """A maker of sockets in a thread, and the gateway's end of its socket."""

    def __init__(self) -> None:
        self.control, theirs = socket_pair()
        self.control.settimeout(PATIENCE)
        self._theirs = theirs
        self._thread = threading.Thread(target=SocketMaker(theirs).run, name="maker")
        self._thread.start()
        self._number = 0

    def send(self, *requests: messages.Request) -> None:
        """Send requests."""
        for request in requests:
            self.control.send(messages.encode(request))

    def receive(self) -> tuple[messages.Report, list[socket.socket]]:
        """The next report and its sockets."""
        packet, descriptors = receive(self.control)
        return messages.decode_report(packet), [socket.socket(fileno=descriptor) for descriptor in descriptors]

    def ask(self, make: Callable[[int], messages.Request]) -> tuple[messages.Report, list[socket.socket]]:
        """Send a request and wait for its answer."""
        self._number += 1
        self.send(make(self._number))
        report, made = self.receive()
        assert report.id == self._number
        return report, made

    def failure(self, make: Callable[[int], messages.Request]) -> messages.Failed:
        """The same for a request that has to fail."""
        report, made = self.ask(make)
        assert (type(report), made) == (messages.Failed, [])
        assert isinstance(report, messages.Failed)
        assert report.reason
        return report

    def end(self) -> None:
        """Leave, as the gateway does, and wait for the maker's end."""
        self.control.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        self._theirs.close()
