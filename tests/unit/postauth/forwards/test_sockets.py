"""Sockets that postauth makes for the account, with real sockets on a real loop."""

import asyncio
import errno
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.postauth.forwards import sockets
from pyssh_gateway.postauth.forwards.sockets import (
    Listening,
    SocketFailed,
    Sockets,
    listen_agent,
    listen_tcp,
    listen_unix,
)
from tests.support import leaks
from tests.support.waiting import PATIENCE


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open; the umask is 0, as in the process."""
    umask = os.umask(0)
    with leaks.nothing_left_open():
        yield
    os.umask(umask)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path is short enough for sockets."""
    return tmp_path_factory.mktemp("s")


@asynccontextmanager
async def made() -> AsyncIterator[Sockets]:
    """A `Sockets` that is closed at the end."""
    one = Sockets(asyncio.get_running_loop())
    async with asyncio.timeout(PATIENCE):
        yield one
    one.close()


async def failure(making: Awaitable[object]) -> str:
    """The reason why a socket was not made."""
    with pytest.raises(SocketFailed) as failed:
        await making
    assert str(failed.value)
    return str(failed.value)


def is_joined(one: socket.socket, other: socket.socket) -> bool:
    """Whether data sent into one arrives at the other."""
    one.setblocking(True)
    one.sendall(b"x")
    other.settimeout(PATIENCE)
    return other.recv(1) == b"x"


def visit(path: bytes) -> socket.socket:
    """Connect to the unix socket at `path`."""
    return sockets.connect_unix(path)


def names(directory: Path) -> list[str]:
    """The names in the directory."""
    return [path.name for path in directory.iterdir()]


def mode_of(path: Path) -> int:
    """The permissions for owner, group and others."""
    return stat.S_IMODE(path.stat().st_mode)


def threads_end() -> None:
    """Wait until all threads that make sockets have ended."""
    for thread in threading.enumerate():
        if thread.name == "socket":
            thread.join(PATIENCE)


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


# -- connecting ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("localhost", "127.0.0.1")])
def test_connect(host: str, address: str) -> None:
    """Protects connections to IPv4, IPv6 and a name, without the delay of small packets (TCP_NODELAY)."""

    async def go() -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, 0), family=family) as listening:
            async with made() as one:
                with await one.connect_tcp(host, listening.getsockname()[1]) as sock, listening.accept()[0] as other:
                    assert is_joined(sock, other)
                    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                    assert not os.get_inheritable(sock.fileno())

    asyncio.run(go())


def test_connect_unix(place: Path) -> None:
    """Protects connections to unix sockets."""

    async def go() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place / "s"))
            listening.listen()
            async with made() as one:
                with await one.connect_unix(bytes(place / "s")) as sock, listening.accept()[0] as other:
                    assert is_joined(other, sock)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("no-such-host.invalid", 80),
        ("127.0.0.1", 70000),
        ("127.0.0.1", 2**32 - 1),
        ("a..b", 80),
        ("x" * 70, 80),
        ("a\0b", 80),
        ("\udcff", 80),
        ("", 1),
    ],
)
def test_connecting_to_what_there_is_not(host: str, port: int) -> None:
    """Protects the account's other connections from any name or port that a client may send: the request only fails."""

    async def go() -> None:
        async with made() as one:
            await failure(one.connect_tcp(host, port))

    asyncio.run(go())


