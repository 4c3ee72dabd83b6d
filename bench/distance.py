"""The cost of distance: logins and transfers through lines with a round trip of 0, 20 and 100 ms."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench.client import CLIENT_SECONDS
from bench.figures import Figure, median
from bench.interrupts import held_back
from bench.machine import free_port
from bench.processes import is_listening, wait_for
from bench.rig import Rig
from bench.servers import CHECKOUT, START_SECONDS, Server, gateway_environ

ROUND_TRIPS_MS = (0, 20, 100)
"""Round trips: none, to a data centre on the same continent, to one on another continent."""

SIZE = 64 * 1024 * 1024
"""So much that the window has its full size for most of the transfer; at 100 ms it takes some seconds."""

CHUNK = bytes(256 * 1024)
MILLISECONDS = 1000

DOWNLOAD = f"exec head -c {SIZE} /dev/zero"
UPLOAD = "exec cat >/dev/null"


class Far(NamedTuple):
    """A server behind a line: `port` is the port of the line."""

    name: str
    port: int
    last_words: Callable[[], str]


def distance(rig: Rig) -> list[Figure]:
    """`ssh host true`, its round trips, 64 MiB up and down in a session and through `-L`, for each round trip."""
    figures: list[Figure] = []
    near_logins: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    with rig.running():
        for round_trip in ROUND_TRIPS_MS:
            with ExitStack() as stack:
                far = {
                    server.name: Far(server.name, stack.enter_context(_line(server, round_trip)), server.last_words)
                    for server in (rig.ours, rig.sshd)
                }
                logins = rig.in_turns(rig.effort.distant, _login(rig, far))
                near_logins = near_logins or logins
                figures.append(Figure(f"login and command, {round_trip} ms away", "ms", *logins))
                if round_trip:
                    trips = [_round_trips(*pair, round_trip) for pair in zip(logins, near_logins, strict=True)]
                    figures.append(Figure(f"login and command, {round_trip} ms away: round trips", "", *trips))
                for name, transfer in (("upload", _upload), ("download", _download)):
                    samples = rig.in_turns(rig.effort.distant, transfer(rig, far))
                    figures.append(Figure(f"{name} {SIZE >> 20} MiB, {round_trip} ms away", "s", *samples))
                for name, sends in (("-L, upload", True), ("-L, download", False)):
                    samples = rig.in_turns(rig.effort.distant, _forward(rig, far, sends=sends))
                    figures.append(Figure(f"{name} {SIZE >> 20} MiB, {round_trip} ms away", "s", *samples))
    return figures


def _round_trips(far: tuple[float, ...], near: tuple[float, ...], round_trip: float) -> tuple[float, ...]:
    """How many round trips each login has waited for: its time beyond the median login without distance."""
    return tuple((sample - median(near)) / round_trip for sample in far)


def _login(rig: Rig, far: dict[str, Far]) -> Callable[[Server], float]:
    return lambda server: rig.client.run(far[server.name], "true")[0] * MILLISECONDS


def _download(rig: Rig, far: dict[str, Far]) -> Callable[[Server], float]:
    return lambda server: rig.client.run(far[server.name], DOWNLOAD)[0]


def _upload(rig: Rig, far: dict[str, Far]) -> Callable[[Server], float]:
    def measure(server: Server) -> float:
        with subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as source:
            return rig.client.run(far[server.name], UPLOAD, stdin=source.stdout)[0]

    return measure


def _forward(rig: Rig, far: dict[str, Far], *, sends: bool) -> Callable[[Server], float]:
    """Through a `-L` that is open already: from connecting until all data has arrived and was acknowledged to us."""

    def measure(server: Server) -> float:
        port = free_port()
        with _Target(sends=not sends) as target:
            options = ("-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{target.port}")
            with rig.client.session(far[server.name], None, *options):
                wait_for(lambda: is_listening(port), START_SECONDS, "forward")
                begun = time.perf_counter()
                with socket.create_connection(("127.0.0.1", port), CLIENT_SECONDS) as sock:
                    (_send if sends else _receive)(sock)
                    if sends:
                        sock.shutdown(socket.SHUT_WR)
                        _receive(sock)
                return time.perf_counter() - begun

    return measure


class _Target:
    """The target of a forward: sends 64 MiB to its one connection, or reads everything from it."""

    def __init__(self, *, sends: bool) -> None:
        self._work = _send if sends else _receive
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(CLIENT_SECONDS)
        self.port: int = self._listening.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "_Target":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        sock, _ = self._listening.accept()
        with sock:
            sock.settimeout(CLIENT_SECONDS)
            self._work(sock)


def _send(sock: socket.socket) -> None:
    for _ in range(SIZE // len(CHUNK)):
        sock.sendall(CHUNK)


def _receive(sock: socket.socket) -> None:
    buffer = bytearray(CHUNK)
    while sock.recv_into(buffer):
        pass


@contextmanager
def _line(server: Server, round_trip_ms: int) -> Iterator[int]:
    """A line to `server`; its port. The server itself if there is no distance."""
    if not round_trip_ms:
        yield server.port
        return
    port = free_port()
    line = subprocess.Popen(
        [sys.executable, "-m", "bench.line", str(port), str(server.port), str(round_trip_ms)],
        stdin=subprocess.DEVNULL,
        cwd=CHECKOUT,
        env=gateway_environ(),
        start_new_session=True,
    )
    try:
        wait_for(lambda: is_listening(port), START_SECONDS, "line")
        yield port
    finally:
        with held_back():
            line.kill()
            line.wait()
