"""Behind a proxy: whose headers are trusted, to which client limits apply, and the cost of silence and probes."""

import pwd
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from pyssh_gateway.monitor.arrivals.waiting_room import MAX_PROCESSES
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.proxy_headers import CLIENT, EDGE, LOCAL, UNIQUE_ID, TcpProxy, binary, frame, line, tlv
from tests.support.server import EventFields, Server
from tests.support.waiting import AT_ONCE
from tests.wire.plain import PlainPeer
from tests.wire.test_admission import PER_SOURCE

PROXY = "127.0.0.2"
ELSEWHERE = "127.0.0.9"
LISTEN = {"proxy_protocol": "any", "trusted_proxies": ["127.0.0.0/29", "::1"]}
BANNER = b"SSH-2.0-test\r\n"
HEADER_SECONDS = 3.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair) -> Iterator[Server]:
    """A server behind proxies, to which one login has been made."""
    directory = tmp_path_factory.mktemp("server")
    keys = [f"file:{user_key.public}"]
    with (
        Server(directory, login=account.pw_name, keys=keys, settings={"listen": LISTEN}) as running,
        TcpProxy(running.port, lambda *_: line()) as proxy,
    ):
        assert Client(running, user_key.private).run("true", *proxy.options).status == 0
        running.wait_for("connection.closed")
        yield running


def brought(server: Server, header: bytes, *, proxy: str = PROXY) -> PlainPeer:
    """A connection that `proxy` makes for a client, whose first bytes follow the header at once."""
    peer = PlainPeer(server.port, proxy)
    peer.send(header + BANNER)
    return peer


def opened(server: Server, header: bytes, **fields: object) -> EventFields:
    """The log's event of a connection that is served and has received the server's identification."""
    mark = server.mark()
    with brought(server, header) as peer:
        assert peer.read_line().startswith(b"SSH-2.0-")
    server.wait_for("connection.closed", since=mark)
    return server.wait_for("connection.opened", since=mark)


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (line(), {"peer": CLIENT[0], "peer_port": CLIENT[1], "proxy_id": ""}),
        (binary(), {"peer": CLIENT[0], "peer_port": CLIENT[1], "proxy_id": ""}),
        (
            binary(("2001:db8::9", 1), ("::1", 22), tlvs=tlv(UNIQUE_ID, b"1F90\xff\x1b"), checksum=True),
            {"peer": "2001:db8::9", "peer_port": 1, "proxy_id": "1F90\\xff\\x1b"},
        ),
        (line(("2001:db8::9", 1), EDGE), {"peer": "2001:db8::9", "peer_port": 1}),
        (line(CLIENT, ("2001:db8::2", 22)), {"peer": CLIENT[0], "peer_port": CLIENT[1]}),
        (b"PROXY UNKNOWN\r\n", {"peer": PROXY}),
        (frame(), {"peer": PROXY}),
    ],
)
def test_the_client_is_who_the_proxy_says(server: Server, header: bytes, fields: EventFields) -> None:
    """The log has the client's address beside the proxy's; if the header has none, it has only the proxy's."""
    event = opened(server, header)
    assert {name: event[name] for name in fields} == fields
    assert event["proxy"] == PROXY


@pytest.mark.parametrize("header", [line(), binary(), frame(command=LOCAL), b""])
def test_from_elsewhere_nobody_gets_in(server: Server, header: bytes) -> None:
    """A header from a peer that is not a trusted proxy is not read, and such a peer can't log in without one either."""
    mark = server.mark()
    with brought(server, header, proxy=ELSEWHERE) as peer:
        assert not peer.read_line()
    refused = server.wait_for("connection.refused", since=mark)
    assert refused["peer"] == ELSEWHERE
    assert "listen.trusted_proxies" in refused["reason"]
    assert not server.find("connection.opened", mark)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (BANNER, "an SSH client without a PROXY header"),
        (line().replace(b"9 ", b"999 "), "a malformed PROXY line"),
        (binary(tlvs=b"\5"), "a TLV that is cut off"),
        (b"GET / HTTP/1.1\r\n", 'no PROXY header, but "GET / HTTP/1.1'),
    ],
)
def test_a_proxy_has_to_say_whom_it_brings(server: Server, said: bytes, reason: str) -> None:
    """Without a valid header no connection is served, and the log says what the proxy has sent."""
    mark = server.mark()
    with PlainPeer(server.port, PROXY) as peer:
        peer.send(said)
        assert not peer.read_line()
    refused = server.wait_for("connection.refused", since=mark)
    assert refused["peer"] == PROXY
    assert reason in refused["reason"]


def test_a_version_that_was_not_agreed_on_is_refused(make_server: MakeServer) -> None:
    """`v2` is not `any`: a proxy that sends another version is misconfigured, and the log says so."""
    server = make_server({"listen": LISTEN | {"proxy_protocol": "v2"}})
    with brought(server, line()) as peer:
        assert not peer.read_line()
    assert "version 1, and only v2" in server.wait_for("connection.refused")["reason"]
    opened(server, binary())


def test_a_probe_leaves_no_line(server: Server) -> None:
    """A health check that connects and closes is neither use nor attack; the next client is served as usual."""
    mark = server.mark()
    for _ in range(20):
        PlainPeer(server.port, PROXY).socket.close()
    opened(server, binary())
    assert [event["event"] for event in server.events[mark:]] == ["connection.opened", "connection.closed"]


