"""What a connection gives to each of its sessions."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from pyssh_gateway.core import launch
from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.core.login_rules import LoginRules
from pyssh_gateway.core.recordings.rules import Recorded
from pyssh_gateway.events import Identity
from pyssh_gateway.ipc.postauth import Told
from pyssh_gateway.ipc.spawner_client import PostauthSpawnerClient
from pyssh_gateway.postauth.drains import Drains
from pyssh_gateway.postauth.orders.asleep import Asleep
from pyssh_gateway.postauth.recording.tape import Tapes

AUTH_FILE = "sshauth."
"""Prefix of the names of the files that SSH_USER_AUTH points to: sshd's (auth.c, prepare_auth_info_file)."""


class AuthFile:
    """The file that says how a connection's client has authenticated, for scripts that look for it.

    sshd's ExposeAuthInfo: one file per connection, in /tmp, readable only by its account. It is made for the first
    session. `failed` is called with the reason if it can't be made.
    """

    def __init__(self, info: bytes, failed: Callable[[str], None]) -> None:
        self._info = info
        self._failed = failed
        self._path = b""

    def path(self) -> bytes:
        """The file's path, made if need be; empty if there is none."""
        if self._info and not self._path:
            try:
                descriptor, path = tempfile.mkstemp(prefix=AUTH_FILE, dir="/tmp")
                self._path = os.fsencode(path)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(self._info)
            except OSError as error:  # as sshd, serve the session without the file
                self.remove()
                self._failed(f"there is no file to be had in /tmp: {error.strerror or error}")
        return self._path

    def remove(self) -> None:
        """Remove the file: the connection is over."""
        if self._path:
            with suppress(OSError):  # the account may have removed it already
                Path(os.fsdecode(self._path)).unlink()
        self._path = b""


class SessionContext(msgspec.Struct, frozen=True):
    """What a session needs to know about its connection and its process.

    `account` returns the account's passwd entry, or raises `SpawnRefused`. `once_logged` calls a function as soon as
    nothing that was published so far is to be waited for (`MonitorLink.once_logged`). `on_closed` gets the session, and
    whether its connection was lost before the session had ended. `banner` is what a login shell on a terminal shows
    first. `drains` takes the outputs of processes that outlive their channels. `client_takes_eow` is the result of
    `core.compat.takes_eow` for the client. `auth_file` returns the path of `AuthFile`'s file. `command_directory` is as
    in `core.launch.plan`. `asleep` refuses commands as long as nobody seems to be there. What is `recorded` (None:
    nothing) goes to `tapes`.
    """

    conn: str
    session: str
    user: str
    identity: Identity
    endpoints: launch.Endpoints
    spawner: PostauthSpawnerClient
    account: Callable[[], launch.Account]
    drains: Drains
    publish: Callable[[Told], None]
    once_logged: Callable[[Callable[[], None]], None]
    now: Callable[[], float]
    system_env: Callable[[], dict[bytes, bytes]]
    on_network: Callable[[Callable[[bool], None]], Callable[[], None]]
    on_closed: Callable[[str, bool], None]
    rules: LoginRules
    agent_path: Callable[[], bytes]
    end_x11: Callable[[X11Display], None]
    asleep: Asleep
    tapes: Tapes
    recorded: Recorded | None = None
    banner: bytes = b""
    client_takes_eow: bool = False
    auth_file: Callable[[], bytes] = bytes
    command_directory: bytes = b""
