"""monitor.arrivals.proxied: PROXY headers read from real sockets, and headers that never arrive."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack

import pytest

from pyssh_gateway.core.proxy_protocol import Accepted, Header, NothingSaid, ProxyError
from pyssh_gateway.monitor.arrivals.proxied import (
    HEADER_SECONDS,
    MAX_PROBE_BYTES,
    MAX_PROBES,
    MAX_WAITING,
    PROBE_SECONDS,
    Proxies,
    read_header,
)
from tests.support.proxy_headers import CLIENT, EDGE, LOCAL, UNIQUE_ID, binary, frame, line, tlv
from tests.support.waiting import PATIENCE

BANNER = b"SSH-2.0-OpenSSH_9.9\r\n"
SOON = 0.05

HEADERS = [
    ("v1", line()),
    ("any", line(("2001:db8::9", 1), ("::1", 65535))),
    ("v1", b"PROXY UNKNOWN\r\n"),
    ("v2", binary(checksum=True, tlvs=tlv(UNIQUE_ID, b"1F90"))),
    ("any", binary()),
    ("any", frame(command=LOCAL)),
]


class Connections:
    """TCP connections of this machine to itself: the proxy's end, and the accepted socket."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))

    def make(self) -> tuple[socket.socket, socket.socket]:
        """Make a connection."""
        proxy = self._stack.enter_context(socket.create_connection(self._listening.getsockname(), PATIENCE))
        proxy.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted, _ = self._listening.accept()
        return proxy, self._stack.enter_context(accepted)


@pytest.fixture
def connections() -> Iterator[Connections]:
    """Connections that are closed after the test."""
    with ExitStack() as stack:
        yield Connections(stack)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run `scenario` on its own loop, with a timeout."""

    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(main())


async def outcome(header: Awaitable[Header]) -> Header | ProxyError:
    """The header or the error, as a value."""
    try:
        return await header
    except ProxyError as error:
        return error


class Hearing(asyncio.Protocol):
    """Records the data that it receives."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        """Record the data."""
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        """Record the end."""
        self.is_over.set()


@pytest.mark.parametrize(("accepted", "header"), HEADERS)
def test_what_the_client_says_stays_in_the_socket(connections: Connections, accepted: Accepted, header: bytes) -> None:
    """Data after the header, in the same segment, stays in the socket for the process that gets it."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        proxy, sock = connections.make()
        proxy.sendall(header + BANNER)
        proxy.shutdown(socket.SHUT_WR)
        await read_header(sock, loop, accepted)
        _, hearing = await loop.connect_accepted_socket(Hearing, sock)
        await hearing.is_over.wait()
        assert hearing.heard == BANNER

    run(scenario)


@pytest.mark.parametrize(("accepted", "header"), HEADERS)
def test_a_header_may_come_byte_by_byte(connections: Connections, accepted: Accepted, header: bytes) -> None:
    """A header may be split anywhere by TCP: it is the same header, and the data after it stays in the socket."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        proxy, sock = connections.make()
        proxy.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read_header(sock, loop, accepted))
            for byte in header + BANNER:
                await loop.sock_sendall(proxy, bytes([byte]))
                await asyncio.sleep(0)  # let the reader run
        assert reading.result().source in {CLIENT, ("2001:db8::9", 1), None}
        proxy.close()
        _, hearing = await loop.connect_accepted_socket(Hearing, sock)
        await hearing.is_over.wait()
        assert hearing.heard == BANNER

    run(scenario)


def test_a_header_has_its_time(connections: Connections) -> None:
    """An incomplete header fails at the timeout, which is by default at least the 3 s of haproxy's specification."""

    async def scenario() -> None:
        for said in (b"", binary()[:-1], line()[:-1]):
            proxy, sock = connections.make()
            proxy.sendall(said)
            error = await outcome(read_header(sock, asyncio.get_running_loop(), "any", SOON))
            assert str(error) == "no PROXY header within 0.05 s"
            assert not isinstance(error, NothingSaid)

    run(scenario)
    assert HEADER_SECONDS >= 3


@pytest.mark.parametrize("linger", [struct.pack("ii", 0, 0), struct.pack("ii", 1, 0)], ids=["closed", "reset"])
@pytest.mark.parametrize("said", [b"", b"PROXY TCP4 203.0", binary()[:20]])
def test_a_peer_that_has_gone_is_told_from_one_that_breaks_off(
    connections: Connections, said: bytes, linger: bytes
) -> None:
    """A probe closes or resets without a byte, and is not logged; an incomplete header is."""

    async def scenario() -> None:
        proxy, sock = connections.make()
        proxy.sendall(said)
        proxy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        proxy.close()
        error = await outcome(read_header(sock, asyncio.get_running_loop(), "any"))
        assert isinstance(error, ProxyError)
        assert isinstance(error, NothingSaid) == (not said)

    run(scenario)


def proxies(
    seconds: float = HEADER_SECONDS, places: int = MAX_WAITING, probe_seconds: float = PROBE_SECONDS
) -> Proxies:
    """Proxies with values for tests."""
    return Proxies(
        ("127.0.0.0/8",),
        "any",
        asyncio.get_running_loop(),
        seconds=seconds,
        places=places,
        probe_seconds=probe_seconds,
    )


def test_only_listed_peers_are_trusted() -> None:
    """A header is only read from listed peers."""

    async def scenario() -> None:
        assert proxies().trusts("127.0.0.1")
        assert not proxies().trusts("192.0.2.1")

    run(scenario)


