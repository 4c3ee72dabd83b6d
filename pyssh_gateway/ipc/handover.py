"""The state of an SSH connection as a message: everything that another process needs to continue it.

It is handed over at the moment when USERAUTH_SUCCESS would be sent: between two packets, with no key exchange in
progress. It contains the keys of the connection, so only the process that serves the user gets it.
"""

from typing import Annotated

import msgspec

from pyssh_gateway.ipc.spawner import ProtocolError, message_in

MAX = 192 * 1024
"""The largest state in bytes: `MAX_UNPARSED`, and more than the other fields can take. One packet of our sockets
(`spawner.MAX_MESSAGE`) has room for it."""

MAX_UNPARSED = 64 * 1024
"""The most bytes that were received and not processed. Before a login a read takes 16 KiB, and while a request waits
for its answer there are at most two reads."""

_SEQUENCES = 2**32
"""RFC 4253 section 6.4: packets are numbered modulo this."""

_MAX_COUNT = 2**63 - 1

Line = Annotated[bytes, msgspec.Meta(min_length=8, max_length=255)]
"""An identification line without its end (RFC 4253 section 4.2), which begins with SSH-2.0-."""

Name = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[!-~]*$")]
"""An algorithm's name (RFC 4251 section 6)."""

Names = Annotated[tuple[Name, ...], msgspec.Meta(max_length=32)]
"""Some of the algorithms that we offer or know, of which there are fewer than 32."""

Sequence = Annotated[int, msgspec.Meta(ge=0, lt=_SEQUENCES)]
Count = Annotated[int, msgspec.Meta(ge=0, le=_MAX_COUNT)]


class CipherState(msgspec.Struct, frozen=True):
    """The state of the encryption of one direction.

    `position` is the nonce of the next packet for AES-GCM (12 bytes), the counter block at which it begins for AES-CTR
    (16 bytes), and empty for chacha20-poly1305, whose nonce is the packet's sequence number. `mac` and `mac_key` are
    empty for ciphers with built-in integrity.
    """

    cipher: Name
    key: Annotated[bytes, msgspec.Meta(max_length=64)]
    position: Annotated[bytes, msgspec.Meta(max_length=16)] = b""
    mac: Name = ""
    mac_key: Annotated[bytes, msgspec.Meta(max_length=64)] = b""


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """A connection whose client was accepted but has not been told yet.

    `send_sequence` is the number of our next packet, `receive_sequence` that of the client's next packet; `sending` and
    `receiving` belong to the same packets. `offered_ciphers` are offered in a further key exchange, as in the first
    one. `client_ciphers` are those of our ciphers that the client has, to the server and back. `client_host_keys` are
    the signature algorithms that it accepts from a host key. `user` is the user name of its requests.
    `can_send_ext_info`: EXT_INFO (RFC 8308) is still to be sent with the next keys. `rekey_bytes` were sent with these
    keys, which may be used for `rekey_seconds` more. `unparsed` are received bytes that are in no complete packet yet,
    from the first byte of that packet.
    """

    client_version: Line
    server_version: Line
    session_id: Annotated[bytes, msgspec.Meta(min_length=32, max_length=64)]
    strict_kex: bool
    send_sequence: Sequence
    receive_sequence: Sequence
    sending: CipherState
    receiving: CipherState
    kex: Name
    host_key: Name
    send_compression: Name
    receive_compression: Name
    offered_ciphers: Names
    client_ciphers: tuple[Names, Names] | None
    client_host_keys: Names
    user: Annotated[bytes, msgspec.Meta(min_length=1, max_length=1024)]
    can_send_ext_info: bool
    rekey_bytes: Count
    rekey_seconds: Annotated[float, msgspec.Meta(ge=0)]
    bytes_in: Count
    bytes_out: Count
    unparsed: Annotated[bytes, msgspec.Meta(max_length=MAX_UNPARSED)]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ConnectionState)


def encode(state: ConnectionState) -> bytes:
    """The packet for `state`; `ProtocolError` if `decode` would not accept it."""
    packet = _encoder.encode(state)
    decode(packet)
    return packet


def decode(packet: bytes) -> ConnectionState:
    """The state in `packet`; `ProtocolError` if there is none."""
    if len(packet) > MAX:
        raise ProtocolError(f"state of {len(packet)} bytes is over the limit of {MAX}")
    return message_in(packet, _decoder, "state")
