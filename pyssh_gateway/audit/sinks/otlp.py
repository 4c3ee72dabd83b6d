"""Lines as OpenTelemetry logs: OTLP over HTTP in its JSON encoding (https://opentelemetry.io/docs/specs/otlp/).

Written by hand: the SDK's import takes about a tenth of a second, for which everybody who wakes the machine would wait.
The connection stays open between batches.
"""

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec

from pyssh_gateway import __version__
from pyssh_gateway.audit.sinks.head import Head, Level, head
from pyssh_gateway.audit.sinks.sink import Refused, Unreachable

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

BATCH_LINES = 512
GATHERING_SECONDS = 1.0
"""The first line of a batch waits so long for more: a login alone has eight lines."""

REQUEST_SECONDS = 15.0
"""How long the receiver may be silent."""

MAX_ANSWER = 64 * 1024

_SUCCESS = 2  # the first digit
_RETRY = frozenset({429, 502, 503, 504})
"""The answers after which a request may be sent again; after others it may not (OTLP's section on failures)."""

_SEVERITIES: Final[dict[Level, tuple[int, str]]] = {
    "error": (17, "ERROR"),
    "warning": (13, "WARN"),
    "notice": (10, "INFO2"),
    "info": (9, "INFO"),
}


class Otlp:
    """The receiver at the base address `url`; `headers` (`name=value`) go with each request."""

    def __init__(self, url: str, headers: Sequence[str]) -> None:
        parts = urlsplit(url)
        self.name = f"OTLP to {parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self.most_lines = BATCH_LINES
        self.gathering = GATHERING_SECONDS
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = f"{parts.path.rstrip('/')}/v1/logs"
        self._headers = dict(header.split("=", 1) for header in headers)
        self._connection: HTTPConnection | None = None
        self._resource = {"attributes": [_text("service.name", "pyssh-gateway"), _text("service.version", __version__)]}
        self._resource["attributes"].append(_text("host.name", socket.gethostname()))

    def connect(self) -> None:
        """Connect if there is no connection. Raises OSError."""
        if self._connection is None:
            self._connection = self._made()
            self._connection.connect()

    def send(self, lines: Sequence[bytes]) -> int:
        """Deliver lines; returns how many the receiver refuses for good. Raises OSError, Unreachable."""
        import http.client

        body = msgspec.json.encode(self._request(lines))
        headers = {"Content-Type": "application/json", "User-Agent": f"pyssh-gateway/{__version__}"} | self._headers
        try:
            response, answer = self._ask(body, headers)
        except http.client.HTTPException as error:
            raise Unreachable(f"it does not answer in proper HTTP ({type(error).__name__})") from error
        if response.status // 100 == _SUCCESS:
            return min(_rejected(answer), len(lines))
        text = f"it answers {response.status} {response.reason[:100]!a}"
        if response.status in _RETRY:
            raise Unreachable(text, _retry_after(response.getheader("Retry-After") or ""))
        raise Refused(text)

    def close(self) -> None:
        """Disconnect; `send` connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, body: bytes, headers: dict[str, str]) -> "tuple[HTTPResponse, bytes]":
        """The answer to one request. A receiver may close an idle connection at any time: then once on a new one."""
        import http.client

        kept = self._connection
        try:
            return self._ask_once(body, headers)
        except (http.client.RemoteDisconnected, ConnectionError):
            self.close()
            if kept is None:
                raise
        return self._ask_once(body, headers)

    def _ask_once(self, body: bytes, headers: dict[str, str]) -> "tuple[HTTPResponse, bytes]":
        connection = self._connection = self._connection or self._made()
        connection.request("POST", self._path, body, headers)
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER)
        if response.read(1):  # more than any honest answer: not worth reading
            self.close()
        return response, answer

    def _made(self) -> "HTTPConnection":
        """Late imports: without this receiver nobody needs them."""
        import http.client
        import ssl

        if self._is_tls:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(self._host, self._port, timeout=REQUEST_SECONDS, context=context)
        return http.client.HTTPConnection(self._host, self._port, timeout=REQUEST_SECONDS)

    def _request(self, lines: Sequence[bytes]) -> dict[str, Any]:
        """An ExportLogsServiceRequest (opentelemetry/proto/collector/logs/v1/logs_service.proto)."""
        scope = {"name": "pyssh_gateway.events", "version": __version__}
        records = [_record(line, time.time_ns()) for line in lines]
        return {"resourceLogs": [{"resource": self._resource, "scopeLogs": [{"scope": scope, "logRecords": records}]}]}


def _record(line: bytes, now: int) -> dict[str, Any]:
    """A LogRecord. Its body is the line; some fields are attributes, too, so that they can be filtered by.

    64-bit numbers are texts in protobuf's JSON. `eventName` is the name of the event, as here.
    """
    told = head(line)
    number, name = _SEVERITIES[told.level]
    return {
        "timeUnixNano": str(_nanoseconds(told.ts) or now),
        "observedTimeUnixNano": str(now),
        "severityNumber": number,
        "severityText": name,
        "eventName": told.event,
        "body": {"stringValue": line.removesuffix(b"\n").decode("utf-8", "replace")},
        "attributes": _attributes(told),
    }


def _attributes(told: Head) -> list[dict[str, Any]]:
    texts = {
        "pyssh.conn": told.conn,
        "pyssh.session": told.session,
        "pyssh.person": told.identity.person if told.identity is not None else "",
        "user.name": told.user,
        "client.address": told.peer,
    }
    attributes = [_text(key, value) for key, value in texts.items() if value]
    if told.seq:
        attributes.append({"key": "pyssh.seq", "value": {"intValue": str(told.seq)}})
    return attributes


def _text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _nanoseconds(timestamp: str) -> int:
    """Unix time of a `ts`; 0 if it is none. In whole microseconds, which a float has not."""
    try:
        then = datetime.fromisoformat(timestamp).astimezone(UTC)
    except ValueError:
        return 0
    since = then - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def _rejected(answer: bytes) -> int:
    """How many records an ExportLogsServiceResponse says were rejected."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, ValueError, TypeError, AttributeError):
        partial = msgspec.json.decode(answer or b"{}").get("partialSuccess") or {}
        return max(0, int(partial.get("rejectedLogRecords", 0)))
    return 0


def _retry_after(value: str) -> float:
    """The seconds of a Retry-After header; 0 for none, or for a date."""
    return float(value) if value.isascii() and value.isdigit() else 0.0
