"""core.control: the requests on the control socket, who may send them, and their encoding."""

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
    """A request is one line, and is decoded to the same request."""
    line = control.encode_request(request_)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert control.decode_request(line) == request_


@pytest.mark.parametrize("reply", REPLIES, ids=lambda reply: type(reply).__name__)
def test_replies_arrive_as_they_were_sent(reply: AnyReply) -> None:
    """A reply is decoded to the same reply."""
    line = control.encode_clean(reply, str)
    assert line.endswith(b"\n")
    assert control.decode_reply(line) == reply


def test_text_of_a_reply_is_cleaned_wherever_it_is() -> None:
    """Protects terminals: text in a reply is cleaned at any depth, and everything else is unchanged."""
    reply = VerdictsReply((Verdict("amos", True, "\x1b[2J\udcff"),))
    arrived = control.decode_reply(control.encode_clean(reply, printable))
    assert arrived == VerdictsReply((Verdict("amos", True, "\\x1b[2J\\xff"),))


@given(st.binary() | st.text().map(str.encode))
def test_what_is_no_message_is_refused(line: bytes) -> None:
    """Protects the server: any bytes are a message or a `ControlError`."""
    with contextlib.suppress(ControlError):
        control.decode_request(line)
    with contextlib.suppress(ControlError):
        control.decode_reply(line)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"request":"quit"}', b'{"request":"status","more":1}', b"\xff", b"[" * 100_000]
)
def test_only_requests_are_requests(line: bytes) -> None:
    """A request of a later version is not half understood: an unknown field is an error."""
    with pytest.raises(ControlError, match="not a request"):
        control.decode_request(line)


def test_a_client_understands_newer_replies() -> None:
    """Protects scripts during an upgrade: unknown fields of a newer reply are skipped; a wrong reply is an error."""
    assert control.decode_reply(b'{"reply":"accepted","message":"yes","more":1}') == AcceptedReply("yes")
    with pytest.raises(ControlError, match="not a reply"):
        control.decode_reply(b'{"reply":"accepted"}')


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: type(request).__name__)
def test_strangers_may_ask_nothing(request_: AnyRequest) -> None:
    """Root and the server's owner may send any request, accounts that can log in only public ones, and others none."""
    for can_log_in in (False, True):
        assert control.may_ask(request_, uid=0, owner=1000, can_log_in=can_log_in)
        assert control.may_ask(request_, uid=1000, owner=1000, can_log_in=can_log_in)
    assert not control.may_ask(request_, uid=1001, owner=1000, can_log_in=False)
    is_public = type(request_).__struct_config__.tag in PUBLIC
    assert control.may_ask(request_, uid=1001, owner=1000, can_log_in=True) is is_public


def test_the_log_names_what_was_asked() -> None:
    """The log shows which key was tested, which account accepted and which hold released."""
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
