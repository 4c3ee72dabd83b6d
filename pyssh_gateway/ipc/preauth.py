"""The messages between the monitor and preauth, the process that serves one client until it has logged in.

Each connection has a socket pair of its own, so no message names its connection: all messages on the pair are about the
client whose socket the monitor has sent over it. The framing is that of `ipc.spawner`. The sizes are limited to what an
honest client can need; a larger message ends preauth, and with it the connection.
"""

from typing import Annotated, Literal

import msgspec

from pyssh_gateway.config.machine_values import MAX_BANNER
from pyssh_gateway.core.strangers.hassh import PATTERN as HASSH
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, message_in, packet_of

MAX_USER = 1023
"""Bytes of a user name; asyncssh accepts no longer one. Linux's useradd makes none over 32."""

MAX_NAME = 64
"""Characters of an algorithm's or a method's name (RFC 4251 section 6). No real name is longer; the rest is cut off."""

MAX_KEY = 64 * 1024
"""Bytes of a key or certificate: twice what `core.access.certificates` reads."""

MAX_SIGNATURE = 16 * 1024
"""Bytes of a signature; the longest, of an RSA key of 16384 bits, has 2 KiB."""

MAX_REASON = 4 * 1024
"""Characters of the reason why a connection ended; it may quote the client."""

MAX_CRASH = 32 * 1024
"""Characters of a traceback."""

MAX_HOST_KEYS = 16
"""Keys that are offered for key exchange: ed25519, ECDSA on three curves, RSA with two algorithms, and the same with
certificates."""

MAX_IDENTIFICATION = 255
"""RFC 4253 section 4.2, without the end of the line."""

MAX_STATE = MAX_MESSAGE - 1024
"""Bytes of a connection's state, which has a message of its own."""

User = Annotated[bytes, msgspec.Meta(max_length=MAX_USER)]
Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
AlgorithmBytes = Annotated[bytes, msgspec.Meta(max_length=MAX_NAME)]
Blob = Annotated[bytes, msgspec.Meta(max_length=MAX_KEY)]
Signature = Annotated[bytes, msgspec.Meta(max_length=MAX_SIGNATURE)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

HASH_BYTES = frozenset({32, 48, 64})
"""Lengths of an exchange hash: SHA-256, SHA-384, SHA-512."""


class OfferedKey(msgspec.Struct, frozen=True):
    """A public key of the server's, and the signature algorithm that it is offered for in key exchange."""

    algorithm: AlgorithmBytes
    blob: Blob


class Serve(msgspec.Struct, frozen=True, tag="serve"):
    """Monitor: serve this client. Descriptor: its socket.

    The monitor has sent the line `identification` already. `attempts` are the failures that the client may have,
    `has_aes`: the processor has AES instructions; `without_gcm`: clients from there are known to lack AES-GCM;
    `is_direct`: the client did not come through a proxy. `banner` is the text before the login; empty: none.
    """

    identification: Annotated[bytes, msgspec.Meta(max_length=MAX_IDENTIFICATION)]
    host_keys: Annotated[tuple[OfferedKey, ...], msgspec.Meta(max_length=MAX_HOST_KEYS)]
    attempts: Annotated[int, msgspec.Meta(ge=1, le=100)]
    has_aes: bool
    without_gcm: bool
    is_direct: bool
    banner: Annotated[bytes, msgspec.Meta(max_length=MAX_BANNER + 1)] = b""


class Signed(msgspec.Struct, frozen=True, tag="signed"):
    """Monitor: the requested signature."""

    signature: Signature


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """Monitor: the outcome of an attempt. `last`: it was denied and is the last one: send `message` and disconnect."""

    result: Literal["offered", "accepted", "denied"]
    last: bool
    message: Annotated[str, msgspec.Meta(max_length=MAX_REASON)] = ""


class Disconnect(msgspec.Struct, frozen=True, tag="disconnect"):
    """Monitor: disconnect the client, for this reason, and exit."""

    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class Sign(msgspec.Struct, frozen=True, tag="sign"):
    """Preauth: sign the exchange hash of the first key exchange with the key of `algorithm`. May be asked once.

    Answered by `Signed`. The hash is the session id from now on (RFC 4253 section 7.2).
    """

    algorithm: AlgorithmBytes
    hash: Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]

    def __post_init__(self) -> None:
        """Raise ValueError for a length that is no hash's; the decoder makes a ValidationError of it."""
        if len(self.hash) not in HASH_BYTES:
            raise ValueError("not a hash")


class Attempt(msgspec.Struct, frozen=True, tag="attempt"):
    """Preauth: the client asks to log in (RFC 4252 section 5). Answered by `Answer`.

    With `publickey`, `algorithm`, `blob` and `signature` are the request's; `signature` None: the key is only offered.
    With another method, which is refused and counts, they are empty.
    """

    user: User
    method: Name
    algorithm: Name = ""
    blob: Blob = b""
    signature: Signature | None = None


class Unwalled(msgspec.Struct, frozen=True, tag="unwalled"):
    """Preauth: this machine lacks some parts of the sandbox; a line for each that is missing."""

    missing: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=MAX_REASON)], ...], msgspec.Meta(max_length=16)]


class Greeted(msgspec.Struct, frozen=True, tag="greeted"):
    """Preauth: the client's identification line, and the fingerprints of both offers. At most once.

    Sent when the first KEXINIT has come, before it is known whether the two have algorithms in common.
    """

    client: Annotated[bytes, msgspec.Meta(max_length=MAX_IDENTIFICATION)]
    hassh: Annotated[str, msgspec.Meta(pattern=HASSH)]
    hassh_server: Annotated[str, msgspec.Meta(pattern=HASSH)]


class CiphersMissing(msgspec.Struct, frozen=True, tag="ciphers-missing"):
    """Preauth: the client has none of the ciphers that it was offered."""


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """Preauth: the connection has ended before a login.

    `goodbye`: the client disconnected on purpose. `crash` is the traceback of a bug of ours, or empty.
    """

    reason: Annotated[str, msgspec.Meta(max_length=MAX_REASON)]
    goodbye: bool
    bytes_in: Count
    bytes_out: Count
    crash: Annotated[str, msgspec.Meta(max_length=MAX_CRASH)]


class State(msgspec.Struct, frozen=True, tag="state"):
    """Preauth: the state from which postauth continues the connection, after an accepted attempt. The last message."""

    state: Annotated[bytes, msgspec.Meta(max_length=MAX_STATE)]


FromMonitor = Serve | Signed | Answer | Disconnect
FromPreauth = Unwalled | Greeted | Sign | Attempt | CiphersMissing | Ended | State

_monitor_decoder: msgspec.msgpack.Decoder[FromMonitor] = msgspec.msgpack.Decoder(FromMonitor)
_preauth_decoder: msgspec.msgpack.Decoder[FromPreauth] = msgspec.msgpack.Decoder(FromPreauth)


def encode(message: FromMonitor | FromPreauth) -> bytes:
    """The packet for `message`; `ProtocolError` if it can't be sent."""
    return packet_of(message)


def decode_from_monitor(packet: bytes) -> FromMonitor:
    """The monitor's message in `packet`."""
    return message_in(packet, _monitor_decoder, "message of the monitor's")


def decode_from_preauth(packet: bytes) -> FromPreauth:
    """Preauth's message in `packet`."""
    return message_in(packet, _preauth_decoder, "message of preauth's")
