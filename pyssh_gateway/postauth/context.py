"""What a session is given by the connection that it belongs to."""

from collections.abc import Callable

import msgspec

from pyssh_gateway.core import launch
from pyssh_gateway.core.forwarding import X11Display
from pyssh_gateway.core.login_rules import LoginRules
from pyssh_gateway.events import Identity
from pyssh_gateway.ipc.postauth import Told
from pyssh_gateway.ipc.spawner_client import PostauthSpawnerClient
from pyssh_gateway.postauth.drains import Drains


class SessionContext(msgspec.Struct, frozen=True):
    """What a session needs to know about its connection and its process.

    `account` gives the account's passwd entry, or raises `SpawnRefused`. `on_closed` is told the session, and whether
    its connection went before it had ended. `banner` is what a login shell on a terminal shows first. `drains` takes
    the outputs of processes that outlive their channels. `client_takes_eow` is what `core.compat.takes_eow` says of the
    client. `command_directory` is as in `core.launch.plan`.
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
    now: Callable[[], float]
    system_env: Callable[[], dict[bytes, bytes]]
    on_network: Callable[[Callable[[bool], None]], Callable[[], None]]
    on_closed: Callable[[str, bool], None]
    rules: LoginRules
    agent_path: Callable[[], bytes]
    end_x11: Callable[[X11Display], None]
    banner: bytes = b""
    client_takes_eow: bool = False
    command_directory: bytes = b""
