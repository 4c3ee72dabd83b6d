"""Owns the tasks that several parts of the monitor begin and nobody waits for: all of them end with the monitor."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Tasks:
    """All such tasks. An exception in one is a bug of ours: the loop's handler is told, and the others go on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Do `work` beside everything else."""
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler({"message": f"in the task {task.get_name()}", "exception": error})

    async def close(self) -> None:
        """Cancel all tasks, and those that are begun because of that, and wait until they have ended."""
        while tasks := tuple(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
