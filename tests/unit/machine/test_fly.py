"""The request to Fly's API, and the meaning of its answers, whole or in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.machine.fly import MAX_REASON, MAX_RESPONSE, NotOnFly, Verdict, judge, suspend_request

ENVIRON = {"FLY_APP_NAME": "my-box", "FLY_MACHINE_ID": "3d8d9014b32d89"}


def response(status: str, body: bytes = b"", *headers: str) -> bytes:
    """A response with a Content-Length."""
    head = (f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers)
    return "".join(f"{line}\r\n" for line in (*head, "")).encode() + body


def test_the_request_is_what_fly_documents() -> None:
    """Protects the request that suspends a machine: method, path and host, and a connection that is not kept open."""
    lines = suspend_request(ENVIRON | {"HOME": "/root"}).decode().split("\r\n")
    assert lines[0] == "POST /v1/apps/my-box/machines/3d8d9014b32d89/suspend HTTP/1.1"
    assert {"Host: flaps", "Content-Length: 0", "Connection: close"} <= set(lines)
    assert lines[-2:] == ["", ""]


@pytest.mark.parametrize("missing", ["FLY_APP_NAME", "FLY_MACHINE_ID"])
def test_elsewhere_there_is_nothing_to_ask(missing: str) -> None:
    """Protects machines outside Fly: if one of the two names is missing, the reason says which."""
    for environ in ({name: value for name, value in ENVIRON.items() if name != missing}, ENVIRON | {missing: ""}):
        with pytest.raises(NotOnFly, match=f"{missing} is not set"):
            suspend_request(environ)


@pytest.mark.parametrize("name", ["a b", "a/../b", "a\r\nX-Header: b", "ä", "x" * 129])
def test_a_name_cannot_be_anything_else(name: str) -> None:
    """Protects the request: a value of the environment can't add a header or name another machine."""
    with pytest.raises(NotOnFly, match=r"no name that Fly\.io gives"):
        suspend_request(ENVIRON | {"FLY_MACHINE_ID": name})


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204", "299 What"])
def test_accepted(status: str) -> None:
    """Protects the suspend: any 2xx status is success, even before the rest of the response has arrived."""
    whole = response(status, b'{"ok":true}')
    line = whole[: whole.index(b"\r\n") + 2]
    assert judge(whole, ended=True) == judge(line, ended=False) == Verdict("accepted", "ok")
    assert judge(line[:-1], ended=False) is None


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response("403 Forbidden", b'{"error":"not yours"}'), "Fly refuses with 403: not yours"),
        (response("404 Not Found", b'{"message":"no machine"}'), "Fly refuses with 404: no machine"),
        (response("412 Precondition Failed", b'{"error":"has swap","status":"x"}'), "Fly refuses with 412: has swap"),
        (response("429 Too Many Requests"), "Fly refuses with 429"),
        (response("500 Oops", b"<html>{no} JSON</html>"), "Fly refuses with 500"),
        (response("502 Bad Gateway", b'{"error":{"code":1}}'), "Fly refuses with 502"),
        (response("503 Busy", b'{"error":"\xff"}'), "Fly refuses with 503"),
        (b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n" + b'{"error":"x"}\r\n0\r\n\r\n',
         "Fly refuses with 400: x"),
        (response("500 Oops", b'{"error":' + b"[" * 10_000 + b"]" * 10_000 + b"}"), "Fly refuses with 500"),
        (response("301 Moved", b"", "Location: /elsewhere"), "Fly refuses with 301"),
        (b"SSH-2.0-example\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK", "the answer is not HTTP"),
        (b"HTTP/1.1 500 Oops\r\nContent-Le", "Fly refuses with 500"),
        (b"HTTP/2 200\r\n\r\n", "the answer is not HTTP"),
    ],
)  # fmt: skip
def test_refused(answer: bytes, reason: str) -> None:
    """Protects the fallback to exit: any other response is a refusal, with Fly's reason if it has one."""
    assert judge(answer, ended=True) == Verdict("refused", reason)


def test_no_answer() -> None:
    """Protects the log: a connection that was closed without an answer is distinct from a refusal."""
    assert judge(b"", ended=False) is None
    verdict = judge(b"", ended=True)
    assert verdict is not None
    assert (verdict.outcome, verdict.reason) == ("lost", "the connection was closed without an answer")


def test_reasons_are_short() -> None:
    """Protects the log from an endless reason."""
    verdict = judge(response("500 No", b'{"error":"' + b"x" * 5000 + b'"}'), ended=True)
    assert verdict is not None
    assert verdict.reason == "Fly refuses with 500: " + "x" * MAX_REASON


def test_an_answer_without_an_end_is_given_up() -> None:
    """Protects the stop: a response that reaches the limit without an end is a refusal, and is not read further."""
    assert judge(b"x" * MAX_RESPONSE, ended=False) == Verdict("refused", "the answer is not HTTP")
    endless = b"HTTP/1.1 500 No\r\n\r\n" + b"x" * MAX_RESPONSE
    assert judge(endless, ended=False) == Verdict("refused", "Fly refuses with 500")


@given(st.integers(100, 599), st.text(max_size=300), st.data())
def test_pieces_say_what_the_whole_says(code: int, error: str, data: st.DataObject) -> None:
    """Protects against split responses: a verdict on a part equals that on the whole, and the whole has one."""
    body = b'{"error":"' + error.replace("\\", "").replace('"', "").encode("utf-8", "replace") + b'"}'
    whole = response(f"{code} Reason", body)
    cut = data.draw(st.integers(0, len(whole)))
    final = judge(whole, ended=False)
    assert final is not None
    assert judge(whole[:cut], ended=False) in {None, final}
    assert (final.outcome == "accepted") == (200 <= code < 300)


@given(st.binary(max_size=500), st.booleans())
def test_nothing_but_a_2xx_is_a_yes(noise: bytes, ended: bool) -> None:
    """Protects the stop from arbitrary bytes: `judge` never fails, and only accepts an HTTP response."""
    verdict = judge(noise, ended=ended)
    assert verdict is None or verdict.outcome != "accepted" or noise.startswith(b"HTTP/1.")
    assert verdict is not None or not ended
