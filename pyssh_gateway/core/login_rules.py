"""What one account's sessions may do and set: by the configuration, and restricted by the key's options."""

from typing import cast

import msgspec

from pyssh_gateway.config.types import Config, Forwarding, Login
from pyssh_gateway.core.access.key_options import KeyOptions
from pyssh_gateway.core.forwarding import (
    ForwardingRules,
    ForwardingScope,
    GatewayPorts,
    may_connect_unix,
    may_listen_unix,
)
from pyssh_gateway.core.transfers.sftp_options import INTERNAL_SFTP, is_internal_sftp

_SERVERS_OWN = frozenset({b"SSH_CLIENT", b"SSH_CONNECTION", b"SSH_ORIGINAL_COMMAND", b"SSH_TTY", b"SSH_USER_AUTH"})
_SERVERS_OWN_PREFIX = b"PYSSH_"
"""The prefix of variables with the server's facts about a session: a key's options can't set them (sshd overwrites
them)."""


class LoginRules(msgspec.Struct, frozen=True):
    """One account's rules.

    `force_command` runs instead of what a client requests (None: the request is run); `env` is set in every session;
    `accept_env` are patterns of the variables that a client may set; `linger` is how many seconds a session whose
    process has ended waits for output that another process still holds open (None: for ever); `pty`: whether there are
    terminals; `user_rc`: whether the account's ~/.ssh/rc is run.
    """

    forwarding: ForwardingRules
    force_command: bytes | None
    env: dict[bytes, bytes]
    accept_env: tuple[str, ...]
    linger: float | None
    pty: bool = True
    user_rc: bool = True


def rules_for(config: Config) -> dict[str, LoginRules]:
    """The rules of every account that may log in, by its name."""
    linger = config.session.linger
    rules = {}
    for login in config.login:
        env: dict[bytes, bytes] = {}
        for setting in login.set_env:
            name, _, value = setting.encode("utf-8", "surrogateescape").partition(b"=")
            env.setdefault(name, value)  # of equal names the first counts, as in sshd (servconf.c, sSetEnv)
        rules[login.user] = LoginRules(
            forwarding=_forwarding(login, config.forwarding),
            force_command=_forced(login),
            env=env,
            accept_env=config.session.accept_env,
            linger=None if linger is None else float(linger),  # sent to another process, as a plain float
            # With a forced command, a writer of the account's files must not choose what runs (session.c, do_rc_files).
            user_rc=_forced(login) is None,
        )
    return rules


def _forced(login: Login) -> bytes | None:
    """The command that is forced. In a chroot there is nothing but the SFTP server."""
    return login.force_command.encode("utf-8", "surrogateescape") or (INTERNAL_SFTP if login.chroot else None)


def _forwarding(login: Login, shared: Forwarding) -> ForwardingRules:
    """What a login may forward. Its own settings for the agent and X11 override those for everybody.

    `forwarding = "none"` is sshd's DisableForwarding, except for what the login itself enables. Unix sockets are files,
    and the process that makes and connects them is outside the login's chroot: a login with a chroot has none.
    """
    if login.chroot:
        login = msgspec.structs.replace(login, forward_sockets="none", forward_agent=False, forward_x11=False)
    nothing = login.forwarding == "none"
    return ForwardingRules(
        scope=cast(ForwardingScope, login.forwarding),
        sockets=cast(ForwardingScope | None, login.forward_sockets),
        permit_open=login.permit_open,
        permit_listen=login.permit_listen,
        gateway_ports=cast(GatewayPorts, shared.gateway_ports),
        socket_mask=int(shared.socket_mask, 8),
        socket_unlink=shared.socket_unlink,
        agent=shared.agent and not nothing if login.forward_agent is None else login.forward_agent,
        x11=shared.x11 and not nothing if login.forward_x11 is None else login.forward_x11,
    )


def in_force(login: Login, shared: Forwarding) -> Login:
    """The login with the effective value of each setting that follows another one."""
    rules = _forwarding(login, shared)
    ways = (may_connect_unix(rules) is None, may_listen_unix(rules) is None)
    sockets = {(True, True): "all", (True, False): "local", (False, True): "remote", (False, False): "none"}[ways]
    return msgspec.structs.replace(login, forward_sockets=sockets, forward_agent=rules.agent, forward_x11=rules.x11)


def chroot_problems(login: Login) -> list[str]:
    """The settings of a login that can't be combined with its `chroot`: each with the reason."""
    if not login.chroot:
        return []
    forced = login.force_command.encode("utf-8", "surrogateescape")
    problems = []
    if forced and not is_internal_sftp(forced):
        problems.append("force_command: with chroot it is internal-sftp, or left out: no program runs there")
    files = {"forward_sockets": login.forward_sockets in {None, "none"}, "forward_agent": not login.forward_agent}
    for key, fits in (files | {"forward_x11": not login.forward_x11}).items():
        if not fits:
            problems.append(f"{key}: can't be had with chroot: the sockets would be outside of it")
    return problems


def restrict(rules: LoginRules, options: KeyOptions) -> LoginRules:
    """The account's rules, restricted by the key's options. What options add has lower priority than the rules.

    The configuration's command is run instead of the key's, and its variables stay as they are. If it forces a command,
    the key's variables are not set at all: the author of a key's line must not choose what runs, and many variables
    (BASH_ENV, PATH) do. Call it once for a login: a second key's lists would replace the first's.
    """
    forwarding = msgspec.structs.replace(
        rules.forwarding,
        ports=options.port_forwarding,
        agent=rules.forwarding.agent and options.agent_forwarding,
        x11=rules.forwarding.x11 and options.x11_forwarding,
        key_permit_open=options.permit_open,
        key_permit_listen=options.permit_listen,
    )
    restricted = msgspec.structs.replace(
        rules, forwarding=forwarding, pty=rules.pty and options.pty, user_rc=rules.user_rc and options.user_rc
    )
    if rules.force_command is not None:
        return restricted
    env = {name: value for name, value in options.environment if _may_set(name)}
    return msgspec.structs.replace(restricted, force_command=options.command, env=env | rules.env)


def _may_set(name: bytes) -> bool:
    return name not in _SERVERS_OWN and not name.startswith(_SERVERS_OWN_PREFIX)
