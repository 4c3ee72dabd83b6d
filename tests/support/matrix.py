"""The client matrix: what a client is, and what all of them work with.

A client is a class. It has a feature if it has a method of that name; most get them from `matrix_features`. A client
that is not installed says so.
"""

import contextlib
import hashlib
import pwd
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol

from tests.support.client import Client, Result, client_environment, terminate
from tests.support.forwards import Address, dial, free_port
from tests.support.matrix_table import FEATURES
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until

BULK = secrets.token_bytes(20_000_000)
"""What goes through pipes and files: many windows of every client, and more than any buffer on the way."""

BULK_DIGEST = hashlib.sha256(BULK).hexdigest().encode()

FORWARDED = BULK[:2_000_000]
"""What goes through a forward, there and back."""

WINDOW = (33, 101)
"""Rows and columns of the terminals: nobody's default."""


class World(NamedTuple):
    """Where a client finds itself: its server and key, a home of its own, and a directory of the account's."""

    server: Server
    key: Path
    account: pwd.struct_passwd
    home: Path
    scratch: Path

    @property
    def client(self) -> Client:
        """The plain OpenSSH client, for what has to be arranged on the server's side."""
        return Client(self.server, self.key)


class Driver:
    """A row of the matrix."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, world: World) -> None:
        self.world = world

    @classmethod
    def absence(cls) -> str:
        """Why this machine has not got the client; empty if it has."""
        missing = [program for program in cls.programs if shutil.which(program) is None]
        return f"not installed: {', '.join(missing)}" if missing else ""

    @classmethod
    def features(cls) -> list[str]:
        """What the client offers, in the order of the columns."""
        return [feature for feature in FEATURES if hasattr(cls, feature)]

    def environment(self) -> dict[str, str]:
        """What the client's process is told: a home of its own, and nothing of the person who runs the tests."""
        return client_environment(HOME=str(self.world.home))

    def call(self, argv: Sequence[str | Path], **more: str) -> Result:
        """Run a program of the client's until it ends; `more` is added to its environment."""
        return self.run_process(argv, b"", more)

    def run_process(self, argv: Sequence[str | Path], given: bytes, environ: Mapping[str, str]) -> Result:
        """Run a program with `given` on its standard input, and `environ` over the client's environment."""
        ended = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            cwd=self.world.home,
            env=self.environment() | dict(environ),
            timeout=PATIENCE,
            check=False,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def succeed(self, argv: Sequence[str | Path], **more: str) -> Result:
        """The same for a program that has to end with 0."""
        result = self.call(argv, **more)
        assert result.status == 0, result
        return result


@contextlib.contextmanager
def background(argv: Sequence[str | Path], environ: Mapping[str, str]) -> Iterator[None]:
    """A client that goes on until it is told to end; what it had to say is in the failure that ends it early."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
    )
    try:
        yield
        assert process.poll() is None, "the client has ended by itself"
    except AssertionError as error:
        terminate(process)
        said, _ = process.communicate(timeout=PATIENCE)
        error.add_note(f"{argv[0]} ended with {process.returncode} and said {said!r}")
        raise
    finally:
        terminate(process)
        process.communicate(timeout=PATIENCE)


def free_address() -> tuple[str, int]:
    """Where nobody listens on this machine."""
    return "127.0.0.1", free_port()


def is_listening(port: int) -> bool:
    """Whether somebody listens on `port` of 127.0.0.1, asked without a connection, which a proxy might mind."""
    # proc(5): the second column is the address in hexadecimal, the fourth the state; 0A is LISTEN.
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(fields[1] == f"0100007F:{port:04X}" and fields[3] == "0A" for fields in sockets)


class Connection(Protocol):
    """What is used of a socket; other things than sockets have it, too."""

    def sendall(self, data: bytes, /) -> object:
        """Send all of `data`."""

    def recv(self, size: int, /) -> bytes:
        """Receive up to `size` bytes, none at the end."""

    def shutdown(self, how: int, /) -> None:
        """Say that no more will be sent."""

    def close(self) -> None:
        """End it."""


def everything(connection: Connection) -> bytes:
    """What comes, up to the end."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def mirror(connection: Connection) -> None:
    """Read to the end, then send it all back: it takes half-close in both directions."""
    connection.sendall(everything(connection))


def connected(address: Address) -> socket.socket:
    """A connection to a port or unix socket that somebody is about to listen on."""

    def attempt() -> socket.socket | None:
        try:
            return dial(address)
        except OSError:
            return None

    connection = until(attempt, what=f"listener at {address}")
    assert connection is not None
    return connection


def exchange(connection: Connection) -> None:
    """Send a lot to the `mirror` behind `connection`, and then the end; it comes back, and its end."""
    with contextlib.closing(connection):
        connection.sendall(FORWARDED)
        connection.shutdown(socket.SHUT_WR)
        assert digest_of(everything(connection)) == digest_of(FORWARDED)


def digest_of(data: bytes) -> str:
    """Long data in a form that a failure can print."""
    return f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def assert_bulk(path: Path) -> None:
    """The file has what was sent."""
    assert digest_of(path.read_bytes()) == digest_of(BULK)
