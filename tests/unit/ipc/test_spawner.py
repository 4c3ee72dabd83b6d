"""Messages between the spawner and its clients: only well-formed ones are accepted, and descriptors arrive."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.ipc.spawner import (
    MAX_DESCRIPTORS,
    MAX_MESSAGE,
    Exited,
    KeysOpened,
    Kill,
    ProtocolError,
    ReadKeys,
    Refused,
    Report,
    Request,
    Spawn,
    Spawned,
    StartPostauth,
)
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks

ids = st.integers(0, 2**63 - 1)
names = st.text(st.characters(codec="utf-8"), max_size=20)
terminals = st.builds(
    Terminal,
    names,
    *[st.integers(0, 2**32 - 1)] * 4,
    st.lists(st.tuples(st.integers(1, 159), st.integers(0, 2**32 - 1)), max_size=4).map(tuple),
)
plans = st.builds(
    LaunchPlan,
    user=names,
    executable=st.binary(max_size=20),
    argv=st.lists(st.binary(max_size=20), max_size=4).map(tuple),
    env=st.dictionaries(st.binary(max_size=10), st.binary(max_size=10), max_size=4),
    cwd=st.binary(max_size=20),
    terminal=st.none() | terminals,
    greet=st.booleans(),
)
accounts_requests = st.builds(Spawn, ids, plans)
monitors_requests = st.one_of(
    st.builds(StartPostauth, ids, names), st.builds(Kill, ids, ids), st.builds(ReadKeys, ids, names)
)
requests = accounts_requests | monitors_requests
DECODERS = (protocol.decode_monitor_request, protocol.decode_postauth_request)
reports = st.one_of(
    st.builds(Spawned, ids, st.integers(1, 2**22), names),
    st.builds(Refused, ids, names),
    st.builds(Exited, ids, st.none() | st.integers(0, 255), st.none() | st.integers(1, 64), st.booleans()),
    st.builds(KeysOpened, ids),
)

SPAWN = Spawn(
    1, LaunchPlan("amos", b"/bin/sh", (b"-sh",), {b"A": b"1"}, b"/", Terminal("xterm", 80, 24, 0, 0, ((53, 1),)), True)
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    one, other = protocol.socket_pair()
    with one, other:
        yield one, other


@given(accounts_requests, monitors_requests)
def test_requests_arrive_as_they_were_sent(accounts: Spawn, monitors: protocol.MonitorRequest) -> None:
    """Requests arrive unchanged, with any bytes in their commands, and each only from the process that may send it."""
    assert protocol.decode_postauth_request(protocol.encode(accounts)) == accounts
    assert protocol.decode_monitor_request(protocol.encode(monitors)) == monitors
    with pytest.raises(ProtocolError):
        protocol.decode_postauth_request(protocol.encode(monitors))
    with pytest.raises(ProtocolError):
        protocol.decode_monitor_request(protocol.encode(accounts))


@given(reports)
def test_reports_arrive_as_they_were_sent(report: Report) -> None:
    """Every report arrives unchanged."""
    assert protocol.decode_report(protocol.encode(report)) == report


@given(requests, reports)
def test_the_two_directions_have_nothing_in_common(request: Request, report: Report) -> None:
    """A report is not accepted as a request, nor a request as a report."""
    for decode in DECODERS:
        with pytest.raises(ProtocolError):
            decode(protocol.encode(report))
    with pytest.raises(ProtocolError):
        protocol.decode_report(protocol.encode(request))


@given(st.binary(max_size=200))
def test_garbage_is_no_message(packet: bytes) -> None:
    """A compromised process may send anything; the spawner refuses garbage, always with ProtocolError."""
    for decode in (*DECODERS, protocol.decode_report):
        try:
            decode(packet)
        except ProtocolError:
            continue
        pytest.fail(f"{packet!r} was taken for a message")


@given(st.data())
def test_damaged_messages_are_refused_or_harmless(data: st.DataObject) -> None:
    """A good message that was changed, cut or extended decodes to a valid message or raises ProtocolError only."""
    packet = bytearray(protocol.encode(data.draw(requests)))
    for _ in range(data.draw(st.integers(1, 3))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(packet[: data.draw(st.integers(1, len(packet)))]) + data.draw(st.binary(max_size=3))
    for decode in DECODERS:
        with suppress(ProtocolError):
            decode(damaged)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "spawn", "id": 1},
        {"type": "spawn", "id": "1", "plan": msgspec.to_builtins(SPAWN.plan)},
        {"type": "spawn", "id": 1, "plan": None},
        {"type": "kill", "id": 1, "process": "9"},
        {"type": "kill", "id": 1, "process": 9.5},
        {"type": "signal", "id": 1, "number": 9},
        {"type": "make-sockets", "id": 1, "user": "root"},
        {"type": "read-keys", "id": 1, "path": b"/etc/shadow"},
        {"type": "read-keys", "id": 1, "path": ["/etc/shadow"]},
        {"type": "reboot", "id": 1},
        {"id": 1},
        [],
        None,
        "spawn",
    ],
)
def test_shapes_that_are_wrong_are_refused(fields: object) -> None:
    """Missing and mistyped fields and unknown messages are refused."""
    for decode in DECODERS:
        with pytest.raises(ProtocolError, match="bad request"):
            decode(msgspec.msgpack.encode(fields))


def test_fields_that_nest_for_ever_are_refused() -> None:
    """Protects the spawner from a compromised process: deep nesting is refused, even in fields that are ignored."""
    deep = b"\x82\xa4type\xa5spawn\xa1x" + b"\x91" * 100_000 + b"\xc0"
    for decode in DECODERS:
        with pytest.raises(ProtocolError, match="bad request"):
            decode(deep)
    with pytest.raises(ProtocolError, match="bad report"):
        protocol.decode_report(deep.replace(b"\xa5spawn", b"\xa4done"))


def test_what_is_too_large_is_not_sent() -> None:
    """A command that is too large for the kernel anyway fails at its sender, and the connection stays."""
    plan = msgspec.structs.replace(SPAWN.plan, argv=(b"sh", b"-c", bytes(MAX_MESSAGE)))
    with pytest.raises(ProtocolError, match="over the limit"):
        protocol.encode(Spawn(1, plan))


def test_the_largest_message_fits_into_the_socket(ends: tuple[socket.socket, socket.socket]) -> None:
    """The largest message is sent in one packet without blocking, whatever buffer size the kernel grants."""
    one, other = ends
    one.setblocking(False)
    room = MAX_MESSAGE - len(protocol.encode(Spawn(1, msgspec.structs.replace(SPAWN.plan, cwd=bytes(70_000))))) + 70_000
    message = Spawn(1, msgspec.structs.replace(SPAWN.plan, cwd=bytes(room)))
    packet = protocol.encode(message)
    assert len(packet) == MAX_MESSAGE
    one.send(packet)
    received, descriptors = protocol.receive(other)
    assert (protocol.decode_postauth_request(received), descriptors) == (message, [])


def test_descriptors_arrive_open_and_close_on_exec(ends: tuple[socket.socket, socket.socket]) -> None:
    """Descriptors refer to the sender's files, and are close-on-exec, so that no child inherits them by accident."""
    one, other = ends
    reader, writer = os.pipe()
    socket.send_fds(one, [protocol.encode(KeysOpened(7))], [reader, writer])
    os.close(reader)
    packet, descriptors = protocol.receive(other)
    assert protocol.decode_report(packet) == KeysOpened(7)
    assert len(descriptors) == 2
    os.write(writer, b"through")
    assert os.read(descriptors[0], 10) == b"through"
    assert all(fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for descriptor in descriptors)
    os.close(writer)
    close_all(descriptors)


