"""The spawner's end of the socket to one peer: requests are read as they come, reports are sent as there is room.

A peer here is the monitor or a postauth process.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.links.event_queue import News
from pyssh_gateway.spawner.links.outbox import Outbox
from pyssh_gateway.system.descriptors import close_all

Request = TypeVar("Request")


class Link(Generic[Request]):
    """The link to a monitor or a postauth process; `decode` parses the requests that the peer may make.

    Only `report_alone` waits. Poll `fileno` for `events`. `news` are sent after the reports.
    """

    def __init__(self, control: socket.socket, decode: Callable[[bytes], Request], news: News | None = None) -> None:
        control.setblocking(False)
        self._control = control
        self._decode = decode
        self._news = news
        self._outbox = Outbox(control)

    @classmethod
    def closed(cls, decode: Callable[[bytes], Request]) -> "Link[Request]":
        """A link without a peer."""
        link = cls(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), decode)
        link.close()
        return link

    @property
    def is_open(self) -> bool:
        """Whether the peer may still make requests."""
        return self._control.fileno() >= 0

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._control.fileno()

    @property
    def events(self) -> int:
        """The events to poll for: while many answers are unread, no more requests are taken."""
        waiting = self._outbox.waiting or (self._news is not None and self._news.waiting)
        return (0 if self._outbox.full else select.POLLIN) | (select.POLLOUT if waiting else 0)

    @property
    def stuck_at(self) -> float | None:
        """When the peer counts as stuck, unless it reads something before."""
        return self._outbox.stuck_at

    def report(self, report: protocol.Report, descriptors: list[int]) -> None:
        """Send `report` with `descriptors`, and close them. Raises `ProtocolError` if it is too large."""
        try:
            packet = protocol.encode(report)
        except protocol.ProtocolError:
            close_all(descriptors)
            raise
        if self.is_open:
            self._outbox.send(packet, descriptors, time.monotonic())
        else:  # the peer is gone
            close_all(descriptors)

    def send_more(self) -> None:
        """Send what is queued: answers first, then news."""
        self._outbox.flush(time.monotonic())
        if self._news is not None and self.is_open and not self._outbox.waiting:
            self._news.send(self._control)

    def report_alone(self, report: protocol.Report) -> None:
        """In a forked process that sends only this one report: send `report`, and wait until it is sent."""
        self._outbox.abandon()  # the spawner itself sends what is queued there
        self.report(report, [])
        room = select.poll()
        room.register(self, select.POLLOUT)
        while self._outbox.waiting:
            room.poll()
            self._outbox.flush(time.monotonic())

    def take(self) -> Request | None:
        """The next request; None if there is none. Raises `ProtocolError`.

        If the peer is gone, the link is closed; its exit status is found when it is reaped.
        """
        try:
            packet, descriptors = protocol.receive(self._control)
        except BlockingIOError:
            return None
        except OSError:  # the peer has ended without reading all reports
            packet, descriptors = b"", []
        except protocol.DescriptorsLost as error:
            raise protocol.ProtocolError(str(error)) from error
        close_all(descriptors)
        if not packet:
            self.close()
            return None
        return self._decode(packet)

    def drop(self) -> None:
        """Drop all queued reports."""
        self._outbox.close()

    def close(self) -> None:
        """The peer has ended, or is to be ended: drop its reports and close the socket."""
        self._outbox.close()
        self._control.close()
