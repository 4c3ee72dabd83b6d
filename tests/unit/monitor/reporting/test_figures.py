"""monitor.reporting.figures: what is counted and read, and that a peer can't add series."""

import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pyssh_gateway import __version__
from pyssh_gateway.core.access.denials import Denial
from pyssh_gateway.core.idle.nobody import Tally
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    AuthAttempt,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionRefused,
    ForwardClosed,
    ForwardOpened,
    HoldStarted,
    Identity,
    InternalError,
    Record,
    SessionOpened,
)
from pyssh_gateway.keys.source_state import SourceStatus
from pyssh_gateway.monitor.clients import Clients
from pyssh_gateway.monitor.reporting.figures import PREFIX, Figures, exposition
from tests.support.places import ROOT

WHO = Identity("github:example", None, "SHA256:x")

Sample = tuple[str, frozenset[tuple[str, str]]]


class Log:
    """The log, which loses events."""

    def __init__(self) -> None:
        self.lost = {"file": 1, "stdout": 2}
        self.trouble: str | None = None
        self.waiting = 0


class Gateway:
    """The sources of the figures, at a time that the test sets."""

    def __init__(self, *, timeout: float | None = 60.0) -> None:
        self.now = 0.0
        self.sources: tuple[SourceStatus, ...] = ()
        self.clients: list[SimpleNamespace] = []
        self.strangers: list[SimpleNamespace] = []
        self.sessions: list[str] = []
        self.log = Log()
        self.idle = IdleTracker(IdlePolicy(timeout), Wake(0.0, Clocks(0.0, 0.0)), 0.0)
        self.figures = Figures(
            registry=cast(Clients, self),
            idle=self.idle,
            sources=lambda: self.sources,
            log=self.log,
            awake=lambda: self.now + 100,
            for_nobody=lambda: Tally(41, 360.0, 1.0, 2.0),
            now=lambda: self.now,
        )

    def happens(self, *events: AnyEvent) -> None:
        """Publish events."""
        for event in events:
            self.figures.observe(Record(1, 0.0, event))
            self.idle.observe(event, self.now)

    def connect(self, name: str, user: str = "", **more: object) -> None:
        """Add a client that is logging in, or with `user` one that is connected."""
        client = SimpleNamespace(**{"id": name, "user": user, "traffic": (10, 20), "sessions": {}} | more)
        (self.clients if user else self.strangers).append(client)
        self.sessions += client.sessions

    def read(self) -> dict[Sample, float]:
        """The values that Prometheus reads, by name and labels, after a round trip through its own parser."""
        return parsed(exposition(self.figures.families()))

    def value(self, name: str, **labels: str) -> float:
        """The value of one figure."""
        return self.read()[PREFIX + name, frozenset(labels.items())]


def parsed(text: bytes) -> dict[Sample, float]:
    """The samples in a text in Prometheus' format."""
    families = text_string_to_metric_families(text.decode())
    return {(sample.name, frozenset(sample.labels.items())): sample.value for one in families for sample in one.samples}


@pytest.fixture
def gateway() -> Gateway:
    """A gateway without any events."""
    return Gateway()


def attempt(
    result: Literal["accepted", "offered", "denied"], code: Denial | None = None, reason: str = ""
) -> AuthAttempt:
    """A login request."""
    return AuthAttempt(
        conn="c",
        peer="203.0.113.9",
        user="x",
        method="publickey",
        result=result,
        reason=reason,
        code="" if code is None else code.value,
    )


def closed(bytes_in: int, bytes_out: int) -> ConnectionClosed:
    """The end of a connection."""
    return ConnectionClosed(
        conn="c", peer="", user="", reason="", seconds=1.0, bytes_in=bytes_in, bytes_out=bytes_out, goodbye=True
    )


def authenticated(conn: str) -> ConnectionAuthenticated:
    """A login."""
    return ConnectionAuthenticated(
        conn=conn,
        peer="203.0.113.9",
        user="dev",
        fingerprint="",
        source="github:example",
        client="",
        cipher="",
        seconds=0.1,
        identity=WHO,
    )


def forward(kind: type[ForwardOpened] | type[ForwardClosed]) -> ForwardOpened | ForwardClosed:
    """The start or end of a forwarded connection."""
    if kind is ForwardOpened:
        return ForwardOpened(conn="c", user="dev", kind="direct-tcpip", target="db:5432")
    return ForwardClosed(
        conn="c", user="dev", kind="direct-tcpip", target="db:5432", bytes_in=1, bytes_out=1, seconds=1.0
    )


