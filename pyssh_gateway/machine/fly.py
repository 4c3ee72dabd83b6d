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
"""Bytes of an answer that are looked at. Fly's are a few hundred."""

MAX_REASON = 200
"""Characters that are kept of Fly's words for why not."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_LENGTH = re.compile(rb"(?i)(?:^|\n)content-length:[ \t]*([0-9]{1,6})[ \t]*(?:\r|\n|$)")


OK = "ok"
"""The reason of a verdict that is none against it."""


class NotOnFly(Exception):
    """This is no machine of Fly.io; the text says how that was seen."""


class Verdict(msgspec.Struct, frozen=True):
    """What an answer means. "lost" is no answer: the connection ended without one. `reason` is "ok" or why not."""

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
    """What the answer means that is `received` so far; None: not enough of it yet. `ended`: no more is coming.

    Never raises. Whatever is no 2xx is no, and a 2xx needs no more than its first line (RFC 9112 section 4), as the
    machine may stand still before the rest comes.
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
    """What the body of a refusal says, after a colon; nothing if it says nothing.

    Errors are one small JSON object, `{"error": "...", "status": "..."}`. In a chunked answer that is one chunk, so
    what is between the braces is the object, however it was sent.
    """
    start, end = body.find(b"{"), body.rfind(b"}")
    try:
        told = msgspec.json.decode(body[start : end + 1], type=dict[str, object]) if 0 <= start < end else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    text = told.get("error") or told.get("message")
    return f": {text[:MAX_REASON]}" if isinstance(text, str) else ""
