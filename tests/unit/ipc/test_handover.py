"""The state of a connection as a message: it arrives unchanged, and nothing else is taken for one."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.ipc.handover import MAX, MAX_UNPARSED, CipherState, ConnectionState, decode, encode
from pyssh_gateway.ipc.spawner import ProtocolError

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-@.", max_size=64)
lists = st.lists(names, max_size=32).map(tuple)
counts = st.integers(0, 2**63 - 1)
ciphers = st.builds(
    CipherState,
    cipher=names,
    key=st.binary(max_size=64),
    position=st.binary(max_size=16),
    mac=names,
    mac_key=st.binary(max_size=64),
)
states = st.builds(
    ConnectionState,
    client_version=st.binary(min_size=8, max_size=255),
    server_version=st.binary(min_size=8, max_size=255),
    session_id=st.binary(min_size=32, max_size=64),
    strict_kex=st.booleans(),
    send_sequence=st.integers(0, 2**32 - 1),
    receive_sequence=st.integers(0, 2**32 - 1),
    sending=ciphers,
    receiving=ciphers,
    kex=names,
    host_key=names,
    send_compression=names,
    receive_compression=names,
    offered_ciphers=lists,
    client_ciphers=st.none() | st.tuples(lists, lists),
    client_host_keys=lists,
    user=st.binary(min_size=1, max_size=1024),
    can_send_ext_info=st.booleans(),
    rekey_bytes=counts,
    rekey_seconds=st.floats(0, 1e9),
    bytes_in=counts,
    bytes_out=counts,
    unparsed=st.binary(max_size=200),
)

CIPHER = CipherState("aes128-gcm@openssh.com", bytes(16), bytes(12))
STATE = ConnectionState(
    client_version=b"SSH-2.0-client",
    server_version=b"SSH-2.0-server",
    session_id=bytes(32),
    strict_kex=True,
    send_sequence=7,
    receive_sequence=8,
    sending=CIPHER,
    receiving=CIPHER,
    kex="curve25519-sha256",
    host_key="ssh-ed25519",
    send_compression="none",
    receive_compression="none",
    offered_ciphers=("aes128-gcm@openssh.com",),
    client_ciphers=None,
    client_host_keys=("ssh-ed25519",),
    user=b"example",
    can_send_ext_info=False,
    rekey_bytes=0,
    rekey_seconds=3600.0,
    bytes_in=0,
    bytes_out=0,
    unparsed=b"",
)


@given(states)
def test_a_state_arrives_as_it_was(state: ConnectionState) -> None:
    """A state arrives unchanged: one wrong bit of a key, a position or a number would end the connection."""
    assert decode(encode(state)) == state


@given(st.binary(max_size=300))
def test_rubbish_is_no_state(packet: bytes) -> None:
    """Arbitrary bytes are decoded to a state, or raise ProtocolError and nothing else."""
    try:
        decode(packet)
    except ProtocolError:
        return


@given(states, st.data())
def test_a_state_that_was_damaged_breaks_nothing(state: ConnectionState, data: st.DataObject) -> None:
    """A changed byte gives a state or a ProtocolError; a truncated state always gives a ProtocolError."""
    packet = bytearray(encode(state))
    packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    test_rubbish_is_no_state.hypothesis.inner_test(bytes(packet))  # type: ignore[attr-defined]  # hypothesis's own
    with pytest.raises(ProtocolError):
        decode(encode(state)[: data.draw(st.integers(0, len(packet) - 1))])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_version", b"SSH-2.0-" + bytes(248)),
        ("client_version", b""),
        ("session_id", bytes(20)),
        ("session_id", bytes(65)),
        ("send_sequence", 2**32),
        ("receive_sequence", -1),
        ("kex", "x" * 65),
        ("kex", "two words"),
        ("sending", CipherState("aes128-ctr", bytes(65))),
        ("receiving", CipherState("aes128-ctr", bytes(16), bytes(17))),
        ("offered_ciphers", ("x",) * 33),
        ("client_ciphers", (("x",) * 33, ())),
        ("user", b""),
        ("user", bytes(1025)),
        ("rekey_seconds", -1.0),
        ("rekey_seconds", float("nan")),
        ("bytes_in", -1),
        ("unparsed", bytes(MAX_UNPARSED + 1)),
        ("strict_kex", "yes"),
    ],
)
def test_a_value_out_of_bounds_is_refused(field: str, value: object) -> None:
    """Both ends check the limits: a value that the receiver would refuse is not sent."""
    fields = {name: getattr(STATE, name) for name in STATE.__struct_fields__} | {field: value}
    with pytest.raises(ProtocolError):
        decode(msgspec.msgpack.encode(fields))
    with pytest.raises(ProtocolError):
        encode(msgspec.structs.replace(STATE, **{field: value}))


def test_the_largest_state_fits() -> None:
    """The largest state that a client can cause fits into a message."""
    full = ("x" * 64,) * 32
    cipher = CipherState("x" * 64, bytes(64), bytes(16), "x" * 64, bytes(64))
    largest = msgspec.structs.replace(
        STATE,
        client_version=bytes(255),
        server_version=bytes(255),
        session_id=bytes(64),
        sending=cipher,
        receiving=cipher,
        offered_ciphers=full,
        client_ciphers=(full, full),
        client_host_keys=full,
        user=bytes(1024),
        unparsed=bytes(MAX_UNPARSED),
    )
    assert len(encode(largest)) < MAX // 2


def test_a_packet_over_the_limit_is_not_looked_at() -> None:
    """A packet above the limit is refused before it is decoded."""
    with pytest.raises(ProtocolError, match="over the limit"):
        decode(bytes(MAX + 1))
