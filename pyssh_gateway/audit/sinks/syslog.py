"""Lines by syslog: RFC 5424 messages over a local socket, TCP (octet counting, RFC 6587) or TLS (RFC 5425).

A message's text is the JSON line as it is in the log. It has no byte order mark, which would be in the way of JSON
parsers; by RFC 5424 section 6.4 the text is then of unspecified encoding. It is UTF-8.
"""

import errno
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pyssh_gateway.audit.sinks.head import Level, head
from pyssh_gateway.audit.sinks.sink import Unreachable

if TYPE_CHECKING:
    import ssl

CONNECT_SECONDS = 10.0
SEND_SECONDS = 30.0
"""How long a connection, and a batch that the receiver does not read, may take. Then the connection is given up."""

BATCH_LINES = 256
GATHERING_SECONDS = 0.1
"""The first line after a silence waits so long for more: a login has eight lines within some hundredths of a second."""

_AUTHPRIV = 10
"""The facility for security messages, as sshd's own by default on most distributions."""

_SEVERITIES: Final[dict[Level, int]] = {"error": 3, "warning": 4, "notice": 5, "info": 6}

_MAX_SEQUENCE = 2**31 - 1
"""RFC 5424 section 7.3.1: the sequence number begins at 1 again after this."""

_MAX_NAME = 32
"""Characters of a MSGID (RFC 5424 section 6)."""

_UNFIT = re.compile(r"[^!-~]")
"""What a header's fields can't have: they are printable ASCII without spaces."""


class Syslog:
    """The receiver `address`, in the form of the setting `audit.syslog`."""

    def __init__(self, address: str) -> None:
        self.name = f"syslog to {address}"
        self.gathering = GATHERING_SECONDS
        self._scheme, _, place = address.partition(":")
        self._place = place.removeprefix("//")
        # A datagram is delivered or not. Of a batch of them some might be, and would be sent twice.
        self.most_lines = 1 if self._scheme == "unix" else BATCH_LINES
        self._socket: socket.socket | None = None
        self._is_datagram = False
        self._host = _UNFIT.sub("", socket.gethostname())[:255] or "-"
        self._pid = os.getpid()

    def connect(self) -> None:
        """Connect if there is no connection. Raises OSError, Unreachable."""
        if self._socket is None:
            self._socket = self._connect()

    def send(self, lines: Sequence[bytes]) -> int:
        """Deliver lines; returns how many are too long for the local socket. Raises OSError, Unreachable.

        TCP does not tell what has arrived: lines that were on their way when a receiver died are lost, or come twice.
        """
        if self._socket is not None and self._has_hung_up(self._socket):
            self.close()
        self.connect()
        sock = self._socket
        assert sock is not None  # noqa: S101 - `connect` has raised otherwise
        try:
            sock.sendall(b"".join(self._framed(self._message(line)) for line in lines))
        except OSError as error:
            if self._is_datagram and error.errno == errno.EMSGSIZE:
                return len(lines)
            raise
        return 0

    def close(self) -> None:
        """Disconnect; `send` connects again."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    # -- the connection -----------------------------------------------------------------------------------------

    def _connect(self) -> socket.socket:
        if self._scheme == "unix":
            return self._connect_locally()
        host, _, port = self._place.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        try:
            plain = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
        except socket.gaierror as error:
            raise Unreachable(f"no address for {host}: {error.strerror}") from error
        plain.settimeout(SEND_SECONDS)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A receiver that has vanished is noticed when it has not acknowledged for so long.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SEND_SECONDS * 1000))
        if self._scheme == "tcp":
            return plain
        try:
            return _tls(plain, host)
        except BaseException:
            plain.close()
            raise

    def _connect_locally(self) -> socket.socket:
        """To the socket of a daemon: of datagrams, as most have it, or a stream."""
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            sock = socket.socket(socket.AF_UNIX, kind)
            sock.settimeout(SEND_SECONDS)
            try:
                sock.connect(self._place)
            except OSError as error:
                sock.close()
                if error.errno == errno.EPROTOTYPE and kind == socket.SOCK_DGRAM:
                    continue
                raise
            break
        self._is_datagram = kind == socket.SOCK_DGRAM
        return sock

    def _has_hung_up(self, sock: socket.socket) -> bool:
        """Whether the receiver has closed the connection: what is written then would be lost.

        It has nothing to say to us; if it says something (TLS does), that is read and forgotten.
        """
        if self._is_datagram:
            return False
        sock.settimeout(0)
        try:
            while sock.recv(4096):
                pass
        except OSError as error:
            return not _is_open(error)
        else:
            return True
        finally:
            sock.settimeout(SEND_SECONDS)

    # -- the message --------------------------------------------------------------------------------------------

    def _message(self, line: bytes) -> bytes:
        told = head(line)
        name = _UNFIT.sub("", told.event)[:_MAX_NAME] or "-"
        data = f'[meta sequenceId="{(told.seq - 1) % _MAX_SEQUENCE + 1}"]' if told.seq > 0 else "-"
        priority = _AUTHPRIV * 8 + _SEVERITIES[told.level]
        header = f"<{priority}>1 {told.ts or '-'} {self._host} pyssh-gateway {self._pid} {name} {data} "
        return header.encode() + line.removesuffix(b"\n")

    def _framed(self, message: bytes) -> bytes:
        if self._is_datagram:
            return message
        if self._scheme == "unix":
            return message + b"\n"  # what daemons with a local stream expect; a line of JSON has none in it
        return b"%d %b" % (len(message), message)


def _tls(plain: socket.socket, host: str) -> "ssl.SSLSocket":
    """TLS with the system's authorities, for the receiver's own name. Imported late: only here is it needed."""
    import ssl

    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def _is_open(error: OSError) -> bool:
    """Whether a read failed only because there was nothing to read."""
    return isinstance(error, BlockingIOError) or type(error).__name__ == "SSLWantReadError"
