"""The figures for Prometheus: those counted from events, and those read from the monitor at each scrape.

Label values come from the configuration or from this program, never from the network: otherwise a scanner could make as
many series as it likes. This module knows nothing of HTTP.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.core.idle.nobody import Tally
from pyssh_gateway.core.idle.tracker import IdleTracker, Kind
from pyssh_gateway.events import (
    AuthAttempt,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionRefused,
    ForwardClosed,
    ForwardOpened,
    Record,
    SessionOpened,
)
from pyssh_gateway.keys.source_state import SourceStatus
from pyssh_gateway.monitor.clients import Clients

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PREFIX = "pyssh_gateway_"

NEVER = float("inf")
"""The seconds until a stop that is not in sight. The figure is not left out, so that `< 60` is no alarm then, and a
missing figure can be one."""

Values = Mapping[tuple[str, ...], float]


class Family(msgspec.Struct, frozen=True):
    """A figure: its name, its help text, its labels, and a value for each combination of their values."""

    kind: Literal["gauge", "counter"]
    name: str
    about: str
    labels: tuple[str, ...]
    values: Values


class Log(Protocol):
    """What is asked of the log."""

    @property
    def lost(self) -> Mapping[str, int]:
        """How many events are missing, by output."""

    @property
    def trouble(self) -> str | None:
        """Why it can't be written; None if it can."""

    @property
    def waiting(self) -> int:
        """How many lines wait for it."""


