"""A port scanner, which connects all the time and never logs in."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

INTERVAL_SECONDS = 0.2
"""Time between two connections."""


class Scanner:
    """Connects to `port` for as long as the `with` block lasts; each connection is held until the next one."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scanner")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as held:
            while not self._stop.wait(INTERVAL_SECONDS):
                held.close()
                with contextlib.suppress(OSError):
                    held.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=1))
                    self.connections += 1
