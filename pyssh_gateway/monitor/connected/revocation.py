"""When the key that opened a connection is gone: a warning, time to save a file, another look at the key, and the end.

A key file is empty while somebody writes it, and a server may answer once with nothing, so one such reading ends
nobody's work. Meanwhile new logins and new channels are refused. This module does not know where keys come from.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from pyssh_gateway.events import AnyEvent, ConnectionReinstated, ConnectionRevoked, Identity

REVOKED_SECONDS = 10.0
"""How long a client whose key has been revoked stays connected: long enough to read why, and to save a file."""

UNCERTAIN_SECONDS = 300.0
"""How long a connection stays after a single answer has taken its key away, while no second answer can be had. Longer
than a restart of a server or a short outage, and short enough that a person who has left does not work on."""


KEY_REVOKED = "the key that this connection was opened with has been revoked"
"""The reason for which everything new is refused in that time."""


class Opened(msgspec.Struct, frozen=True):
    """The connection that the key opened, and what can be done about it.

    `holds` says whether the key is still good, by what is known now; `why_not` says why it is not, as the beginning of
    a sentence. `look_up` has the key's source asked again, and says whether the result is certain. `announce` shows a
    sentence on the terminals, `revoke` has everything new refused, for a reason (None: allowed again), and `end` ends
    the connection.
    """

    conn: str
    peer: str
    user: str
    identity: Identity
    holds: Callable[[], bool]
    why_not: Callable[[], str]
    look_up: Callable[[], Awaitable[bool]]
    publish: Callable[[AnyEvent], None]
    announce: Callable[[str], None]
    revoke: Callable[[str | None], None]
    end: Callable[[str], None]


class Revocation:
    """Whether one connection's key has been revoked. `seconds()` after that the connection ends; None: it stays."""

    def __init__(
        self,
        opened: Opened,
        seconds: Callable[[], float | None],
        loop: asyncio.AbstractEventLoop,
        spawn_task: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._opened = opened
        self._seconds_of = seconds
        self._seconds = seconds()
        self._loop = loop
        self._spawn_task = spawn_task
        self._revoked = False
        self._give_up_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ending(self) -> bool:
        """Whether the connection is about to end, and opens nothing more."""
        return self._revoked and self._seconds is not None

    @property
    def _was_to_stay(self) -> bool:
        """Whether the connection was to stay without its key, but the settings have changed since."""
        return self._seconds is None and self._seconds_of() is not None

    def check(self) -> None:
        """The keys have changed: warn, or take the warning back."""
        if self._opened.holds():
            self._take_back()
        elif not self._revoked or self._was_to_stay:
            self._revoked = True
            self._warn()
            self._give_up_at = self._loop.time() + UNCERTAIN_SECONDS
            self._wait()

    def close(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _warn(self) -> None:
        """Say that the key is gone, and open nothing more if the connection is to end."""
        opened = self._opened
        reason = opened.why_not()
        self._seconds = self._seconds_of()
        opened.publish(
            ConnectionRevoked(
                conn=opened.conn,
                peer=opened.peer,
                user=opened.user,
                reason=reason,
                seconds=self._seconds,
                identity=opened.identity,
            )
        )
        if self._seconds is not None:
            opened.announce(f"{reason}. This connection ends in {self._seconds:.0f} s, unless the key comes back.")
            opened.revoke(KEY_REVOKED)

    def _take_back(self) -> None:
        """Take the warning back, if there was one."""
        if not self._revoked:
            return
        self._revoked = False
        self.close()
        opened = self._opened
        reason = f"the key {opened.identity.fingerprint} of {opened.identity.person} is back"
        opened.publish(
            ConnectionReinstated(
                conn=opened.conn, peer=opened.peer, user=opened.user, reason=reason, identity=opened.identity
            )
        )
        if self._seconds is not None:
            opened.revoke(None)
            opened.announce(f"{reason}. This connection stays.")

    def _wait(self) -> None:
        if self._seconds is not None:
            self._timer = self._loop.call_later(self._seconds, self._time_is_over)

    def _time_is_over(self) -> None:
        self._timer = None
        self._spawn_task(self._decide_anew())

    async def _decide_anew(self) -> None:
        is_certain = await self._opened.look_up()
        if self._opened.holds():
            self._take_back()
        elif not self._revoked or self._timer is not None:
            return  # the key has come back and gone again meanwhile: that has its own warning
        elif is_certain or self._loop.time() >= self._give_up_at:
            self._opened.end("The key that you logged in with was revoked")
        else:
            self._wait()
