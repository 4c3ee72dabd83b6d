"""The hand-over of an accepted client's connection, which the client must not notice, whatever it sends ahead."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import pytest

from pyssh_gateway.system.processor import processor_has_aes
from tests.conftest import KeyPair
from tests.support.server import Server
from tests.support.waiting import until
from tests.wire.bare import (
    IGNORE,
    KEXINIT,
    NEWKEYS,
    SERVICE_ACCEPT,
    SERVICE_REQUEST,
    UNIMPLEMENTED,
    USERAUTH_REQUEST,
    USERAUTH_SUCCESS,
    BareClient,
)
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_OPEN,
    CHANNEL_REQUEST,
    GLOBAL_REQUEST,
    OPEN_CONFIRMATION,
    REQUEST_FAILURE,
    USERAUTH_FAILURE,
    USERAUTH_PK_OK,
    u32,
)

WAITING_BYTES_AT = 4
"""A field of a line of /proc/net/tcp (proc(5)): bytes in the send queue and the receive queue, in hexadecimal."""


class Ahead(BareClient):
    """A client that sends several messages in one piece, and knows how much it has sent."""

    _together: bytes | None = None
    sent = received = 0

    def write(self, data: bytes) -> None:
        """Send bytes, or keep them for `together`."""
        if self._together is None:
            self.sent += len(data)
            super().write(data)
        else:
            self._together += data

    def _fill(self) -> bool:
        before = len(self._buffer)
        there_is_more = super()._fill()
        self.received += len(self._buffer) - before
        return there_is_more

    @contextmanager
    def together(self) -> Iterator[None]:
        """Messages of this block are sent at its end, by one call."""
        with self.kept() as pieces:
            yield
        self.write(pieces[0])

    @contextmanager
    def kept(self) -> Iterator[list[bytes]]:
        """Messages of this block are not sent, but are in the list afterwards."""
        pieces: list[bytes] = []
        self._together = b""
        yield pieces
        pieces.append(self._together)
        self._together = None

    def ready(self) -> None:
        """Everything that comes before the authentication requests."""
        self.exchange_keys()
        self.ask_for_service()

    def prove(self, server: Server, key: KeyPair) -> None:
        """Send the request that is accepted."""
        self.say(USERAUTH_REQUEST, self.proof(server.login, asyncssh.read_private_key(key.private)))

    def ask(self) -> None:
        """Send a global request that is answered with a failure; nothing else gets that answer."""
        self.say(GLOBAL_REQUEST, text(b"nobody@example.com") + b"\1")

    def has_answer(self) -> None:
        """Wait for the answer to `ask`: everything before it has been served."""
        self.hear_until(REQUEST_FAILURE)

    def until_read(self, server: Server) -> None:
        """Return when the server has read everything that was sent, whether or not it answers."""
        ours = f":{self._socket.getsockname()[1]:04X}"
        theirs = f":{server.port:04X}"

        def nothing_waits() -> bool:
            # One of the two lines is the server's end, with its unread bytes; the other has the bytes on their way.
            lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            waiting = {(line[1][-5:], line[2][-5:]): line[WAITING_BYTES_AT].split(":") for line in lines}
            sending, unread = waiting[ours, theirs][0], waiting[theirs, ours][1]
            return not int(sending, 16) and not int(unread, 16)

        until(nothing_waits, what="the server to have read")


@pytest.fixture(params=[False, True], ids=["plain", "strict"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Ahead]:
    """A client with its service granted, with and without strict key exchange, which number packets differently."""
    with Ahead(server.port, strict=request.param) as client:
        client.ready()
        yield client


def test_success_is_followed_by_the_host_keys(server: Server, user_key: KeyPair, client: Ahead) -> None:
    """OpenSSH's clients and others accept the announcement only after SUCCESS; nothing else is sent there."""
    client.prove(server, user_key)
    client.ask()
    heard = [client.hear() for _ in range(3)]
    assert [message.number for message in heard] == [USERAUTH_SUCCESS, GLOBAL_REQUEST, REQUEST_FAILURE]
    assert heard[1].payload.startswith(text(b"hostkeys-00@openssh.com") + b"\0")


