"""Runs blocking work in threads that block neither the loop nor the end of the process.

They are not the loop's own threads: the process waits for those at its end, so a name server that never answers would
keep the machine from stopping. This module does not know what the work is.
"""

import asyncio
import errno
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def _forget(_result: object) -> None:
    """Drop the result of cancelled work."""


async def in_daemon_thread(work: Callable[[], T], *, name: str, drop: Callable[[T], None] = _forget) -> T:
    """Run `work` in a daemon thread that only this coroutine waits for; its exceptions are raised here.

    After a cancellation `work` goes on, and `drop` gets its result. Raises OSError if the machine gives us no thread.
    """
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    given_up = False
    results: list[T] = []
    errors: list[Exception] = []

    def drop_results() -> None:
        while results:
            drop(results.pop())

    def end() -> None:
        finished.set()
        if given_up:
            drop_results()

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is awaited
            errors.append(error)
        try:
            loop.call_soon_threadsafe(end)
        except RuntimeError:  # the loop is closed: nobody waits any more
            drop_results()

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:  # "can't start new thread": the users' processes may have taken them all
        raise OSError(errno.EAGAIN, "no thread could be started") from error
    try:
        await finished.wait()
    except asyncio.CancelledError:
        given_up = True
        if finished.is_set():
            drop_results()
        raise
    if errors:
        raise errors[0]
    return results[0]
