"""The headers of an HTTP answer: validators for the next request, when to ask again, and the next page.

Pure: a header comes in as text and the time as a number. This module knows HTTP's fields (RFC 9110) and GitHub's; it
does not know what a key is or which source was asked.
"""

import re
from collections.abc import Callable
from typing import Annotated

import msgspec

MAX_VALIDATOR = 1024
"""Characters of an ETag or a date that is kept. GitHub's ETags are 68 long; both end up in a file and in requests."""

MAX_HOLD = 3600.0
"""The most seconds that a server may keep us from asking again. GitHub's limits are renewed every hour
(X-RateLimit-Reset). A server that asks for more, or has a wrong clock, can't delay the removal of keys for days."""

LIMITED_HOLD = 60.0
"""Seconds to wait after a 429 that names no time, as GitHub's documentation asks for ("Exceeding the rate limit"). A
403 that names none is a refusal, and asking again at the usual time does no harm."""

_MAX_DATE = 64  # characters; an HTTP date is 29

_FORBIDDEN = 403
_TOO_MANY = 429
_UNAVAILABLE = 503

Header = Callable[[str], str]
"""Gives the value of the header with that name; empty if there is none."""

Validator = Annotated[str, msgspec.Meta(max_length=MAX_VALIDATOR, pattern=r"\A[ -~]*\Z")]


class Validators(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The validators for a conditional request (RFC 9110 section 8.8), as the server gave them; empty: none.

    `etag` is sent as If-None-Match, `modified` as If-Modified-Since, both exactly as they came.
    """

    etag: Validator = ""
    modified: Validator = ""

    def __bool__(self) -> bool:
        """Whether there is any validator."""
        return bool(self.etag or self.modified)


NO_VALIDATORS = Validators()


class Answer(msgspec.Struct, frozen=True):
    """A usable answer. `text` is all of it, None if nothing has changed since the answer that `validators` came with.

    `next_page` is the address of the next page (RFC 8288), as the server wrote it; empty if this is the last one.
    """

    text: bytes | None
    validators: Validators = NO_VALIDATORS
    next_page: str = ""


class FetchError(Exception):
    """A source gave no usable answer. `reason` says why, for people.

    `gone`: the server answered that the thing does not exist (any more). `retry_after`: seconds for which the server
    does not want to be asked again, from 0 to MAX_HOLD; None if it does not say.
    """

    def __init__(self, reason: str, *, gone: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gone = gone
        self.retry_after = retry_after


class RedirectedError(FetchError):
    """The server redirects to an address that is not followed.

    `target` is its path and query on the same server; empty if it is on another one.
    """

    def __init__(self, reason: str, target: str = "") -> None:
        super().__init__(reason)
        self.target = target


def validators_of(header: Header) -> Validators:
    """The validators for the next request. One that is too long, or has invalid characters for a header, is dropped."""
    return Validators(_fit_validator(header("ETag")), _fit_validator(header("Last-Modified")))


def _fit_validator(value: str) -> str:
    return value if len(value) <= MAX_VALIDATOR and re.fullmatch(r"[ -~]*", value) else ""


def hold_of(status: int, header: Header, now: float) -> float | None:
    """Seconds for which an answer with `status` asks for no further request; None if it doesn't. `now` is Unix time.

    Retry-After counts first (RFC 9110 section 10.2.3, RFC 6585 section 4), then GitHub's own headers, in the order of
    its documentation ("Rate limits for the REST API").
    """
    if status not in {_FORBIDDEN, _TOO_MANY, _UNAVAILABLE}:
        return None
    hold = _retry_after(header("Retry-After"), now)
    if hold is None and status != _UNAVAILABLE and header("X-RateLimit-Remaining") == "0":
        reset = _number(header("X-RateLimit-Reset"))
        hold = reset - now if reset is not None else None
    if hold is None and status == _TOO_MANY:
        hold = LIMITED_HOLD
    return min(max(hold, 0.0), MAX_HOLD) if hold is not None else None


def _retry_after(value: str, now: float) -> float | None:
    seconds = _number(value)
    if seconds is not None or len(value) > _MAX_DATE:
        return seconds
    # Late: 5 ms, and http.client has imported it by the time that there is an answer.
    import datetime as dt
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
        # Without a zone in it (the "-0000" of mail), it is UTC all the same: RFC 9110 section 5.6.7.
        return (date if date.tzinfo is not None else date.replace(tzinfo=dt.UTC)).timestamp() - now
    except (ValueError, OverflowError, TypeError, LookupError):  # errors that its parser has raised so far
        return None


def _number(value: str) -> float | None:
    # A number that is too large for a float becomes infinity, which the limit above cuts.
    return float(value) if value.isascii() and value.isdigit() else None


def next_page_of(link: str) -> str:
    """The address that a Link header (RFC 8288 section 3) gives as `rel="next"`; empty if it gives none."""
    for target, parameters in re.findall(r"<([^<>]*)>([^<]*)", link):
        if re.search(r';\s*rel="?next"?\s*(?:[;,]|\Z)', parameters):
            return str(target)
    return ""
