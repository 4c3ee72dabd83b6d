"""audit.sinks: lines as OpenTelemetry logs, to a real HTTP server."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from pyssh_gateway import __version__
from pyssh_gateway.audit.sinks import otlp, sink
from pyssh_gateway.audit.sinks.sink import Sink
from pyssh_gateway.core.timestamps import timestamp
from tests.support.collectors import OtlpCollector
from tests.support.documented_events import corpus
from tests.support.waiting import until

SECRET = "Bearer sesame"
SIZES = (300_000, 300_000, 1_000_000, 300_000, 100, 300_000)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send and try again soon."""
    monkeypatch.setattr(sink, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(otlp, "GATHERING_SECONDS", 0.01)


@contextmanager
def sending(url: str, *headers: str) -> Iterator[tuple[Sink, list[str]]]:
    """A sink, and what it complains about; it has ended afterwards."""
    told: list[str] = []
    made = Sink(otlp.Otlp(url, headers), told.append)
    yield made, told
    made.begin_to_close()
    made.close(5.0)
    until(lambda: not any(thread.name == "audit-sink" for thread in threading.enumerate()), what="the thread's end")


def line(number: int) -> bytes:
    """A line of the log."""
    fields = {"ts": timestamp(1_767_323_045.678901), "seq": number, "event": "idle.tick", "message": "später"}
    return msgspec.json.encode(fields) + b"\n"


# What protobuf's JSON allows for the messages that we send (opentelemetry/proto/logs/v1/logs.proto and what it imports,
# 1.7.0): names are in lowerCamelCase, 64-bit integers are texts, and there is nothing else.
VALUE = {"stringValue": str, "intValue": "int64", "boolValue": bool, "doubleValue": float}
ATTRIBUTE: dict[str, Any] = {"key": str, "value": VALUE}
RECORD: dict[str, Any] = {
    "timeUnixNano": "int64",
    "observedTimeUnixNano": "int64",
    "severityNumber": int,
    "severityText": str,
    "eventName": str,
    "body": VALUE,
    "attributes": [ATTRIBUTE],
}
SCOPE = {"scope": {"name": str, "version": str}, "logRecords": [RECORD]}
REQUEST = {"resourceLogs": [{"resource": {"attributes": [ATTRIBUTE]}, "scopeLogs": [SCOPE]}]}


def check(value: Any, shape: Any, path: str = "") -> None:  # noqa: ANN401 - JSON
    """`value` has that shape."""
    if isinstance(shape, dict):
        assert isinstance(value, dict), path
        assert set(value) <= set(shape), path
        for name, below in value.items():
            check(below, shape[name], f"{path}.{name}")
    elif isinstance(shape, list):
        assert isinstance(value, list), path
        for below in value:
            check(below, shape[0], f"{path}[]")
    elif shape == "int64":
        assert isinstance(value, str), path
        assert 0 <= int(value) < 2**63, path
    else:
        assert type(value) is shape, path


def test_all_lines_arrive_as_log_records() -> None:
    """The body is the line; time, severity, name and some attributes are set; each request has the protocol's shape."""
    lines = [msgspec.json.encode(event) for event in corpus().values()]
    with OtlpCollector() as collector, sending(f"{collector.url}/base/", f"Authorization={SECRET}") as (made, told):
        for text in lines:
            made.offer(text + b"\n")
        records = collector.wait_for(lambda got: len(got) == len(lines))
    for path, headers, body in collector.requests:
        check(json.loads(body), REQUEST)
        assert path == "/base/v1/logs"
        assert headers["Content-Type"] == "application/json"
        assert headers["Authorization"] == SECRET
    assert [record["body"]["stringValue"].encode() for record in records] == lines
    by_name = {record["eventName"]: record for record in records}
    login = by_name["connection.authenticated"]
    assert login["timeUnixNano"] == "1767323045678901000"
    assert (login["severityNumber"], by_name["internal.error"]["severityText"]) == (10, "ERROR")
    attributes = {each["key"]: each["value"] for each in login["attributes"]}
    assert attributes["user.name"] == {"stringValue": "amos"}
    assert attributes["pyssh.person"] == {"stringValue": "github:example"}
    assert attributes["pyssh.seq"] == {"intValue": "42"}
    resource = json.loads(collector.requests[0][2])["resourceLogs"][0]["resource"]
    assert {"key": "service.version", "value": {"stringValue": __version__}} in resource["attributes"]
    assert told == []


def test_a_request_has_a_bound() -> None:
    """Protects lines from a collector's limit for requests: long ones go in several, a very long one goes alone."""
    long = [msgspec.json.encode({"event": "x", "seq": n, "text": "y" * size}) for n, size in enumerate(SIZES, 1)]
    with OtlpCollector() as collector, sending(collector.url) as (made, _):
        for text in long:
            made.offer(text + b"\n")
        records = collector.wait_for(lambda got: len(got) == len(long))
    assert [record["body"]["stringValue"].encode() for record in records] == long
    bodies = [len(body) for _, _, body in collector.requests]
    assert max(bodies) < 1_100_000
    assert sum(body > 1_000_000 for body in bodies) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_collector_that_is_busy_gets_the_lines_again(status: int) -> None:
    """Protects lines from a moment in which the collector has no room, and the log from the token in its messages."""
    busy = (status, {"Retry-After": "0"}, b"later")
    collector = OtlpCollector(busy, busy, (200, {}, b"{}"))
    with collector, sending(collector.url, f"x-token={SECRET}") as (made, told):
        made.offer(line(1))
        records = collector.wait_for(lambda got: len(got) == 1)
    assert json.loads(records[0]["body"]["stringValue"])["seq"] == 1
    assert made.lost == 0
    assert len(told) == 1
    assert f"OTLP to {collector.url}: it answers {status}" in told[0]
    assert SECRET not in told[0]


def test_lines_that_are_refused_are_not_sent_again() -> None:
    """An answer such as 400 is final; so is a partial success, for the records that it counts."""
    partial = json.dumps({"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "too old"}}).encode()
    with OtlpCollector((400, {}, b"no"), (200, {}, partial), (200, {}, b"\xff")) as collector:
        with sending(collector.url) as (made, told):
            for number in range(3):
                made.offer(line(number))
                until(lambda: len(collector.requests) == number + 1, what="a request")  # noqa: B023 - called at once
        assert len(collector.records) == 2
    assert made.lost == 2
    assert "it answers 400" in told[0]


def test_a_connection_that_the_collector_has_closed() -> None:
    """One connection serves many requests; when the collector has closed it, the next request is sent on a new one."""
    with OtlpCollector() as collector, sending(collector.url) as (made, told):
        for number in range(1, 4):
            made.offer(line(number))
            collector.wait_for(lambda got: len(got) == number)  # noqa: B023 - called at once
            if number == 2:
                assert collector.connections == 1
                collector.hang_up()
        assert collector.connections == 2
    assert told == []
    assert made.lost == 0