def test_those_that_say_nothing_delay_nobody(connections: Connections) -> None:
    """With 200 silent connections waiting, a header is read at once, before any of their timeouts."""

    async def scenario() -> None:
        known = proxies(0.5)
        async with asyncio.TaskGroup() as tasks:
            silent = [tasks.create_task(outcome(known.header(connections.make()[1]))) for _ in range(200)]
            await asyncio.sleep(0)  # so that all wait
            proxy, sock = connections.make()
            proxy.sendall(binary() + BANNER)
            assert await known.header(sock) == Header(2, source=CLIENT, destination=EDGE)
            assert not any(task.done() for task in silent)
        assert {str(task.result()) for task in silent} == {"no PROXY header within 0.5 s"}

    run(scenario)


def test_the_one_that_has_waited_longest_goes_when_there_are_too_many(connections: Connections) -> None:
    """However many connections are silent, one that sends its header gets in, and the number waiting is limited."""

    async def scenario() -> None:
        known = proxies(places=3)
        pairs = [connections.make() for _ in range(5)]
        async with asyncio.TaskGroup() as tasks:
            waiting = []
            for _, sock in pairs:
                waiting.append(tasks.create_task(outcome(known.header(sock))))
                await asyncio.sleep(0)
            await asyncio.wait(waiting[:2])
            assert not any(task.done() for task in waiting[2:])
            for proxy, _ in pairs[2:]:
                proxy.sendall(line())
        for task in waiting[:2]:
            assert "its place was needed" in str(task.result())
            assert not isinstance(task.result(), NothingSaid)
        assert [task.result() for task in waiting[2:]] == [Header(1, source=CLIENT, destination=EDGE)] * 3

    run(scenario)


def test_given_up_they_all_go_and_others_may_come(connections: Connections) -> None:
    """At a stop all waiting connections end, and silent ones are not logged; if it is called off, others may come."""

    async def scenario() -> None:
        known = proxies()
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(outcome(known.header(connections.make()[1]))) for _ in range(5)]
            await asyncio.sleep(0)
            known.give_up()
        assert all(isinstance(task.result(), NothingSaid) for task in waiting)
        proxy, sock = connections.make()
        proxy.sendall(line())
        assert await known.header(sock) == Header(1, source=CLIENT, destination=EDGE)

    run(scenario)


def test_a_wait_that_is_cancelled_leaves_its_place(connections: Connections) -> None:
    """A wait that is cancelled, as by the listener's end, frees its slot."""

    async def scenario() -> None:
        known = proxies(places=1)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(known.header(connections.make()[1]))
            await asyncio.sleep(0)
            waiting.cancel()
        assert waiting.cancelled()
        proxy, sock = connections.make()
        proxy.sendall(line())
        assert await known.header(sock) == Header(1, source=CLIENT, destination=EDGE)

    run(scenario)


async def heard(sock: socket.socket) -> bytes:
    """Everything that the other end sends until it closes or resets."""
    loop, data = asyncio.get_running_loop(), b""
    sock.setblocking(False)
    try:
        while more := await loop.sock_recv(sock, 65536):
            data += more
    except ConnectionError:
        pass
    return data


@pytest.mark.parametrize("said", [b"", BANNER, BANNER + bytes(2000)])
def test_a_probe_is_answered_and_let_go(connections: Connections, said: bytes) -> None:
    """A probe gets our identification and the end of the output at once, and when it closes, so do we."""

    async def scenario() -> None:
        known = proxies(probe_seconds=PATIENCE * 2)
        proxy, sock = connections.make()
        proxy.sendall(said)
        answering = asyncio.create_task(known.answer(sock, BANNER))
        assert await heard(proxy) == BANNER
        assert not answering.done()
        proxy.close()
        await answering
        assert sock.fileno() == -1

    run(scenario)


def test_a_probe_may_neither_stay_nor_say_much(connections: Connections) -> None:
    """A probe that stays too long or sends too much is closed."""

    async def scenario() -> None:
        _, hanging = connections.make()
        await proxies(probe_seconds=SOON).answer(hanging, BANNER)
        talking, sock = connections.make()
        talking.sendall(bytes(MAX_PROBE_BYTES))
        await proxies(probe_seconds=PATIENCE * 2).answer(sock, BANNER)
        assert (hanging.fileno(), sock.fileno()) == (-1, -1)

    run(scenario)


def test_probes_are_few_and_end_with_the_server(connections: Connections) -> None:
    """Above the limit the oldest probe is closed, which already has its answer; at a stop all are."""

    async def scenario() -> None:
        known = proxies(probe_seconds=PATIENCE * 2)
        pairs = [connections.make() for _ in range(MAX_PROBES + 2)]
        tasks = []
        for _, sock in pairs:
            tasks.append(asyncio.create_task(known.answer(sock, BANNER)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks[:2])
        assert not any(task.done() for task in tasks[2:])
        known.give_up()
        await asyncio.gather(*tasks)
        assert [await heard(proxy) for proxy, _ in pairs] == [BANNER] * len(pairs)

    run(scenario)


def test_a_probe_that_is_cancelled_is_closed(connections: Connections) -> None:
    """A probe that is cancelled, as by the listener's end, leaves no descriptor open."""

    async def scenario() -> None:
        _, sock = connections.make()
        answering = asyncio.create_task(proxies().answer(sock, BANNER))
        await asyncio.sleep(0)
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert sock.fileno() == -1

    run(scenario)
