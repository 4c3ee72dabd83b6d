"""A connection for HTTP with one deadline under everything that is read and written.

A socket's own timeout, which is all that urllib has, starts anew with every byte that drips in. This module does not
know what is asked or answered.
"""

import contextlib
import io
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    import ssl
    from http.client import HTTPConnection

    from _typeshed import WriteableBuffer

_DEFAULT_PORTS = {"http": 80, "https": 443}


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port, with the scheme's own port if none is named."""
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def origin(url: str) -> str:
    """The server of `url` as browsers write it (RFC 6454 section 6.2): `https://github.com`."""
    scheme, host, port = _origin(urlsplit(url))
    bracketed = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bracketed}" + ("" if port == _DEFAULT_PORTS.get(scheme) else f":{port}")


def same_origin(url: str, other: str) -> bool:
    """Whether both addresses are on one server, and `other` names nobody to log in as there."""
    parts = urlsplit(other)
    return _origin(parts) == _origin(urlsplit(url)) and "@" not in parts.netloc


@contextlib.contextmanager
def connected(url: str, remaining: Callable[[], float]) -> "Iterator[HTTPConnection]":
    """A connection to the server of `url`, closed at the end.

    `remaining` gives the seconds that are left for everything together, and raises TimeoutError if there are none.
    Raises OSError and ssl.SSLError.
    """
    connection = _new_connection(url, remaining())
    connection.connect()
    raw = connection.sock
    with raw:
        connection.sock = _TimedSocket(raw, remaining)
        yield connection


def _new_connection(url: str, timeout: float) -> "HTTPConnection":
    import http.client

    scheme, host, port = _origin(urlsplit(url))
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=_tls_context())
    return http.client.HTTPConnection(host, port, timeout=timeout)


# Reading the CA certificates takes 30 ms of the processor, so downloads that are under way at the same time (of a
# team's members) share them. Weak: no certificate is trusted longer than somebody is using it.
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
