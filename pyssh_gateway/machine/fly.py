"""What is particular to Fly.io: the request by which a machine suspends itself, and what the answers mean.

Nothing in here sends or waits. The socket is `/.fly/api` in every machine, and needs no token (Fly's documentation,
"Machine Suspend and Resume"); it is HTTP/1.1 to a host that is called flaps.
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

SOCKET = "/.fly/api"
"""Where Fly's API is in a machine; `stop.fly_api` names another place."""

MAX_RESPONSE = 16 * 1024
"""How many bytes of an answer are read. Fly's answers have a few hundred."""

MAX_REASON = 200
"""How many characters of Fly's error message are kept."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_LENGTH = re.compile(rb"(?i)(?:^|\n)content-length:[ \t]*([0-9]{1,6})[ \t]*(?:\r|\n|$)")


OK = "ok"
"""The `reason` of a verdict that accepts the request."""


class NotOnFly(Exception):
    """This is not a Fly.io machine; the text says how that was detected."""


class Verdict(msgspec.Struct, frozen=True):
    """What an answer means. "lost": the connection ended without an answer. `reason` is "ok", or why not."""

    outcome: Literal["accepted", "refused", "lost"]
    reason: str


def suspend_request(environ: Mapping[str, str]) -> bytes:
    """The request to suspend the machine that `environ` names (FLY_APP_NAME, FLY_MACHINE_ID). Raises `NotOnFly`."""
    names = []
    for variable in ("FLY_APP_NAME", "FLY_MACHINE_ID"):
        name = environ.get(variable, "")
        if not name:
            raise NotOnFly(f"{variable} is not set: only a machine of Fly.io can be suspended")
        if not _NAME.fullmatch(name):
            raise NotOnFly(f"{variable} is no name that Fly.io gives")
        names.append(name)
    app, machine = names
    head = (
        f"POST /v1/apps/{app}/machines/{machine}/suspend HTTP/1.1",
        "Host: flaps",
        "User-Agent: pyssh-gateway",
        "Accept: application/json",
        "Content-Length: 0",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*head, "")).encode("ascii")


def judge(received: bytes, *, ended: bool) -> Verdict | None:
    """What the answer `received` so far means; None: more of it is needed. `ended`: no more is coming.

    Never raises. Any status other than 2xx is a refusal. For a 2xx the first line is enough (RFC 9112 section 4),
    because the machine may be suspended before the rest arrives.
    """
    ended = ended or len(received) >= MAX_RESPONSE
    line, whole, _ = received.partition(b"\r\n")
    if not whole and not ended:
        return None
    if not received:
        return Verdict("lost", "the connection was closed without an answer")
    status = _STATUS.fullmatch(line)
    if status is None or not whole:
        return Verdict("refused", "the answer is not HTTP")
    code = int(status[1])
    if 200 <= code < 300:
        return Verdict("accepted", OK)
    head, _, body = received.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not ended and (length is None or len(body) < int(length[1])):
        return None
    return Verdict("refused", f"Fly refuses with {code}{_words(body)}")


def _words(body: bytes) -> str:
    """The error message in the body of a refusal, after a colon; empty if there is none.

    Errors are one small JSON object, `{"error": "...", "status": "..."}`. A chunked answer sends the object as one
    chunk, so the text from the first brace to the last is the object, chunked or not.
    """
    start, end = body.find(b"{"), body.rfind(b"}")
    try:
        told = msgspec.json.decode(body[start : end + 1], type=dict[str, object]) if 0 <= start < end else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = told.get("error") or told.get("message")
    return f": {text[:MAX_REASON]}" if isinstance(text, str) else ""
