"""The messages to the process that makes sockets: nothing but their shapes gets through."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.ipc import sockets as messages
from pyssh_gateway.ipc.spawner import ProtocolError

ids = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
paths = st.binary(max_size=120)
numbers = st.integers(0, 2**32 - 1)
requests = st.one_of(
    st.builds(messages.ConnectTcp, ids, texts, numbers),
    st.builds(messages.ConnectUnix, ids, paths),
    st.builds(messages.ListenTcp, ids, st.lists(texts, max_size=3).map(tuple), numbers),
    st.builds(messages.ListenUnix, ids, paths, st.integers(0, 0o777), st.booleans()),
    st.builds(messages.ListenAgent, ids),
    st.builds(messages.Forget, ids),
)
reports = st.one_of(
    st.builds(messages.Connected, ids),
    st.builds(messages.Listening, ids, numbers, paths),
    st.builds(messages.Failed, ids, st.sampled_from(["refused", "unreachable", "denied", "failed"]), texts),
)


@given(requests)
def test_requests_arrive_as_they_were_sent(request_: messages.Request) -> None:
    """Protects what is asked for, every field and type of it."""
    assert messages.decode_request(messages.encode(request_)) == request_


@given(reports)
def test_reports_arrive_as_they_were_sent(report: messages.Report) -> None:
    """Protects what is answered."""
    assert messages.decode_report(messages.encode(report)) == report


@given(st.binary(max_size=60))
def test_nothing_else_gets_through(packet: bytes) -> None:
    """Protects both sides from what is no message: there is one kind of error, whatever it was."""
    for decode in (messages.decode_request, messages.decode_report):
        try:
            message = decode(packet)
        except ProtocolError:
            continue
        assert isinstance(message, msgspec.Struct)


def test_fields_that_nest_for_ever_are_refused() -> None:
    """Protects the gateway from the user's process, and that from the gateway."""
    for message, decode in (
        (messages.ListenAgent(1), messages.decode_request),
        (messages.Connected(1), messages.decode_report),
    ):
        packet = messages.encode(message)
        deep = bytes([packet[0] + 1]) + packet[1:] + b"\xa1x" + b"\x91" * 100_000 + b"\xc0"
        with pytest.raises(ProtocolError):
            decode(deep)


def test_a_report_is_no_request() -> None:
    """Protects the directions from each other."""
    with pytest.raises(ProtocolError, match="bad request"):
        messages.decode_request(messages.encode(messages.Connected(1)))
    with pytest.raises(ProtocolError, match="bad report"):
        messages.decode_report(messages.encode(messages.ListenAgent(1)))


@pytest.mark.parametrize("host", ["x" * messages.MAX_MESSAGE, "\udcff"], ids=["too large", "not UTF-8"])
def test_message_that_can_not_be_sent(host: str) -> None:
    """Protects the sender: it is told by the error that it expects, before anything is on its way."""
    with pytest.raises(ProtocolError):
        messages.encode(messages.ConnectTcp(1, host, 80))
