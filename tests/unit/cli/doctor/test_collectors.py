"""cli.doctor.collectors: whether the collectors can be reached."""

from pathlib import Path

from pyssh_gateway.cli.doctor.collectors import look_at_collectors
from pyssh_gateway.cli.doctor.finding import Level
from pyssh_gateway.config.types import Audit, Config
from pyssh_gateway.config.values import Secret
from tests.support.collectors import OtlpCollector, SyslogReceiver, at_path, at_port


def test_collectors_that_are_there(tmp_path: Path) -> None:
    """Each is named with its address, without a token; nothing is sent."""
    with SyslogReceiver(at_path(tmp_path / "log")) as receiver, OtlpCollector() as collector:
        audit = Audit(syslog=f"unix:{tmp_path}/log", otlp=collector.url, otlp_headers=(Secret("token=sesame"),))
        found = list(look_at_collectors(Config(audit=audit)))
        assert receiver.messages == []
        assert collector.requests == []
    assert [(finding.level, finding.text) for finding in found] == [
        (Level.OK, f"events are sent by syslog to unix:{tmp_path}/log, which can be reached"),
        (Level.OK, f"events are sent by OTLP to {collector.url}, which can be reached"),
    ]


def test_collectors_that_are_gone(tmp_path: Path) -> None:
    """That keeps nobody out, so it is a warning; without collectors there is nothing to say."""
    with SyslogReceiver(at_port()) as receiver:
        pass
    audit = Audit(syslog=f"tcp://127.0.0.1:{receiver.port}", otlp="https://host.invalid:4318")
    syslog, otlp = look_at_collectors(Config(audit=audit))
    assert (syslog.level, otlp.level) == (Level.WARNING, Level.WARNING)
    assert syslog.text.endswith("can't be reached: Connection refused")
    assert otlp.text.startswith("OTLP to https://host.invalid:4318 can't be reached: ")
    assert list(look_at_collectors(Config())) == []