@pytest.mark.soak
def test_input_may_be_split_anywhere(server: Server, user_key: KeyPair) -> None:
    """Wherever a read ends, in the login or in later data, each byte is served once, and in order."""
    at = size = 0
    while at <= size:
        with Ahead(server.port, strict=bool(at % 2)) as client:
            client.ready()
            with client.kept() as pieces:
                client.prove(server, user_key)
                client.say(CHANNEL_OPEN, text(b"session") + u32(1, 1 << 20, 1 << 15))
                client.ask()
            size = len(pieces[0])
            client.write(pieces[0][:at])
            client.until_read(server)
            client.write(pieces[0][at:])
            client.has_answer()
            if OPEN_CONFIRMATION not in [message.number for message in client.heard]:  # a task opens the channel
                client.hear_until(OPEN_CONFIRMATION)
            numbers = [message.number for message in client.heard if message.number != GLOBAL_REQUEST]
            answers = numbers[numbers.index(SERVICE_ACCEPT) + 1 :]
            assert (answers[0], sorted(answers[1:])) == (USERAUTH_SUCCESS, [REQUEST_FAILURE, OPEN_CONFIRMATION]), at
        at += 1
    assert size > 256


def test_a_login_byte_by_byte(server: Server, user_key: KeyPair) -> None:
    """A client on the slowest line gets in, with its commands following the login at once."""
    with Ahead(server.port) as client:
        client.ready()
        with client.kept() as pieces:
            client.prove(server, user_key)
            client.ask()
        for byte in pieces[0]:
            client.write(bytes([byte]))
        client.has_answer()


def test_a_key_exchange_that_was_begun_ahead(server: Server, user_key: KeyPair, client: Ahead) -> None:
    """A KEXINIT that follows the login at once is served after it: it is answered, and the new keys work."""
    with client.together():
        client.prove(server, user_key)
        client.say_kexinit()
    client.hear_until(USERAUTH_SUCCESS)
    client.hear_kexinit()
    client.say_init()
    client.hear_reply()
    client.say(NEWKEYS)
    client.ask()
    client.has_answer()


def test_many_key_exchanges_afterwards(server: Server, user_key: KeyPair, client: Ahead) -> None:
    """Packet numbers, keys and the session id continue as if there had been no hand-over."""
    client.prove(server, user_key)
    client.hear_until(USERAUTH_SUCCESS)
    for _ in range(5):
        client.exchange_keys()
        client.ask()
        client.has_answer()


@pytest.mark.skipif(not processor_has_aes(), reason="nobody is steered: the processor has no AES")
def test_a_later_key_exchange_offers_what_the_first_one_did(server: Server, user_key: KeyPair) -> None:
    """OpenSSH prefers chacha20-poly1305, which costs several times as much: the first rekey must not select it."""

    def ciphers(payload: bytes) -> bytes:
        rest = payload[16:]
        for _ in range(2):
            rest = rest[4 + int.from_bytes(rest[:4], "big") :]
        return rest[4 : 4 + int.from_bytes(rest[:4], "big")]

    with Ahead(server.port, identification=b"SSH-2.0-OpenSSH_9.2p1") as client:
        client.ready()
        client.prove(server, user_key)
        client.hear_until(USERAUTH_SUCCESS)
        client.exchange_keys()
        offers = [ciphers(message.payload) for message in client.heard if message.number == KEXINIT]
    assert offers == [b"aes128-gcm@openssh.com,aes256-gcm@openssh.com"] * 2