def test_messages_keep_their_bounds_and_order(ends: tuple[socket.socket, socket.socket]) -> None:
    """One message is one packet, and the order is kept, however many wait."""
    one, other = ends
    for number in range(20):
        one.send(protocol.encode(Kill(number, 15)))
    came = [protocol.decode_monitor_request(protocol.receive(other)[0]) for _ in range(20)]
    assert came == [Kill(number, 15) for number in range(20)]


def test_the_end_of_the_other_side_is_an_empty_packet(ends: tuple[socket.socket, socket.socket]) -> None:
    """The end of the connection is an empty packet, after the messages that were sent before it."""
    one, other = ends
    one.send(b"last")
    one.close()
    assert protocol.receive(other) == (b"last", [])
    assert protocol.receive(other) == (b"", [])


def test_a_cut_message_is_an_error_and_its_descriptors_are_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    """A message that is too long is an error; nothing of it is used, and its descriptors are closed."""
    one, other = ends
    reader, writer = os.pipe()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_MESSAGE)
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb"):
        try:
            socket.send_fds(one, [bytes(MAX_MESSAGE + 1)], [reader, writer])
        except OSError:
            pytest.skip("this kernel sends no packets of that size")
        with leaks.nothing_left_open(), pytest.raises(ProtocolError, match="cut off"):
            protocol.receive(other)


def test_more_descriptors_than_a_message_has_are_refused(ends: tuple[socket.socket, socket.socket]) -> None:
    """A hundred descriptors in one message don't fill the receiver's table."""
    one, other = ends
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), os.fdopen(writer, "wb"), leaks.nothing_left_open():
        socket.send_fds(one, [b"x"], [reader] * 100)
        try:
            _, descriptors = protocol.receive(other)
        except ProtocolError:
            descriptors = []
        assert len(descriptors) <= MAX_DESCRIPTORS + 1  # the kernel rounds the space for them up
        close_all(descriptors)
