"""The real ssh through a real proxy that sends a PROXY header: the client's address is used wherever one counts."""

import pwd
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import KeyPair
from tests.support.client import Client
from tests.support.proxy_headers import CLIENT, EDGE, LOCAL, End, TcpProxy, binary, frame, line
from tests.support.server import Server
from tests.support.waiting import until

PROXY = "127.0.0.2"
HOME = ("2001:db8::9", 50350)
AWAY = ("192.0.2.66", 4)
HEADERS: dict[str, Callable[[End, End], bytes]] = {
    "v1": lambda *_: line(CLIENT, EDGE),
    "v2": lambda *_: binary(CLIENT, EDGE, checksum=True),
    "v2, IPv6": lambda *_: binary(HOME, ("2001:db8::22", 22)),
    "away": lambda *_: binary(AWAY, EDGE),
    "UNSPEC": lambda *_: frame(),
    "LOCAL": lambda *_: frame(command=LOCAL),
    "true": binary,
}


class Proxied:
    """One server, behind it one proxy for each of `HEADERS`, and clients with keys.

    One key may be used from `anywhere`, one where `CLIENT` and `HOME` are (`somewhere`), one `at_proxy`.
    """

    def __init__(self, server: Server, proxies: dict[str, TcpProxy], keys: list[KeyPair]) -> None:
        self.server = server
        self.anywhere, self.somewhere, self.at_proxy = (Client(server, key.private) for key in keys)
        self._proxies = proxies

    def options(self, name: str) -> tuple[str, ...]:
        """The options with which `ssh` connects through the proxy of that name."""
        return self._proxies[name].options

    def mark(self) -> int:
        """The present position in the log, when every earlier connection is over."""

        def is_over() -> bool:
            opened, closed = (self.server.find(f"connection.{what}") for what in ("opened", "closed"))
            return len(opened) == len(closed)

        until(is_over, what="end of all connections")
        return self.server.mark()


@pytest.fixture(scope="module")
def proxied(
    tmp_path_factory: pytest.TempPathFactory,
    account: pwd.struct_passwd,
    user_key: KeyPair,
    make_key: Callable[..., KeyPair],
) -> Iterator[Proxied]:
    """The server, proxies and clients that the tests of this module share."""
    directory = tmp_path_factory.mktemp("server")
    keys = [user_key, make_key(), make_key()]
    options = ["", 'from="203.0.113.0/24,2001:db8::/32" ', f'from="{PROXY}" ']
    lines = directory / "authorized_keys"
    lines.write_text("".join(first + key.public.read_text() for first, key in zip(options, keys, strict=True)))
    settings = {"listen": {"proxy_protocol": "any", "trusted_proxies": ["127.0.0.0/29"]}}
    with ExitStack() as stack:
        running = Server(directory, login=account.pw_name, keys=[f"file:{lines}"], settings=settings)
        stack.enter_context(running)
        proxies = {
            name: stack.enter_context(TcpProxy(running.port, header, address=PROXY, together=name != "v2"))
            for name, header in HEADERS.items()
        }
        yield Proxied(running, proxies, keys)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("v1", "203.0.113.9 50350 198.51.100.1 22"),
        ("v2", "203.0.113.9 50350 198.51.100.1 22"),
        ("v2, IPv6", "2001:db8::9 50350 2001:db8::22 22"),
    ],
)
def test_the_session_is_told_the_clients_address(proxied: Proxied, name: str, seen: str) -> None:
    """SSH_CONNECTION has both ends as the client sees them, also if the banner comes with the header's last byte."""
    assert proxied.anywhere.output('echo "$SSH_CONNECTION"', *proxied.options(name)) == f"{seen}\n"


def test_a_client_without_an_address_has_the_proxys(proxied: Proxied) -> None:
    """UNSPEC: the two ends of the TCP connection itself."""
    seen = proxied.anywhere.output('echo "$SSH_CONNECTION"', *proxied.options("UNSPEC"))
    assert seen.startswith(f"{PROXY} ")
    assert seen.endswith(f" 127.0.0.1 {proxied.server.port}\n")


def test_nobody_logs_in_by_a_health_check(proxied: Proxied) -> None:
    """LOCAL: the header gives no client address for `from=` and the log, so the connection is closed at once."""
    mark = proxied.mark()
    for client in (proxied.anywhere, proxied.at_proxy):
        result = client.run("true", *proxied.options("LOCAL"))
        assert result.status == 255
        assert b"closed by" in result.stderr
    assert proxied.mark() == mark


def test_every_event_has_the_clients_address(proxied: Proxied) -> None:
    """Every event has the client's address; only the connection's start also has the proxy's.

    The login before may have been one from the proxy itself.
    """
    mark = proxied.mark()
    assert proxied.anywhere.run("exit 3", *proxied.options("v2")).status == 3
    proxied.server.wait_for("connection.closed", since=mark)
    events = [event | {"previous": None} for event in proxied.server.events[mark:]]
    assert {event["peer"] for event in events if "peer" in event} == {CLIENT[0]}
    assert [event["proxy"] for event in events if event["event"] == "connection.opened"] == [PROXY]
    assert PROXY not in str([event for event in events if event["event"] != "connection.opened"])


@pytest.mark.parametrize(
    ("name", "status"), [("v1", 0), ("v2, IPv6", 0), ("away", 255), ("UNSPEC", 255), ("true", 255)]
)
def test_from_is_about_the_client(proxied: Proxied, name: str, status: int) -> None:
    """A key's `from=` is compared with the client's address, and never with the address of the proxy."""
    mark = proxied.mark()
    assert proxied.somewhere.run("true", *proxied.options(name)).status == status
    proxied.server.wait_for("connection.closed", since=mark)
    assert bool(proxied.server.find("auth.attempt", mark, result="denied")) == bool(status)


def test_from_the_proxy_is_not_from_behind_it(proxied: Proxied) -> None:
    """A key for the proxy's own machine lets in nobody who comes through the proxy from elsewhere."""
    assert proxied.at_proxy.run("true", *proxied.options("UNSPEC")).status == 0
    assert proxied.at_proxy.run("true", *proxied.options("v1")).status == 255


def test_much_goes_through_unharmed(proxied: Proxied) -> None:
    """Everything after the header reaches the server unchanged."""
    data = bytes(range(256)) * 4096
    result = proxied.anywhere.run("cat", *proxied.options("v1"), input=data)
    assert (result.status, result.stdout) == (0, data)
