"""The log on its way to collectors, from a real server: all of it arrives, and a receiver that fails stops nobody."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import jsonschema
import pytest

from tests.clients.test_metrics import UnixConnection, scrape, value
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.collectors import OtlpCollector, SyslogReceiver, at_path, at_port
from tests.support.event_schema import schema
from tests.support.syslog_message import parsed
from tests.support.tls import certified
from tests.support.waiting import until
from tests.unit.audit.mapping.test_ecs import check_document
from tests.unit.audit.mapping.test_ocsf import check_event

SECRET = "Bearer sesame"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory into which the server's own account may look."""
    with TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.parametrize("local", [False, True])
def test_every_line_arrives(make_server: MakeServer, user_key: KeyPair, open_directory: Path, local: bool) -> None:
    """Syslog (TLS or the local socket) and OTLP get what the file has, also the last line; nobody sees the token."""
    context, trusted = certified(open_directory)
    trusted.chmod(0o644)
    listening = at_path(open_directory / "log") if local else at_port()
    receiver = SyslogReceiver(listening, context=None if local else context)
    with receiver, OtlpCollector() as collector:
        address = f"unix:{open_directory}/log" if local else f"tls://127.0.0.1:{receiver.port}"
        audit = {"syslog": address, "otlp": collector.url, "otlp_headers": [f"authorization={SECRET}"]}
        server = make_server({"audit": audit}, environ={"SSL_CERT_FILE": str(trusted)})
        client = Client(server, user_key.private)
        assert client.run("true").status == 0
        assert client.run("true", user="nobody-of-that-name").status == 255
        assert server.stop() == 0
        lines = (server.audit_dir / "events.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1])["event"] == "server.stopped"
        signed = [line.decode().rstrip() for line in server.checkpoints]
        everything = len(lines) + len(signed)
        messages = receiver.wait_for(lambda got: len(got) >= everything)
        records = collector.wait_for(lambda got: len(got) >= everything)
    validator = jsonschema.Draft202012Validator(schema(strict=True))
    for line in lines:
        validator.validate(json.loads(line))
        check_document(json.loads(line))
        check_event(json.loads(line))
    for sent in ([parsed(message).text for message in messages], [record["body"]["stringValue"] for record in records]):
        assert [line for line in sent if line not in signed] == lines
        assert [line for line in sent if line in signed] == signed != []
    assert {headers["authorization"] for _, headers, _ in collector.requests} == {SECRET}
    assert SECRET not in "".join(lines) + server.stderr
    assert "audit log" not in server.stderr


def test_receivers_that_fail_hold_nobody_up(make_server: MakeServer, user_key: KeyPair) -> None:
    """One receiver accepts and never reads, the other one is gone: people log in, and the file is complete."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        gone = f"http://127.0.0.1:{reserved.getsockname()[1]}"
    with SyslogReceiver(at_port(), reads=False) as receiver:
        server = make_server({"audit": {"syslog": f"tcp://127.0.0.1:{receiver.port}", "otlp": gone}})
        client = Client(server, user_key.private)
        for _ in range(3):
            assert client.run("true").status == 0
        assert receiver.connections == 1
        assert server.stop() == 0
        lines = (server.audit_dir / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
    assert events[-1]["event"] == "server.stopped"
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert f"OTLP to {gone}: Connection refused" in server.stderr
    assert "lines did not get there" in server.stderr


def test_lost_lines_are_in_the_figures(make_server: MakeServer, open_directory: Path) -> None:
    """Protects the alarm on holes: what a collector refuses for good counts as missing there, and nowhere else."""
    place = open_directory / "metrics.sock"
    with OtlpCollector((400, {}, b"no")) as collector:
        server = make_server({"audit": {"otlp": collector.url}, "metrics": {"listen": str(place)}})
        until(lambda: value(scrape(UnixConnection(place)), "events_dropped_total", output="otlp") > 0, what="a figure")
        assert value(scrape(UnixConnection(place)), "events_dropped_total", output="file") == 0
        assert server.stop() == 0
    assert f"audit log: OTLP to {collector.url}: it answers 400 'Bad Request'; lines are lost" in server.stderr
