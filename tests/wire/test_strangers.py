"""Strangers can do almost nothing against other people's logins, from any address; and what it costs them."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.proxy_headers import TcpProxy, binary
from tests.support.server import EventFields, Server
from tests.support.waiting import until
from tests.wire.plain import PlainPeer, kexinit, packet
from tests.wire.raw import CHANNEL_CLOSE, RawClient, connected, play, u32

ADDRESSES = 10
EACH = 10
NAT = "127.0.2.1"
"""One of the ten addresses, which a legitimate client shares."""
ELSEWHERE = "127.0.0.77"
HALF_OPEN = {
    "silent": b"",
    "identified": b"SSH-2.0-x\r\n",
    "begun": b"SSH-2.0-x\r\n" + packet(kexinit()),
}
MANY = 15
"""Connections of one source that can fail to log in at once: at most 16 are served at a time."""

STRICT: dict[str, object] = {"penalty_exempt": []}
"""In these tests loopback is not exempt from penalties."""
BEHIND_PROXY = {"proxy_protocol": "v2", "trusted_proxies": ["127.0.0.1"]}


class Siege:
    """Ten addresses that hold as many connections as they get, and reopen each that is closed."""

    def __init__(self, port: int, says: bytes, header: Callable[[str, int], bytes] | None) -> None:
        self._port = port
        self._says = says
        self._header = header
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._hold, args=(f"127.0.2.{address}", number), name="siege")
            for address in range(1, ADDRESSES + 1)
            for number in range(EACH)
        ]
        self.opened = 0

    def __enter__(self) -> "Siege":
        for thread in self._threads:
            thread.start()
        until(lambda: self.opened >= ADDRESSES * EACH, what="siege")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _hold(self, address: str, number: int) -> None:
        while not self._over.is_set():
            with PlainPeer(self._port, "127.0.0.1" if self._header else address) as peer:
                peer.send((b"" if self._header is None else self._header(address, 1024 + number)) + self._says)
                self.opened += 1
                peer.socket.settimeout(0.2)
                while not self._over.is_set():
                    try:
                        if not peer.socket.recv(4096):
                            break
                    except TimeoutError:
                        continue
                    except ConnectionError:
                        break
            self._over.wait(0.05)


def succeeded(client: Client, number: int, *options: str) -> int:
    """The number of logins that succeed out of `number`, one after the other."""
    return sum(client.run("true", *options).status == 0 for _ in range(number))


def together(client: Client, options: Iterable[tuple[str, ...]]) -> int:
    """The number of logins that succeed, one with each of `options`, all at once."""
    with ThreadPoolExecutor(ADDRESSES) as pool:
        return sum(result.status == 0 for result in pool.map(lambda each: client.run("true", *each), options))


@pytest.mark.soak
@pytest.mark.parametrize("step", HALF_OPEN)
def test_ten_addresses_with_ten_half_open_connections_keep_nobody_out(
    make_server: MakeServer, user_key: KeyPair, step: str
) -> None:
    """Against repeated connections, other clients get in each time, and those behind one of the addresses mostly do."""
    server = make_server({"limits": STRICT})
    client = Client(server, user_key.private)
    with Siege(server.port, HALF_OPEN[step], None):
        for number in range(1, 11):
            assert client.run("true", "-b", f"127.0.0.{number}").status == 0, "from an address that is not known yet"
        assert together(client, (("-b", f"127.0.2.{number}") for number in range(1, 10))) >= 6
        assert succeeded(client, 3, "-b", ELSEWHERE) == 3


@pytest.mark.slow
def test_the_same_behind_a_proxy(make_server: MakeServer, user_key: KeyPair) -> None:
    """All connections come from the proxy; the address in the header counts."""
    server = make_server({"limits": STRICT, "listen": BEHIND_PROXY})
    client = Client(server, user_key.private)
    edge = ("198.51.100.1", 22)
    with ExitStack() as stack:
        stack.enter_context(Siege(server.port, b"", lambda address, port: binary((address, port), edge)))
        proxy = stack.enter_context(TcpProxy(server.port, lambda *_: binary(("203.0.113.9", 5), edge)))
        nat = stack.enter_context(TcpProxy(server.port, lambda *_: binary((NAT, 5), edge)))
        assert succeeded(client, 5, *proxy.options) == 5
        assert succeeded(client, 3, *nat.options) >= 2
    assert {event["peer"] for event in server.find("connection.authenticated")} == {"203.0.113.9", NAT}


async def _offend(server: Server, source: str, key: asyncssh.SSHKey, number: int) -> None:
    path = server.directory / "wrong-key"
    path.write_bytes(key.export_private_key())
    async with AsyncExitStack() as stack:
        for _ in range(number):
            client = await stack.enter_async_context(connected(server, path, source=source, authenticate=False))
            client.offer(key)
            await client.is_refused()


def offend(server: Server, source: str, key: asyncssh.SSHKey, number: int = 1) -> bool:
    """Fail to log in on so many connections at a time, until they end. False if one of them was refused."""
    mark = server.mark()
    try:
        asyncio.run(_offend(server, source, key, number))
    except ConnectionAbortedError:
        return False
    server.wait_for("connection.closed", since=mark, count=number, peer=source)
    return True


def is_penalised(server: Server, source: str, key: asyncssh.SSHKey) -> bool:
    """Fail to log in until the source is refused, up to a limit. The number of failures depends on the time, too."""
    return not all(offend(server, source, key) for _ in range(30))


def served_in_order(server: Server, *sources: str) -> list[str]:
    """Connect from each source in turn; returns the order in which they are served."""
    mark = server.mark()
    with ExitStack() as stack:
        for peer in [stack.enter_context(PlainPeer(server.port, source)) for source in sources]:
            assert peer.read_line().startswith(b"SSH-2.0-")
    return [event["peer"] for event in server.find("connection.opened", mark)]


@pytest.fixture(scope="module")
def wrong_key() -> asyncssh.SSHKey:
    """A key that no account has."""
    return asyncssh.generate_private_key("ssh-ed25519")


def test_failed_logins_cost_their_source_something(
    make_server: MakeServer, user_key: KeyPair, wrong_key: asyncssh.SSHKey
) -> None:
    """Three failures are free, as with sshd; after the fourth the source is refused at once, and no other source is."""
    server = make_server({"limits": STRICT})
    client = Client(server, user_key.private)
    assert all(offend(server, "127.0.0.9", wrong_key) for _ in range(3))
    assert is_penalised(server, "127.0.0.9", wrong_key)
    with PlainPeer(server.port, "127.0.0.9") as peer:
        assert peer.read_line() == b"Not allowed at this time"
        assert peer.is_closed()
    assert succeeded(client, 3, "-b", "127.0.0.10") == 3
    assert {event["reason"] for event in server.find("connection.refused")} == {"penalty: failed authentication"}
    assert {event["peer"] for event in server.find("connection.refused")} == {"127.0.0.9"}


@pytest.mark.soak
def test_a_penalty_ends(make_server: MakeServer, user_key: KeyPair, wrong_key: asyncssh.SSHKey) -> None:
    """A penalty ends when its time is over; then a login from that source clears its record."""
    server = make_server({"limits": STRICT | {"penalty_max": "16s"}})
    client = Client(server, user_key.private)
    assert is_penalised(server, "127.0.0.9", wrong_key)
    until(lambda: client.run("true", "-b", "127.0.0.9").status == 0, what="login after the penalty")
    assert all(offend(server, "127.0.0.9", wrong_key) for _ in range(6)), "somebody has logged in from there lately"


def test_a_login_over_an_open_connection_ends_a_penalty(
    make_server: MakeServer, user_key: KeyPair, wrong_key: asyncssh.SSHKey
) -> None:
    """Open connections go on (sshd_config(5)), and a login on one of them ends the penalty for the whole source."""
    server = make_server({"limits": STRICT})

    async def scenario() -> None:
        async with connected(server, user_key.private, source="127.0.0.9", authenticate=False) as client:
            assert await asyncio.to_thread(is_penalised, server, "127.0.0.9", wrong_key)
            await client.authenticate()
            assert await asyncio.to_thread(offend, server, "127.0.0.9", wrong_key)

    asyncio.run(scenario())
    assert served_in_order(server, "127.0.0.9", ELSEWHERE) == ["127.0.0.9", ELSEWHERE], "nor is it slowed down"


def test_a_place_from_which_people_log_in_is_slowed_down_and_not_refused(
    make_server: MakeServer, user_key: KeyPair, wrong_key: asyncssh.SSHKey
) -> None:
    """Behind a NAT, a neighbour's failures lock nobody out, also after a restart; they only slow the source down."""
    server = make_server({"limits": STRICT})
    client = Client(server, user_key.private)
    assert client.run("true", "-b", NAT).status == 0
    server.stop()
    server.start()
    assert offend(server, NAT, wrong_key, EACH)
    assert served_in_order(server, NAT, ELSEWHERE) == [ELSEWHERE, NAT], "slowed down"
    assert succeeded(client, 2, "-b", NAT) == 2
    assert not server.find("connection.refused")


