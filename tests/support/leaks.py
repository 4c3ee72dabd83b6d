"""What a test must give back: descriptors, processes and threads, of the server and of the test process."""

import gc
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple
from weakref import WeakKeyDictionary

from tests.support import processes
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until


class Footprint(NamedTuple):
    """The resources that a server holds."""

    spawner: tuple[str, ...]
    gateway: tuple[str, ...]
    postauth: tuple[str, ...]
    processes: tuple[str, ...]


HELD_FOR = {
    "pyssh-preauth": Footprint(spawner=("/memfd",), gateway=("socket",), postauth=(), processes=()),
    "pyssh-spare": Footprint(spawner=("/memfd", "socket"), gateway=(), postauth=(), processes=()),
    "pyssh-ahead": Footprint(spawner=("/memfd", "socket"), gateway=(), postauth=(), processes=()),
    "pyssh-postauth": Footprint(
        spawner=("/memfd", "socket"),
        gateway=("socket",),
        postauth=("/dev/null", "/dev/null", "/memfd", "anon_inode", "socket", "socket", "socket", "socket"),
        processes=(),
    ),
}
"""What is held for each of these processes: the file for its last words, the sockets that lead to it, and its own
descriptors while it serves nobody. One of each kind for each account is kept ready for a minute: for the next stranger,
for an account that is not on, for a session, and for a user who comes back. So these come and go during any test;
a second one that serves nobody would be a leak."""


FIRST_LOOKS = 10
"""How many looks in a row have to find the same: for a tenth of a second, which is long for the end of a process."""

_most: WeakKeyDictionary[Server, Footprint] = WeakKeyDictionary()
"""The most that each server has held before any test."""


def until_empty(added: Callable[[], list[str]], before: object) -> None:
    """Fail unless soon nothing is `added` any more to what was held before; the error says what there still is."""
    last: list[str] = []

    def is_empty() -> bool:
        last[:] = added()
        return not last

    try:
        until(is_empty)
    except AssertionError:
        raise AssertionError(f"after {PATIENCE} s there is still {last} beyond {before}") from None


def footprint(server: Server) -> Footprint:
    """What `server` may hold: the most that it has held before this test or an earlier one, without ready processes.

    An ending process counts as kept ready, though nothing is held for it, so one look may count too little. Therefore
    the first time, when there is no earlier look to go by, several looks in a row have to agree.
    """
    agreeing = 1 if server in _most else FIRST_LOOKS
    found: list[Footprint] = []

    def is_settled() -> bool:
        now, surplus = _now(server)
        if surplus or now not in found:
            found.clear()
        if not surplus:
            found.append(now)
        return len(found) >= agreeing

    until(is_settled, what="end of the processes of connections that are over")
    before = _most.get(server, found[-1])
    _most[server] = Footprint(*(_either(one, other) for one, other in zip(before, found[-1], strict=True)))
    return _most[server]


def check_server(server: Server, before: Footprint) -> None:
    """Fail unless `server` comes back to no more than it held `before`."""

    def added() -> list[str]:
        now, surplus = _now(server)
        more = [(Counter(has) - Counter(had)).elements() for had, has in zip(before, now, strict=True)]
        return [*surplus, *chain(*more)]

    until_empty(added, before)


def _now(server: Server) -> tuple[Footprint, list[str]]:
    """What the server holds, and its processes beyond one of each kind for each account.

    A new gateway has other socket and pipe numbers, so only the kinds are compared.
    """
    below = processes.descendants(server.pid)
    at_hand = [process for process in below if process.name in HELD_FOR and process.state != "Z"]
    held = [HELD_FOR[process.name] for process in at_hand]
    kept = Counter((process.name, processes.owner(process.pid)) for process in at_hand)
    surplus = [name for (name, _), count in kept.items() for _ in range(count - 1)]
    now = Footprint(
        _without(_kinds(server.pid), chain(*(each.spawner for each in held))),
        _without(_kinds(server.gateway_pid), chain(*(each.gateway for each in held))),
        _without(
            tuple(chain(*(_kinds(process.pid) for process in at_hand if process.name == "pyssh-postauth"))),
            chain(*(each.postauth for each in held)),
        ),
        tuple(sorted(f"{process.name} {process.state == 'Z'}" for process in below if process not in at_hand)),
    )
    return now, surplus


def _either(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted((Counter(some) | Counter(others)).elements()))


def _without(kinds: tuple[str, ...], some: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted((Counter(kinds) - Counter(some)).elements()))


class Own(NamedTuple):
    """The resources of the test process itself."""

    descriptors: int
    threads: frozenset[str]


def own() -> Own:
    """What the test process holds now."""
    return Own(len(processes.descriptors(os.getpid())), frozenset(thread.name for thread in threading.enumerate()))


def check_own(before: Own) -> None:
    """Fail if the test process has more than `before`; garbage that is not collected yet is not a leak."""

    def is_back() -> bool:
        now = own()
        if now.descriptors > before.descriptors:
            gc.collect()
        return now.descriptors <= before.descriptors and now.threads <= before.threads

    until(is_back, PATIENCE, what=f"return to {before}; now {own()}: {processes.descriptors(os.getpid())}")


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail if the test process has a descriptor afterwards that it did not have before.

    A thread may close its descriptor a moment after the answer that a test waits for, so this waits, too.
    """
    before = Counter(processes.descriptors(os.getpid()))

    def added() -> list[str]:
        return sorted((Counter(processes.descriptors(os.getpid())) - before).elements())

    yield
    if added():
        gc.collect()
    until_empty(added, "what was open before")


def _kinds(pid: int) -> tuple[str, ...]:
    return tuple(sorted(target.partition(":")[0] for target in processes.descriptors(pid)))
