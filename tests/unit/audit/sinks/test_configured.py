"""audit.sinks: which collectors there are."""

import time

from pyssh_gateway.audit.sinks.configured import Sinks
from pyssh_gateway.config.types import Audit
from tests.support.collectors import OtlpCollector, SyslogReceiver, at_port


def test_each_collector_gets_every_line() -> None:
    """One that hangs takes nothing from the other, and all of them together have one deadline at the end."""
    with SyslogReceiver(at_port(), reads=False) as hung, OtlpCollector() as collector:
        told: list[str] = []
        sinks = Sinks.of(Audit(syslog=f"tcp://127.0.0.1:{hung.port}", otlp=collector.url), told.append)
        line = b'{"event":"idle.tick","text":"' + b"x" * 60_000 + b'"}\n'
        while not sinks.lost["syslog"]:
            sinks.offer(line)
        begun = time.monotonic()
        sinks.close(1.0)
        assert time.monotonic() - begun < 10.0
        assert collector.records
        assert sinks.lost["syslog"] > sinks.lost["otlp"]
        assert any("syslog to" in text for text in told)


def test_without_collectors_nothing_happens() -> None:
    """The default: no queue, no thread."""
    sinks = Sinks.of(Audit(), print)
    sinks.offer(b"{}\n")
    sinks.close()
    assert sinks.lost == {}
