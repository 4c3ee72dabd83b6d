"""ipc.preauth: only well-formed messages are accepted, and each direction has its own."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.strangers.hassh import PATTERN as HASSH
from pyssh_gateway.ipc.preauth import (
    HASH_BYTES,
    MAX_CRASH,
    MAX_HOST_KEYS,
    MAX_IDENTIFICATION,
    MAX_KEY,
    MAX_NAME,
    MAX_REASON,
    MAX_SIGNATURE,
    MAX_STATE,
    MAX_USER,
    Answer,
    Attempt,
    CiphersMissing,
    Disconnect,
    Ended,
    FromMonitor,
    FromPreauth,
    Greeted,
    OfferedKey,
    Serve,
    Sign,
    Signed,
    State,
    decode_from_monitor,
    decode_from_preauth,
    encode,
)
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, ProtocolError

ENDED = {"type": "ended", "reason": "", "goodbye": True, "bytes_in": 0, "bytes_out": 0, "crash": ""}

names = st.text(st.characters(codec="utf-8"), max_size=MAX_NAME)
short = st.binary(max_size=MAX_NAME)
counts = st.integers(0, 2**63 - 1)
hashes = st.sampled_from(sorted(HASH_BYTES)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
from_monitor = st.one_of(
    st.builds(
        Serve,
        st.binary(max_size=MAX_IDENTIFICATION),
        st.lists(st.builds(OfferedKey, short, st.binary(max_size=100)), max_size=4).map(tuple),
        st.integers(1, 100),
        *[st.booleans()] * 3,
    ),
    st.builds(Signed, st.binary(max_size=100)),
    st.builds(Answer, st.sampled_from(["offered", "accepted", "denied"]), st.booleans()),
    st.builds(Disconnect, names),
)
from_preauth = st.one_of(
    st.builds(Sign, short, hashes),
    st.builds(Attempt, short, names, names, st.binary(max_size=100), st.none() | st.binary(max_size=100)),
    st.just(CiphersMissing()),
    st.builds(Greeted, st.binary(max_size=MAX_IDENTIFICATION), *[st.from_regex(HASSH, fullmatch=True)] * 2),
    st.builds(Ended, names, st.booleans(), counts, counts, names),
    st.builds(State, st.binary(max_size=100)),
)


@given(from_monitor, from_preauth)
def test_messages_arrive_as_they_were_sent(theirs: FromMonitor, ours: FromPreauth) -> None:
    """Messages with any bytes arrive unchanged, and a message of one direction is invalid in the other."""
    assert decode_from_monitor(encode(theirs)) == theirs
    assert decode_from_preauth(encode(ours)) == ours
    with pytest.raises(ProtocolError):
        decode_from_preauth(encode(theirs))
    with pytest.raises(ProtocolError):
        decode_from_monitor(encode(ours))


@given(st.binary(max_size=200))
def test_garbage_is_no_message(packet: bytes) -> None:
    """A compromised process may send anything; each end refuses garbage, always with ProtocolError."""
    for decode in (decode_from_monitor, decode_from_preauth):
        with pytest.raises(ProtocolError):
            decode(packet)


@given(st.data())
def test_damaged_messages_are_refused_or_harmless(data: st.DataObject) -> None:
    """A good message that was changed, cut or extended decodes to a valid message or raises ProtocolError only."""
    packet = bytearray(encode(data.draw(from_preauth)))
    for _ in range(data.draw(st.integers(1, 3))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(packet[: data.draw(st.integers(1, len(packet)))]) + data.draw(st.binary(max_size=3))
    try:
        decode_from_preauth(damaged)
    except ProtocolError:
        return


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "sign", "algorithm": b"ssh-ed25519", "hash": bytes(31)},
        {"type": "sign", "algorithm": b"ssh-ed25519", "hash": bytes(33)},
        {"type": "sign", "algorithm": b"ssh-ed25519", "hash": bytes(65)},
        {"type": "sign", "algorithm": bytes(MAX_NAME + 1), "hash": bytes(32)},
        {"type": "sign", "algorithm": b"ssh-ed25519", "hash": ["x"] * 32},
        {"type": "attempt", "user": bytes(MAX_USER + 1), "method": "none"},
        {"type": "attempt", "user": b"amos", "method": "x" * (MAX_NAME + 1)},
        {"type": "attempt", "user": b"amos", "method": "publickey", "algorithm": "x" * (MAX_NAME + 1)},
        {"type": "attempt", "user": b"amos", "method": "publickey", "blob": bytes(MAX_KEY + 1)},
        {"type": "attempt", "user": b"amos", "method": "publickey", "signature": bytes(MAX_SIGNATURE + 1)},
        {"type": "attempt", "user": ["amos"], "method": "none"},
        {"type": "attempt", "method": "none"},
        ENDED | {"reason": "x" * (MAX_REASON + 1)},
        ENDED | {"bytes_in": -1},
        ENDED | {"bytes_out": 2**63},
        ENDED | {"crash": "x" * (MAX_CRASH + 1)},
        {"type": "state", "state": bytes(MAX_STATE + 1)},
        {"type": "spawn", "id": 1},
        {},
        [],
        None,
        "sign",
    ],
)
def test_shapes_that_are_wrong_are_refused(fields: object) -> None:
    """Missing, mistyped and too long fields, hashes of a wrong length, and unknown messages are refused."""
    with pytest.raises(ProtocolError, match="bad message of preauth"):
        decode_from_preauth(msgspec.msgpack.encode(fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "answer", "result": "granted", "last": False},
        {"type": "answer", "result": "accepted"},
        {"type": "signed", "signature": bytes(MAX_SIGNATURE + 1)},
        {"type": "disconnect", "reason": "x" * (MAX_REASON + 1)},
        msgspec.to_builtins(Serve(b"", (OfferedKey(b"", b""),) * (MAX_HOST_KEYS + 1), 6, True, True, True)),
        msgspec.to_builtins(Serve(b"", (), 0, True, True, True)),
    ],
)
def test_preauth_is_as_strict(fields: object) -> None:
    """Messages of the monitor are checked as strictly."""
    with pytest.raises(ProtocolError, match="bad message of the monitor"):
        decode_from_monitor(msgspec.msgpack.encode(fields))


def test_fields_that_nest_for_ever_are_refused() -> None:
    """Protects the monitor from a compromised process: deep nesting is refused, even in fields that are ignored."""
    deep = b"\x82\xa4type\xa4sign\xa1x" + b"\x91" * 100_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        decode_from_preauth(deep)
    with pytest.raises(ProtocolError):
        decode_from_monitor(deep.replace(b"\xa4sign", b"\xa6answer"))


def test_the_largest_messages_can_be_sent() -> None:
    """The largest valid messages can be sent; a larger one fails at its sender."""
    largest = Attempt(bytes(MAX_USER), "x" * MAX_NAME, "y" * MAX_NAME, bytes(MAX_KEY), bytes(MAX_SIGNATURE))
    for message in (largest, State(bytes(MAX_STATE)), Ended("x" * MAX_REASON, True, 0, 0, "x" * MAX_CRASH)):
        assert decode_from_preauth(encode(message)) == message
    with pytest.raises(ProtocolError, match="over the limit"):
        encode(State(bytes(MAX_MESSAGE)))
    with pytest.raises(ProtocolError, match="not text"):
        encode(Disconnect("\udcff"))
