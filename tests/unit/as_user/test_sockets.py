"""The process that makes sockets, with real sockets."""

import errno
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pyssh_gateway.as_user import sockets
from pyssh_gateway.as_user.sockets import connect_tcp, connect_unix, listen_agent, listen_tcp, listen_unix
from pyssh_gateway.ipc import sockets as messages
from tests.support import leaks
from tests.support.socket_maker import Maker
from tests.support.waiting import PATIENCE


@pytest.fixture
def maker() -> Iterator[Maker]:
    """A maker; descriptors and the umask are back when it has ended."""
    umask = os.umask(0o022)
    with leaks.nothing_left_open():
        running = Maker()
        try:
            yield running
        finally:
            running.end()
            os.umask(umask)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a path that is short enough for sockets."""
    return tmp_path_factory.mktemp("s")


def is_joined(one: socket.socket, other: socket.socket) -> bool:
    """Whether what goes into one comes out of the other."""
    one.sendall(b"x")
    other.settimeout(PATIENCE)
    return other.recv(1) == b"x"


# -- connecting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", "127.0.0.1")])
def test_connect(maker: Maker, host: str, address: str) -> None:
    """Protects connections to both kinds of address and to a name, without the delay that small packets can have."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listening:
        report, (sock,) = maker.ask(lambda number: messages.ConnectTcp(number, host, listening.getsockname()[1]))
        with sock, listening.accept()[0] as other:
            assert isinstance(report, messages.Connected)
            assert is_joined(sock, other)
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not os.get_inheritable(sock.fileno())