def test_the_proxy_is_not_penalised_for_its_clients(
    make_server: MakeServer, user_key: KeyPair, wrong_key: asyncssh.SSHKey
) -> None:
    """A client that fails through a proxy is refused; other clients behind the same proxy are not."""
    server = make_server({"limits": STRICT, "listen": BEHIND_PROXY})
    edge = ("198.51.100.1", 22)
    bad, good = ((address, 5) for address in ("192.0.2.66", "203.0.113.9"))
    key = server.directory / "wrong-key"
    key.write_bytes(wrong_key.export_private_key())
    key.chmod(0o600)
    client = Client(server, user_key.private)
    with TcpProxy(server.port, lambda *_: binary(bad, edge)) as theirs:
        for number in range(4):
            assert client.run("true", *theirs.options, key=key).status == 255
            server.wait_for("connection.closed", count=number + 1)
        assert client.run("true", *theirs.options).status == 255, "refused with a good key, too"
    with TcpProxy(server.port, lambda *_: binary(good, edge)) as ours:
        assert client.run("true", *ours.options).status == 0
    refused = server.wait_for("connection.refused")
    assert (refused["peer"], refused["reason"]) == ("192.0.2.66", "penalty: failed authentication")


def test_silence_earns_no_penalty(make_server: MakeServer, user_key: KeyPair) -> None:
    """Health checks, port scans and silent connections until the end of the grace get no penalty."""
    server = make_server({"limits": STRICT | {"login_grace": "1s"}})
    for _ in range(50):
        PlainPeer(server.port, "127.0.0.9").socket.close()
    for _ in range(3):
        with ExitStack() as stack:
            for peer in [stack.enter_context(PlainPeer(server.port, "127.0.0.9")) for _ in range(EACH)]:
                assert peer.is_closed()
    mark = server.mark()
    assert Client(server, user_key.private).run("true", "-b", "127.0.0.9").status == 0
    assert not server.find("connection.refused", mark)
    assert {event["reason"] for event in server.find("connection.refused")} <= {"it has gone before its turn"}


