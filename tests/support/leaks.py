"""What a test must leave as it found it: descriptors, processes and threads, the server's and our own."""

import gc
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from tests.support import processes
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until


class Footprint(NamedTuple):
    """What a server holds."""

    spawner: tuple[str, ...]
    gateway: tuple[str, ...]
    processes: tuple[str, ...]


def footprint(server: Server) -> Footprint:
    """What `server` holds now. Numbers of sockets and pipes change with a new gateway, so kinds are compared."""
    return Footprint(
        _kinds(server.pid),
        _kinds(server.gateway_pid),
        tuple(sorted(f"{process.name} {process.state == 'Z'}" for process in processes.descendants(server.pid))),
    )


def check_server(server: Server, before: Footprint) -> None:
    """Fail unless `server` comes back to no more than it held `before`."""

    def added() -> list[str]:
        now = footprint(server)
        return [
            entry for had, has in zip(before, now, strict=True) for entry in (Counter(has) - Counter(had)).elements()
        ]

    until(lambda: not added(), PATIENCE, what=f"return to {before}; too much: {added()}")


class Own(NamedTuple):
    """What the test process itself holds."""

    descriptors: int
    threads: frozenset[str]


def own() -> Own:
    """What the test process holds now."""
    return Own(len(processes.descriptors(os.getpid())), frozenset(thread.name for thread in threading.enumerate()))


def check_own(before: Own) -> None:
    """Fail if the test process has more than `before`; what only waits for the garbage collector is not a leak."""

    def is_back() -> bool:
        now = own()
        if now.descriptors > before.descriptors:
            gc.collect()
        return now.descriptors <= before.descriptors and now.threads <= before.threads

    until(is_back, PATIENCE, what=f"return to {before}; now {own()}: {processes.descriptors(os.getpid())}")


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail if the test process has a descriptor afterwards that it had not before.

    A thread may close its own a moment after the answer that a test waits for, so all have some time.
    """
    before = Counter(processes.descriptors(os.getpid()))

    def added() -> list[str]:
        return sorted((Counter(processes.descriptors(os.getpid())) - before).elements())

    yield
    if added():
        gc.collect()
    until(lambda: not added(), PATIENCE, what=f"end of {added()}")


def _kinds(pid: int) -> tuple[str, ...]:
    return tuple(sorted(target.partition(":")[0] for target in processes.descriptors(pid)))
