"""The benchmark's simulated line: it adds delay, and changes nothing else."""

import os
import socket
import threading
import time

from bench.line import Direction
from tests.support.waiting import PATIENCE

ONE_WAY = 0.2


def test_a_line_delays_and_changes_nothing() -> None:
    """Protects the figures for distant servers: every byte arrives in order after the delay, and so does the end."""
    near, taken = socket.socketpair()
    passed_on, far = socket.socketpair()
    data = os.urandom(3_000_000)
    with near, taken, passed_on, far:
        far.settimeout(PATIENCE)
        Direction(taken, passed_on, ONE_WAY)
        began = time.monotonic()
        sending = threading.Thread(target=near.sendall, args=(data,))
        sending.start()
        received = bytearray(far.recv(65536))
        first = time.monotonic() - began
        while len(received) < len(data):
            received += far.recv(65536)
        sending.join(PATIENCE)
        near.shutdown(socket.SHUT_WR)
        assert far.recv(1) == b""
    assert first >= ONE_WAY
    assert received == data
