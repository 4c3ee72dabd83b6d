"""When each connection was used, in few numbers: what `idle what-if` replays. Pure; nothing that was typed is in it.

A connection is used in spans. A pause of up to `MERGED_SECONDS` does not end a span, so that a day's work of one
connection is some dozens of spans. Times are whole seconds since the connection was opened, which is also the beginning
of `seconds` in `connection.authenticated` and `connection.closed`.
"""

from collections.abc import Iterable

MERGED_SECONDS = 60.0
"""Pauses up to this are part of a span: shorter ones decide nothing under any setting that is of use, because the
shortest useful `idle.client_idle` is minutes. With a very short `idle.client_idle` (in tests), half of it takes the
place of this."""

SPANS = 16
"""How many finished spans of a connection are gathered before they are written down. In an editor a span comes about
every 17 minutes, so a crash or a lack of power loses half a day of one connection at most, and a line has 400 bytes."""

Span = tuple[int, int]


def merged_up_to(client_idle: float | None) -> float:
    """The longest pause within a span, in seconds, where clients count as unused after `client_idle` seconds."""
    return MERGED_SECONDS if client_idle is None else min(MERGED_SECONDS, client_idle / 2)


class UseRecord:
    """Gathers the spans of all connections. Times are Unix time, in seconds."""

    def __init__(self) -> None:
        self._opened: dict[str, float] = {}
        self._spans: dict[str, list[list[float]]] = {}

    def open(self, conn: str, opened: float) -> None:
        """Somebody has logged in on the connection, which was opened at `opened`."""
        self._opened[conn] = opened
        self._spans[conn] = []

    def use(self, conns: Iterable[str], since: float, until: float, pause: float) -> list[tuple[str, tuple[Span, ...]]]:
        """The connections were used between `since` and `until`; a pause of up to `pause` seconds ends no span.

        Returns what has to be written down now: a connection and its finished spans.
        """
        full = []
        for conn in conns:
            if conn not in self._spans:
                continue
            begun, ended = max(0.0, since - self._opened[conn]), max(0.0, until - self._opened[conn])
            spans = self._spans[conn]
            if spans and begun - spans[-1][1] <= pause:
                spans[-1][1] = max(spans[-1][1], ended)
                continue
            if len(spans) == SPANS:
                full.append((conn, _whole(spans)))
                spans.clear()
            spans.append([begun, ended])
        return full

    def close(self, conn: str) -> tuple[Span, ...]:
        """The connection has ended: returns the spans that have not been written down."""
        self._opened.pop(conn, None)
        return _whole(self._spans.pop(conn, []))

    def take(self) -> list[tuple[str, tuple[Span, ...]]]:
        """What has not been written down, of all connections: the log ends."""
        found = [(conn, _whole(spans)) for conn, spans in self._spans.items() if spans]
        for spans in self._spans.values():
            spans.clear()
        return found


def _whole(spans: Iterable[list[float]]) -> tuple[Span, ...]:
    return tuple((round(begun), round(ended)) for begun, ended in spans)
