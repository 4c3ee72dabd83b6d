"""The output of a service, as lines of bounded length at a bounded rate.

A log is for people: of a thousand lines a second, a hundred tell as much. A service must not fill the disk, or keep the
process that collects its lines from other work.
"""

MAX_LINE_BYTES = 1000
"""The rest of a longer line is cut off. dockerd's longest lines are about half of this; pages of JSON belong
elsewhere."""

LINES_A_PERIOD = 100
PERIOD_SECONDS = 1.0
"""Lines of one period beyond this are only counted. A start or a stack trace fits."""

BYTES_A_PERIOD = 1024 * 1024
"""After so many bytes, reading stops until the next period. Then the pipe fills and its writer waits; reading
everything that `yes` can write would take a whole processor."""

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
        """The lines that `data` completes, without those that are dropped."""
        kept = self.tick(now)
        self._bytes += len(data)
        first, *others = data.split(b"\n")
        # One byte more than the limit is kept, to show that the line was longer.
        self._partial += first[: MAX_LINE_BYTES + 1 - len(self._partial)]
        for other in others:
            kept += self._line(self._partial)
            self._partial = other[: MAX_LINE_BYTES + 1]
        return kept

    def tick(self, now: float) -> list[str]:
        """Begin a new period if it is time. Returns a line with the number of lines dropped in the last one, if any."""
        if now - self._since < PERIOD_SECONDS:
            return []
        said = self._said()
        self._since, self._lines, self._bytes = now, 0, 0
        return said

    def end(self) -> list[str]:
        """The rest when everything has been read: a last line without a line feed, and the number of dropped lines."""
        last, self._partial = self._line(self._partial), b""
        return last + self._said()

    @property
    def full(self) -> bool:
        """Whether no more should be read before `due`."""
        return self._bytes >= BYTES_A_PERIOD

    @property
    def due(self) -> float | None:
        """When `tick` has to be called next; None: not needed."""
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
