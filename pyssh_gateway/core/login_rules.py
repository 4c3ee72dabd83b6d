"""What one account's sessions may do and bring along, put together from the configuration."""

from typing import cast

import msgspec

from pyssh_gateway.config import Config
from pyssh_gateway.core.forwarding import ForwardingRules, ForwardingScope, GatewayPorts


class LoginRules(msgspec.Struct, frozen=True):
    """One account's rules.

    `force_command` runs in the place of whatever a client asks for (None: what it asks for); `env` is set in every
    session; `accept_env` are the patterns of what a client may set; `linger` is how many seconds a session whose
    process has ended waits for output that somebody else still holds open (None: for ever).
    """

    forwarding: ForwardingRules
    force_command: bytes | None
    env: dict[bytes, bytes]
    accept_env: tuple[str, ...]
    linger: float | None


def rules_for(config: Config) -> dict[str, LoginRules]:
    """The rules of every account that may log in, by its name."""
    shared = config.forwarding
    rules = {}
    for login in config.login:
        settings = (setting.encode("utf-8", "surrogateescape").partition(b"=") for setting in login.set_env)
        rules[login.user] = LoginRules(
            forwarding=ForwardingRules(
                scope=cast(ForwardingScope, login.forwarding),
                permit_open=login.permit_open,
                permit_listen=login.permit_listen,
                gateway_ports=cast(GatewayPorts, shared.gateway_ports),
                socket_mask=int(shared.socket_mask, 8),
                socket_unlink=shared.socket_unlink,
                agent=shared.agent,
                x11=shared.x11,
            ),
            force_command=login.force_command.encode("utf-8", "surrogateescape") or None,
            env={name: value for name, _, value in settings},
            accept_env=config.session.accept_env,
            linger=config.session.linger,
        )
    return rules