def test_dawdling_earns_one(make_server: MakeServer) -> None:
    """Connections that begin a login and wait until the grace ends cost ten seconds each, so that two are enough."""
    server = make_server({"limits": STRICT | {"login_grace": "1s"}})
    with PlainPeer(server.port, "127.0.0.9") as one, PlainPeer(server.port, "127.0.0.9") as other:
        for peer in (one, other):
            peer.send(HALF_OPEN["begun"])
        assert one.is_closed()
        assert other.is_closed()
    server.wait_for("connection.closed", count=2)
    with PlainPeer(server.port, "127.0.0.9") as peer:
        assert peer.read_line() == b"Not allowed at this time"
    assert server.wait_for("connection.refused")["reason"] == "penalty: exceeded the login grace"


@pytest.mark.slow
def test_refusals_of_one_source_are_counted_together(make_server: MakeServer, wrong_key: asyncssh.SSHKey) -> None:
    """Two thousand refused connections make a handful of log lines, whose counts add up to all of them."""
    server = make_server({"limits": STRICT | {"unauthenticated_per_source": MANY}})
    assert offend(server, "127.0.0.9", wrong_key, MANY), "which costs 75 s"
    mark, size = server.mark(), (server.audit_dir / "events.jsonl").stat().st_size
    for _ in range(2000):
        with PlainPeer(server.port, "127.0.0.9") as peer:
            assert peer.is_closed()
    server.stop()
    refused: list[EventFields] = server.find("connection.refused", mark)
    assert sum(event["count"] for event in refused) == 2000
    assert [event["count"] for event in refused[:8]] == [1] * 8
    assert len(refused) < 20
    assert (server.audit_dir / "events.jsonl").stat().st_size - size < 20_000


