"""The client matrix: the class of a client, and what all clients share.

A client is a class. It has a feature if it has a method of that name; most get their methods from `matrix_features`. A
client that is not installed reports that.
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
"""The data for pipes and files: many windows of every client, and more than any buffer on the way holds."""

BULK_DIGEST = hashlib.sha256(BULK).hexdigest().encode()

FORWARDED = BULK[:2_000_000]
"""The data for a forward, in each direction."""

WINDOW = (33, 101)
"""Rows and columns of the terminals: no client's default."""


class World(NamedTuple):
    """A client's environment: its server and key, its own home, and a directory of the account."""

    server: Server
    key: Path
    account: pwd.struct_passwd
    home: Path
    scratch: Path

    @property
    def client(self) -> Client:
        """The plain OpenSSH client, for preparations on the server's side."""
        return Client(self.server, self.key)


class Driver:
    """A row of the matrix."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, world: World) -> None:
        self.world = world

    @classmethod
    def absence(cls) -> str:
        """The reason why this machine does not have the client; empty if it has it."""
        missing = [program for program in cls.programs if shutil.which(program) is None]
        return f"not installed: {', '.join(missing)}" if missing else ""

    @classmethod
    def features(cls) -> list[str]:
        """The client's features, in the order of the columns."""
        return [feature for feature in FEATURES if hasattr(cls, feature)]

    def environment(self) -> dict[str, str]:
        """The client's variables: its own home, and nothing of the person who runs the tests."""
        return client_environment(HOME=str(self.world.home))

    def call(self, argv: Sequence[str | Path], **more: str) -> Result:
        """Run one of the client's programs until it ends; `more` is added to its environment."""
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
        """Like `call`, for a program that has to end with 0."""
        result = self.call(argv, **more)
        assert result.status == 0, result
        return result


@contextlib.contextmanager
def background(argv: Sequence[str | Path], environ: Mapping[str, str]) -> Iterator[None]:
    """A client that runs until it is terminated; if it ends early, the failure shows its output."""
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
    """An address of this machine without a listener."""
    return "127.0.0.1", free_port()


def is_listening(port: int) -> bool:
    """Whether `port` of 127.0.0.1 has a listener; this makes no connection, which might disturb a proxy."""
    # proc(5): the second column is the address in hexadecimal, the fourth the state; 0A is LISTEN.
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(fields[1] == f"0100007F:{port:04X}" and fields[3] == "0A" for fields in sockets)


class Connection(Protocol):
    """The part of a socket's interface that is used here; other classes have it, too."""

    def sendall(self, data: bytes, /) -> object:
        """Send all of `data`."""

    def recv(self, size: int, /) -> bytes:
        """Receive up to `size` bytes, none at the end."""

    def shutdown(self, how: int, /) -> None:
        """Announce that no more will be sent."""

    def close(self) -> None:
        """Close the connection."""


def everything(connection: Connection) -> bytes:
    """Everything that is received, up to the end."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def mirror(connection: Connection) -> None:
    """Read to the end, then send it all back: this needs half-close in both directions."""
    connection.sendall(everything(connection))


def connected(address: Address) -> socket.socket:
    """A connection to a port or unix socket whose listener may come later."""

    def attempt() -> socket.socket | None:
        try:
            return dial(address)
        except OSError:
            return None

    connection = until(attempt, what=f"listener at {address}")
    assert connection is not None
    return connection


def exchange(connection: Connection) -> None:
    """Send much data to the `mirror` behind `connection`, then the end; expect both back."""
    with contextlib.closing(connection):
        connection.sendall(FORWARDED)
        connection.shutdown(socket.SHUT_WR)
        assert digest_of(everything(connection)) == digest_of(FORWARDED)


def digest_of(data: bytes) -> str:
    """A short form of long data, for failures to print."""
    return f"{len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}"


def assert_bulk(path: Path) -> None:
    """The file contains the data that was sent."""
    assert digest_of(path.read_bytes()) == digest_of(BULK)