def test_refusal_is_told(place: Path) -> None:
    """Protects the reasons: connection refused, no such socket, and a path that is too long."""

    async def go() -> None:
        async with made() as one:
            assert await failure(one.connect_tcp("127.0.0.1", closed_port())) == "Connection refused"
            assert await failure(one.connect_unix(bytes(place / "missing"))) == "No such file or directory"
            assert "too long" in await failure(one.connect_unix(b"/" + b"x" * 200))

    asyncio.run(go())


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects hosts that answer on only one of their addresses: the next one is tried when one fails."""
    found = socket.getaddrinfo

    def look_up(host: str, port: int, *, type: int, flags: int = 0) -> list[Any]:  # noqa: A002 - the name there
        if flags:
            return found(host, port, type=type, flags=flags)
        dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", closed_port()))
        return [dead, *found("127.0.0.1", port, type=socket.SOCK_STREAM)]

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            async with made() as one:
                monkeypatch.setattr(socket, "getaddrinfo", look_up)
                with await one.connect_tcp("host.example", listening.getsockname()[1]) as sock:
                    assert sock.getpeername() == listening.getsockname()

    asyncio.run(go())


def test_an_address_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a client from an address that does not answer: the request fails at the deadline."""
    monkeypatch.setattr(sockets, "CONNECT_SECONDS", 0.05)

    async def go() -> None:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            held = []
            for _ in range(3):  # fill its queue: further connections get no answer
                held.append(socket.socket())
                held[-1].setblocking(False)
                held[-1].connect_ex(full.getsockname())
            async with made() as one:
                assert await failure(one.connect_tcp(*full.getsockname())) == "Connection timed out"
            for sock in held:
                sock.close()

    asyncio.run(go())


def test_busy_socket_is_told(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Protects a client from a unix socket whose queue is full: the request fails, at once or at the deadline."""
    monkeypatch.setattr(sockets, "CONNECT_SECONDS", 0.05)

    async def go() -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(place / "s"))
            listening.listen(0)
            held: list[socket.socket] = []
            async with made() as one:
                with suppress(SocketFailed):
                    while len(held) < 10:
                        held.append(await one.connect_unix(bytes(place / "s")))
            assert 1 <= len(held) <= 2
            for sock in held:
                sock.close()

    asyncio.run(go())


def test_slow_look_up_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the account's sessions from slow name servers: the loop continues, and other requests are answered."""
    released = threading.Event()
    found = socket.getaddrinfo

    def wait(host: str, port: int, *, type: int, flags: int = 0) -> list[Any]:  # noqa: A002 - the name there
        if host == "slow.example" and not flags:
            released.wait(PATIENCE)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found(host, port, type=type, flags=flags)

    async def go() -> None:
        monkeypatch.setattr(socket, "getaddrinfo", wait)
        async with made() as one:
            slow = asyncio.ensure_future(failure(one.connect_tcp("slow.example", 80)))
            assert await failure(one.connect_unix(b"/no/such/socket")) == "No such file or directory"
            assert await failure(one.connect_tcp("127.0.0.1", closed_port())) == "Connection refused"
            assert not slow.done()
            released.set()
            assert await slow == "Name or service not known"

    asyncio.run(go())


def test_a_request_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a client from a request that never ends, as for a name whose server does not answer."""
    released = threading.Event()
    monkeypatch.setattr(sockets, "ANSWER_SECONDS", 0.05)

    def late(_path: bytes) -> socket.socket:
        released.wait(PATIENCE)
        return socket.socket()

    monkeypatch.setattr(sockets, "connect_unix", late)

    async def go() -> None:
        async with made() as one:
            assert await failure(one.connect_unix(b"/hangs")) == "no answer within 0 s"
            released.set()
            threads_end()

    asyncio.run(go())


def test_threads_that_hang_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the machine's threads: those of abandoned requests count until they end."""
    released = threading.Event()
    monkeypatch.setattr(sockets, "MAX_AT_ONCE", 2)
    monkeypatch.setattr(sockets, "ANSWER_SECONDS", 0.02)

    def hang(_path: bytes) -> socket.socket:
        released.wait(PATIENCE)
        raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    monkeypatch.setattr(sockets, "connect_unix", hang)

    async def go() -> None:
        async with made() as one:
            for _ in range(2):
                assert "no answer" in await failure(one.connect_unix(b"/hangs"))
            assert await failure(one.connect_unix(b"/hangs")) == "2 requests are in progress"
            released.set()
            threads_end()
            assert await failure(one.connect_unix(b"/hangs")) == "Connection refused"

    asyncio.run(go())


def test_many_requests_at_once() -> None:
    """Protects bursts: every request up to the limit is answered, and those above it are refused at once."""

    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=600) as listening:
            port = listening.getsockname()[1]
            async with made() as one:
                asking = [one.connect_tcp("127.0.0.1", port) for _ in range(sockets.MAX_AT_ONCE + 8)]
                answers = await asyncio.gather(*asking, return_exceptions=True)
            connected = [answer for answer in answers if isinstance(answer, socket.socket)]
            assert len(connected) == sockets.MAX_AT_ONCE
            assert {str(other) for other in answers if other not in connected} == {"512 requests are in progress"}
            for sock in connected:
                sock.close()

    asyncio.run(go())


