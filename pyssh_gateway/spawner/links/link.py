"""The spawner's end of the socket to one asker: requests are read as they come, reports go out as there is room."""

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
    """One monitor's or postauth process's; `decode` knows what it may ask. Nothing here waits.

    `fileno` is what to poll, for `events`. `news` go out behind the reports.
    """

    def __init__(self, control: socket.socket, decode: Callable[[bytes], Request], news: News | None = None) -> None:
        control.setblocking(False)
        self._control = control
        self._decode = decode
        self._news = news
        self._outbox = Outbox(control)

    @classmethod
    def closed(cls, decode: Callable[[bytes], Request]) -> "Link[Request]":
        """That of nobody."""
        link = cls(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET), decode)
        link.close()
        return link

    @property
    def is_open(self) -> bool:
        """Whether the asker may still ask for something."""
        return self._control.fileno() >= 0

    def fileno(self) -> int:
        """The descriptor; -1 when it is closed."""
        return self._control.fileno()

    @property
    def events(self) -> int:
        """What to poll for: with many answers unread, no more requests are taken."""
        waiting = self._outbox.waiting or (self._news is not None and self._news.waiting)
        return (0 if self._outbox.full else select.POLLIN) | (select.POLLOUT if waiting else 0)

    @property
    def stuck_at(self) -> float | None:
        """When the asker counts as stuck, unless it reads something before."""
        return self._outbox.stuck_at

    def report(self, report: protocol.Report, descriptors: list[int]) -> None:
        """Send `report` with `descriptors`, which are closed then. Raises `ProtocolError` if it is too large."""
        try:
            packet = protocol.encode(report)
        except protocol.ProtocolError:
            close_all(descriptors)
            raise
        if self.is_open:
            self._outbox.send(packet, descriptors, time.monotonic())
        else:  # it is gone and needs none
            close_all(descriptors)

    def send_more(self) -> None:
        """Send what waits: answers first, then news."""
        self._outbox.flush(time.monotonic())
        if self._news is not None and self.is_open and not self._outbox.waiting:
            self._news.send(self._control)

    def report_alone(self, report: protocol.Report) -> None:
        """In a forked process that has only this to say: send `report`, and wait until it is sent."""
        self._outbox.abandon()  # what waits there is the spawner's to send
        self.report(report, [])
        room = select.poll()
        room.register(self, select.POLLOUT)
        while self._outbox.waiting:
            room.poll()
            self._outbox.flush(time.monotonic())

    def take(self) -> Request | None:
        """The next request that has come; None if there is none. Raises `ProtocolError`.

        If the asker is gone the link is closed; how it has ended says the reaping.
        """
        try:
            packet, descriptors = protocol.receive(self._control)
        except BlockingIOError:
            return None
        except OSError:  # it has left without reading all that we had to say
            packet, descriptors = b"", []
        except protocol.DescriptorsLost as error:
            raise protocol.ProtocolError(str(error)) from error
        close_all(descriptors)
        if not packet:
            self.close()
            return None
        return self._decode(packet)

    def drop(self) -> None:
        """Send nothing of what waits any more."""
        self._outbox.close()

    def close(self) -> None:
        """The asker has left, or is to be ended: no answer reaches it any more."""
        self._outbox.close()
        self._control.close()
