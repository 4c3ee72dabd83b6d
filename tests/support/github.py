"""A real HTTP server on 127.0.0.1 that plays github.com's `/<login>.keys`, with any failure that a test wants.

    with FakeGitHub() as github:
        github.script("example", keys(public_key), status(500))
        github.account("example", 583231)
        ...  # a server with keys.github_url = github.url

An answer is a function that writes a response. A login's answers are used one after the other, the last one for
ever; a login without any gets 404, as on GitHub. All other sources use their path: `~example` for SourceHut,
`~example/+sshkeys` for Launchpad, `api/v3/users/example` for the API of GitHub, where `keys.github_api` expects it. The
end of the `with` block releases every answer that hangs, and waits for every thread.
"""

import collections
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import HTTPServer
from urllib.parse import urlsplit

from tests.support import local_http
from tests.support.github_api import api_path, for_token, in_json, paged
from tests.support.local_http import LocalServer, Played
from tests.support.waiting import PATIENCE

DRIP_SECONDS = 0.02
"""Time between two bytes of an answer that drips: so short that a timeout for each byte never ends it."""


class FakeGitHub(Played):
    """The server. `url` is its base address, `requests` counts the requests for each login (or path).

    `headers` has the headers of every request, `headers_of` has them by login or path.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        self.headers: list[dict[str, str]] = []
        self.headers_of: collections.defaultdict[str, list[dict[str, str]]] = collections.defaultdict(list)
        self._api: dict[str, Answer] = {}
        self._answers: dict[str, collections.deque[Answer]] = {}
        server = _Server(self)
        if tls is not None:
            # The connection's thread does the handshake, so that a client that fails it does not delay the next one.
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        super().__init__(server)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{server.server_port}"

    def script(self, login: str, *answers: "Answer") -> None:
        """From now on answer requests for `login` with `answers`, in turn, the last one for ever."""
        with self._changed:
            self._answers[login] = collections.deque(answers)

    def account(self, login: str, number: int | None) -> None:
        """From now on the API knows the account `login` by that number; None: there is none (any more)."""
        with self._changed:
            path = api_path(f"users/{login}").lower()
            self._api.pop(path, None)
            if number is not None:
                self._api[path] = in_json({"login": login, "id": number, "type": "User"})

    def team(self, org: str, slug: str, members: Mapping[str, int], token: str = "token") -> None:
        """From now on the API knows the team, and lists its members, page by page, for requests with the token."""
        listed = [{"login": login, "id": number, "type": "User"} for login, number in members.items()]
        with self._changed:
            self._api[api_path(f"orgs/{org}/teams/{slug}/members").lower()] = for_token(token, paged(listed))
            self._api[api_path(f"orgs/{org}/teams").lower()] = for_token(token, in_json([{"slug": slug}]))

    def disband(self, org: str, slug: str) -> None:
        """From now on the API does not know the team, but still knows the organisation."""
        with self._changed:
            del self._api[api_path(f"orgs/{org}/teams/{slug}/members").lower()]

    def wait_for_requests(self, login: str, count: int) -> None:
        """Return as soon as `count` requests for `login` have arrived; AssertionError if they do not. Blocks."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.requests[login] >= count, PATIENCE), (
                f"{self.requests[login]} of {count} requests for {login} within {PATIENCE} s"
            )

    def take_answer(self, login: str, headers: dict[str, str]) -> "Answer":
        """Count a request for `login` and return its answer."""
        with self._changed:
            self.requests[login] += 1
            self.headers.append(headers)
            self.headers_of[login].append(headers)
            self._changed.notify_all()
            answers = self._answers.get(login)
            if not answers:
                return self._api.get(login.lower(), status(404))
            return answers.popleft() if len(answers) > 1 else answers[0]


class _Server(LocalServer, HTTPServer):
    request_queue_size = 128

    def __init__(self, github: FakeGitHub) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.github = github


