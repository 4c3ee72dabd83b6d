"""Which messages are handled at which stage, and what happens to one at the wrong time. Follows OpenSSH.

sshd's dispatch tables (packet.c, dispatch.c, kex.c, auth2.c, serverloop.c) depend only on the connection's stage, and
existing clients rely on them: most messages at a wrong time are answered with UNIMPLEMENTED, unsolicited answers are
ignored, and only a few messages end the connection.
"""

import enum

import msgspec

IGNORE, UNIMPLEMENTED, DEBUG = 2, 3, 4
DISCONNECT, SERVICE_REQUEST, EXT_INFO = 1, 5, 7
KEXINIT, NEWKEYS, KEX_INIT = 20, 21, 30
USERAUTH_REQUEST = 50
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE = 90, 91, 92
CHANNEL_WINDOW_ADJUST, CHANNEL_DATA, CHANNEL_EXTENDED_DATA = 93, 94, 95
CHANNEL_EOF, CHANNEL_CLOSE, CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 96, 97, 98, 99, 100
PING, PONG = 192, 193
"""OpenSSH's PROTOCOL section 1.9: a peer to which `ping@openssh.com` was announced may send a ping at any time."""


class Route(enum.Enum):
    """How a message is handled. `REFUSE` sends UNIMPLEMENTED (RFC 4253 section 11.4); `VIOLATION` disconnects."""

    CONNECTION = enum.auto()
    KEY_EXCHANGE = enum.auto()
    CHANNEL = enum.auto()
    PING = enum.auto()
    IGNORE = enum.auto()
    REFUSE = enum.auto()
    VIOLATION = enum.auto()


class Moment(msgspec.Struct, frozen=True):
    """The stage that a connection has reached.

    `has_keys`: the client's packets are encrypted. `strict`: kex-strict-c-v00@openssh.com. `exchanging`: the client's
    KEXINIT has come, and not yet the NEWKEYS that ends the exchange. `awaits_kex_init` and `awaits_newkeys` say how far
    the exchange is. `awaits_ext_info`: EXT_INFO may come, because the keys are new and no service has been requested.
    `serves_authentication`: ssh-userauth has been granted. `authenticated`: somebody is logged in.
    """

    has_keys: bool
    strict: bool = False
    exchanging: bool = False
    awaits_kex_init: bool = False
    awaits_newkeys: bool = False
    awaits_ext_info: bool = False
    serves_authentication: bool = False
    authenticated: bool = False


_TRANSPORT = {
    DISCONNECT: Route.CONNECTION,
    IGNORE: Route.CONNECTION,
    UNIMPLEMENTED: Route.CONNECTION,
    DEBUG: Route.CONNECTION,
    PING: Route.PING,
    PONG: Route.IGNORE,
}
"""Messages that packet.c handles itself at any time, except during a strict first key exchange."""

AUTHENTICATED = _TRANSPORT | {
    # RFC 4252 section 5.1: requests that were sent ahead are silently ignored after the success. sshd refuses them.
    USERAUTH_REQUEST: Route.IGNORE,
    GLOBAL_REQUEST: Route.CONNECTION,
    REQUEST_SUCCESS: Route.CONNECTION,
    REQUEST_FAILURE: Route.CONNECTION,
    CHANNEL_OPEN: Route.CONNECTION,
    CHANNEL_OPEN_CONFIRMATION: Route.CONNECTION,
    CHANNEL_OPEN_FAILURE: Route.CONNECTION,
    CHANNEL_WINDOW_ADJUST: Route.CHANNEL,
    CHANNEL_DATA: Route.CHANNEL,
    CHANNEL_EXTENDED_DATA: Route.CHANNEL,
    CHANNEL_EOF: Route.CHANNEL,
    CHANNEL_CLOSE: Route.CHANNEL,
    CHANNEL_REQUEST: Route.CHANNEL,
    # We send no channel requests that want a reply, so these answer nothing. serverloop.c ignores them, too.
    CHANNEL_SUCCESS: Route.IGNORE,
    CHANNEL_FAILURE: Route.IGNORE,
}
"""Messages of an authenticated connection whose handling depends on nothing else."""

_FIRST_NOT_TRANSPORT = 50
"""RFC 4250 section 4.1.2: from here on messages belong to authentication and what comes after it."""


def route(number: int, moment: Moment) -> Route:
    """How the message `number` is handled at this `moment`."""
    if not number:  # "Invalid ssh2 packet type" (packet.c)
        return Route.VIOLATION
    if not moment.has_keys:
        return _before_keys(number, moment)
    if moment.authenticated and number in AUTHENTICATED:
        return AUTHENTICATED[number]
    if number in _TRANSPORT:
        return _TRANSPORT[number]
    return _with_keys(number, moment)


def _before_keys(number: int, moment: Moment) -> Route:
    """kex.c: `kex_protocol_error` up to 49, nothing above. A strict exchange accepts only the expected message."""
    if number == DISCONNECT:
        return Route.CONNECTION
    if expected := _of_key_exchange(number, moment):
        return expected
    if moment.strict:
        return Route.VIOLATION
    if number in _TRANSPORT:
        # A PING is not answered yet (packet.c).
        return Route.IGNORE if number == PING else _TRANSPORT[number]
    return Route.REFUSE if number < _FIRST_NOT_TRANSPORT else Route.VIOLATION


def _with_keys(number: int, moment: Moment) -> Route:
    if expected := _of_key_exchange(number, moment):
        return expected
    if moment.authenticated:
        return Route.REFUSE
    served = {
        SERVICE_REQUEST: True,
        EXT_INFO: moment.awaits_ext_info,
        USERAUTH_REQUEST: moment.serves_authentication,
    }
    return Route.CONNECTION if served.get(number) else Route.REFUSE


def _of_key_exchange(number: int, moment: Moment) -> Route | None:
    """How a message of a key exchange is handled; None if the message does not belong to one.

    A second exchange before authentication is not served, so that an unauthenticated client can't make us compute keys
    again and again. auth2.c takes KEXINIT out of the table, too.
    """
    if number == KEXINIT and not moment.exchanging and (moment.authenticated or not moment.has_keys):
        return Route.CONNECTION
    if number == KEX_INIT and moment.awaits_kex_init:
        return Route.KEY_EXCHANGE
    if number == NEWKEYS and moment.awaits_newkeys:
        return Route.CONNECTION
    return None