def test_a_health_check_reads_the_servers_line_and_leaves_none(server: Server) -> None:
    """LOCAL: any number of health checks are answered as clients are, but take no slot and are not logged."""
    mark = server.mark()
    with brought(server, binary()) as peer:
        greeting = peer.read_line()
    server.wait_for("connection.closed", since=mark)
    mark = server.mark()
    with ExitStack() as stack:
        probes = [stack.enter_context(brought(server, frame(command=LOCAL))) for _ in range(2 * PER_SOURCE)]
        silent = stack.enter_context(PlainPeer(server.port, PROXY))
        silent.send(frame(b"anything", command=LOCAL))
        for probe in (*probes, silent):
            assert probe.read_line() == greeting
            assert not probe.read_line()
        opened(server, frame())
    assert [event["event"] for event in server.events[mark:]] == ["connection.opened", "connection.closed"]


def test_a_health_check_wakes_nobody(make_server: MakeServer) -> None:
    """LOCAL: the first real client is named as having woken the machine; health checks don't keep it up either."""
    server = make_server({"listen": LISTEN, "idle": {"timeout": "3s"}})
    with brought(server, frame(command=LOCAL)) as probe:
        assert probe.read_line().startswith(b"SSH-2.0-")
    opened(server, binary())
    with suppress(ConnectionError):  # the server has stopped
        while not server.find("server.stopping"):
            with brought(server, frame(command=LOCAL)) as probe:
                assert probe.is_closed()
    assert server.wait() == 0
    assert server.wait_for("server.stopping")["detail"] == f"woken by {CLIENT[0]}, no login"
    assert len(server.find("connection.opened")) == 1
    assert not server.find("connection.refused")


def test_places_are_the_clients_and_not_the_proxys(server: Server) -> None:
    """A source that has all its slots waits for its turn; others behind the same proxy do not wait."""
    mark = server.mark()
    with ExitStack() as stack:
        held = [stack.enter_context(brought(server, binary(("198.51.100.7", n), EDGE))) for n in range(PER_SOURCE)]
        assert all(peer.read_line() for peer in held)
        waiting = stack.enter_context(brought(server, binary(("198.51.100.7", 99), EDGE)))
        others = MAX_PROCESSES - PER_SOURCE  # with more, the source would have to share its processes with them
        for number in range(others):
            other = stack.enter_context(brought(server, binary((f"192.0.2.{number}", 1), EDGE)))
            assert other.read_line()
        assert len(server.find("connection.opened", mark, peer="198.51.100.7")) == PER_SOURCE
        held[0].socket.close()
        assert waiting.read_line()
    server.wait_for("connection.closed", since=mark, count=PER_SOURCE + others + 1)


def test_those_that_say_nothing_delay_nobody(make_server: MakeServer) -> None:
    """200 connections from a proxy without a header take no slots; each is closed after 3 seconds."""
    server = make_server({"listen": LISTEN})
    mark = server.mark()
    with ExitStack() as stack:
        began = time.monotonic()
        silent = [stack.enter_context(PlainPeer(server.port, PROXY)) for _ in range(200)]
        silent[0].send(binary()[:20])
        connected = time.monotonic()
        for _ in range(3):
            opened(server, binary())
        assert time.monotonic() - connected < HEADER_SECONDS / 2
        assert len(server.find("connection.opened", mark)) == 3
        assert all(peer.is_closed() for peer in silent)
        assert HEADER_SECONDS - 0.1 < time.monotonic() - began < HEADER_SECONDS + AT_ONCE
    server.stop()
    refused = server.find("connection.refused", mark)
    assert {(event["peer"], event["reason"]) for event in refused} == {(PROXY, "no PROXY header within 3 s")}
    assert sum(event["count"] for event in refused) == 200


def test_there_are_never_too_many_that_say_nothing(make_server: MakeServer) -> None:
    """Above 256 the connection that has waited longest is closed, and not the newest one."""
    server = make_server({"listen": LISTEN})
    mark = server.mark()
    with ExitStack() as stack:
        silent = [stack.enter_context(PlainPeer(server.port, PROXY)) for _ in range(260)]
        for peer in silent[:4]:
            assert peer.is_closed()
        server.wait_for("connection.refused", since=mark, count=4)
        refused = server.find("connection.refused", mark)
        assert [event["peer_port"] for event in refused] == [peer.socket.getsockname()[1] for peer in silent[:4]]
        opened(server, binary())


def test_a_stop_leaves_nobody_hanging(make_server: MakeServer, user_key: KeyPair) -> None:
    """A stop closes connections without a header at once; they are not served while it waits for others."""
    server = make_server({"listen": LISTEN, "stop": {"drain": "1s"}})
    client = Client(server, user_key.private)
    with ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(server.port, lambda *_: line()))
        working = stack.enter_context(client.popen("trap '' HUP; echo ready; sleep 60", *proxy.options))
        assert working.stdout is not None
        assert working.stdout.readline() == b"ready\n"
        silent = [stack.enter_context(PlainPeer(server.port, PROXY)) for _ in range(20)]
        silent[0].send(b"PROXY ")
        opened(server, binary())  # by now they have been accepted
        mark = server.mark()
        server.signal(signal.SIGTERM)
        assert all(peer.is_closed() for peer in silent)
        assert not server.find("server.stopped")
        assert server.wait() == 0
    assert not server.find("connection.refused", mark)
