"""audit.reading.choosing: which lines are wanted."""

import ipaddress
from pathlib import Path

import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.reading.choosing import Choice, Chosen, first_to_last, newest
from tests.support.made_logs import write_log
from tests.support.written_log import MONDAY, WrittenLog, identity


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A start, two connections, something refused; in three files."""
    log = WrittenLog()
    log.start(0)
    log.come(10, "c1", "amos")
    log.terminal(11, "c1")
    log.come(20, "c2", "example", peer="198.51.100.7")
    log.write(21, ev.RequestDenied(conn="c2", user="dev", request="tun", reason="not served", identity=identity("x")))
    log.go(30, "c2")
    log.stop(40)
    return write_log(tmp_path, log.lines, cuts=[3, 6])


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (Chosen(events=("session", "server.stopped")), ["session.opened", "server.stopped"]),
        (Chosen(events=("serv",)), []),
        (Chosen(since=MONDAY + 30), ["connection.closed", "server.stopping", "server.stopped"]),
        (Chosen(until=MONDAY), ["server.started"]),
        (Chosen(person="file:amos"), ["connection.authenticated"]),
        (Chosen(person="amos"), ["connection.authenticated"]),
        (Chosen(person="SHA256:example"), ["connection.authenticated"]),
        (Chosen(conn="c1.1"), ["session.opened"]),
        (Chosen(conn="c2", user="dev", denied=True), ["request.denied"]),
        (
            Chosen(network=ipaddress.ip_network("198.51.100.0/24")),
            ["connection.opened", "connection.authenticated"],
        ),
    ],
)
def test_only_what_was_asked_for(log: Path, chosen: Chosen, names: list[str]) -> None:
    """In the order of the log, and the same from its end."""
    choice = Choice(chosen)
    assert [event.fields["event"] for event in first_to_last(log, choice, chosen.since)] == names
    for count in (1, 2, 100):
        last = newest(log, Choice(chosen), count, chosen.since)
        assert [event.fields["event"] for event in last] == names[-count:]
    assert choice.damaged == 0


def test_damage_is_counted(tmp_path: Path) -> None:
    """Lines that are no events are left out."""
    log = WrittenLog()
    log.start(0)
    for line in (b"\x1b[31m\n", b"[1]\n", b'{"event":1}\n', b'{"event":"x","ts":"yesterday"}\n', b"\xff\n"):
        log.lines.append(line)
    choice = Choice(Chosen())
    assert len(list(first_to_last(write_log(tmp_path, log.lines), choice))) == 1
    assert choice.damaged == 5
