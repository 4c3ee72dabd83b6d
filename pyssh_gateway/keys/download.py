"""One bounded download of a text of keys over HTTP: the whole text within a deadline and a size, or an error.

It uses http.client and not urllib.request, because that allows one deadline for all reads (see keys.http_connection).
It also sends no cookie or password, and follows no proxy setting or redirect by itself. This module knows HTTP; it does
not know what a key is or which source it serves.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.config.values import Secret, check_source_spec, format_duration
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.core.access.redirects import is_same_name
from pyssh_gateway.keys.http_answer import (
    NO_VALIDATORS,
    Answer,
    FetchError,
    RedirectedError,
    Validators,
    hold_of,
    next_page_of,
    validators_of,
)
from pyssh_gateway.keys.http_connection import Proxies, connected, same_origin
from pyssh_gateway.system.threads import in_daemon_thread

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["MAX_REDIRECTS", "FetchError", "Request", "download", "fetch_url", "no_answer"]

MAX_REDIRECTS = 3
"""Redirects followed, all to the same name: /name to /Name to /Name/ is two; a loop is cut off soon."""

_READ_BYTES = 64 * 1024
_SHOWN = 200  # characters of an address that a server redirects to: a path of some length
_OK = 200
_NOT_MODIFIED = 304
_GONE = frozenset({404, 410})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# No "Connection: close": a server that keeps the connection open has to send the length of its answer.
_HEADERS = {"User-Agent": f"pyssh-gateway/{__version__}", "Accept": "text/plain"}


class Request(msgspec.Struct, frozen=True):
    """A request to a server. `what` names the wanted thing, for people.

    `any_case`: a redirect to the same address in other capitals leads to the same thing. `validators` make the request
    conditional. `token` is sent to this server only. `proxies` are the proxies to use. `headers` replace or complete
    the usual ones. `meanings` explains statuses.
    """

    url: str
    what: str = "keys"
    any_case: bool = False
    validators: Validators = NO_VALIDATORS
    token: Secret = Secret()
    proxies: Proxies = Proxies()
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    meanings: Mapping[int, str] = msgspec.field(default_factory=dict)


def no_answer(seconds: float) -> str:
    """The error text for a fetch that took too long."""
    return f"no answer within {seconds:g} s"


async def download(request: Request, seconds: float, *, now: Callable[[], float] = time.time) -> Answer:
    """The answer to `request` within `seconds`, whatever blocks. Raises FetchError. `now` is Unix time."""
    try:
        async with asyncio.timeout(seconds):
            return await in_daemon_thread(lambda: fetch_url(request, seconds, unix_time=now), name="fetch-keys")
    except TimeoutError:
        raise FetchError(no_answer(seconds)) from None
    except OSError as error:
        raise FetchError(error.strerror or str(error)) from error


def fetch_url(
    request: Request,
    seconds: float,
    *,
    now: Callable[[], float] = time.monotonic,
    unix_time: Callable[[], float] = time.time,
) -> Answer:
    """The answer to `request`, within `seconds`. Blocks. Raises FetchError.

    The deadline does not cover the C library's name look-up, and applies to each address of a host separately if
    several do not answer: a caller that cannot wait runs this in a thread and stops waiting for it.
    """
    import http.client  # late: takes 8 ms with its email parser, which the first login should not wait for
    import ssl

    # Keys may come only by https, or from this machine itself.
    if request.token and check_source_spec(f"url:{request.url}") is not None:
        raise FetchError("a token is not sent over a connection that others can read")
    deadline = now() + seconds
    host = urlsplit(request.url).netloc
    try:
        return _follow(request, lambda: _remaining(deadline, now), unix_time)
    except ssl.SSLCertVerificationError as error:
        raise FetchError(f"the certificate of {host} is not trusted: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise FetchError(f"no TLS connection to {host}: {error.reason or error}") from error
    except socket.gaierror as error:
        raise FetchError(f"{host} was not found: {error.strerror}") from error
    except TimeoutError as error:
        raise FetchError(no_answer(seconds)) from error
    except OSError as error:
        raise FetchError(f"no connection to {host}: {error.strerror or error}") from error
    except http.client.IncompleteRead as error:
        raise FetchError("the answer was cut off") from error
    except (http.client.HTTPException, ValueError) as error:
        raise FetchError(f"{host} does not answer in proper HTTP ({type(error).__name__})") from error


def _remaining(deadline: float, now: Callable[[], float]) -> float:
    remaining = deadline - now()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _follow(request: Request, remaining: Callable[[], float], unix_time: Callable[[], float]) -> Answer:
    url = request.url
    # Validators are sent only to the address that gave them, not to one that it redirects to.
    validators = request.validators
    for hops in range(MAX_REDIRECTS + 1):
        with connected(url, remaining, request.proxies) as connection:
            connection.request("GET", _target(url), headers=_headers(request, validators))
            with connection.getresponse() as response:
                if response.status not in _REDIRECTS:
                    answer = _read_answer(response, request, validators, unix_time)
                    return msgspec.structs.replace(answer, validators=NO_VALIDATORS) if hops else answer
                url = _redirected(request, url, response.getheader("Location", ""))
                validators = NO_VALIDATORS
    raise FetchError(f"redirected more than {MAX_REDIRECTS} times")


def _headers(request: Request, validators: Validators) -> dict[str, str]:
    headers = {**_HEADERS, **request.headers}
    if validators.etag:
        headers["If-None-Match"] = validators.etag
    if validators.modified:
        headers["If-Modified-Since"] = validators.modified
    if request.token:
        headers["Authorization"] = f"Bearer {request.token}"
    return headers


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _read_answer(
    response: "HTTPResponse", request: Request, validators: Validators, unix_time: Callable[[], float]
) -> Answer:
    if response.status == _NOT_MODIFIED and validators:
        return Answer(None, validators)
    if response.status != _OK:
        raise _failure(response, request, unix_time())
    if response.headers.get_content_type() == "text/html":
        raise FetchError(f"got an HTML page instead of {request.what}")
    length = response.length
    # RFC 9112 section 6.3: if an answer ends with its connection, an interruption can't be detected.
    if length is None and not response.chunked:
        raise FetchError("the answer does not say how long it is, so a part of it would look like all of it")
    text = _read_bounded(response, length or 0)
    if length is not None and len(text) != length:
        raise FetchError(f"the answer was cut off: {len(text)} of {length} bytes")
    _check_text(text, request.what)
    return Answer(text, validators_of(_header_of(response)), next_page_of(response.getheader("Link", "")))


def _failure(response: "HTTPResponse", request: Request, now: float) -> FetchError:
    import http.client

    status = response.status
    hold = hold_of(status, _header_of(response), now)
    if status in request.meanings:
        reason = f"{request.meanings[status]} ({status})"
    else:
        reason = f"the server answered {status} ({http.client.responses.get(status, 'no known status')})"
    if hold:
        reason += f" and wants to be left alone for {format_duration(hold)}"
    return FetchError(reason, gone=status in _GONE, retry_after=hold)


def _header_of(response: "HTTPResponse") -> Callable[[str], str]:
    return lambda name: response.getheader(name, "").strip()


def _redirected(request: Request, url: str, location: str) -> str:
    target = urljoin(url, location)
    if not location or not same_origin(url, target):
        raise RedirectedError(f"redirected to another place, which is not followed: {location[:_SHOWN]!a}")
    if not is_same_name(_target(request.url), _target(target), any_case=request.any_case):
        shown = _target(target)[:_SHOWN]
        raise RedirectedError(f"redirected to another address, which is not followed: {shown!a}", _target(target))
    return target


def _read_bounded(response: "HTTPResponse", announced: int) -> bytes:
    text = bytearray()
    while max(len(text), announced) <= MAX_KEYS_BYTES:
        chunk = response.read1(_READ_BYTES)
        if not chunk:
            return bytes(text)
        text += chunk
    raise FetchError(f"answer larger than {MAX_KEYS_BYTES} bytes")


def _check_text(text: bytes, what: str) -> None:
    if text.lstrip().startswith(b"<"):
        raise FetchError(f"got an HTML page instead of {what}")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise FetchError(f"got binary data instead of {what}")
