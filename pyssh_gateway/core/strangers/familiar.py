"""Sources from which somebody has logged in lately. They get a place when there is none for strangers. Pure."""

import msgspec

from pyssh_gateway.core.limits import source_of

LATELY_SECONDS = 7 * 86400.0
"""How long a login counts: a person who comes back from a week's leave still counts as known. `keys.max_stale` is as
long."""

MAX_SOURCES = 1024
"""Remembered sources; the one with the oldest login is forgotten first."""

STORE_SECONDS = 3600.0
"""A stored login is not stored again for so long: another one from the same source adds nothing important."""


MAX_STATE_BYTES = 128 * 1024
"""The largest stored state: a source and a time take 70 bytes at most."""


class Familiar:
    """The sources of logins, and their times. `now` is Unix time, which stays valid after a restart or suspend.

    `state` is the output of an earlier `encode`; malformed data is ignored.
    """

    def __init__(self, state: bytes = b"") -> None:
        self._seen: dict[str, float] = {}
        try:
            seen = msgspec.json.decode(state, type=dict[str, float]) if state else {}
        except msgspec.DecodeError:
            return
        self._seen = dict(sorted(seen.items(), key=lambda each: each[1])[-MAX_SOURCES:])

    def logged_in(self, peer: str, now: float) -> bool:
        """Somebody has logged in from `peer`. Returns whether that should be stored."""
        source = source_of(peer)
        before = self._seen.pop(source, 0.0)
        self._seen[source] = now  # the last one comes last
        if len(self._seen) > MAX_SOURCES:
            del self._seen[next(iter(self._seen))]
        return not 0 <= now - before < STORE_SECONDS

    def knows(self, peer: str, now: float) -> bool:
        """Whether somebody has logged in from `peer` lately. A time in the future does not count."""
        seen = self._seen.get(source_of(peer))
        return seen is not None and 0 <= now - seen < LATELY_SECONDS

    def encode(self) -> bytes:
        """The state to store."""
        return msgspec.json.encode(self._seen)
