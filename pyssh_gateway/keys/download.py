"""One bounded download of a text of keys over HTTP: all of it within a deadline and a size, or the reason why not.

http.client and not urllib.request does the work, because it lets us put one deadline under all reads: urllib's timeout
starts anew with every byte that drips in. It also uses no proxy, cookie or password and follows no redirect by
itself. This module knows HTTP; it does not know what a key is or which source it serves.
"""

import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

from pyssh_gateway import __version__
from pyssh_gateway.core.authorized_keys import MAX_KEYS_BYTES

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

    from _typeshed import WriteableBuffer

MAX_REDIRECTS = 3
"""Redirects followed, on one host: /name to /Name and back to a path is two; a loop is cut off soon."""

_READ_BYTES = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OK = 200
_NOT_FOUND = 404
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# No "Connection: close": a server that is to keep the connection has to say where its answer ends.
_HEADERS = {"User-Agent": f"pyssh-gateway/{__version__}", "Accept": "text/plain"}


class FetchError(Exception):
    """A source gave no usable answer. `reason` says why, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def no_answer(seconds: float) -> str:
    """The reason of a fetch that took too long."""
    return f"no answer within {seconds:g} s"


def fetch_url(url: str, seconds: float, *, not_found: str, now: Callable[[], float] = time.monotonic) -> bytes:
    """The text of keys at `url`, within `seconds`. Blocks. Raises FetchError; `not_found` is what a 404 means.

    The deadline does not cover what the C library does about the host's name and, with several addresses that do not
    answer, holds for each of them: whoever cannot wait runs this in a thread and stops waiting for it.
    """
    import http.client  # 8 ms with its email parser: not on the way to the first login
    import ssl

    deadline = now() + seconds
    host = urlsplit(url).netloc
    try:
        return _follow(url, not_found, lambda: _remaining(deadline, now))
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


def _follow(url: str, not_found: str, remaining: Callable[[], float]) -> bytes:
    for _ in range(MAX_REDIRECTS + 1):
        connection = _new_connection(url, remaining())
        connection.connect()
        raw = connection.sock
        with raw:
            connection.sock = _TimedSocket(raw, remaining)
            connection.request("GET", _target(url), headers=_HEADERS)
            with connection.getresponse() as response:
                if response.status not in _REDIRECTS:
                    return _read_answer(response, not_found)
                url = _redirected(url, response.getheader("Location", ""))
    raise FetchError(f"redirected more than {MAX_REDIRECTS} times")


def _new_connection(url: str, timeout: float) -> "HTTPConnection":
    import http.client
    import ssl

    scheme, host, port = _origin(urlsplit(url))
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


def _target(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class _TimedReader(io.RawIOBase):
    """What arrives at a socket; every read may take what is left of the time for all of them."""

    def __init__(self, raw: socket.socket, remaining: Callable[[], float]) -> None:
        self._raw = raw
        self._remaining = remaining

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._raw.settimeout(self._remaining())
        return self._raw.recv_into(buffer)


class _TimedSocket:
    """The part of a socket that http.client uses, with one deadline over everything. Closing is the owner's part."""

    def __init__(self, raw: socket.socket, remaining: Callable[[], float]) -> None:
        self._raw = raw
        self._remaining = remaining

    def sendall(self, data: bytes) -> None:
        self._raw.settimeout(self._remaining())
        self._raw.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._raw, self._remaining))

    def close(self) -> None:
        pass


def _read_answer(response: "HTTPResponse", not_found: str) -> bytes:
    import http.client

    if response.status == _NOT_FOUND:
        raise FetchError(not_found)
    if response.status != _OK:
        meaning = http.client.responses.get(response.status, "no known status")
        raise FetchError(f"the server answered {response.status} ({meaning})")
    if response.headers.get_content_type() == "text/html":
        raise FetchError("got an HTML page instead of keys")
    length = response.length
    # RFC 9112 section 6.3: an answer that ends with its connection can't be told from one that was interrupted.
    if length is None and not response.chunked:
        raise FetchError("the answer does not say how long it is, so a part of it would look like all of it")
    text = _read_bounded(response, length or 0)
    if length is not None and len(text) != length:
        raise FetchError(f"the answer was cut off: {len(text)} of {length} bytes")
    return _check_text(text)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port, with the scheme's own port if none is named."""
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    parts = urlsplit(target)
    if not location or _origin(parts) != _origin(urlsplit(url)) or "@" in parts.netloc:
        raise FetchError(f"redirected to another place, which is not followed: {location[:200]!a}")
    return target


def _read_bounded(response: "HTTPResponse", announced: int) -> bytes:
    text = bytearray()
    while max(len(text), announced) <= MAX_KEYS_BYTES:
        chunk = response.read1(_READ_BYTES)
        if not chunk:
            return bytes(text)
        text += chunk
    raise FetchError(f"answer larger than {MAX_KEYS_BYTES} bytes")


def _check_text(text: bytes) -> bytes:
    if text.lstrip().startswith(b"<"):
        raise FetchError("got an HTML page instead of keys")
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        decoded = "\0"
    if "\0" in decoded:
        raise FetchError("got binary data instead of keys")
    return text
