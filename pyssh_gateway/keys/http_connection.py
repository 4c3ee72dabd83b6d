"""A connection for HTTP with one deadline for all reads and writes together.

A socket's own timeout, which is all that urllib has, starts anew with every received byte. This module does not know
the requests or answers.
"""

import binascii
import contextlib
import io
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from pyssh_gateway.config.values import Secret
from pyssh_gateway.core.access.proxies import bypasses_proxy
from pyssh_gateway.keys.http_answer import FetchError

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPConnection

    from _typeshed import WriteableBuffer

_DEFAULT_PORTS = {"http": 80, "https": 443}

PROXY_PORT = 1080
"""The port of a proxy that is named without one, as in curl."""

_SUCCESS = 2  # the first digit
_WHO = 407
_MAX_TOLD = 100  # characters of a proxy's status text


class Proxies(msgspec.Struct, frozen=True):
    """How https servers are reached: by the HTTP proxy `https`, if there is one, but for the hosts in `bypassed`."""

    https: Secret = Secret()
    bypassed: str = ""


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port, with the scheme's own port if none is named."""
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def origin(url: str) -> str:
    """The server of `url` as browsers write it (RFC 6454 section 6.2): `https://github.com`."""
    scheme, host, port = _origin(urlsplit(url))
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" + ("" if port == _DEFAULT_PORTS.get(scheme) else f":{port}")


def same_origin(url: str, other: str) -> bool:
    """Whether both addresses are on one server, and `other` has no user name or password."""
    parts = urlsplit(other)
    return _origin(parts) == _origin(urlsplit(url)) and "@" not in parts.netloc


@contextlib.contextmanager
def connected(url: str, remaining: Callable[[], float], proxies: Proxies | None = None) -> "Iterator[HTTPConnection]":
    """A connection to the server of `url`, by way of a proxy if it has one there, closed at the end.

    `remaining` gives the seconds that are left for everything together, and raises TimeoutError if there are none.
    Raises OSError and ssl.SSLError, and FetchError for what goes wrong at the proxy.
    """
    connection = _new_connection(url, remaining())
    proxy = _proxy_for(url, proxies) if proxies is not None else None
    if proxy is None:
        connection.connect()
        raw = connection.sock
    else:
        # The certificate has to be the server's own, for its own name: the proxy sees only encrypted data.
        raw = _tls_context().wrap_socket(_tunnel(proxy, url, remaining), server_hostname=_origin(urlsplit(url))[1])
    with raw:
        connection.sock = _TimedSocket(raw, remaining)
        yield connection


def _proxy_for(url: str, proxies: Proxies) -> SplitResult | None:
    """The proxy for the server of `url`; None: there is none, or that server is reached without it."""
    scheme, host, port = _origin(urlsplit(url))
    if scheme != "https" or not proxies.https or bypasses_proxy(host, port, proxies.bypassed):
        return None
    return urlsplit(proxies.https)


def _tunnel(proxy: SplitResult, url: str, remaining: Callable[[], float]) -> socket.socket:
    """A connection through `proxy` to the server of `url` (RFC 9110 section 9.3.6). Raises FetchError, TimeoutError."""
    import http.client

    host, port = proxy.hostname or "", proxy.port or PROXY_PORT
    named = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"  # without the password that may be in its address
    try:
        raw = socket.create_connection((host, port), timeout=remaining())
    except TimeoutError:
        raise
    except OSError as error:
        raise FetchError(f"no connection to the proxy {named}: {error.strerror or error}") from error
    try:
        refusal = _asked_for_tunnel(raw, _connect_request(proxy, url), remaining)
        raw.settimeout(remaining())
    except (http.client.HTTPException, ConnectionError) as error:
        raw.close()
        raise FetchError(f"the proxy {named} does not answer in proper HTTP ({type(error).__name__})") from error
    except BaseException:
        raw.close()
        raise
    if refusal:
        raw.close()
        raise FetchError(f"the proxy {named} does not connect to {urlsplit(url).netloc}: {refusal}")
    return raw


def _asked_for_tunnel(raw: socket.socket, request: bytes, remaining: Callable[[], float]) -> str:
    """Ask the proxy at the other end of `raw` for a tunnel; returns why it makes none, empty if it does."""
    import http.client

    timed = _TimedSocket(raw, remaining)
    timed.sendall(request)
    response = http.client.HTTPResponse(timed, method="CONNECT")  # type: ignore[arg-type]  # not a socket; it only calls makefile()
    response.begin()
    if response.status // 100 == _SUCCESS:
        return ""
    advice = "; it wants a user and a password in keys.https_proxy" if response.status == _WHO else ""
    return f"{response.status} {response.reason[:_MAX_TOLD]!a}{advice}"


def _connect_request(proxy: SplitResult, url: str) -> bytes:
    _, host, port = _origin(urlsplit(url))
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        who = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {binascii.b2a_base64(who.encode(), newline=False).decode()}")
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")


def _new_connection(url: str, timeout: float) -> "HTTPConnection":
    import http.client

    scheme, host, port = _origin(urlsplit(url))
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=_tls_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


# Reading the CA certificates takes 30 ms of CPU time, so simultaneous downloads (of a team's members) share them. The
# reference is weak: the certificates are read again once no download uses them.
_contexts: "weakref.WeakValueDictionary[ssl.DefaultVerifyPaths, ssl.SSLContext]" = weakref.WeakValueDictionary()
_contexts_lock = threading.Lock()


def _tls_context() -> "ssl.SSLContext":
    import ssl

    with _contexts_lock:
        paths = ssl.get_default_verify_paths()
        context = _contexts.get(paths)
        if context is None:
            context = _contexts[paths] = ssl.create_default_context()
        return context


class _TimedReader(io.RawIOBase):
    """Reads from a socket; each read may take the time that is left for all of them."""

    def __init__(self, raw: socket.socket, remaining: Callable[[], float]) -> None:
        self._raw = raw
        self._remaining = remaining

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._raw.settimeout(self._remaining())
        return self._raw.recv_into(buffer)


class _TimedSocket:
    """The part of a socket that http.client uses, with one deadline for everything. The owner closes the socket."""

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
