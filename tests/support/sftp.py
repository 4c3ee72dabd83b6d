"""An SFTP client that sends exactly the bytes that a test gives it, and the server as the spawner's child runs it."""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyssh_gateway.as_user.sftp import wire
from pyssh_gateway.ipc.file_events import FileEvent, decode
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

OPENSSH_SERVER = Path("/usr/lib/openssh/sftp-server")
NOBODY = 65534
MEMORY_KIB = 4096
"""The memory that a session may use, on top of the process that it was forked from."""

CHILD = f"""
import os, resource, sys
sys.path.insert(0, {str(ROOT)!r})
from pyssh_gateway.core.transfers.sftp_options import parse
from pyssh_gateway.as_user.sftp.server import serve

class NoImports:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(name + " was imported after the process had become the user")

events, uid = map(int, sys.argv[1:3])
options = parse(os.fsencode(" ".join(["internal-sftp", *sys.argv[3:]])))
os.umask(0o022)
if uid:
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20,) * 2)  # for tests that write at random
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
for name in os.environ.copy():
    if name != "TZ":
        del os.environ[name]
sys.path.clear()
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0])
resource.setrlimit(resource.RLIMIT_DATA, ((used + {MEMORY_KIB}) * 1024,) * 2)
sys.meta_path.insert(0, NoImports())
status = serve(0, 1, events, options)
del sys.meta_path[0]
sys.exit(status)
"""
"""As in the spawner's child: all imports first, then the change of user; after that no imports, no environment.

The limit on memory makes every test show that the session stays within it.
"""


