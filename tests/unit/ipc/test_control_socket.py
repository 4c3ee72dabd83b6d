"""control_socket: the path of a server's control socket, what it may replace there, and which servers clients trust."""

import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.ipc.control_socket import (
    RUN_DIRECTORY,
    ControlSocketError,
    NobodyListens,
    bind_control,
    client_paths,
    connect,
    peer_of,
    server_path,
)

NOBODY = 65534
is_root = os.geteuid() == 0


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for sockets, and that other accounts can enter."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def refusal(path: Path) -> str:
    """The reason why a server can't listen there."""
    with pytest.raises(ControlSocketError) as caught:
        bind_control(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_is_where_it_is_configured() -> None:
    """Protects the setting, for server and clients: "off" is no socket, and a path is that path."""
    assert server_path("off", "keys") is None
    assert client_paths("off", "keys") == ()
    assert server_path("/somewhere/socket", "keys") == "/somewhere/socket"
    assert client_paths("/somewhere/socket", "keys") == ("/somewhere/socket",)


def test_is_found_where_a_server_puts_it(tmp_path: Path) -> None:
    """Protects "auto": a command looks for its own account's server first, then for the other one."""
    own, roots = str(tmp_path / "control.sock"), f"{RUN_DIRECTORY}/control.sock"
    assert server_path("auto", str(tmp_path)) == (roots if is_root else own)
    assert client_paths("auto", str(tmp_path)) == ((roots, own) if is_root else (own, roots))


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everybody_can_connect(place: Path, umask: int) -> None:
    """Protects requests that any account may make: the socket is reachable and the umask restored, for any umask."""
    earlier = os.umask(umask)
    path = place / "new" / "run" / "control.sock"
    try:
        with bind_control(str(path)) as listening:
            assert stat.S_IMODE(path.stat().st_mode) == 0o666
            assert stat.S_IMODE(path.parent.stat().st_mode) == (0o755 if is_root else 0o700)
            with connect(str(path)) as asking:
                answering, _ = listening.accept()
                with answering:
                    assert peer_of(answering) == (os.getpid(), os.geteuid())
                    assert peer_of(asking) == (os.getpid(), os.geteuid())
            assert not listening.get_inheritable()
        assert os.umask(umask) == umask
    finally:
        os.umask(earlier)


def test_replaces_what_a_dead_server_left(place: Path) -> None:
    """Protects every start after the first: the socket of a dead server is replaced, and nobody has to remove it."""
    path = str(place / "control.sock")
    bind_control(path).close()
    with pytest.raises(NobodyListens, match=f"no server listens at {path}"):
        connect(path)
    with bind_control(path), connect(path):
        pass


def test_leaves_a_running_server_its_socket(place: Path) -> None:
    """Protects a running server's socket from a second server started by mistake, even when its queue is full."""
    path = place / "control.sock"
    with bind_control(str(path)) as listening:
        assert refusal(path) == f"can't listen at {path}: another server does"
        listening.listen(0)
        with fill(path):
            assert refusal(path) == f"can't listen at {path}: another server does"


@contextlib.contextmanager
def fill(path: Path) -> Iterator[None]:
    """Connect until another connection would have to wait."""
    with contextlib.ExitStack() as connections:
        while True:
            one = connections.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            try:
                one.connect(str(path))
            except BlockingIOError:
                break
        yield


def test_never_removes_what_is_no_socket(place: Path) -> None:
    """Protects files from a mistyped path: only a socket is replaced."""
    path = place / "control.sock"
    path.write_text("precious")
    assert refusal(path) == f"can't listen at {path}: what is there is no socket; remove it"
    assert path.read_text() == "precious"
    path.unlink()
    path.symlink_to(place / "elsewhere")
    assert "no socket" in refusal(path)


def test_needs_a_directory_of_its_own(place: Path) -> None:
    """Protects against a stranger's socket at that path: everybody may write to the directory only if it is sticky."""
    place.chmod(0o777)
    assert refusal(place / "control.sock") == f"can't listen at {place}/control.sock: everybody may write to {place}"
    place.chmod(0o1777)
    bind_control(str(place / "control.sock")).close()
    (place / "file").touch()
    assert refusal(place / "file" / "control.sock").endswith("Not a directory")


def test_a_command_finds_nobody(place: Path) -> None:
    """Protects the fallback: no socket, no directory and a dead socket mean no server; anything else is an error."""
    for path in (place / "control.sock", place / "no" / "control.sock"):
        with pytest.raises(NobodyListens):
            connect(str(path))
    with pytest.raises(ControlSocketError, match="too long"):
        connect(str(place / ("x" * 200)))


@pytest.mark.skipif(not is_root, reason="only root can be two accounts")
def test_a_command_believes_only_root_and_its_own_account(place: Path) -> None:
    """Protects users from a stranger's socket, whose answers could be false: a command refuses to use it."""
    path = str(place / "control.sock")
    place.chmod(0o1777)
    os.seteuid(12345)
    stranger_s = bind_control(path)
    try:
        os.seteuid(0)
        connect(path).close()
        os.seteuid(NOBODY)
        with pytest.raises(ControlSocketError, match="is of uid 12345, neither root's nor yours"):
            connect(path)
    finally:
        os.seteuid(0)
        stranger_s.close()
    with bind_control(path):
        os.seteuid(NOBODY)
        try:
            connect(path).close()
        finally:
            os.seteuid(0)
