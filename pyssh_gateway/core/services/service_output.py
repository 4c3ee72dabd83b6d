"""What a service writes, as lines of bounded length at a bounded rate.

A log is for people to read: a service that repeats itself a thousand times a second says no more than with a hundred
lines of that, and must not fill the disk or keep the process that collects them from its work.
"""

MAX_LINE_BYTES = 1000
"""The rest of a longer line is cut off. dockerd's longest are about half of this; pages of JSON are for another log."""

LINES_A_PERIOD = 100
PERIOD_SECONDS = 1.0
"""More lines than this in one period are counted and not kept. A start or a stack trace fits."""

BYTES_A_PERIOD = 1024 * 1024
"""After so many bytes no more are taken in the same period: then the pipe is full and its writer waits, where looking
at everything that `yes` can write would take a whole processor."""

CUT = " [cut]"


class ServiceOutput:
    """Makes lines of the bytes that one run of a service writes. Times are on any clock that does not jump."""

    def __init__(self) -> None:
        self._partial = b""
        self._since = float("-inf")
        self._lines = 0
        self._bytes = 0
        self._dropped = 0

    def feed(self, data: bytes, now: float) -> list[str]:
        """The lines that `data` completes, as far as they are kept."""
        kept = self.tick(now)
        self._bytes += len(data)
        first, *others = data.split(b"\n")
        # A byte more than a line may have shows that it was longer.
        self._partial += first[: MAX_LINE_BYTES + 1 - len(self._partial)]
        for other in others:
            kept += self._line(self._partial)
            self._partial = other[: MAX_LINE_BYTES + 1]
        return kept

    def tick(self, now: float) -> list[str]:
        """Begin a new period if it is time; how many lines were dropped in the one before is a line."""
        if now - self._since < PERIOD_SECONDS:
            return []
        said = self._said()
        self._since, self._lines, self._bytes = now, 0, 0
        return said

    def end(self) -> list[str]:
        """What is left when everything has been read: a last line without its end, and what was dropped."""
        last, self._partial = self._line(self._partial), b""
        return last + self._said()

    @property
    def full(self) -> bool:
        """Whether no more should be read before `due`."""
        return self._bytes >= BYTES_A_PERIOD

    @property
    def due(self) -> float | None:
        """When `tick` has something to say or to change; None if it has not."""
        return self._since + PERIOD_SECONDS if self._dropped or self.full else None

    def _line(self, raw: bytes) -> list[str]:
        text = raw[:MAX_LINE_BYTES].rstrip()
        if not text:
            return []
        if self._lines >= LINES_A_PERIOD:
            self._dropped += 1
            return []
        self._lines += 1
        return [text.decode(errors="backslashreplace") + (CUT if len(raw) > MAX_LINE_BYTES else "")]

    def _said(self) -> list[str]:
        dropped, self._dropped = self._dropped, 0
        return [f"{dropped} lines dropped"] if dropped else []
