"""Work that blocks, in threads that hold up neither the loop nor the end of the process.

Not the loop's own threads: the process waits for those when it ends, and a name server that never answers would keep
the machine from stopping. This module does not know what the work is.
"""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T], *, name: str) -> T:
    """Run `work` in a thread that nobody waits for but this coroutine; what it raises is raised here.

    Cancelling gives `work` up without stopping it, and what comes of it is dropped. Raises OSError if the machine
    gives us no thread.
    """
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:  # noqa: BLE001 - it is raised again where the result is awaited
            errors.append(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finished.set)

    try:
        threading.Thread(target=run, name=name, daemon=True).start()
    except RuntimeError as error:  # "can't start new thread": what the users run may have taken them all
        raise OSError(errno.EAGAIN, "no thread could be started") from error
    await finished.wait()
    if errors:
        raise errors[0]
    return results[0]
