# ruff: noqa: SLF001 - the state that is asyncssh's has no public names
"""A connection is handed over between two packets or not at all, and continues unchanged."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

import asyncssh
import msgspec
import pytest
from asyncssh.connection import SSHServerConnectionOptions
from asyncssh.constants import MSG_GLOBAL_REQUEST, MSG_KEXINIT, MSG_USERAUTH_REQUEST

from pyssh_gateway.ipc.handover import CipherState, ConnectionState
from pyssh_gateway.ssh.ciphers import from_state
from pyssh_gateway.ssh.handover import Movable, NotAtBoundary, state_of
from pyssh_gateway.ssh.key_exchange import Services

T = TypeVar("T")

RECEIVING = CipherState("aes128-ctr", bytes(range(16)), bytes(16), "hmac-sha2-256", bytes(32))
STATE = ConnectionState(
    client_version=b"SSH-2.0-client",
    server_version=b"SSH-2.0-server",
    session_id=bytes(range(32)),
    strict_kex=True,
    send_sequence=2**32 - 1,
    receive_sequence=8,
    sending=CipherState("aes256-gcm@openssh.com", bytes(32), bytes(11) + b"\7"),
    receiving=RECEIVING,
    kex="curve25519-sha256",
    host_key="ssh-ed25519",
    send_compression="none",
    receive_compression="none",
    offered_ciphers=("aes128-gcm@openssh.com", "aes256-gcm@openssh.com"),
    client_ciphers=(("aes128-gcm@openssh.com",), ("aes256-ctr",)),
    client_host_keys=("ssh-ed25519", "rsa-sha2-256"),
    user=b"example",
    can_send_ext_info=False,
    rekey_bytes=12345,
    rekey_seconds=1800.0,
    bytes_in=3000,
    bytes_out=2000,
    unparsed=b"a beginning",
)


class Wire(asyncio.Transport):
    """The part of a socket's transport that the state uses."""

    waiting = 0
    closing = False

    def get_write_buffer_size(self) -> int:
        """The number of bytes not written yet."""
        return self.waiting

    def is_closing(self) -> bool:
        """Whether it is being closed."""
        return self.closing

    def write(self, data: object) -> None:
        """Do nothing; the interface requires it."""


class Given:
    """Replaces the receiver of a connection."""

    def __init__(self) -> None:
        self.states: list[bytes] = []

    def hand_over(self, state: bytes, _sock: object) -> None:
        """Record the state."""
        self.states.append(state)


def resumed(state: ConnectionState = STATE, given: Given | None = None) -> Movable:
    """A connection with this state and a transport; to be called in a loop."""
    options = SSHServerConnectionOptions(
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")], gss_host=None, login_timeout=0
    )
    connection = Movable(asyncio.get_running_loop(), options, cast(Services, given), state)
    connection._transport = Wire()
    return connection


def in_loop(scenario: Callable[[], T]) -> T:
    """Call `scenario` in a loop, which a connection needs."""

    async def run() -> T:
        return scenario()

    return asyncio.run(run())


def without_clock(state: ConnectionState) -> ConnectionState:
    """The state, with the value that the clock changes set to STATE's."""
    assert STATE.rekey_seconds - 60 < state.rekey_seconds <= STATE.rekey_seconds
    return msgspec.structs.replace(state, rekey_seconds=STATE.rekey_seconds)


def test_a_state_that_was_taken_up_is_the_state_that_is_given() -> None:
    """A connection made from a state gives the same state, so that it could be handed over again."""
    assert in_loop(lambda: without_clock(state_of(resumed()))) == STATE


def test_the_packet_that_is_being_served_counts_as_received() -> None:
    """The packet whose handler is running counts as received, as the hand-over is in the middle of it."""

    def scenario() -> int:
        connection = resumed(msgspec.structs.replace(STATE, receive_sequence=2**32 - 1))
        connection.await_handler(asyncio.sleep(0), MSG_USERAUTH_REQUEST, 2**32 - 1)
        return state_of(connection).receive_sequence

    assert in_loop(scenario) == 0


