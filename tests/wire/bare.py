"""A client without a library: it sends any message at any moment, from the first byte on, and to any SSH server.

A blocking socket, one key exchange (curve25519-sha256, AES-128-GCM) and one authentication method, written out, so that
the test alone decides everything that the client does. It works with any server: the host key is not checked.
"""

import hashlib
import socket
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import asyncssh
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support.waiting import PATIENCE
from tests.wire.plain import kexinit, packet, text

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 1, 2, 3, 4, 5, 6, 7
KEXINIT, NEWKEYS, KEX_ECDH_INIT, KEX_ECDH_REPLY = 20, 21, 30, 31
USERAUTH_REQUEST, USERAUTH_SUCCESS = 50, 52
PING, PONG = 192, 193

CLOSED = -1
"""Stands for a message's number: the server has closed the connection."""

STRICT_KEX = b"curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com"
PLAIN_KEX = b"curve25519-sha256,ext-info-c"

_TAG_BYTES = 16


class Message(NamedTuple):
    """A message's number and its payload after the number."""

    number: int
    payload: bytes = b""


class _Direction:
    """AES-128-GCM of one direction (RFC 5647): the last eight bytes of the nonce count the packets."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._cipher = AESGCM(key)
        self._fixed, self._count = nonce[:4], int.from_bytes(nonce[4:], "big")

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count += 1
        return nonce

    def seal(self, payload: bytes) -> bytes:
        padding = 16 - (1 + len(payload)) % 16
        padding += 16 if padding < 4 else 0
        body = bytes([padding]) + payload + bytes(padding)
        length = len(body).to_bytes(4, "big")
        return length + self._cipher.encrypt(self._nonce(), body, length)

    def open(self, length: bytes, sealed: bytes) -> bytes:
        body = self._cipher.decrypt(self._nonce(), sealed, length)
        return body[1 : len(body) - body[0]]


class BareClient:
    """A connection to the SSH server at `port` of 127.0.0.1, up to the server's identification line."""

    def __init__(self, port: int, *, identification: bytes = b"SSH-2.0-bare", strict: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._buffer = b""
        self._kex = STRICT_KEX if strict else PLAIN_KEX
        self._strict = strict
        self._identification = identification
        self._sending: _Direction | None = None
        self._receiving: _Direction | None = None
        self._session = b""
        self._kexinits: list[bytes] = [b"", b""]
        self._secret = X25519PrivateKey.generate()
        self._next: tuple[_Direction, _Direction] | None = None
        self.sequence = 0
        """The sequence number of the next packet to be sent."""
        self.heard: list[Message] = []
        """The server's messages that `exchange_keys` and `authenticate` have read."""
        self.write(identification + b"\r\n")
        self._server_identification = self._read_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    # -- packets ------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes as they are. If the server has closed, that shows when reading."""
        with suppress(ConnectionError):
            self._socket.sendall(data)

    def say(self, number: int, payload: bytes = b"") -> int:
        """Send a message, encrypted if there are keys; returns the sequence number of its packet."""
        message = bytes([number]) + payload
        self.write(packet(message) if self._sending is None else self._sending.seal(message))
        sequence, self.sequence = self.sequence, self.sequence + 1
        if number == NEWKEYS:
            if self._next is not None:  # from now on our side uses the new keys
                self._sending, self._next = self._next[0], None
            if self._strict:
                self.sequence = 0
        return sequence

    def hear(self) -> Message:
        """The server's next message, `CLOSED` when it has closed."""
        length = self._read(4)
        if len(length) < 4:
            return Message(CLOSED)
        if self._receiving is None:
            body = self._read(int.from_bytes(length, "big"))
            payload = body[1 : len(body) - body[0]]
        else:
            sealed = self._read(int.from_bytes(length, "big") + _TAG_BYTES)
            payload = self._receiving.open(length, sealed)
        if payload[0] == NEWKEYS and self._next is not None:
            self._receiving = self._next[1]
        return Message(payload[0], payload[1:])

    def hear_until(self, *numbers: int) -> Message:
        """Read up to a message of one of `numbers`; the messages before it are kept in `heard`."""
        while True:
            message = self.hear()
            self.heard.append(message)
            if message.number in numbers:
                return message
            assert message.number != CLOSED, f"closed while waiting for {numbers}; before that {self.heard}"

    # -- the key exchange, step by step --------------------------------------------------------------------------

    def say_kexinit(self, *, cipher: bytes = b"aes128-gcm@openssh.com") -> None:
        """Send our KEXINIT."""
        self._kexinits[0] = kexinit(kex=self._kex, host_key=b"ssh-ed25519", cipher=cipher)
        self.say(KEXINIT, self._kexinits[0][1:])

    def hear_kexinit(self) -> Message:
        """Read up to the server's KEXINIT."""
        message = self.hear_until(KEXINIT)
        self._kexinits[1] = bytes([KEXINIT]) + message.payload
        return message

    def say_init(self) -> None:
        """Send our half of the exchange."""
        self._secret = X25519PrivateKey.generate()
        self.say(KEX_ECDH_INIT, text(self._secret.public_key().public_bytes_raw()))

    def hear_reply(self) -> None:
        """Read up to the server's NEWKEYS, and compute the keys; the server may use them now, our side does not yet."""
        reply = self.hear_until(KEX_ECDH_REPLY).payload
        host_key, reply = _string(reply)
        theirs, _ = _string(reply)
        ours = self._secret.public_key().public_bytes_raw()
        shared = _mpint(self._secret.exchange(X25519PublicKey.from_public_bytes(theirs)))
        hashed = (self._identification, self._server_identification, *self._kexinits, host_key, ours, theirs)
        exchange = hashlib.sha256(b"".join(map(text, hashed)) + shared).digest()
        self._session = self._session or exchange

        def derived(letter: bytes, size: int) -> bytes:
            return hashlib.sha256(shared + exchange + letter + self._session).digest()[:size]

        self._next = (
            _Direction(derived(b"C", 16), derived(b"A", 12)),
            _Direction(derived(b"D", 16), derived(b"B", 12)),
        )
        self.hear_until(NEWKEYS)

    def exchange_keys(self) -> None:
        """Do a whole key exchange, the first or a later one."""
        self.say_kexinit()
        self.hear_kexinit()
        self.say_init()
        self.hear_reply()
        self.say(NEWKEYS)

    # -- authentication -----------------------------------------------------------------------------------------

    def ask_for_service(self) -> None:
        """Request the authentication service."""
        self.say(SERVICE_REQUEST, text(b"ssh-userauth"))
        self.hear_until(SERVICE_ACCEPT)

    def proof(self, user: str, key: asyncssh.SSHKey) -> bytes:
        """The payload of a correct, signed `publickey` request, after its number."""
        request = text(user.encode()) + text(b"ssh-connection") + text(b"publickey") + b"\1"
        request += text(key.algorithm) + text(key.public_data)
        signature = key.sign(text(self._session) + bytes([USERAUTH_REQUEST]) + request, key.algorithm)
        return request + text(signature)

    def authenticate(self, user: str, key: asyncssh.SSHKey) -> None:
        """Log in."""
        self.say(USERAUTH_REQUEST, self.proof(user, key))
        self.hear_until(USERAUTH_SUCCESS)

    # -- bytes --------------------------------------------------------------------------------------------------

    def _read_line(self) -> bytes:
        while b"\n" not in self._buffer and self._fill():
            pass
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size and self._fill():
            pass
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            return False
        self._buffer += data
        return bool(data)


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The `string` that `data` begins with (RFC 4251 section 5), and the rest."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


def _mpint(data: bytes) -> bytes:
    """The unsigned number `data` as an `mpint` (RFC 4251 section 5)."""
    number = int.from_bytes(data, "big")
    return text(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")
