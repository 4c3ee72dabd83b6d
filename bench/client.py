"""The client that both servers are measured with: the installed `ssh` of OpenSSH, without this machine's settings."""

import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from bench.interrupts import held_back
from bench.processes import Deadline

CLIENT_SECONDS = 60.0
"""A client that runs for longer than this hangs: ten times what the slowest transfer takes on a small machine."""

END_SECONDS = 5.0
"""How long a client may take to end after it was told to."""

_PASSED_ON = ("PATH", "HOME", "TMPDIR")


class ClientFailed(Exception):
    """A client ended with another status than 0."""


class Reachable(Protocol):
    """A server, or one at the other end of a line."""

    @property
    def name(self) -> str:
        """The name under which known_hosts has its host key."""

    @property
    def port(self) -> int:
        """Its port on 127.0.0.1."""

    @property
    def last_words(self) -> Callable[[], str]:
        """A function that gives the end of its output."""


class Client:
    """Runs `ssh` as `user` with the private key in `key`. `known_hosts` has each server's host key under its name."""

    def __init__(self, user: str, key: Path, known_hosts: Path) -> None:
        self.user = user
        self.key = key
        self._environ = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"TERM": "xterm"}
        self._options = [
            "-F",
            "none",
            *_options(
                UserKnownHostsFile=known_hosts,
                GlobalKnownHostsFile="/dev/null",
                StrictHostKeyChecking="yes",
                BatchMode="yes",
                IdentitiesOnly="yes",
                IdentityAgent="none",
                IdentityFile=key,
                EscapeChar="none",
                # From OpenSSH 9.5 on the client sends keystrokes in steps of 20 ms, to servers that say they can ping.
                IgnoreUnknown="ObscureKeystrokeTiming",
                ObscureKeystrokeTiming="no",
            ),
        ]

    def argv(self, server: Reachable, command: str | None, *options: str) -> list[str]:
        """The command line of `ssh`; with `command` None it asks for no command."""
        where = _options(HostKeyAlias=server.name, Port=server.port)
        host = f"{self.user}@127.0.0.1"
        return ["ssh", *options, *self._options, *where, host, *([] if command is None else [command])]

    def run(
        self, server: Reachable, command: str | None, *options: str, stdin: IO[bytes] | None = None
    ) -> tuple[float, bytes]:
        """Run `ssh` to its end; returns its seconds and its standard error. Its output goes to /dev/null."""
        begun = time.perf_counter()
        ended = subprocess.run(
            self.argv(server, command, *options),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environ,
            timeout=CLIENT_SECONDS,
            check=False,
        )
        seconds = time.perf_counter() - begun
        self._check("ssh", server, repr(command), ended)
        return seconds, ended.stderr

    @staticmethod
    def _check(program: str, server: Reachable, what: str, ended: subprocess.CompletedProcess[bytes]) -> None:
        if ended.returncode != 0:
            raise ClientFailed(
                f"{program} to {server.name} for {what} ended with {ended.returncode}: "
                f"{ended.stderr.decode(errors='backslashreplace').strip()}\n{server.last_words()}"
            )

    def sftp(self, server: Reachable, commands: list[str]) -> float:
        """Run `sftp` with these commands to its end; returns the seconds that it took."""
        where = _options(HostKeyAlias=server.name, Port=server.port)
        begun = time.perf_counter()
        ended = subprocess.run(
            ["sftp", "-q", "-b", "-", *self._options, *where, f"{self.user}@127.0.0.1"],
            input="".join(f"{command}\n" for command in commands).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self._environ,
            timeout=CLIENT_SECONDS,
            check=False,
        )
        seconds = time.perf_counter() - begun
        self._check("sftp", server, repr(commands), ended)
        return seconds

    @contextmanager
    def session(
        self, server: Reachable, command: str | None, *options: str, stdout: int = subprocess.PIPE
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A client that runs until the context ends."""
        process = subprocess.Popen(
            self.argv(server, command, *options),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=self._environ,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with held_back():
                _end(process)


def read(process: subprocess.Popen[bytes], seconds: float = CLIENT_SECONDS) -> bytes:
    """The next data from a session's standard output. Raises `Deadline` if none comes, or if the session has ended."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    data = os.read(process.stdout.fileno(), 65536) if ready else b""
    if not data:
        raise Deadline(f"no output of {process.args!r} within {seconds:.0f} s, or before its end")
    return data


def read_until(process: subprocess.Popen[bytes], end: bytes) -> None:
    """Read until `end` has come."""
    seen = b""
    while end not in seen:
        seen += read(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(END_SECONDS)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _options(**values: object) -> list[str]:
    return [part for name, value in values.items() for part in ("-o", f"{name}={value}")]