class Figures:
    """Subscribed to the bus by `observe`. `sources` and `lost` give the state of the key sources and of the log.

    `awake` gives for how many seconds the machine has been awake, `for_nobody` what it was awake for nobody in the last
    days; `now` is the clock that the idle tracker has.
    """

    def __init__(
        self,
        *,
        registry: Clients,
        idle: IdleTracker,
        sources: Callable[[], tuple[SourceStatus, ...]],
        log: Log,
        awake: Callable[[], float],
        for_nobody: Callable[[], Tally],
        now: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._idle = idle
        self._sources = sources
        self._written = log
        self._awake = awake
        self._for_nobody = for_nobody
        self._now = now
        self._events: Counter[tuple[str, ...]] = Counter()
        self._attempts: Counter[tuple[str, ...]] = Counter()
        self._logins: Counter[tuple[str, ...]] = Counter()
        self._opened: Counter[tuple[str, ...]] = Counter()
        self._forwards: Counter[tuple[str, ...]] = Counter()
        self._unlogged: Counter[tuple[str, ...]] = Counter()
        self._refused = 0
        self._bytes_in = 0
        self._bytes_out = 0

    def observe(self, record: Record) -> None:
        """Count an event."""
        event = record.event
        self._events[(str(event.__struct_config__.tag),)] += 1
        if not record.seq:
            self._unlogged[(getattr(event, "user", ""),)] += 1
        match event:
            case AuthAttempt(result="denied", code=code):
                self._attempts["denied", code] += 1
            case AuthAttempt(result="accepted"):
                self._attempts["accepted", ""] += 1
            case ConnectionAuthenticated(user=user, source=source):
                self._logins[user, source] += 1
            case ConnectionRefused(count=count):
                self._refused += count
            case ConnectionClosed(bytes_in=bytes_in, bytes_out=bytes_out):
                self._bytes_in += bytes_in
                self._bytes_out += bytes_out
            case SessionOpened(kind=kind):
                self._opened[(kind,)] += 1
            case ForwardOpened(kind=kind):
                self._forwards[(kind,)] += 1
            case ForwardClosed(kind=kind):
                self._forwards[(kind,)] -= 1
            case _:
                pass

    def families(self) -> tuple[Family, ...]:
        """All figures, as they are now."""
        return (*self._people(), *self._machine(), *self._keys(), *self._log())

    def _people(self) -> Iterator[Family]:
        clients, strangers = self._registry.clients, self._registry.strangers
        states: Values = {("authenticated",): len(clients), ("authenticating",): len(strangers)}
        traffic = [client.traffic for client in clients]
        # Bytes of closed connections, and those of open connections so far.
        carried: Values = {
            ("in",): self._bytes_in + sum(came for came, _ in traffic),
            ("out",): self._bytes_out + sum(went for _, went in traffic),
        }
        yield Family("gauge", "connections", "Connections that are open.", ("state",), states)
        yield Family("gauge", "sessions", "Sessions that run.", (), {(): len(self._registry.sessions)})
        yield Family("counter", "sessions_total", "Sessions that were opened.", ("kind",), self._opened)
        yield Family("gauge", "forwards", "Forwarded connections that are open.", ("kind",), self._forwards)
        about = "Requests to log in, by what became of them."
        yield Family("counter", "auth_attempts_total", about, ("result", "reason"), self._attempts)
        yield Family("counter", "logins_total", "Logins, by account and source.", ("user", "source"), self._logins)
        yield Family("counter", "connections_refused_total", "Connections refused.", (), {(): self._refused})
        yield Family("counter", "bytes_total", "Bytes that connections carried.", ("direction",), carried)

    def _machine(self) -> Iterator[Family]:
        reasons = Counter(reason.kind for reason in self._idle.reasons(self._now()))
        kinds: Values = {(kind,): reasons[kind] for kind in get_args(Kind)}
        stops_in = self._idle.stops_in(self._now())
        yield Family("counter", "awake_seconds_total", "Seconds since the machine awoke.", (), {(): self._awake()})
        for_nobody = self._for_nobody()
        about = "How often the machine was awake for nobody in the last 7 days."
        yield Family("gauge", "wakes_for_nobody", about, (), {(): for_nobody.count})
        about = "For how many seconds the machine was awake for nobody in the last 7 days."
        yield Family("gauge", "awake_for_nobody_seconds", about, (), {(): for_nobody.seconds})
        about = "Seconds until the machine stops if nothing happens; +Inf: not in sight."
        yield Family("gauge", "idle_stop_seconds", about, (), {(): NEVER if stops_in is None else stops_in})
        yield Family("gauge", "awake_reasons", "Why the machine is up.", ("kind",), kinds)
        yield Family("gauge", "holds", "Holds on the machine.", (), {(): reasons["hold"]})

    def _keys(self) -> Iterator[Family]:
        sources = self._sources()
        ages: Values = {(source.spec,): source.age for source in sources if source.age is not None and not source.ahead}
        about = "Seconds since the source last confirmed its keys; missing: it never has, or nobody knows when."
        yield Family("gauge", "key_age_seconds", about, ("source",), ages)
        keys: Values = {(source.spec,): source.accepted for source in sources}
        yield Family("gauge", "keys", "Keys of the source that may log in.", ("source",), keys)
        failing: Values = {(source.spec,): bool(source.failure or source.stale) for source in sources}
        yield Family("gauge", "key_source_failing", "1: the last look at it failed.", ("source",), failing)

    def _log(self) -> Iterator[Family]:
        lost: Values = {(where,): count for where, count in self._written.lost.items()}
        log = self._written
        yield Family("gauge", "audit_writable", "0: the log can't be written.", (), {(): log.trouble is None})
        yield Family("gauge", "audit_waiting", "Events that wait for the log.", (), {(): log.waiting})
        yield Family("counter", "events_total", "Events, by name (docs/events.md).", ("event",), self._events)
        yield Family("counter", "events_dropped_total", "Events missing in the log.", ("output",), lost)
        about = "Events that are not logged, because the account had used its share."
        yield Family("counter", "events_over_share_total", about, ("user",), self._unlogged)
        yield Family("gauge", "info", "The version; always 1.", ("version",), {(__version__,): 1})


def exposition(families: tuple[Family, ...]) -> bytes:
    """The figures in Prometheus' text format, version 0.0.4."""
    from prometheus_client import CollectorRegistry, generate_latest  # late: takes 20 ms, and only scrapes need it
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    kinds = {"gauge": GaugeMetricFamily, "counter": CounterMetricFamily}

    class Collector:
        def collect(self) -> "Iterator[Metric]":
            for family in families:
                metric = kinds[family.kind](PREFIX + family.name, family.about, labels=family.labels)
                for values, value in family.values.items():
                    metric.add_metric(values, value)
                yield metric

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry)
