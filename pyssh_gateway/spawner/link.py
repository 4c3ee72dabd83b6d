"""The spawner's end of the socket to the gateway: requests are read as they come, reports go out as there is room."""

import select
import socket
import time

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.event_queue import News
from pyssh_gateway.spawner.outbox import Outbox
from pyssh_gateway.spawner.processes import process

REQUESTS_AT_ONCE = 32
"""Requests read in one turn of the loop."""


class Link:
    """One gateway's; before the first one, that of a gateway that is gone. Nothing here waits.

    `fileno` is what to poll, for `events`.
    """

    def __init__(self, control: socket.socket, news: News) -> None:
        control.setblocking(False)
        self._control = control
        self._news = news
        self._outbox = Outbox(control)

    @classmethod
    def closed(cls, news: News) -> "Link":
        """That of no gateway."""
        link = cls(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), news)
        link.close()
        return link

    @property
    def is_open(self) -> bool:
        """Whether the gateway may still ask for something."""
        return self._control.fileno() >= 0

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._control.fileno()

    @property
    def events(self) -> int:
        """What to poll for: with many answers unread, no more requests are taken."""
        waiting = self._outbox.waiting or self._news.waiting
        return (0 if self._outbox.full else select.POLLIN) | (select.POLLOUT if waiting else 0)

    @property
    def stuck_at(self) -> float | None:
        """When the gateway counts as stuck, unless it reads something before."""
        return self._outbox.stuck_at

    def report(self, report: protocol.Report, descriptors: list[int]) -> None:
        """Send `report` with `descriptors`, which are closed then. Raises `ProtocolError` if it is too large."""
        try:
            packet = protocol.encode(report)
        except protocol.ProtocolError:
            process.close(descriptors)
            raise
        if self.is_open:
            self._outbox.send(packet, descriptors, time.monotonic())
        else:  # it is gone and needs none
            process.close(descriptors)

    def send_more(self) -> None:
        """Send what waits: answers first, then news."""
        self._outbox.flush(time.monotonic())
        if self.is_open and not self._outbox.waiting:
            self._news.send(self._control)

    def report_alone(self, report: protocol.Report) -> None:
        """In a forked process that has only this to say: send `report`, and wait until it is sent."""
        self._outbox.close()  # what waits there is the spawner's to send
        self.report(report, [])
        room = select.poll()
        room.register(self, select.POLLOUT)
        while self._outbox.waiting:
            room.poll()
            self._outbox.flush(time.monotonic())

    def receive(self) -> tuple[list[protocol.Request], bool]:
        """The requests that have come, and whether the gateway is still there. Raises `ProtocolError`."""
        requests: list[protocol.Request] = []
        while len(requests) < REQUESTS_AT_ONCE:
            try:
                packet, descriptors = protocol.receive(self._control)
            except BlockingIOError:
                break
            except OSError:  # it has left without reading all that we had to say
                return requests, False
            except protocol.DescriptorsLost as error:
                raise protocol.ProtocolError(str(error)) from error
            protocol.close_all(descriptors)
            if not packet:
                return requests, False
            requests.append(protocol.decode_request(packet))
        return requests, True

    def drop(self) -> None:
        """Send nothing of what waits any more."""
        self._outbox.close()

    def close(self) -> None:
        """The gateway has left, or is to be replaced: no answer reaches it any more."""
        self._outbox.close()
        self._control.close()