@pytest.mark.soak
def test_the_rest_is_told_without_a_stop(make_server: MakeServer, wrong_key: asyncssh.SSHKey) -> None:
    """A person who watches the log sees the counted refusals within ten seconds."""
    server = make_server({"limits": STRICT | {"unauthenticated_per_source": MANY}})
    assert offend(server, "127.0.0.9", wrong_key, MANY)
    for _ in range(20):
        with PlainPeer(server.port, "127.0.0.9") as peer:
            assert peer.is_closed()
    told = server.wait_for("connection.refused", count=9)
    assert (told["peer"], told["count"], told["reason"]) == ("127.0.0.9", 12, "penalty: failed authentication")
    assert 10 <= told["seconds"] < 60


@pytest.mark.slow
def test_a_flood_of_silent_connections_does_not_fill_the_log(make_server: MakeServer) -> None:
    """Connections that close at once are counted, but not served or logged one by one; others are not affected."""
    server = make_server({"limits": STRICT})
    for _ in range(1000):
        PlainPeer(server.port, "127.0.0.9").socket.close()
    with PlainPeer(server.port, ELSEWHERE) as peer:
        assert peer.read_line().startswith(b"SSH-2.0-")
    server.stop()
    opened = server.find("connection.opened", peer="127.0.0.9")
    refused = server.find("connection.refused")
    assert len(opened) + sum(event["count"] for event in refused) == 1000
    assert len(opened) < 500
    assert len(refused) < 20


def test_silent_connections_by_the_hundred_slow_their_source_down(make_server: MakeServer) -> None:
    """Connections that wait for the greeting and leave write two lines each, so only a few a second are served."""
    server = make_server({"limits": STRICT | {"unauthenticated": 200, "unauthenticated_per_source": 200}})
    assert served_in_order(server, "127.0.0.9", ELSEWHERE) == ["127.0.0.9", ELSEWHERE]
    mark = server.mark()
    with ExitStack() as stack:
        for peer in [stack.enter_context(PlainPeer(server.port, "127.0.0.9")) for _ in range(150)]:
            assert peer.read_line().startswith(b"SSH-2.0-")
    server.wait_for("connection.closed", since=mark, count=150)
    assert served_in_order(server, "127.0.0.9", ELSEWHERE) == [ELSEWHERE, "127.0.0.9"]


# -- descriptors ------------------------------------------------------------------------------------------------------


DESCRIPTORS = 100


@pytest.fixture
def poor_server(make_server: MakeServer) -> Server:
    """A server with few descriptors, and a configuration that would let strangers use all of them."""
    server = make_server({"limits": {"unauthenticated": 1000}}, start=False)
    server.wrapper = ["prlimit", f"--nofile={DESCRIPTORS}"]
    server.start()
    return server


def test_strangers_do_not_use_up_the_descriptors(poor_server: Server, user_key: KeyPair) -> None:
    """Whatever is configured, strangers are limited: sessions can be opened, and people can log in."""

    async def scenario(client: RawClient) -> None:
        with ExitStack() as stack:
            for number in range(1, 2 * DESCRIPTORS):
                stack.enter_context(PlainPeer(poor_server.port, f"127.0.3.{number}"))
            poor_server.wait_for("connection.refused")
            assert await client.is_alive()
            async with connected(poor_server, user_key.private, source=ELSEWHERE) as other:
                assert await other.is_alive()
            opened = len(poor_server.find("connection.opened"))
            assert opened - len(poor_server.find("connection.closed")) <= DESCRIPTORS // 4 + 2

    play(poor_server, user_key, scenario)


def test_an_accounts_sessions_use_up_its_own_descriptors_alone(poor_server: Server, user_key: KeyPair) -> None:
    """If an account has no descriptors left, its next session is refused; nothing else ends, and others can log in."""

    async def scenario(client: RawClient) -> None:
        first = await client.started(b"exec sleep 600")
        while not poor_server.find("request.denied"):
            await client.started(b"exec sleep 600")
        denied = poor_server.find("request.denied")[0]
        assert (denied["request"], "no descriptors are left" in denied["reason"]) == ("exec", True)
        with PlainPeer(poor_server.port, ELSEWHERE) as peer:
            assert peer.read_line().startswith(b"SSH-2.0-")
        assert not poor_server.find("connection.refused")
        client.say(CHANNEL_CLOSE, u32(first))
        await asyncio.to_thread(poor_server.wait_for, "session.closed")
        assert await client.is_alive()

    play(poor_server, user_key, scenario)