class Server:
    """A running SFTP server with a client's ends of its pipes. With `openssh`, OpenSSH's own for comparison.

    `options` are those of internal-sftp. Create it with `serving`, which ends it.
    """

    def __init__(self, directory: Path, *, uid: int, openssh: bool, options: tuple[str, ...] = ()) -> None:
        self._events, writer = os.pipe2(os.O_CLOEXEC)
        ours = [sys.executable, "-c", CHILD, str(writer), str(uid)]
        argv = [*([str(OPENSSH_SERVER)] if openssh else ours), *options]
        self.process = subprocess.Popen(
            argv,
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writer],
            umask=0o022,
            bufsize=0,
        )
        os.close(writer)
        self._number = 0

    def greet(self) -> bytes:
        """Send INIT, and return the data behind the version in the server's VERSION packet."""
        self.send(bytes([wire.FXP_INIT]) + wire.u32(3))
        kind, version, extensions = self.receive()
        assert (kind, version) == (wire.FXP_VERSION, 3)
        return extensions

    def send(self, packet: bytes) -> None:
        """Send one packet."""
        self.write(wire.string(packet))

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self.process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self.process.stdin.write(view) or 0 :]

    def receive(self) -> tuple[int, int, bytes]:
        """The next packet: its type, its id, and the rest."""
        length = int.from_bytes(self._read(4), "big")
        assert 5 <= length <= wire.MAX_PACKET
        packet = self._read(length)
        return packet[0], int.from_bytes(packet[1:5], "big"), packet[5:]

    def ask(self, kind: int, *fields: bytes) -> tuple[int, bytes]:
        """Send a request and wait for its answer: type and body."""
        self._number += 1
        self.send(bytes([kind]) + wire.u32(self._number) + b"".join(fields))
        answered, number, body = self.receive()
        assert number == self._number
        return answered, body

    def extended(self, name: bytes, *fields: bytes) -> tuple[int, bytes]:
        """Send an extended request and wait for its answer."""
        return self.ask(wire.FXP_EXTENDED, wire.string(name), *fields)

    def status(self, kind: int, *fields: bytes) -> int:
        """Send a request that is answered with a STATUS; its code."""
        answered, body = self.ask(kind, *fields)
        assert answered == wire.FXP_STATUS
        return int.from_bytes(body[:4], "big")

    def open(self, path: bytes, flags: int, attributes: bytes = wire.NO_ATTRIBUTES) -> bytes:
        """Open a file; its handle, ready to be sent (with its length)."""
        kind, handle = self.ask(wire.FXP_OPEN, wire.string(path), wire.u32(flags), attributes)
        assert kind == wire.FXP_HANDLE, handle
        return handle

    def read(self, handle: bytes, offset: int, length: int) -> bytes | int:
        """The data, or the status's code."""
        kind, body = self.ask(wire.FXP_READ, handle, struct.pack(">QI", offset, length))
        return body[4:] if kind == wire.FXP_DATA else int.from_bytes(body[:4], "big")

    def listing(self, path: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """The directory's entries: name, line and attributes."""
        kind, handle = self.ask(wire.FXP_OPENDIR, wire.string(path))
        assert kind == wire.FXP_HANDLE, handle
        entries: list[tuple[bytes, bytes, bytes]] = []
        while (answer := self.ask(wire.FXP_READDIR, handle))[0] == wire.FXP_NAME:
            entries += split_names(answer[1])
        assert self.status(wire.FXP_CLOSE, handle) == wire.FX_OK
        return entries

    def finish(self) -> tuple[int, bytes, bytes]:
        """Close the server's input; its exit status, its remaining output, and its standard error."""
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err

    def events(self) -> list[FileEvent]:
        """Everything that the server reported; only after it has ended."""
        data = b""
        while chunk := os.read(self._events, 65536):
            data += chunk
        events, rest = decode(data)
        assert rest == b""
        return events

    def peak(self) -> int:
        """The most memory that the process had, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def close(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait(PATIENCE)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        os.close(self._events)

    def _read(self, length: int) -> bytes:
        assert self.process.stdout is not None
        data = b""
        while len(data) < length:
            chunk = self.process.stdout.read(length - len(data))
            assert chunk, "the server is gone"
            data += chunk
        return data


@contextmanager
def serving(
    directory: Path, *, uid: int = 0, openssh: bool = False, greet: bool = True, options: tuple[str, ...] = ()
) -> Iterator[Server]:
    """A server that works in `directory`, as `uid` if that is not 0, and that has had its INIT."""
    server = Server(directory, uid=uid, openssh=openssh, options=options)
    try:
        if greet:
            server.greet()
        yield server
    finally:
        server.close()


def sftp(directory: Path, batch: str, *options: str, check: bool = True) -> tuple[str, list[FileEvent]]:
    """Run OpenSSH's sftp on `batch` against the server, both in `directory`; what it printed, and the events."""
    script = directory.parent / f"{directory.name}-server.py"
    script.write_text(CHILD)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        done = subprocess.run(
            ["sftp", "-b", "-", *options, "-D", f"{sys.executable} {script} {writer} 0"],
            input=batch,
            cwd=directory,
            text=True,
            errors="surrogateescape",
            capture_output=True,
            pass_fds=[writer],
            timeout=4 * PATIENCE,
            check=False,
        )
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        events, rest = decode(pipe.read())
    assert rest == b""
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, events


def split_names(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The entries of a NAME packet."""
    fields = wire.Fields(memoryview(body))
    entries = []
    for _ in range(fields.u32()):
        name, line, start = fields.string(), fields.string(), len(body) - fields.left
        fields.attributes()
        entries.append((name, line, body[start : len(body) - fields.left]))
    assert not fields.left
    return entries


def attributes(
    *,
    size: int | None = None,
    owner: tuple[int, int] | None = None,
    mode: int | None = None,
    times: tuple[int, int] | None = None,
) -> bytes:
    """An ATTRS structure with the given fields."""
    flags, parts = 0, b""
    for flag, layout, values in (
        (wire.ATTR_SIZE, ">Q", None if size is None else (size,)),
        (wire.ATTR_UIDGID, ">II", owner),
        (wire.ATTR_PERMISSIONS, ">I", None if mode is None else (mode,)),
        (wire.ATTR_ACMODTIME, ">II", times),
    ):
        if values is not None:
            flags |= flag
            parts += struct.pack(layout, *values)
    return wire.u32(flags) + parts


def by_type(events: list[FileEvent], kind: type[Any]) -> list[Any]:
    """The events of one type."""
    return [event for event in events if isinstance(event, kind)]
