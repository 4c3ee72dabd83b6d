"""A line with a round trip: a proxy on 127.0.0.1 that delays everything by half of that time in each direction.

`python -m bench.line PORT TARGET_PORT ROUND_TRIP_MS`, as a process of its own, so that it shares no interpreter with
the benchmark. It limits nothing but the time: it reads data as soon as it comes, and holds more than a gigabit line
with 200 ms has in flight. TCP ends at the proxy, so neither TCP's windows nor the kernel's round trip time see the
distance: only the protocol above TCP is measured.
"""

import socket
import sys
import threading
import time
from collections import deque
from contextlib import suppress

READ_BYTES = 256 * 1024

UNDER_WAY_BYTES = 64 * 1024 * 1024
"""How much one direction of a connection holds before it stops reading."""


class Direction:
    """One direction of a connection: a thread that reads, and one that sends when the delay is over."""

    def __init__(self, source: socket.socket, sink: socket.socket, seconds: float) -> None:
        self._source = source
        self._sink = sink
        self._seconds = seconds
        self._under_way: deque[tuple[float, bytes]] = deque()
        self._held = 0
        self._changed = threading.Condition()
        for work in (self._take, self._pass_on):
            threading.Thread(target=work, daemon=True).start()

    def _take(self) -> None:
        data = b"x"
        while data:
            try:
                data = self._source.recv(READ_BYTES)
            except OSError:
                data = b""
            with self._changed:
                self._changed.wait_for(lambda: self._held < UNDER_WAY_BYTES)
                self._held += len(data)
                self._under_way.append((time.monotonic() + self._seconds, data))
                self._changed.notify_all()

    def _pass_on(self) -> None:
        data = b"x"
        while data:
            with self._changed:
                self._changed.wait_for(lambda: self._under_way)
                due, data = self._under_way.popleft()
            time.sleep(max(0.0, due - time.monotonic()))  # nothing may arrive earlier over a line of that length
            try:
                self._sink.sendall(data)
            except OSError:  # the other side is gone: this one ends, too
                with suppress(OSError):
                    self._source.shutdown(socket.SHUT_RD)
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()
        with suppress(OSError):
            self._sink.shutdown(socket.SHUT_WR)


def serve(port: int, target: int, round_trip: float) -> None:
    """Join each connection to `port` with one to `target`, for ever."""
    with socket.create_server(("127.0.0.1", port), backlog=128) as listening:
        while True:
            near, _ = listening.accept()
            far = socket.create_connection(("127.0.0.1", target))
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Direction(near, far, round_trip / 2)
            Direction(far, near, round_trip / 2)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000)