def test_much_that_was_sent_ahead(server: Server, user_key: KeyPair, client: Ahead) -> None:
    """More than several reads wait while the connection changes hands; everything is served."""
    data = hashlib.shake_128(b"ahead").digest(200_000)
    with client.together():
        client.prove(server, user_key)
        for start in range(0, len(data), 1 << 15):
            client.say(IGNORE, text(data[start : start + (1 << 15)]))
        client.say(CHANNEL_OPEN, text(b"session") + u32(1, 1 << 20, 1 << 15))
    channel = client.hear_until(OPEN_CONFIRMATION).payload[4:8]
    with client.together():
        client.say(CHANNEL_REQUEST, channel + text(b"exec") + b"\0" + text(b"sha256sum"))
        for start in range(0, len(data), 1 << 15):
            client.say(CHANNEL_DATA, channel + text(data[start : start + (1 << 15)]))
        client.say(CHANNEL_EOF, channel)
    client.hear_until(CHANNEL_CLOSE)
    output = b"".join(message.payload[8:] for message in client.heard if message.number == CHANNEL_DATA)
    assert output.split()[:1] == [hashlib.sha256(data).hexdigest().encode()]


def test_requests_that_were_sent_ahead_are_answered_in_turn(server: Server, user_key: KeyPair, client: Ahead) -> None:
    """As in sshd, requests are answered in turn, and those after the accepted one are served after the login."""
    key = asyncssh.read_private_key(user_key.private)
    name = text(server.login.encode()) + text(b"ssh-connection")
    with client.together():
        client.say(USERAUTH_REQUEST, name + text(b"none"))
        client.say(USERAUTH_REQUEST, name + text(b"publickey") + b"\0" + text(key.algorithm) + text(key.public_data))
        client.prove(server, user_key)
        client.prove(server, user_key)  # which nobody answers (RFC 4252 section 5.1)
        client.ask()
    client.has_answer()
    numbers = [message.number for message in client.heard if message.number != GLOBAL_REQUEST]
    answers = numbers[numbers.index(SERVICE_ACCEPT) + 1 :]
    assert answers == [USERAUTH_FAILURE, USERAUTH_PK_OK, USERAUTH_SUCCESS, REQUEST_FAILURE]


def test_nothing_of_the_connection_protocol_is_served_before_the_login(server: Server, client: Ahead) -> None:
    """Messages that were sent ahead of a refused request are refused, too: only a success makes them count."""
    with client.together():
        client.say(USERAUTH_REQUEST, text(server.login.encode()) + text(b"ssh-connection") + text(b"none"))
        client.ask()
        client.say(SERVICE_REQUEST, text(b"ssh-userauth"))
    client.hear_until(SERVICE_ACCEPT)
    numbers = [message.number for message in client.heard]
    assert numbers[-3:] == [USERAUTH_FAILURE, UNIMPLEMENTED, SERVICE_ACCEPT]


def test_the_log_has_one_connection(server: Server, user_key: KeyPair) -> None:
    """The connection opens once and closes once in the log, and the bytes of both processes are counted."""
    mark = server.mark()
    with Ahead(server.port) as client:
        client.ready()
        client.prove(server, user_key)
        client.ask()
        client.has_answer()
    closed = server.wait_for("connection.closed", since=mark)
    assert (closed["bytes_in"], closed["bytes_out"]) == (client.sent, client.received)
    assert closed["user"] == server.login
    events = [event["event"] for event in server.events[mark:]]
    assert events.count("connection.opened") == events.count("connection.closed") == 1
    assert events.count("connection.authenticated") == 1


@pytest.mark.parametrize("attempt", range(10))
def test_a_client_that_is_gone_before_it_is_in(server: Server, user_key: KeyPair, attempt: int) -> None:
    """A client that leaves before, during or after the hand-over: its connection closes once, and nothing is left."""
    mark = server.mark()
    with Ahead(server.port) as client:
        client.ready()
        client.prove(server, user_key)
        if attempt % 2:
            client.hear_until(USERAUTH_SUCCESS)
    server.wait_for("connection.closed", since=mark)
    assert len(server.find("connection.closed", mark)) == 1
    assert server.find("internal.error", mark) == []
