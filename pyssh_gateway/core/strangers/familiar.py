"""Sources from which somebody has logged in lately. They have a place when there is none for strangers. Pure."""

import msgspec

from pyssh_gateway.core.limits import source_of

LATELY_SECONDS = 7 * 86400.0
"""How long a login counts: somebody who comes back from a week's leave is no stranger. `keys.max_stale` is as long."""

MAX_SOURCES = 1024
"""Sources that are remembered; the one with the oldest login is forgotten first."""

STORE_SECONDS = 3600.0
"""A login counts as written down for so long: one more from the same source within it changes nothing that matters."""


MAX_STATE_BYTES = 128 * 1024
"""What is written down of them: a source and a time take 70 bytes at most."""


class Familiar:
    """The sources of logins, and when. `now` is Unix time: what was seen is still true after a restart, or a sleep.

    `state` is what `encode` made of an earlier one; anything else counts as nothing.
    """

    def __init__(self, state: bytes = b"") -> None:
        self._seen: dict[str, float] = {}
        try:
            seen = msgspec.json.decode(state, type=dict[str, float]) if state else {}
        except msgspec.DecodeError:
            return
        self._seen = dict(sorted(seen.items(), key=lambda each: each[1])[-MAX_SOURCES:])

    def logged_in(self, peer: str, now: float) -> bool:
        """Somebody has logged in from `peer`. True if that is worth writing down."""
        source = source_of(peer)
        before = self._seen.pop(source, 0.0)
        self._seen[source] = now  # the last one comes last
        if len(self._seen) > MAX_SOURCES:
            del self._seen[next(iter(self._seen))]
        return not 0 <= now - before < STORE_SECONDS

    def knows(self, peer: str, now: float) -> bool:
        """Whether somebody has logged in from `peer` lately. What is dated into the future has not been."""
        seen = self._seen.get(source_of(peer))
        return seen is not None and 0 <= now - seen < LATELY_SECONDS

    def encode(self) -> bytes:
        """What is to be written down."""
        return msgspec.json.encode(self._seen)