def test_connect_unix(maker: Maker, place: Path) -> None:
    """Protects connections to unix sockets."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "s"))
        listening.listen()
        report, (sock,) = maker.ask(lambda number: messages.ConnectUnix(number, bytes(place / "s")))
        with sock, listening.accept()[0] as other:
            assert isinstance(report, messages.Connected)
            assert is_joined(other, sock)


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("no-such-host.invalid", 80),
        ("127.0.0.1", 70000),
        ("127.0.0.1", 2**32 - 1),
        ("a..b", 80),
        ("x" * 70, 80),
        ("a\0b", 80),
        ("", 80),
    ],
)
def test_connecting_to_what_there_is_not(maker: Maker, host: str, port: int) -> None:
    """Protects the maker from every name and number that a client may send: it answers, and goes on."""
    failure = maker.failure(lambda number: messages.ConnectTcp(number, host, port)).failure
    assert failure == "unresolvable" if host.endswith(".invalid") else failure in {"unresolvable", "failed", "refused"}
    report, made = maker.ask(lambda number: messages.ListenTcp(number, ("127.0.0.1",), 0))
    assert isinstance(report, messages.Listening)
    for sock in made:
        sock.close()


def test_refusal_is_told(maker: Maker, place: Path) -> None:
    """Protects the reasons: nobody there, on a port and at a path, and no right to it."""
    port = closed_port()
    refused = maker.failure(lambda number: messages.ConnectTcp(number, "127.0.0.1", port))
    assert (refused.failure, refused.reason) == ("refused", "Connection refused")
    missing = maker.failure(lambda number: messages.ConnectUnix(number, bytes(place / "missing")))
    assert (missing.failure, missing.reason) == ("refused", "No such file or directory")
    long = maker.failure(lambda number: messages.ConnectUnix(number, b"/" + b"x" * 200))
    assert long.failure == "failed"


@pytest.mark.parametrize(
    ("number", "failure"),
    [
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EACCES, "denied"),
        (errno.ETIMEDOUT, "timeout"),
        (errno.EMFILE, "failed"),
    ],
)
def test_what_the_kernel_says_is_told(maker: Maker, monkeypatch: pytest.MonkeyPatch, number: int, failure: str) -> None:
    """Protects the reasons that need a network of a certain kind: each errno is told by its name."""

    def refuse(host: str, port: int) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(sockets, "connect_tcp", refuse)
    failed = maker.failure(lambda request: messages.ConnectTcp(request, "host.example", 80))
    assert (failed.failure, failed.reason) == (
        failure,
        "Connection timed out" if failure == "timeout" else os.strerror(number),
    )


def test_busy_socket_is_told(maker: Maker, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Protects a client from a unix socket whose queue is full: it is told, at once or after the deadline."""
    monkeypatch.setattr(sockets, "CONNECT_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "s"))
        listening.listen(0)
        held: list[socket.socket] = []
        report, made = maker.ask(lambda number: messages.ConnectUnix(number, bytes(place / "s")))
        while isinstance(report, messages.Connected):
            held += made
            report, made = maker.ask(lambda number: messages.ConnectUnix(number, bytes(place / "s")))
        assert isinstance(report, messages.Failed)
        assert 1 <= len(held) <= 2
        for sock in held:
            sock.close()


def test_slow_request_holds_up_no_other(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a browser's tabs from each other: an answer that takes long is overtaken by the next ones."""
    released = threading.Event()

    def wait(host: str, port: int) -> socket.socket:
        released.wait(PATIENCE)
        raise TimeoutError

    monkeypatch.setattr(sockets, "connect_tcp", wait)
    maker.send(messages.ConnectTcp(1, "slow.example", 80))
    maker.send(messages.ConnectUnix(2, b"/no/such/socket"))
    assert maker.receive()[0].id == 2
    released.set()
    report, _ = maker.receive()
    assert report == messages.Failed(1, "timeout", "Connection timed out")


def test_many_requests_at_once(maker: Maker) -> None:
    """Protects bursts that are larger than what is worked on at once: every request is answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=300) as listening:
        port = listening.getsockname()[1]
        made: list[socket.socket] = []
        sender = threading.Thread(
            target=lambda: maker.send(*(messages.ConnectTcp(number, "127.0.0.1", port) for number in range(200)))
        )
        sender.start()
        seen = set()
        for _ in range(200):
            report, connected = maker.receive()
            seen.add(report.id)
            made += connected
        sender.join()
        assert (seen, len(made)) == (set(range(200)), 200)
        for sock in made:
            sock.close()


# -- listening ----------------------------------------------------------------------------------------------------


def test_listen_on_both_families(maker: Maker) -> None:
    """Protects port 0: one free port, on every address that was asked for."""
    report, made = maker.ask(lambda number: messages.ListenTcp(number, ("127.0.0.1", "::1"), 0))
    assert isinstance(report, messages.Listening)
    assert [sock.getsockname()[:2] for sock in made] == [("127.0.0.1", report.port), ("::1", report.port)]
    for sock in made:
        with sock, socket.create_connection(sock.getsockname()[:2], PATIENCE) as visitor, sock.accept()[0] as other:
            assert is_joined(visitor, other)


def test_all_addresses_are_two_sockets(maker: Maker) -> None:
    """Protects IPv4 from a socket for :: that takes it along, which depends on the machine otherwise."""
    report, made = maker.ask(lambda number: messages.ListenTcp(number, ("0.0.0.0", "::"), 0))
    assert isinstance(report, messages.Listening)
    assert len(made) == 2
    assert made[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    for sock in made:
        sock.close()


def test_one_address_is_enough() -> None:
    """Protects machines without IPv6, and ports that are taken on one address only."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made = listen_tcp(("127.0.0.1", "no-such-host.invalid", "::1"), port)
        assert [sock.getsockname()[:2] for sock in made] == [("::1", port)]
        for sock in made:
            sock.close()


def test_no_address_is_none() -> None:
    """Protects whoever asks from a listener that nobody can reach: the first reason is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        listen_tcp(("127.0.0.1", "no-such-host.invalid"), taken.getsockname()[1])
    with pytest.raises(OSError, match="no address"):
        listen_tcp((), 0)


@pytest.mark.parametrize(("mask", "mode"), [(0o177, 0o600), (0o117, 0o660), (0, 0o777)])
def test_listen_unix(maker: Maker, place: Path, mask: int, mode: int) -> None:
    """Protects the mode of a socket's file, whatever the process's umask, and its removal when it is forgotten."""
    path = place / "s"
    report, (sock,) = maker.ask(lambda number: messages.ListenUnix(number, bytes(path), mask, False))
    with sock:
        assert isinstance(report, messages.Listening)
        assert report.path == bytes(path)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        with connect_unix(bytes(path)) as visitor, sock.accept()[0] as other:
            assert is_joined(visitor, other)
    maker.send(messages.Forget(report.id))
    maker.send(messages.Forget(report.id))  # a second time is no error
    maker.send(messages.Forget(10_000))
    maker.failure(lambda number: messages.ConnectUnix(number, b"/no/such/socket"))  # by now it has been done
    assert not path.exists()


def test_files_go_with_the_maker(place: Path) -> None:
    """Protects the next login from sockets that nobody listens on: the end of the gateway removes them all."""
    umask = os.umask(0o022)
    maker = Maker()
    made = []
    for name in ("one", "two"):
        made += maker.ask(partial(messages.ListenUnix, path=bytes(place / name), mask=0o177, unlink=False))[1]
    report, agent = maker.ask(messages.ListenAgent)
    assert isinstance(report, messages.Listening)
    directory = Path(os.fsdecode(report.path)).parent
    assert directory.is_dir()
    maker.end()
    os.umask(umask)
    assert list(place.iterdir()) == []
    assert not directory.exists()
    for sock in (*made, *agent):
        sock.close()


def test_what_took_a_sockets_place_is_left_alone(maker: Maker, place: Path) -> None:
    """Protects a socket that somebody else made in the place of a forgotten one, and a file there, from removal."""
    path = place / "s"
    report, (first,) = maker.ask(lambda number: messages.ListenUnix(number, bytes(path), 0o177, True))
    again, (second,) = maker.ask(lambda number: messages.ListenUnix(number, bytes(path), 0o177, True))
    assert isinstance(again, messages.Listening)
    maker.send(messages.Forget(report.id))
    maker.failure(lambda number: messages.ConnectUnix(number, b"/no/such/socket"))
    assert path.is_socket()
    with first, second, connect_unix(bytes(path)) as visitor, second.accept()[0] as other:
        assert is_joined(visitor, other)


@pytest.mark.parametrize("path", [b"", b"\0abstract", b"/tmp/pyssh-test-nul\0b"])
def test_path_that_is_none(maker: Maker, path: bytes) -> None:
    """Protects against sockets without a file (unix(7), "abstract"), which no permission protects and nobody finds."""
    report, made = maker.ask(lambda number: messages.ListenUnix(number, path, 0o177, False))
    for sock in made:
        sock.close()
    Path("/tmp/pyssh-test-nul").unlink(missing_ok=True)
    assert isinstance(report, messages.Failed)


def test_what_is_in_the_way_stays(place: Path) -> None:
    """Protects whatever is at the path: only a socket is replaced, if that is wanted; never a link's target."""
    path = place / "s"
    with listen_unix(bytes(path), 0o177, unlink=False):
        with pytest.raises(OSError, match="in use"):
            listen_unix(bytes(path), 0o177, unlink=False)
        with listen_unix(bytes(path), 0o177, unlink=True):
            pass
    (place / "file").write_text("precious")
    (place / "link").symlink_to(path)
    for name in ("file", "link"):
        with pytest.raises(OSError, match="in use"):
            listen_unix(bytes(place / name), 0o177, unlink=True)
    assert (place / "file").read_text() == "precious"
    assert (place / "link").is_symlink()
    assert path.is_socket()


def test_agent(maker: Maker) -> None:
    """Protects the agent's socket: 0600 in a new directory of mode 0700; both go when it is forgotten."""
    report, (sock,) = maker.ask(messages.ListenAgent)
    assert isinstance(report, messages.Listening)
    path = Path(os.fsdecode(report.path))
    with sock:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert list(path.parent.iterdir()) == [path]
    maker.send(messages.Forget(report.id))
    maker.failure(lambda number: messages.ConnectUnix(number, b"/no/such/socket"))
    assert not path.parent.exists()


def test_agent_directory_of_a_user_is_left_alone(maker: Maker, place: Path) -> None:
    """Protects a directory that only looks like an agent's: what a user's own socket was in is not removed."""
    directory = place / "ssh-agent-mine"
    directory.mkdir()
    report, (sock,) = maker.ask(lambda number: messages.ListenUnix(number, bytes(directory / "s"), 0o177, False))
    sock.close()
    maker.send(messages.Forget(report.id))
    maker.failure(lambda number: messages.ConnectUnix(number, b"/no/such/socket"))
    assert list(directory.iterdir()) == []


def test_agent_that_can_not_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Protects /tmp from directories of agents that came to nothing."""
    monkeypatch.setattr(sockets, "AGENT_DIRECTORY", f"{'x' * 100}-")
    before = set(Path("/tmp").glob("xxxx*"))
    with pytest.raises(OSError, match="too long"):
        listen_agent()
    assert set(Path("/tmp").glob("xxxx*")) == before


def test_failed_sockets_leave_nothing_open(place: Path) -> None:
    """Protects descriptors from everything that fails."""
    attempts: tuple[Callable[[], socket.socket], ...] = (
        lambda: connect_tcp("127.0.0.1", closed_port()),
        lambda: connect_unix(bytes(place / "missing")),
        lambda: listen_unix(b"/no/such/directory/s", 0, unlink=False),
        lambda: listen_unix(b"/" + b"x" * 200, 0, unlink=True),
    )
    with leaks.nothing_left_open():
        for attempt in attempts:
            with pytest.raises(OSError, match=r"\S"):
                attempt()


def test_nonsense_ends_the_maker(place: Path) -> None:
    """Protects against a gateway gone mad: what is no request ends the process, and its files with it."""
    umask = os.umask(0o022)
    maker = Maker()
    _, made = maker.ask(lambda number: messages.ListenUnix(number, bytes(place / "s"), 0o177, False))
    maker.control.send(b"\xc1nonsense")
    maker.end()
    os.umask(umask)
    assert list(place.iterdir()) == []
    for sock in made:
        sock.close()
