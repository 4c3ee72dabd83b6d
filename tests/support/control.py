"""A control server for commands: the real one, in a thread, with answers from the test."""

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pyssh_gateway.monitor.reporting.control import ControlServer, Handlers


class AnsweringServer:
    """Answers with its `handlers` at `path` while the `with` block lasts."""

    def __init__(self, path: Path, handlers: Handlers) -> None:
        self._path = path
        self._handlers = handlers
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="control")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _serve(self) -> None:
        with socket.socket(socket.AF_UNIX) as listening, contextlib.suppress(asyncio.CancelledError):
            listening.bind(str(self._path))
            listening.listen(16)
            server = ControlServer(listening, handlers=self._handlers, owner=os.geteuid(), publish=lambda _event: None)
            self._task = self._loop.create_task(server.run())
            self._ready.set()
            self._loop.run_until_complete(self._task)
        self._loop.close()


@contextlib.contextmanager
def one_answer(path: Path, answer: bytes | None) -> Iterator[None]:
    """Listens at `path` and gives `answer` to the first client; with None it only waits until the client gives up."""

    def serve() -> None:
        sock, _ = listening.accept()
        with sock:
            sock.recv(65536)
            if answer is None:
                sock.recv(1)
            else:
                with contextlib.suppress(OSError):
                    sock.sendall(answer)

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=serve, name="one answer")
        thread.start()
        yield
        thread.join()