def test_a_packet_of_which_the_beginning_has_come_counts_as_not_begun() -> None:
    """A partly received packet is handed over from its start, although its first block was decrypted for the length."""

    def scenario() -> None:
        client = from_state(RECEIVING)
        sealed = bytes(client.seal(STATE.receive_sequence, MSG_GLOBAL_REQUEST, (b"text",)))
        connection = resumed(msgspec.structs.replace(STATE, unparsed=sealed[:20]))
        assert connection._reader.next(connection._recv_seq) is None
        state = state_of(connection)
        assert without_clock(state) == msgspec.structs.replace(STATE, unparsed=sealed[:20])
        again = resumed(msgspec.structs.replace(state, unparsed=sealed))
        message = again._reader.next(again._recv_seq)
        assert message is not None
        assert message.get_full_payload() == bytes([MSG_GLOBAL_REQUEST]) + b"text"

    in_loop(scenario)


def test_only_names_that_we_know_are_in_a_state() -> None:
    """A state has only algorithms that we know: a client with ten thousand of them does not make it too large."""

    def scenario() -> ConnectionState:
        connection = resumed()
        assert connection.client_ciphers is not None
        many = frozenset({"aes128-ctr"} | {f"cipher-{number}" for number in range(10_000)})
        connection.client_ciphers = msgspec.structs.replace(connection.client_ciphers, to_server=many)
        connection.client_host_key_algs = (*(b"%d" % number for number in range(10_000)), b"ssh-ed25519")
        return state_of(connection)

    state = in_loop(scenario)
    assert state.client_ciphers == (("aes128-ctr",), ("aes256-ctr",))
    assert state.client_host_keys == ("ssh-ed25519",)


REFUSED: dict[str, tuple[str, Callable[[Movable], None]]] = {
    "closed": ("closed", lambda conn: setattr(conn, "_transport", None)),
    "closing": ("closed", lambda conn: setattr(conn._transport, "closing", True)),
    "no keys to send with": ("no keys", lambda conn: setattr(conn, "_send_encryption", None)),
    "no keys to receive with": ("no keys", lambda conn: setattr(conn, "_recv_encryption", None)),
    "exchange": ("key exchange is under way", lambda conn: setattr(conn, "_kex", object())),
    "NEWKEYS": ("key exchange is under way", lambda conn: setattr(conn, "_next_recv_encryption", object())),
    "our half": ("key exchange is under way", lambda conn: setattr(conn, "_kex_complete", False)),
    "KEXINIT sent": ("KEXINIT is outstanding", lambda conn: setattr(conn, "_kexinit_sent", True)),
    "KEXINIT waits": ("KEXINIT is outstanding", lambda conn: setattr(conn, "_kexinit_waits", object())),
    "deferred": ("wait to be sent", lambda conn: conn._deferred_packets.append((MSG_GLOBAL_REQUEST, (b"",)))),
    "in the outbox": ("has been written", lambda conn: setattr(conn, "_outbox", bytearray(b"x"))),
    "in the transport": ("has been written", lambda conn: setattr(conn._transport, "waiting", 1)),
    "logged in": ("nobody is logging in", lambda conn: setattr(conn, "_auth_complete", True)),
    "no service": ("nobody is logging in", lambda conn: setattr(conn, "_auth_in_progress", False)),
    "no name": ("nobody is logging in", lambda conn: setattr(conn, "_user_of_first_request", None)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_state_is_refused_in_the_middle_of_anything(case: str) -> None:
    """In the middle of any operation a state is refused, as another process could not complete the operation."""
    reason, disturb = REFUSED[case]

    def scenario() -> None:
        connection = resumed()
        disturb(connection)
        with pytest.raises(NotAtBoundary, match=reason):
            state_of(connection)

    in_loop(scenario)


def test_a_login_in_the_middle_of_something_ends_the_connection() -> None:
    """A client that is accepted but can't be handed over is disconnected, and its state is given to no process."""
    given = Given()

    async def scenario() -> None:
        connection = resumed(given=given)
        connection._deferred_packets.append((MSG_KEXINIT, (b"",)))
        with pytest.raises(asyncssh.ServiceNotAvailable, match="packets wait to be sent"):
            await connection.send_userauth_success()

    asyncio.run(scenario())
    assert given.states == []


@pytest.mark.parametrize(
    "state",
    [
        msgspec.structs.replace(STATE, sending=CipherState("aes128-cbc", bytes(16))),
        msgspec.structs.replace(STATE, receiving=CipherState("none", b"")),
        msgspec.structs.replace(STATE, user=b"\xff"),
    ],
)
def test_what_no_connection_can_be_is_not_taken_up(state: ConnectionState) -> None:
    """A well-formed state with impossible values is refused before anything is sent."""
    with pytest.raises(ValueError, match=r"no state|can't decode"):
        in_loop(lambda: resumed(state))