class TestFigures:
    """Counters and gauges."""

    def test_what_is_not_logged_is_counted(self, gateway: Gateway) -> None:
        """An event without a number is not in the log; a forward that it is about is counted all the same."""
        opened = ForwardOpened(conn="c", user="amos", kind="direct-tcpip", target="127.0.0.1:80")
        gateway.figures.observe(Record(0, 0.0, opened))
        assert gateway.value("events_over_share_total", user="amos") == 1
        assert gateway.value("forwards", kind="direct-tcpip") == 1

    def test_every_figure_is_described(self, gateway: Gateway) -> None:
        """docs/metrics.md lists every figure with its name and labels, and no others."""
        told = re.findall(
            r"^\| `pyssh_gateway_(\w+)` \| (.*?) \|", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE
        )
        described = {name: tuple(re.findall(r"`(\w+)`", labels)) for name, labels in told}
        assert described == {family.name: family.labels for family in gateway.figures.families()}

    def test_names_follow_the_rules(self, gateway: Gateway) -> None:
        """Only counters end in _total, as Prometheus' own checker requires."""
        for family in gateway.figures.families():
            assert family.name.endswith("_total") == (family.kind == "counter")
            assert re.fullmatch(r"[a-z_]+", family.name)

    def test_connections_and_sessions_are_counted_as_they_are(self, gateway: Gateway) -> None:
        """Connected clients, clients that are logging in, and sessions are counted separately."""
        gateway.connect("a", "dev", sessions={"a.1": object(), "a.2": object()})
        gateway.connect("b")
        gateway.connect("c")
        assert gateway.value("connections", state="authenticated") == 1
        assert gateway.value("connections", state="authenticating") == 2
        assert gateway.value("sessions") == 2

    def test_opened_sessions_are_counted_by_kind(self, gateway: Gateway) -> None:
        """Sessions are counted by kind, which tells a person's shell from a program's many commands."""
        for kind in ("shell", "exec", "exec"):
            opened: Any = {"kind": kind, "command": "", "tty": "", "term": "", "pid": 1}
            gateway.happens(SessionOpened(conn="c", session="c.1", user="dev", **opened))
        assert gateway.value("sessions_total", kind="exec") == 2
        assert gateway.value("sessions_total", kind="shell") == 1

    def test_attempts_are_counted_by_what_became_of_them(self, gateway: Gateway) -> None:
        """Attempts are counted by reason, so that a graph tells a colleague's expired key from a scanner's guesses."""
        gateway.happens(
            attempt("denied", Denial.UNKNOWN_ACCOUNT, "unknown account"),
            attempt("denied", Denial.UNKNOWN_ACCOUNT, "unknown account"),
            attempt("denied", Denial.EXPIRED, "the key expired 3d ago (expiry-time)"),
            attempt("offered"),
            attempt("accepted"),
            authenticated("c"),
        )
        assert gateway.value("auth_attempts_total", result="denied", reason="unknown-account") == 2
        assert gateway.value("auth_attempts_total", result="denied", reason="expired") == 1
        assert gateway.value("auth_attempts_total", result="accepted", reason="") == 1
        assert gateway.value("logins_total", user="dev", source="github:example") == 1

    def test_a_scanner_makes_no_series(self, gateway: Gateway) -> None:
        """No peer can add a series, whatever it sends and whatever its address is."""
        gateway.happens(
            attempt("denied", Denial.OTHER, "something about \x1b"), ConnectionRefused(peer="a", peer_port=1, reason="")
        )
        before = gateway.read().keys()
        for number in range(100):
            peer = f"203.0.113.{number}"
            gateway.happens(
                attempt("denied", Denial.OTHER, f"something about {number}"),
                ConnectionRefused(peer=peer, peer_port=number, reason=f"because of {number}"),
            )
        assert gateway.read().keys() == before
        assert gateway.value("auth_attempts_total", result="denied", reason="other") == 101
        assert gateway.value("connections_refused_total") == 101

    def test_bytes_never_go_back(self, gateway: Gateway) -> None:
        """The bytes of open connections count, and are not lost when these close."""
        gateway.connect("a", "dev")
        assert gateway.value("bytes_total", direction="in") == 10
        gateway.clients.clear()
        gateway.happens(closed(11, 22))
        assert gateway.value("bytes_total", direction="in") == 11
        assert gateway.value("bytes_total", direction="out") == 22

    def test_forwards_are_those_that_are_open(self, gateway: Gateway) -> None:
        """The gauge is the number of forwards that are open now."""
        gateway.happens(forward(ForwardOpened), forward(ForwardOpened), forward(ForwardClosed))
        assert gateway.value("forwards", kind="direct-tcpip") == 1

    def test_the_stop_and_what_is_in_its_way(self, gateway: Gateway) -> None:
        """The figures have the time until the stop and the reasons against it, as `pyssh-gateway why` shows them."""
        gateway.now = 20.0
        assert gateway.value("idle_stop_seconds") == 40
        assert gateway.value("awake_reasons", kind="boot") == 1
        gateway.happens(HoldStarted(hold="h", user="dev", seconds=100.0, reason="", pid=0))
        assert gateway.value("holds") == gateway.value("awake_reasons", kind="hold") == 1
        assert gateway.value("idle_stop_seconds") == 160
        gateway.happens(authenticated("c"))
        assert gateway.value("idle_stop_seconds") == float("inf")
        assert gateway.value("awake_seconds_total") == 120

    def test_wakes_for_nobody_are_figures_without_sources(self, gateway: Gateway) -> None:
        """An alarm can be set on wakes for nobody; they have no labels, because their sources are unbounded."""
        assert gateway.value("wakes_for_nobody") == 41
        assert gateway.value("awake_for_nobody_seconds") == 360

    def test_a_machine_that_never_stops_says_so(self) -> None:
        """With idle.timeout off, an alarm for a near stop stays silent."""
        assert Gateway(timeout=None).value("idle_stop_seconds") == float("inf")

    def test_the_age_of_keys_is_told_by_source(self, gateway: Gateway) -> None:
        """The age of keys allows an alarm for failing fetches; a source without an answer has none, and is failing."""
        gateway.sources = (
            SourceStatus("github:example", ("dev",), 3, 0, "fetched", 12.0, ""),
            SourceStatus("url:https://keys.example/a", ("dev",), 0, 0, "none", None, "no answer within 5 s"),
            SourceStatus("github:old", ("dev",), 1, 0, "last-good", 9e6, "", stale=True),
            SourceStatus("github:ahead", ("dev",), 1, 0, "last-good", 0.0, "", stale=True, ahead=9e6),
        )
        read = gateway.read()
        ages = {labels: value for (name, labels), value in read.items() if name == f"{PREFIX}key_age_seconds"}
        assert ages == {frozenset({("source", "github:example")}): 12, frozenset({("source", "github:old")}): 9e6}
        assert gateway.value("keys", source="github:example") == 3
        failing = {dict(labels)["source"]: value for (name, labels), value in read.items() if "failing" in name}
        assert failing == {"github:example": 0, "url:https://keys.example/a": 1, "github:old": 1, "github:ahead": 1}

    def test_events_and_lost_ones_are_counted(self, gateway: Gateway) -> None:
        """Internal errors and lost events are counted, so that an alarm can be set on them."""
        gateway.happens(InternalError(where="here", error=""), closed(1, 1), closed(1, 1))
        assert gateway.value("events_total", event="connection.closed") == 2
        assert gateway.value("events_total", event="internal.error") == 1
        assert gateway.value("events_dropped_total", output="stdout") == 2
        assert gateway.value("info", version=__version__) == 1

    def test_a_log_that_is_not_written_is_an_alarm(self, gateway: Gateway) -> None:
        """A full disk shows at the next scrape, and how much waits for it."""
        assert (gateway.value("audit_writable"), gateway.value("audit_waiting")) == (1, 0)
        gateway.log.trouble, gateway.log.waiting = "no room", 7
        assert (gateway.value("audit_writable"), gateway.value("audit_waiting")) == (0, 7)

    def test_the_library_is_not_imported_before_it_is_wanted(self) -> None:
        """The library is imported when figures are first asked for, so that it does not delay the server's start."""
        late = "print([name for name in sys.modules if 'prom' in name])"
        code = f"import sys; from pyssh_gateway.monitor import main; {late}"
        said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        assert said.stdout == "[]\n"
