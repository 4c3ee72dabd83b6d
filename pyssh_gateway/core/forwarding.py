"""Which forwards a login may have. Pure: rules and a request in, an answer out."""

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from pyssh_gateway.core.access.source_match import wildcard

ForwardingScope = Literal["all", "local", "remote", "none"]
"""`all`: both ways; `local`: only connections from here outwards (-L, -D, -W, -J); `remote`: only what is listened on
here (-R); `none`: neither. The words are those of AllowTcpForwarding (sshd_config(5)), except that `no` is called
`none`."""

GatewayPorts = Literal["no", "yes", "clientspecified"]
"""From where a port that was opened here for a client can be reached (sshd_config(5), GatewayPorts)."""

LOOPBACK = ("127.0.0.1", "::1")
ANY_ADDRESS = ("0.0.0.0", "::")

MAX_HOST = 255
"""The longest host name (RFC 1035 section 2.3.4)."""


_OUTWARDS: frozenset[ForwardingScope] = frozenset({"all", "local"})
_INWARDS: frozenset[ForwardingScope] = frozenset({"all", "remote"})

_XAUTH_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/-_")
"""The characters that sshd accepts for xauth (session.c, xauth_valid_string)."""


class ForwardingRules(msgspec.Struct, frozen=True):
    """One login's permissions.

    `scope` is for TCP ports, `sockets` for unix sockets; None means that these follow `scope`, and that lists of
    `host:port` exclude them. `permit_open` and `permit_listen` hold `host:port` patterns as in sshd_config(5): `*` for
    any host or port, an IPv6 address in brackets; empty means that all are permitted. `socket_mask` and `socket_unlink`
    are for unix sockets that are listened on (StreamLocalBindMask, StreamLocalBindUnlink). The others are the key's
    restrictions (sshd(8)): `ports` is its port-forwarding option, which covers unix sockets, too; its own lists of
    `host:port` have to permit a forward as well.
    """

    scope: ForwardingScope = "all"
    sockets: ForwardingScope | None = None
    permit_open: tuple[str, ...] = ()
    permit_listen: tuple[str, ...] = ()
    gateway_ports: GatewayPorts = "no"
    socket_mask: int = 0o177
    socket_unlink: bool = False
    agent: bool = True
    x11: bool = False
    ports: bool = True
    key_permit_open: tuple[str, ...] = ()
    key_permit_listen: tuple[str, ...] = ()


def may_connect(rules: ForwardingRules, host: str, port: int) -> str | None:
    """Why the client may not have a connection to `host`:`port`; None if it may."""
    if rules.scope not in _OUTWARDS or not rules.ports:
        return "forwarding is not permitted"
    if not 0 < port <= 65535:
        return f"{port} is not a port"
    if not host or len(host) > MAX_HOST or not host.isprintable():
        return "not a host name"
    if rules.permit_open and not any(_matches(pattern, host, port) for pattern in rules.permit_open):
        return f"connections to {host} port {port} are not permitted"
    if rules.key_permit_open and not any(_is_exactly(permit, host, port) for permit in rules.key_permit_open):
        return f"connections to {host} port {port} are not permitted with this key"
    return None


def may_connect_unix(rules: ForwardingRules) -> str | None:
    """Why the client may not have a connection to a unix socket; None if it may."""
    if _sockets(rules) not in _OUTWARDS or not rules.ports:
        return "forwarding is not permitted"
    if (rules.permit_open and rules.sockets is None) or rules.key_permit_open:
        return "connections to unix sockets are not permitted"
    return None


def may_listen(rules: ForwardingRules, host: str, port: int) -> str | None:
    """Why the client may not have a port opened here; None if it may. Port 0 means any free port."""
    if rules.scope not in _INWARDS or not rules.ports:
        return "listening is not permitted"
    if not 0 <= port <= 65535:
        return f"{port} is not a port"
    if len(host) > MAX_HOST or not host.isprintable():
        return "not a host name"
    if rules.permit_listen and not any(_matches(pattern, host or "*", port) for pattern in rules.permit_listen):
        return f"listening on port {port} is not permitted"
    if rules.key_permit_listen and not any(_covers(permit, host, port) for permit in rules.key_permit_listen):
        return f"listening on port {port} is not permitted with this key"
    return None


def may_listen_unix(rules: ForwardingRules) -> str | None:
    """Why the client may not have a unix socket opened here; None if it may."""
    if _sockets(rules) not in _INWARDS or not rules.ports:
        return "listening is not permitted"
    if (rules.permit_listen and rules.sockets is None) or rules.key_permit_listen:
        return "listening on unix sockets is not permitted"
    return None


def listen_addresses(requested: str, gateway_ports: GatewayPorts) -> tuple[str, ...]:
    """The addresses to bind for a `tcpip-forward` of `requested` (RFC 4254 section 7.1; as sshd)."""
    if requested in LOOPBACK and gateway_ports != "yes":
        return (requested,)
    if gateway_ports == "no":
        return LOOPBACK
    if gateway_ports == "yes" or requested in {"", "*"}:
        return ANY_ADDRESS
    return LOOPBACK if requested == "localhost" else (requested,)


class X11Display(msgspec.Struct, frozen=True):
    """A forwarded X display: its number here, the client's screen, and the cookie that programs have to send."""

    number: int
    screen: int
    protocol: str
    cookie: str

    @property
    def name(self) -> bytes:
        """The value of DISPLAY."""
        return f"localhost:{self.number}.{self.screen}".encode()

    @property
    def xauth(self) -> bytes:
        """The commands for `xauth -` that make the cookie known (sshd's do_rc_files)."""
        display = f"unix:{self.number}.{self.screen}"
        return f"remove {display}\nadd {display} {self.protocol} {self.cookie}\n".encode()

    @property
    def for_rc(self) -> bytes:
        """The line that ~/.ssh/rc and /etc/ssh/sshrc read instead, to do that themselves (sshd(8), SSHRC)."""
        return f"{self.protocol} {self.cookie}\n".encode()


def x11_display(number: int, screen: int, protocol: str, cookie: str) -> X11Display | None:
    """The display, or None if the client's protocol or cookie is malformed: both are passed to xauth."""
    if not 0 < len(protocol) <= 64 or not set(protocol) <= _XAUTH_CHARACTERS:
        return None
    if not 0 < len(cookie) <= 256 or not set(cookie) <= _XAUTH_CHARACTERS or not 0 <= screen < 100:
        return None
    return X11Display(number, screen, protocol, cookie)


def _sockets(rules: ForwardingRules) -> ForwardingScope:
    return rules.scope if rules.sockets is None else rules.sockets


def _matches(pattern: str, host: str, port: int) -> bool:
    wanted_host, wanted_port = _parts(pattern)
    return wanted_port in {"*", str(port)} and fnmatchcase(host.lower(), wanted_host.lower())


def _is_exactly(permit: str, host: str, port: int) -> bool:
    """Whether a key's `permitopen=` names this very host or any (open_match, OpenSSH's channels.c)."""
    wanted_host, wanted_port = _parts(permit)
    return wanted_port in {"*", str(port)} and wanted_host in {"*", host}


def _covers(permit: str, host: str, port: int) -> bool:
    """Whether a key's `permitlisten=` has a pattern for this host (remote_open_match, OpenSSH's channels.c)."""
    wanted_host, wanted_port = _parts(permit)
    return wanted_port in {"*", str(port)} and wildcard(wanted_host.lower(), host.lower())


def _parts(permit: str) -> tuple[str, str]:
    """Host and port of a `host:port`, in which an IPv6 address is in brackets."""
    host, _, port = permit.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port
