"""Sockets passed by a service manager: which are used, which are refused, and that the environment is clean after."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator

import pytest

from pyssh_gateway.startup import socket_activation
from pyssh_gateway.startup.socket_activation import ActivationError, InheritedSocket, take

PID = 4711
"""Our pid in these tests."""

FREE = 500
"""Descriptors from here on are free: the protocol needs consecutive numbers."""

Pass = Callable[..., dict[str, str]]


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pass]:
    """Puts sockets where a service manager would, in that order, and returns the variables that belong to them."""
    monkeypatch.setattr(socket_activation, "FIRST_DESCRIPTOR", FREE)
    taken: list[int] = []

    def put(*sockets: socket.socket, names: str | None = None) -> dict[str, str]:
        for index, sock in enumerate(sockets):
            assert fcntl.fcntl(sock, fcntl.F_DUPFD, FREE + index) == FREE + index
            taken.append(FREE + index)
            sock.close()
        named = {} if names is None else {"LISTEN_FDNAMES": names}
        return {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(sockets)), "HOME": "/root"} | named

    yield put
    for descriptor in taken:
        if is_open(descriptor):
            os.close(descriptor)


def is_open(descriptor: int) -> bool:
    """Whether the descriptor is open."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def listening(family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """A socket like that of a `ListenStream=` with a port."""
    return socket.create_server(("127.0.0.1" if family == socket.AF_INET else "::1", 0), family=family)


def test_nothing_was_passed() -> None:
    """Without the variables no socket is used, and the server binds its own."""
    assert take({}, PID) == ()


@pytest.mark.parametrize("pid", ["4712", "", "x", "04711"])
def test_what_is_for_another_process_is_let_alone(passed: Pass, pid: str) -> None:
    """Variables for another process, which a parent left behind, are removed, and no descriptor is closed."""
    environ = passed(listening()) | {"LISTEN_PID": pid}
    assert take(environ, PID) == ()
    assert environ == {"HOME": "/root"}
    assert is_open(FREE)


def test_the_socket_is_taken(passed: Pass) -> None:
    """The passed socket is used, programs that we start do not inherit it, and the variables are removed."""
    sock = listening()
    address = sock.getsockname()
    environ = passed(sock)
    (with_socket,) = take(environ, PID)
    assert isinstance(with_socket, InheritedSocket)
    with with_socket:
        assert with_socket.getsockname() == address
        assert not with_socket.get_inheritable()
    assert environ == {"HOME": "/root"}


def test_ipv6_will_do(passed: Pass) -> None:
    """A socket that listens on IPv6 is used."""
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    (sock,) = take(passed(listening(socket.AF_INET6)), PID)
    with sock:
        assert sock.family == socket.AF_INET6


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (None, [0, 1, 2]),
        ("", [0, 1, 2]),
        ("a:b:c", [0, 1, 2]),
        ("a:b:ssh", [2]),
        ("a:ssh:ssh", [1, 2]),
        ("ssh", [0]),
        ("ssh:ssh:ssh", [0, 1, 2]),
        ("a:b:c:ssh", [0, 1, 2]),  # the fourth name has no socket
    ],
)
def test_of_several_those_named_ssh_else_all(passed: Pass, names: str | None, chosen: list[int]) -> None:
    """Sockets named ssh are used, otherwise all, and unused ones are closed."""
    sockets = [listening() for _ in range(3)]
    addresses = [sock.getsockname() for sock in sockets]
    taken = take(passed(*sockets, names=names), PID)
    assert [sock.getsockname() for sock in taken] == [addresses[index] for index in chosen]
    assert [is_open(FREE + index) for index in range(3)] == [index in chosen for index in range(3)]
    for sock in taken:
        sock.close()


@pytest.mark.parametrize("count", ["0", "-1", "65", "1000000000", "99999999999999999999", "1.5", "one", "\u0661"])
def test_a_wrong_number_of_sockets_is_refused(count: str) -> None:
    """An impossible number is reported, and closes nothing."""
    with pytest.raises(ActivationError, match="LISTEN_FDS has to be a number from 1 to 64"):
        take({"LISTEN_PID": str(PID), "LISTEN_FDS": count}, PID)


def test_what_is_shown_of_a_wrong_number_is_short_and_printable() -> None:
    """The error is one printable line, whatever the variable contains."""
    with pytest.raises(ActivationError) as error:
        take({"LISTEN_PID": str(PID), "LISTEN_FDS": "\x1b[2J\n" + "9" * 10_000}, PID)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM), "does not listen"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "is no TCP socket"),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), "is no TCP socket"),
    ],
)
def test_a_socket_that_will_not_do_is_refused(passed: Pass, make: Callable[[], socket.socket], says: str) -> None:
    """A socket that clients can't use is reported and closed, and the server does not start."""
    with pytest.raises(ActivationError, match=rf"^descriptor {FREE}, .*LISTEN_FDS.* {says}"):
        take(passed(make()), PID)
    assert not is_open(FREE)


def test_what_is_no_socket_is_refused(passed: Pass) -> None:
    """A FIFO (ListenFIFO=), or a descriptor that is not open, is refused."""
    reader, writer = os.pipe()
    assert fcntl.fcntl(reader, fcntl.F_DUPFD, FREE) == FREE
    os.close(reader)
    os.close(writer)
    environ = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1"}
    passed()
    with pytest.raises(ActivationError, match=r"is no socket: Socket operation on non-socket"):
        take(environ.copy(), PID)
    os.close(FREE)
    with pytest.raises(ActivationError, match=r"is no socket: Bad file descriptor"):
        take(environ.copy(), PID)


def test_shutting_it_down_leaves_it_to_its_owner(passed: Pass) -> None:
    """After our shutdown the service manager's socket still listens, so that it can start the server again."""
    ours = listening()
    theirs = ours.dup()
    with theirs:
        (sock,) = take(passed(ours), PID)
        with sock:
            sock.shutdown(socket.SHUT_RD)
        assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        socket.create_connection(theirs.getsockname(), timeout=5).close()
