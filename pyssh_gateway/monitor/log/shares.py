"""What each account may add to the log, so that nobody can have all older lines removed by writing many.

The log takes `audit.keep_size` of room, and then loses its oldest files. So the lines of which a user makes any number,
with texts of any length, count against a share of that room, about as they are compressed in the end. Above it, file
operations, forwards and denied requests are counted instead of logged, and commands are shortened. Logins, sessions and
their ends are always logged. This module decides; it writes nothing.
"""

import zlib
from collections.abc import Callable

import msgspec

from pyssh_gateway.events import (
    AnyEvent,
    AuditLimited,
    ConnectionClosed,
    FileOperation,
    ForwardClosed,
    ForwardListening,
    ForwardOpened,
    RequestDenied,
    SessionOpened,
)
from pyssh_gateway.events.bus import Admitted

PART = 16
"""An account has this part of `audit.keep_size` a day: 64 MiB of 1 GiB, which is a million operations on files."""

DAY = 86400.0

AGAIN = 24
"""Once it is used up, lines are counted until this part of a day's share is free again: one line says how many."""

LINE_BYTES = 48
"""What a line takes without its texts when it is compressed: its number, time and figures differ from line to line."""

KEPT = 100
"""Characters of a command that are logged above the share."""

CUT = "[...]"

_BULK = (FileOperation, ForwardListening, ForwardOpened, ForwardClosed, RequestDenied)

_OURS = frozenset({"conn", "session", "user"})


class _Account:
    """What one account has left, and has lost. The texts of its events are compressed to see what they take."""

    def __init__(self, left: float, now: float) -> None:
        self.left = left
        self.now = now
        self.is_over = False
        self.lost = 0
        self._packer = zlib.compressobj(1, zlib.DEFLATED, -12, 4)  # with little memory: there may be many accounts

    def refill(self, now: float, share: float) -> None:
        self.left = min(share, self.left + max(0.0, now - self.now) * share / DAY)
        self.now = now

    def cost(self, event: AnyEvent) -> int:
        texts = [getattr(event, name) for name in event.__struct_fields__ if name not in _OURS]
        data = "\0".join(text for text in texts if isinstance(text, str)).encode("utf-8", "surrogateescape")
        return LINE_BYTES + len(self._packer.compress(data)) + len(self._packer.flush(zlib.Z_SYNC_FLUSH))


class Shares:
    """The shares of all accounts. `keep_size` gives the setting of that name, in bytes."""

    def __init__(self, keep_size: Callable[[], int]) -> None:
        self._keep_size = keep_size
        self._accounts: dict[str, _Account] = {}

    def __call__(self, event: AnyEvent, now: float) -> Admitted:
        """What becomes of an event that the process of an account reports. `now` is Unix time."""
        if not isinstance(event, (*_BULK, SessionOpened, ConnectionClosed)):
            return Admitted(event)
        share = self._keep_size() / PART
        account = self._accounts.get(event.user)
        if account is None:
            account = self._accounts[event.user] = _Account(share, now)
        account.refill(now, share)
        if isinstance(event, ConnectionClosed):
            return Admitted(event, notice=_count(account, event.user))
        if isinstance(event, SessionOpened):
            cost = account.cost(event)
            if cost > account.left:
                event = msgspec.structs.replace(
                    event, command=_shortened(event.command), requested=_shortened(event.requested)
                )
            account.left = max(0.0, account.left - cost)
            return Admitted(event)
        notice: AuditLimited | None = None
        if account.is_over:
            if account.left < share / AGAIN:
                account.lost += 1
                return Admitted(event, is_logged=False)
            account.is_over = False
            notice = _count(account, event.user)
        cost = account.cost(event)
        if cost > account.left:
            account.is_over = True
            account.lost += 1
            return Admitted(event, is_logged=False, notice=AuditLimited(user=event.user, lost=0))
        account.left -= cost
        return Admitted(event, notice=notice)


def _count(account: _Account, user: str) -> AuditLimited | None:
    lost, account.lost = account.lost, 0
    return AuditLimited(user=user, lost=lost) if lost else None


def _shortened(text: str) -> str:
    return text if len(text) <= KEPT else text[: KEPT // 2] + CUT + text[-KEPT // 2 :]
