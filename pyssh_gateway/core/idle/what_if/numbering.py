"""The numbers of the log's lines, over all starts: which lines are missing, and which are an older server's.

A server that has lost its spawner disconnects its clients, and still writes when the next server has started. So that
one leaves it `OTHERS_NUMBERS`: its lines then come late, among those of the new server.
"""

OTHERS_NUMBERS = 100_000
"""How many numbers are left to an earlier server that still writes: more than it has events in the minutes that this
may take."""


class Numbering:
    """Follows the numbers in the order of the lines. `is_late`: the line is one of the older server.

    `missing` are the first and the last number that should be before the line, or None.
    """

    def __init__(self) -> None:
        self.last = 0
        self._others = 0, 0
        """The last number of the older server so far, and the first of the newer."""
        self.is_late = False
        self.missing: tuple[int, int] | None = None

    def see(self, seq: int, *, first: bool) -> bool:
        """Take note of a line's number; returns whether the numbers begin again, as those of old servers did.

        `first`: the line is the first one of a start.
        """
        before, self.missing = self.last, None
        self.is_late = self._others[0] < seq < self._others[1]
        if self.is_late:
            before, self._others = self._others[0], (seq, self._others[1])
        else:
            self.last = seq
            # A little less: the older server may have written meanwhile.
            if first and before and OTHERS_NUMBERS // 2 < seq - before <= OTHERS_NUMBERS + 1:
                self._others = before, seq
                return False
        if before and seq > before + 1:
            self.missing = before + 1, seq - 1
        return seq <= before
