"""audit.sinks: lines by syslog, to real receivers on real sockets."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyssh_gateway.audit.sinks import sink as module
from pyssh_gateway.audit.sinks.sink import MAX_LINES, Sink
from pyssh_gateway.audit.sinks.syslog import Syslog
from tests.support.collectors import SyslogReceiver, at_path, at_port
from tests.support.documented_events import corpus
from tests.support.syslog_message import parsed
from tests.support.tls import certified
from tests.support.waiting import until

KINDS = ("tcp", "tls", "unix", "unix stream")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)


class Place:
    """Where a receiver of that kind is; one after the other can be there."""

    def __init__(self, kind: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._kind = kind
        self._path = directory / "log"
        self._context: ssl.SSLContext | None = None
        if kind == "tls":
            self._context, trusted = certified(directory)
            monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        self._port = 0

    def receiver(self) -> SyslogReceiver:
        """The next one."""
        if self._kind.startswith("unix"):
            self._path.unlink(missing_ok=True)
            stream = self._kind == "unix stream"
            kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
            return SyslogReceiver(at_path(self._path, kind), lines=stream)
        receiver = SyslogReceiver(at_port(self._port), context=self._context)
        self._port = receiver.port
        return receiver

    @property
    def address(self) -> str:
        """As the configuration has it."""
        return f"unix:{self._path}" if self._kind.startswith("unix") else f"{self._kind}://127.0.0.1:{self._port}"


@contextmanager
def sending(address: str) -> Iterator[tuple[Sink, list[str]]]:
    """A sink, and what it complains about; it has ended afterwards."""
    told: list[str] = []
    sink = Sink(Syslog(address), told.append)
    yield sink, told
    sink.begin_to_close()
    sink.close(5.0)
    until(lambda: not any(thread.name == "audit-sink" for thread in threading.enumerate()), what="the thread's end")


def line(number: int, **more: Any) -> bytes:  # noqa: ANN401 - the value of any field
    """A line of the log."""
    fields = {"ts": "2026-01-02T03:04:05.678901Z", "seq": number, "event": "idle.tick"}
    return msgspec.json.encode(fields | more) + b"\n"


@pytest.mark.parametrize("kind", KINDS)
def test_all_lines_arrive_in_their_order(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every message follows RFC 5424's grammar, and its text is the line as it is in the log."""
    place = Place(kind, tmp_path, monkeypatch)
    events = [*corpus().values(), {"event": "log.dropped", "lines": 3}, {"event": "audit.späť 1", "ts": "\x07"}]
    lines = [msgspec.json.encode(event) + b"\n" for event in events]
    with place.receiver() as receiver, sending(place.address) as (sink, told):
        for text in lines:
            sink.offer(text)
        messages = receiver.wait_for(lambda got: len(got) == len(lines))
    assert [parsed(message).text.encode() + b"\n" for message in messages[:-1]] == lines[:-1]
    first = parsed(messages[0])
    assert (first.facility, first.app, first.id) == (10, "pyssh-gateway", "server.started")
    assert (first.time, first.data) == ("2026-01-02T03:04:05.678901Z", '[meta sequenceId="42"]')
    by_id = {parsed(message).id: parsed(message).severity for message in messages[:-1]}
    assert (by_id["internal.error"], by_id["connection.refused"], by_id["connection.authenticated"]) == (3, 4, 5)
    assert told == []
    assert sink.lost == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_receiver_that_is_started_anew(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the first line after a receiver's restart: its end is noticed before something is written to it."""
    place = Place(kind, tmp_path, monkeypatch)
    with place.receiver() as receiver:
        stack = sending(place.address)
        sink, _ = stack.__enter__()
        sink.offer(line(1))
        receiver.wait_for(lambda got: len(got) == 1)
    sink.offer(line(2))
    with place.receiver() as receiver:
        sink.offer(line(3))
        messages = receiver.wait_for(lambda got: len(got) == 2)
        stack.__exit__(None, None, None)
    assert [json.loads(parsed(message).text)["seq"] for message in messages] == [2, 3]
    assert sink.lost == 0


def test_a_receiver_that_is_gone_costs_lines_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines wait up to a bound; those that had no room are counted in a line, and nobody is told the same twice."""
    place = Place("tcp", tmp_path, monkeypatch)
    with place.receiver():
        pass
    with sending(place.address) as (sink, told):
        for number in range(1, MAX_LINES + 11):
            sink.offer(line(number))
        assert sink.lost == 10
        until(lambda: told, what="a complaint")
        with place.receiver() as receiver:
            receiver.wait_for(lambda got: len(got) == MAX_LINES)
            sink.offer(line(MAX_LINES + 11))
            messages = receiver.wait_for(lambda got: len(got) == MAX_LINES + 2)
    gap, last = (json.loads(parsed(message).text) for message in messages[-2:])
    assert (gap["event"], gap["lines"]) == ("log.dropped", 10)
    assert last["seq"] == MAX_LINES + 11
    assert told[0] == (
        f"audit log: syslog to {place.address}: Connection refused; lines wait, and are dropped when {MAX_LINES} do"
    )
    assert told[1:] == [f"audit log: syslog to {place.address}: 10 lines did not get there"]


def test_a_receiver_that_does_not_read(tmp_path: Path) -> None:
    """Protects the server from a receiver that accepts connections and hangs: `offer` and the end don't wait for it."""
    long = line(1, text="x" * 60_000)
    with SyslogReceiver(at_port(), reads=False) as receiver:
        told: list[str] = []
        sink = Sink(Syslog(f"tcp://127.0.0.1:{receiver.port}"), told.append)
        while not sink.lost:
            sink.offer(long)
        sink.begin_to_close()
        sink.close(0.0)
        assert "lines did not get there" in told[-1]
        until(lambda: receiver.connections == 1, what="a connection")
    until(lambda: not any(thread.name == "audit-sink" for thread in threading.enumerate()), what="the thread's end")


@pytest.mark.parametrize("wrong", ["issuer", "name"])
def test_a_certificate_that_can_t_be_trusted(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the log from whoever answers at the receiver's address: nothing is sent, and the reason is said once."""
    context, trusted = certified(tmp_path, "127.0.0.1" if wrong == "issuer" else "192.0.2.1")
    if wrong == "name":
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with SyslogReceiver(at_port(), context=context) as receiver:
        with sending(f"tls://127.0.0.1:{receiver.port}") as (sink, told):
            sink.offer(line(1))
            until(lambda: receiver.connections >= 3, what="further attempts")
        assert receiver.messages == []
    assert ("self-signed certificate" if wrong == "issuer" else "IP address mismatch") in told[0]
    assert told[1:] == [f"audit log: syslog to tls://127.0.0.1:{receiver.port}: 1 line did not get there"]
    assert sink.lost == 1


def test_what_waits_is_sent_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the last lines: the end interrupts a pause and tries once more, and gives up a receiver that is gone."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 3600.0)
    place = Place("tcp", tmp_path, monkeypatch)
    with place.receiver():
        pass
    with sending(place.address) as (sink, told):
        sink.offer(line(1))
        until(lambda: told, what="a failed attempt")
        receiver = place.receiver()
        with receiver:
            sink.begin_to_close()
            receiver.wait_for(lambda got: len(got) == 1)
            sink.close(5.0)
    assert sink.lost == 0
    with sending(place.address) as (sink, told):
        sink.offer(line(1))
        sink.offer(line(2))
    assert sink.lost == 2
    assert told[-1].endswith("2 lines did not get there")


def test_a_datagram_that_is_too_long_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local socket has a limit for a message; a line beyond it is counted, and the next ones are delivered."""
    place = Place("unix", tmp_path, monkeypatch)
    with place.receiver() as receiver, sending(place.address) as (sink, _):
        sink.offer(line(1, text="x" * 2_000_000))
        sink.offer(line(2))
        receiver.wait_for(lambda got: len(got) == 1)
        assert sink.lost == 1
