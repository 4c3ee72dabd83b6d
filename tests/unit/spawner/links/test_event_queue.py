"""Events for the monitor: in order, without blocking the spawner, and kept for the next monitor."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.services.service_output import MAX_LINE_BYTES, ServiceOutput
from pyssh_gateway.events import BootStep, ServiceEnded, ServiceStarted
from pyssh_gateway.events import ServiceOutput as Line
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.links.event_queue import EVENTS_A_MESSAGE, MANY, News

names = st.text(st.characters(codec="utf-8"), max_size=20)
events = st.one_of(
    st.builds(BootStep, step=names, outcome=names),
    st.builds(ServiceStarted, service=names, pid=st.integers(0, 2**22), restarts=st.integers(0, 100)),
    st.builds(ServiceEnded, service=names, pid=st.integers(0, 2**22), cause=names, again=st.none() | st.floats(0, 60)),
    st.builds(Line, service=names, line=names),
)


def received(control: socket.socket) -> list[protocol.SpawnerEvent]:
    """The events at the monitor's end, until no more are there."""
    control.setblocking(False)
    got: list[protocol.SpawnerEvent] = []
    while True:
        try:
            report = protocol.decode_report(protocol.receive(control)[0])
        except BlockingIOError:
            return got
        assert isinstance(report, protocol.News)
        got += report.events


@given(st.lists(events, max_size=3 * EVENTS_A_MESSAGE))
def test_everything_arrives_in_order(told: list[protocol.SpawnerEvent]) -> None:
    """Protects the log: every event arrives unchanged and once."""
    news = News()
    for event in told:
        news.add(event)
    ours, theirs = protocol.socket_pair()
    with ours, theirs:
        news.send(ours)
        assert received(theirs) == told
    assert not news.waiting


def test_a_gateway_that_does_not_read_holds_nobody_up() -> None:
    """Protects sessions from a busy monitor: events without room are kept, and sent when there is room."""
    news = News()
    lines = [f"{number} {'x' * 900}" for number in range(MANY)]
    for line in lines:
        news.add(Line(service="one", line=line))
    assert news.full
    ours, theirs = protocol.socket_pair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
        got: list[protocol.SpawnerEvent] = []
        rounds = 0
        while news.waiting:
            news.send(ours)
            got += received(theirs)
            rounds += 1
    assert rounds > 1
    assert [event.line for event in got if isinstance(event, Line)] == lines
    assert not news.full


def test_the_next_gateway_gets_what_one_has_not() -> None:
    """Protects the log of a boot during which the monitor crashed: the next one gets the events."""
    news = News()
    news.add(BootStep(step="one", outcome="ok"))
    ours, theirs = protocol.socket_pair()
    with ours:
        theirs.close()
        news.send(ours)
    assert news.waiting
    ours, theirs = protocol.socket_pair()
    with ours, theirs:
        news.send(ours)
        assert received(theirs) == [BootStep(step="one", outcome="ok")]


def test_the_longest_lines_fit_into_a_message() -> None:
    """Protects the spawner from a message that is too large to send: bytes that are not text grow fourfold."""
    (line,) = ServiceOutput().feed(b"\xff" * MAX_LINE_BYTES + b"\n", 0.0)
    worst = protocol.News((Line(service="s" * 32, line=line),) * EVENTS_A_MESSAGE)
    assert len(protocol.encode(worst)) < protocol.MAX_MESSAGE


def test_what_nobody_ever_takes_is_bounded() -> None:
    """Protects memory: the number of waiting events is limited."""
    news = News()
    for number in range(5 * MANY):
        news.add(BootStep(step=str(number), outcome="ok"))
    assert len(news) == 2 * MANY