def test_what_is_made_for_nobody_is_closed(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Protects descriptors and the file system when a connection ends while a socket is being made for it."""
    begun, released = threading.Event(), threading.Event()
    listen = sockets.listen_unix

    def slow(path: bytes, mask: int, *, unlink: bool) -> socket.socket:
        begun.set()
        released.wait(PATIENCE)
        return listen(path, mask, unlink=unlink)

    monkeypatch.setattr(sockets, "listen_unix", slow)

    async def go() -> None:
        async with made() as one:
            asking = asyncio.ensure_future(one.listen_unix(bytes(place / "s"), 0o177, unlink=False))
            await asyncio.to_thread(begun.wait, PATIENCE)
            asking.cancel()
            await asyncio.wait({asking})
            released.set()
            threads_end()
            assert (place / "s").is_socket()
            await asyncio.sleep(0)  # let the loop learn of the result
            assert not (place / "s").exists()

    asyncio.run(go())


# -- listening ----------------------------------------------------------------------------------------------------


def test_listen_on_both_families() -> None:
    """Protects port 0: one free port is used for every requested address."""

    async def go() -> None:
        async with made() as one:
            listening = await one.listen_tcp(("127.0.0.1", "::1"), 0)
            where = [sock.getsockname()[:2] for sock in listening.sockets]
            assert where == [("127.0.0.1", listening.port), ("::1", listening.port)]
            for sock in listening.sockets:
                with socket.create_connection(sock.getsockname()[:2], PATIENCE) as visitor, sock.accept()[0] as other:
                    assert is_joined(visitor, other)
            one.forget(listening)
            one.forget(listening)  # a second call is no error
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", listening.port), PATIENCE)

    asyncio.run(go())


def test_all_addresses_are_two_sockets() -> None:
    """Protects IPv4 from a socket for :: that also takes IPv4, which otherwise depends on the machine."""
    made_ = listen_tcp(("0.0.0.0", "::"), 0)
    assert len(made_) == 2
    assert made_[1].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    for sock in made_:
        sock.close()


def test_one_address_is_enough() -> None:
    """Protects machines without IPv6, and ports that are in use on one address only."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made_ = listen_tcp(("127.0.0.1", "no-such-host.invalid", "::1"), port)
        assert [sock.getsockname()[:2] for sock in made_] == [("::1", port)]
        for sock in made_:
            sock.close()


def test_no_address_is_none() -> None:
    """Protects clients from a listener that nobody can reach: without any address, the first reason is reported."""

    async def go() -> None:
        async with made() as one:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
                assert "in use" in await failure(one.listen_tcp(("127.0.0.1", "no-such-host.invalid"), port))
            assert "no address" in await failure(one.listen_tcp((), 0))

    asyncio.run(go())


def test_alone_or_not_at_all() -> None:
    """Protects an X11 display from another owner of its port on another address, who could collect cookies there."""

    async def go() -> None:
        async with made() as one:
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
                port = taken.getsockname()[1]
                assert "in use" in await failure(one.listen_tcp(("127.0.0.1", "::1"), port, alone=True))

    asyncio.run(go())


@pytest.mark.parametrize(("mask", "mode"), [(0o177, 0o600), (0o117, 0o660), (0, 0o777)])
def test_listen_unix(place: Path, mask: int, mode: int) -> None:
    """Protects the mode of a socket's file, and the file's removal by `forget`."""
    path = place / "s"

    async def go() -> None:
        async with made() as one:
            listening = await one.listen_unix(bytes(path), mask, unlink=False)
            (sock,) = listening.sockets
            assert listening.path == bytes(path)
            assert mode_of(path) == mode
            with visit(bytes(path)) as visitor, sock.accept()[0] as other:
                assert is_joined(visitor, other)
            one.forget(listening)
            assert not path.exists()
            path.touch()
            one.forget(listening)  # a second call is no error
            assert path.exists()

    asyncio.run(go())


def test_files_go_with_the_process(place: Path) -> None:
    """Protects the next login from sockets that nobody serves: all files are removed at the end."""

    async def go() -> None:
        async with made() as one:
            for name in ("one", "two"):
                await one.listen_unix(bytes(place / name), 0o177, unlink=False)
            directory = Path(os.fsdecode((await one.listen_agent()).path)).parent
            assert directory.is_dir()
        assert names(place) == []
        assert not directory.exists()
        assert await failure(one.listen_unix(bytes(place / "late"), 0o177, unlink=False)) == "the server is leaving"
        assert names(place) == []

    asyncio.run(go())


def test_what_took_a_sockets_place_is_left_alone(place: Path) -> None:
    """Protects a socket that replaced an earlier one: forgetting the earlier one does not remove it."""
    path = place / "s"

    async def go() -> None:
        async with made() as one:
            first = await one.listen_unix(bytes(path), 0o177, unlink=True)
            second = await one.listen_unix(bytes(path), 0o177, unlink=True)
            one.forget(first)
            assert path.is_socket()
            with visit(bytes(path)) as visitor, second.sockets[0].accept()[0] as other:
                assert is_joined(visitor, other)

    asyncio.run(go())


@pytest.mark.parametrize("path", [b"", b"\0abstract", b"/tmp/pyssh-test-nul\0b"])
def test_path_that_is_none(path: bytes) -> None:
    """Protects against abstract sockets (unix(7)), which have no file and thus no permissions."""

    async def go() -> None:
        async with made() as one:
            assert await failure(one.listen_unix(path, 0o177, unlink=False)) == "not a path"

    asyncio.run(go())


def test_what_is_in_the_way_stays(place: Path) -> None:
    """Protects whatever is at the path: only a socket is replaced, only on request, and never a link's target."""
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


def test_agent() -> None:
    """Protects the agent's socket: it has mode 0600 in a new directory of mode 0700, and `forget` removes both."""

    async def go() -> None:
        async with made() as one:
            listening = await one.listen_agent()
            path = Path(os.fsdecode(listening.path))
            assert (mode_of(path), mode_of(path.parent), names(path.parent)) == (0o600, 0o700, [path.name])
            one.forget(listening)
            assert path.parent.name not in names(Path("/tmp"))

    asyncio.run(go())


def test_agent_directory_of_a_user_is_left_alone(place: Path) -> None:
    """Protects a user's directory that is named like an agent's: only the socket in it is removed."""
    directory = place / "ssh-agent-mine"
    directory.mkdir()

    async def go() -> None:
        async with made() as one:
            one.forget(await one.listen_unix(bytes(directory / "s"), 0o177, unlink=False))
            assert names(directory) == []

    asyncio.run(go())


def test_agent_that_can_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects /tmp from directories of agent sockets that could not be made."""
    monkeypatch.setattr(sockets, "AGENT_DIRECTORY", f"{'x' * 100}-")
    before = set(Path("/tmp").glob("xxxx*"))
    with pytest.raises(OSError, match="too long"):
        listen_agent()
    assert set(Path("/tmp").glob("xxxx*")) == before


def test_failed_sockets_leave_nothing_open(place: Path) -> None:
    """Protects descriptors from failed requests: none stays open."""

    async def go() -> None:
        async with made() as one:
            attempts: tuple[Callable[[], Awaitable[socket.socket | Listening]], ...] = (
                lambda: one.connect_tcp("127.0.0.1", closed_port()),
                lambda: one.connect_unix(bytes(place / "missing")),
                lambda: one.listen_unix(b"/no/such/directory/s", 0, unlink=False),
                lambda: one.listen_unix(b"/" + b"x" * 200, 0, unlink=True),
            )
            with leaks.nothing_left_open():
                for attempt in attempts:
                    await failure(attempt())

    asyncio.run(go())