class Handler(local_http.Handler):
    """Answers as GitHub does."""

    server: _Server
    more_headers: dict[str, str]

    def answer(self) -> None:
        """Answer as scripted."""
        login = urlsplit(self.path).path.removeprefix("/").removesuffix(".keys")
        self.more_headers = {}
        self.server.github.take_answer(login, dict(self.headers))(self)

    def respond(self, code: int, body: bytes, **headers: str) -> None:
        """Send a complete, correct response; `headers` with `_` for `-`."""
        self.start(code, len(body), **headers)
        self.wfile.write(body)

    def start(self, code: int, length: int, **headers: str) -> None:
        """Send the head of a response."""
        self.send_response(code)
        for name, value in {"Content_Type": "text/plain; charset=utf-8", **self.more_headers, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()


Answer = Callable[[Handler], None]

hang, hang_up = local_http.hang, local_http.hang_up


def with_headers(answer: Answer, **headers: str) -> Answer:
    """`answer` with these headers too; with `_` for `-`."""

    def answer_with_headers(handler: Handler) -> None:
        handler.more_headers |= headers
        answer(handler)

    return answer_with_headers


def conditional(answer: Answer, *, etag: str = "", modified: str = "") -> Answer:
    """`answer` with an ETag, a Last-Modified, or both; 304 if the request shows that the client has this version."""
    validators = {name: value for name, value in (("ETag", etag), ("Last_Modified", modified)) if value}

    def answer_if_new(handler: Handler) -> None:
        # RFC 9110 section 13.2.2: a date counts only if the request names no tag.
        asked = handler.headers.get("If-None-Match")
        known = asked == etag if asked is not None else handler.headers.get("If-Modified-Since") == modified != ""
        if not known:
            with_headers(answer, **validators)(handler)
            return
        handler.send_response(304)
        for name, value in validators.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer_if_new


def limited(code: int = 429, **headers: str) -> Answer:
    """Too many requests, with GitHub's headers about the time to wait: `Retry_After`, `X_RateLimit_Reset`..."""
    return with_headers(status(code), **headers)


def keys(*lines: str) -> Answer:
    """A good answer with these key lines; without lines it is the answer of an account without keys."""
    return raw("".join(f"{line}\n" for line in lines).encode())


def raw(body: bytes) -> Answer:
    """A 200 with any body."""
    return lambda handler: handler.respond(200, body)


def empty() -> Answer:
    """A 200 with an empty body: an account that has no keys (any more)."""
    return raw(b"")


def chunked(*lines: str) -> Answer:
    """A good answer in chunks, one for each line, without a Content-Length."""

    def answer(handler: Handler) -> None:
        _start_chunks(handler)
        for line in lines:
            _chunk(handler, f"{line}\n".encode())
        _chunk(handler, b"")

    return answer


def chunked_and_cut(*lines: str) -> Answer:
    """Chunks without the last, empty one: the connection ends too early."""

    def answer(handler: Handler) -> None:
        _start_chunks(handler)
        for line in lines:
            _chunk(handler, f"{line}\n".encode())

    return answer


def status(code: int) -> Answer:
    """An error whose body naive scripts take for a key file. 404's is GitHub's own."""
    return lambda handler: handler.respond(code, b"Not Found" if code == 404 else b"try again later\n")


def error_with_keys(code: int, *lines: str) -> Answer:
    """An error whose body contains keys, which must be ignored."""
    return lambda handler: handler.respond(code, "".join(f"{line}\n" for line in lines).encode())


def html(*, content_type: str = "text/html; charset=utf-8") -> Answer:
    """A page instead of keys: a captive portal, a login form, a maintenance notice."""
    page = b"\n <!DOCTYPE html><html><body>We'll be back soon</body></html>\n"
    return lambda handler: handler.respond(200, page, Content_Type=content_type)


def redirect(location: str, code: int = 302) -> Answer:
    """A redirect; `location` may be relative."""
    return lambda handler: handler.respond(code, b"", Location=location)


def redirect_without_location() -> Answer:
    """A redirect without a Location."""
    return lambda handler: handler.respond(302, b"")


def huge(size: int = 10 * 1024 * 1024, *, line: str = "", announced: bool = True) -> Answer:
    """`size` bytes that begin with `line`, then comments; `announced`: with a Content-Length instead of in chunks."""
    body = (f"{line}\n".encode() + b"# filling\n" * (size // 10))[:size]
    if announced:
        return raw(body)

    def answer(handler: Handler) -> None:
        _start_chunks(handler)
        for start in range(0, len(body), 65536):
            _chunk(handler, body[start : start + 65536])
        _chunk(handler, b"")

    return answer


def truncated(*lines: str) -> Answer:
    """A Content-Length that is one byte more than what is sent, then the end."""

    def answer(handler: Handler) -> None:
        body = "".join(f"{line}\n" for line in lines).encode()
        handler.start(200, len(body) + 1)
        handler.wfile.write(body)

    return answer


def without_length(*lines: str) -> Answer:
    """An answer that ends with the connection, so that the client can't tell whether it is complete."""

    def answer(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/plain")
        handler.end_headers()
        handler.wfile.write("".join(f"{line}\n" for line in lines).encode())

    return answer


def garbage() -> Answer:
    """A 200 with text in which no line is a key."""
    return raw(b"Rate limit exceeded.\nCome back later.\n")


def binary() -> Answer:
    """A 200 with bytes that are not text."""
    return raw(b"\x7fELF\x00\x01\xff\xfe" * 100)


def not_http() -> Answer:
    """Another program listens on that port, which does not speak HTTP."""
    return lambda handler: _write(handler, b"SSH-2.0-example\r\n")


def drip(*lines: str) -> Answer:
    """A good answer, a byte at a time: each byte comes before a timeout, the whole answer never does."""

    def answer(handler: Handler) -> None:
        body = "".join(f"{line}\n" for line in lines).encode()
        handler.start(200, len(body))
        _drip(handler, body)

    return answer


def drip_headers() -> Answer:
    """A header that never ends, a byte at a time."""

    def answer(handler: Handler) -> None:
        _write(handler, b"HTTP/1.1 200 OK\r\nX-Filling: ")
        _drip(handler, b"x" * 60_000)

    return answer


def held(answer: Answer, gate: threading.Event) -> Answer:
    """`answer`, but not before `gate` is set (or the server closes), so that a test can look at the state before."""

    def held_answer(handler: Handler) -> None:
        while not gate.wait(0.01) and not handler.released.is_set():
            pass
        answer(handler)

    return held_answer


def _write(handler: Handler, data: bytes) -> None:
    handler.wfile.write(data)


def _start_chunks(handler: Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/plain; charset=utf-8")
    for name, value in handler.more_headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def _chunk(handler: Handler, data: bytes) -> None:
    handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


def _drip(handler: Handler, data: bytes) -> None:
    handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in data:
        if handler.released.wait(DRIP_SECONDS):
            return
        handler.wfile.write(bytes([byte]))
