"""core.control: what may be asked over the control socket, by whom, and how that is written."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core import control
from pyssh_gateway.core.control import (
    AcceptAccount,
    AcceptedReply,
    AnyReply,
    AnyRequest,
    ControlError,
    HeldReply,
    HoldReport,
    IdleReport,
    KeysReply,
    LoginReport,
    RefusedReply,
    ReleasedReply,
    SessionsReply,
    Status,
    StatusReply,
    StopReport,
    TryKey,
    Verdict,
    VerdictsReply,
    WhyReply,
)
from pyssh_gateway.core.printable import printable

REQUESTS: tuple[AnyRequest, ...] = (
    control.Configuration(),
    Status(),
    control.Keys(),
    control.RefreshKeys(),
    TryKey(b"\0blob", "rsa-sha2-512", "amos", "::1"),
    AcceptAccount("github:example"),
    control.Sessions(),
    control.Why(),
    control.HoldUp(7200.0, "training run", process=True),
    control.Release("2e1068"),
)
PUBLIC = {"status", "sessions", "why", "hold", "release"}
STATUS = StatusReply("0.1.0", 7, 1.0, "::", 22, (), (), 0, IdleReport(None, False, None), ())
KEYS = KeysReply((LoginReport("amos", ()),), ())
HOLD = HoldReport("2e1068", "amos", "training run", 1.0, 2.0, 7)
WHY = WhyReply(1.0, "::1", "It stops.", IdleReport(60.0, True, 2.0), (HOLD,), (StopReport(1.0, "idle for 60 s", 2.0),))
REPLIES: tuple[AnyReply, ...] = (
    control.ConfigReply(b"{}", "ab12", 7),
    STATUS,
    KEYS,
    RefusedReply("no"),
    AcceptedReply("yes"),
    VerdictsReply(()),
    SessionsReply(()),
    WHY,
    HeldReply(HOLD, "not written down"),
    ReleasedReply((HOLD,)),
)


# -- messages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_requests_arrive_as_they_were_sent(request_: AnyRequest) -> None:
    """Protects the protocol: a request is one line, and means the same at the other end."""
    line = control.encode_request(request_)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert control.decode_request(line) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_replies_arrive_as_they_were_sent(reply: AnyReply) -> None:
    """Protects the protocol in the other direction."""
    line = control.encode_clean(reply, str)
    assert line.endswith(b"\n")
    assert control.decode_reply(line) == reply


def test_text_of_a_reply_is_cleaned_wherever_it_is() -> None:
    """Protects terminals: no text that came from the network gets past, however deep it is; the rest stays."""
    reply = VerdictsReply((Verdict("amos", True, "\x1b[2J\udcff"),))
    arrived = control.decode_reply(control.encode_clean(reply, printable))
    assert arrived == VerdictsReply((Verdict("amos", True, "\\x1b[2J\\xff"),))


@given(st.binary() | st.text().map(str.encode))
def test_what_is_no_message_is_refused(line: bytes) -> None:
    """Protects the server: whatever bytes come, they are a request or a `ControlError`."""
    with contextlib.suppress(ControlError):
        control.decode_request(line)
    with contextlib.suppress(ControlError):
        control.decode_reply(line)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"request":"quit"}', b'{"request":"status","more":1}', b"\xff", b"[" * 100_000]
)
def test_only_requests_are_requests(line: bytes) -> None:
    """Protects against messages of a later version being half understood: an unknown field is an error."""
    with pytest.raises(ControlError, match="not a request"):
        control.decode_request(line)


def test_a_client_understands_newer_replies() -> None:
    """Protects scripts during an upgrade: what a newer server says more is skipped; what is no reply is an error."""
    assert control.decode_reply(b'{"reply":"accepted","message":"yes","more":1}') == AcceptedReply("yes")
    with pytest.raises(ControlError, match="not a reply"):
        control.decode_reply(b'{"reply":"accepted"}')


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_strangers_may_ask_nothing(request_: AnyRequest) -> None:
    """Protects what is said about people: root and who started the server may ask, who can log in what is for them."""
    for can_log_in in (False, True):
        assert control.may_ask(request_, uid=0, owner=1000, can_log_in=can_log_in)
        assert control.may_ask(request_, uid=1000, owner=1000, can_log_in=can_log_in)
    assert not control.may_ask(request_, uid=1001, owner=1000, can_log_in=False)
    is_public = type(request_).__struct_config__.tag in PUBLIC
    assert control.may_ask(request_, uid=1001, owner=1000, can_log_in=True) is is_public


def test_the_log_names_what_was_asked() -> None:
    """Protects the log's use: which key was tried and which account accepted is in it."""
    assert [control.describe(request) for request in REQUESTS] == [
        "config",
        "status",
        "keys",
        "keys.refresh",
        "keys.test SHA256:b9es0AIVIZKwL4vBE2IvbEav0BXWkKzWB1nFd4hKpj8",
        "keys.accept github:example",
        "sessions",
        "why",
        "hold",
        "release 2e1068",
    ]
    assert control.describe(control.Release()) == "release"
