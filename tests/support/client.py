"""The real OpenSSH client (and asyncssh's, for what OpenSSH can't send), connecting to a server of the tests.

It uses nothing of the person who runs the tests: no configuration, no agent, no known hosts, no language.
"""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import asyncssh

from tests.support.server import Server
from tests.support.terminal import Attributes, Terminal
from tests.support.waiting import PATIENCE

_PASSED_ON = ("PATH", "HOME", "TMPDIR", "VIRTUAL_ENV")


def client_environment(**more: str) -> dict[str, str]:
    """The environment that clients run with."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"TERM": "xterm"} | more


class Result(NamedTuple):
    """A client's exit. ssh's own failures are status 255; a death by signal is the negative signal number."""

    status: int
    stdout: bytes
    stderr: bytes


def terminate(ssh: "subprocess.Popen[bytes]") -> None:
    """Send SIGTERM repeatedly: ssh misses one that comes between its check and its sleep (clientloop.c)."""
    for _ in range(int(PATIENCE)):
        ssh.terminate()
        with suppress(subprocess.TimeoutExpired):
            ssh.wait(1)
            return
    ssh.kill()
    ssh.wait()
    raise AssertionError(f"{ssh.args!r} does not end")


class Client:
    """Connects to `server` with the private key in the file `key`, as the account that it lets in."""

    def __init__(self, server: Server, key: Path) -> None:
        self.server = server
        self.key = key

    def options(self, *, key: Path | None = None) -> list[str]:
        """The options for `ssh`, all in the long form, which `sftp` and `scp` accept, too."""
        values = {
            "UserKnownHostsFile": self.server.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": key or self.key,
            "Port": self.server.port,
        }
        return ["-F", "none", *(part for name, value in values.items() for part in ("-o", f"{name}={value}"))]

    def argv(
        self, command: str | None = None, *options: str, user: str | None = None, key: Path | None = None
    ) -> list[str]:
        """The command line: `options` go before the host; without a `command` it is a login shell."""
        # The caller's options come first: of several values ssh takes the first.
        host = ["-l", user or self.server.login, "127.0.0.1"]
        return ["ssh", *options, *self.options(key=key), *host, *([] if command is None else [command])]

    def run(
        self,
        command: str | None = None,
        *options: str,
        input: bytes = b"",  # noqa: A002 - subprocess's name for it
        user: str | None = None,
        key: Path | None = None,
        environ: dict[str, str] | None = None,
        seconds: float = PATIENCE,
    ) -> Result:
        """Run `ssh` until it ends, with `input` on its standard input."""
        ended = subprocess.run(
            self.argv(command, *options, user=user, key=key),
            input=input,
            capture_output=True,
            env=client_environment(**environ or {}),
            timeout=seconds,
            check=False,
        )
        return Result(ended.returncode, ended.stdout, ended.stderr)

    def output(self, command: str, *options: str) -> str:
        """The output of `command`, which has to succeed and print nothing on standard error."""
        result = self.run(command, *options)
        assert (result.status, result.stderr) == (0, b""), result
        return result.stdout.decode()

    def popen(self, command: str | None = None, *options: str) -> subprocess.Popen[bytes]:
        """A running `ssh` with three pipes; the caller ends it."""
        return subprocess.Popen(
            self.argv(command, *options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=client_environment(),
        )

    def terminal(
        self,
        command: str | None = None,
        *options: str,
        size: tuple[int, int] = (24, 80),
        attributes: Callable[[Attributes], None] | None = None,
    ) -> Terminal:
        """`ssh -t` in a terminal window of `size` (rows, columns); `attributes` as in `Terminal`."""
        return Terminal(self.argv(command, "-t", *options), client_environment(), size=size, attributes=attributes)

    def connect(self, **options: object) -> "asyncssh.misc._ACMWrapper[asyncssh.SSHClientConnection]":
        """asyncssh's client: `async with client.connect() as connection`."""
        return asyncssh.connect(
            "127.0.0.1",
            self.server.port,
            **{
                "username": self.server.login,
                "client_keys": [str(self.key)],
                "known_hosts": str(self.server.known_hosts),
                "agent_path": None,
                "config": None,
            }
            | options,
        )
