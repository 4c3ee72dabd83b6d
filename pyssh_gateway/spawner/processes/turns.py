"""Turns among accounts: each has a queue of its own, and one request of each is served in a turn.

So an account that asks for a thousand processes at once is served at the pace of its own queue, and another's one
request waits for one of each account at most. What the requests are is not known here.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

WAITING_PER_ACCOUNT = 64
"""Requests of one account that wait for their turn. The gateway keeps a queue of its own and asks for a handful at a
time; what is above this is refused. A request has `protocol.MAX_MESSAGE` at most, so these are 16 MiB."""

T = TypeVar("T")


class Turns(Generic[T]):
    """Requests that wait, by account."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[T]] = {}

    def items(self) -> Iterator[tuple[str, T]]:
        """All that wait, each with its account."""
        for account, queue in self._queues.items():
            for request in queue:
                yield account, request

    def add(self, account: str, request: T) -> bool:
        """Put `request` at the end of the account's queue; False: that is full."""
        queue = self._queues.setdefault(account, deque())
        if len(queue) >= WAITING_PER_ACCOUNT:
            return False
        queue.append(request)
        return True

    def any_ready(self, may_go: Callable[[str], bool]) -> bool:
        """Whether an account that `may_go` has a request."""
        return any(may_go(account) for account in self._queues)

    def round(self, may_go: Callable[[str], bool]) -> list[T]:
        """The next request of each account that `may_go`.

        An account without requests is forgotten, so that nothing grows with the names that there have been.
        """
        served: list[T] = []
        for account in [account for account in self._queues if may_go(account)]:
            queue = self._queues.pop(account)
            served.append(queue.popleft())
            if queue:
                self._queues[account] = queue
        return served

    def clear(self) -> None:
        """Forget all of them."""
        self._queues.clear()
