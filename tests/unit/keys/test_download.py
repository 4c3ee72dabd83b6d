"""keys.download: a complete text of keys over HTTP, or the reason why there is none."""

import asyncio
import contextlib
import datetime as dt
import gc
import ipaddress
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pyssh_gateway import __version__
from pyssh_gateway.config import parser as config
from pyssh_gateway.core.access.authorized_keys import MAX_KEYS_BYTES
from pyssh_gateway.keys.download import MAX_REDIRECTS, Request, download, fetch_url
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.sources import fetch, parse_source
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.waiting import PATIENCE

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
IMPATIENCE = 0.25  # seconds for downloads that never end


async def no_files(path: str) -> bytes:
    """A reader of files for tests that must not read one."""
    raise AssertionError(path)


def get(github: FakeGitHub, seconds: float = PATIENCE, spec: str = "github:example") -> bytes | None:
    """The text that a fetch returns."""
    settings = config.Keys(github_url=github.url, timeout=config.Duration(seconds))
    return asyncio.run(fetch(parse_source(spec), settings, no_files)).text


def failure(github: FakeGitHub, seconds: float = PATIENCE, spec: str = "github:example") -> str:
    """The reason for which a fetch fails."""
    with pytest.raises(FetchError) as caught:
        get(github, seconds, spec)
    assert caught.value.reason == str(caught.value)
    assert "\n" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (gh.keys(KEY), f"{KEY}\n".encode()),
        (gh.keys(KEY, KEY), f"{KEY}\n{KEY}\n".encode()),
        (gh.empty(), b""),
        (gh.chunked(KEY, KEY), f"{KEY}\n{KEY}\n".encode()),
        (gh.chunked(), b""),
        (gh.raw(b"# caf\xc3\xa9\n"), b"# caf\xc3\xa9\n"),
        (gh.raw(b"#" * MAX_KEYS_BYTES), b"#" * MAX_KEYS_BYTES),
        (gh.chunked(*["#" * 1023] * (MAX_KEYS_BYTES // 1024)), (b"#" * 1023 + b"\n") * (MAX_KEYS_BYTES // 1024)),
    ],
    ids=["one key", "two keys", "no keys", "chunks", "no chunks", "UTF-8", "the largest", "the largest in chunks"],
)
def test_gives_a_whole_text(github: FakeGitHub, answer: gh.Answer, text: bytes) -> None:
    """Every correct 200 is a success, also an empty one and the largest one."""
    github.script("example", answer)
    assert get(github) == text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (gh.status(404), "no such account (404)"),
        (gh.status(403), "the server answered 403 (Forbidden)"),
        (gh.status(429), "the server answered 429 (Too Many Requests)"),
        (gh.status(500), "the server answered 500 (Internal Server Error)"),
        (gh.status(999), "the server answered 999 (no known status)"),
        (gh.status(304), "the server answered 304 (Not Modified)"),
        (gh.status(410), "no such account (410)"),
        (gh.status(204), "the server answered 204 (No Content)"),
        (gh.error_with_keys(503, KEY), "the server answered 503 (Service Unavailable)"),
        (gh.html(), "got an HTML page instead of keys"),
        (gh.html(content_type="TEXT/HTML"), "got an HTML page instead of keys"),
        (gh.html(content_type="text/plain"), "got an HTML page instead of keys"),
        (gh.huge(), f"answer larger than {MAX_KEYS_BYTES} bytes"),
        (gh.huge(MAX_KEYS_BYTES + 10), f"answer larger than {MAX_KEYS_BYTES} bytes"),
        (gh.huge(announced=False), f"answer larger than {MAX_KEYS_BYTES} bytes"),
        (gh.truncated(KEY), f"the answer was cut off: {len(KEY) + 1} of {len(KEY) + 2} bytes"),
        (gh.truncated(), "the answer was cut off: 0 of 1 bytes"),
        (gh.chunked_and_cut(KEY), "the answer was cut off"),
        (gh.without_length(KEY), "the answer does not say how long it is"),
        (gh.binary(), "got binary data instead of keys"),
        (gh.raw(KEY.encode("utf-16")), "got binary data instead of keys"),
        (gh.raw(KEY.encode() + b"\0"), "got binary data instead of keys"),
        (gh.not_http(), "does not answer in proper HTTP (BadStatusLine)"),
        (gh.hang_up(), "Remote end closed connection"),
        (gh.redirect_without_location(), "redirected to another place"),
        (gh.redirect("/example.keys"), "redirected more than 3 times"),
        (gh.redirect("https://127.0.0.1/example.keys"), "not followed: 'https://127.0.0.1/example.keys'"),
        (gh.redirect("http://localhost/example.keys"), "redirected to another place"),
        (gh.redirect("//other.example/example.keys"), "redirected to another place"),
        (gh.redirect("file:///etc/passwd"), "redirected to another place"),
        (gh.redirect("http://127.0.0.1:none/"), "does not answer in proper HTTP"),
        (gh.redirect("/a b"), "redirected to another address, which is not followed: '/a b'"),
        (gh.redirect("/other.keys"), "redirected to another address, which is not followed: '/other.keys'"),
        (gh.redirect("/users/example.keys"), "redirected to another address"),
        (gh.redirect("/example.keys?page=2"), "redirected to another address"),
        (gh.redirect("/%65xample.keys"), "redirected to another address"),
    ],
)
def test_says_why_an_answer_is_not_usable(github: FakeGitHub, answer: gh.Answer, reason: str) -> None:
    """Anything that is not a complete text of keys is refused, and the log says what came instead."""
    github.script("example", answer)
    assert reason in failure(github)


@pytest.mark.parametrize("answer", [gh.hang(), gh.drip(KEY), gh.drip_headers()], ids=["hang", "drip", "drip headers"])
def test_gives_up_at_the_deadline(github: FakeGitHub, answer: gh.Answer) -> None:
    """A server that is slow, or sends single bytes, delays nothing beyond the deadline."""
    github.script("example", answer)
    started = time.monotonic()
    assert failure(github, IMPATIENCE) == f"no answer within {IMPATIENCE:g} s"
    assert time.monotonic() - started < PATIENCE


def test_the_thread_ends_at_the_deadline_by_itself(github: FakeGitHub) -> None:
    """With a server that sends single bytes, refreshes do not pile up threads and sockets."""
    github.script("example", gh.drip_headers())
    with pytest.raises(FetchError, match=f"no answer within {IMPATIENCE:g} s"):
        fetch_url(Request(f"{github.url}/example.keys"), IMPATIENCE)


def test_a_download_does_not_begin_after_its_deadline(github: FakeGitHub) -> None:
    """A download that was delayed past its deadline before it connected is not started."""
    clock = iter([0.0, 5.0])
    with pytest.raises(FetchError, match="no answer within 5 s"):
        fetch_url(Request(f"{github.url}/example.keys"), 5.0, now=lambda: next(clock))
    assert github.requests.total() == 0


def test_a_text_that_drips_faster_than_the_deadline_is_whole(github: FakeGitHub) -> None:
    """A slow server is no error, as long as the text is complete before the deadline."""
    github.script("example", gh.drip("# slow"))
    assert get(github) == b"# slow\n"


def test_says_what_404_means_for_other_addresses(github: FakeGitHub) -> None:
    """A mistyped URL is not reported as a missing account."""
    assert failure(github, spec=f"url:{github.url}/team") == "nothing there (404)"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("absolute", [True, False])
def test_follows_redirects_within_the_server(github: FakeGitHub, code: int, absolute: bool) -> None:
    """A server that redirects to another spelling of the login is followed, with any redirect code."""
    github.script("example", gh.redirect(f"{github.url if absolute else ''}/Example.keys", code))
    github.script("Example", gh.keys(KEY))
    assert get(github) == f"{KEY}\n".encode()


def test_follows_three_redirects_and_no_more(github: FakeGitHub) -> None:
    """Three redirects are followed, and a fourth is not."""
    names = ("example", "Example", "eXample", "exAmple", "exaMple")
    for name, following in pairwise(names):
        github.script(name, gh.redirect(f"/{following}.keys"))
    github.script(names[-1], gh.keys(KEY))
    assert get(github, spec=f"github:{names[1]}") == f"{KEY}\n".encode()
    assert len(names) == MAX_REDIRECTS + 2
    assert failure(github) == f"redirected more than {MAX_REDIRECTS} times"


def test_an_address_is_no_name(github: FakeGitHub) -> None:
    """In a configured URL, other capitals are another URL, and a slash at its end is the same one."""
    github.script("team", gh.redirect("/Team"))
    github.script("Team", gh.keys(KEY))
    assert "if the keys are there now, name that address" in failure(github, spec=f"url:{github.url}/team")
    github.script("team", gh.redirect("/team/"))
    github.script("team/", gh.keys(KEY))
    assert get(github, spec=f"url:{github.url}/team") == f"{KEY}\n".encode()


def test_never_asks_another_server(github: FakeGitHub) -> None:
    """A redirect to another server, or to another port, is not followed, so that nobody else's keys count."""
    with FakeGitHub() as other:
        other.script("example", gh.keys(KEY))
        github.script("example", gh.redirect(f"{other.url}/example.keys"))
        assert "redirected to another place" in failure(github)
        assert other.requests.total() == 0


def test_logs_in_nowhere(github: FakeGitHub) -> None:
    """A redirect with a user name and password is not followed, not even to the same server."""
    github.script("example", gh.redirect(f"{github.url.replace('//', '//user:password@')}/other.keys"))
    github.script("other", gh.keys(KEY))
    assert "redirected to another place" in failure(github)


def test_tells_the_server_who_asks_and_nothing_else(github: FakeGitHub) -> None:
    """A request has no cookie, password or compression, and its user agent names us for complaints."""
    github.script("example", gh.keys(KEY))
    get(github)
    (headers,) = github.headers
    assert headers["User-Agent"] == f"pyssh-gateway/{__version__}"
    assert set(headers) == {"Host", "Accept-Encoding", "User-Agent", "Accept"}
    assert headers["Accept-Encoding"] == "identity"


def test_uses_no_proxy_of_the_environment(github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable in the environment does not decide who answers for GitHub."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1/")
    github.script("example", gh.keys(KEY))
    assert get(github) == f"{KEY}\n".encode()


def test_says_when_nobody_listens() -> None:
    """A server that is down is reported by name."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(FetchError, match=rf"no connection to 127\.0\.0\.1:{port}: Connection refused"):
            fetch_url(Request(f"http://127.0.0.1:{port}/"), PATIENCE)


def test_says_when_a_host_does_not_exist() -> None:
    """A mistyped host is told apart from a server that is down (the test's address fails without any network)."""
    with pytest.raises(FetchError, match=r"was not found"):
        fetch_url(Request("http://[::1%25nowhere]:1/"), PATIENCE)


def test_says_when_a_host_cannot_exist() -> None:
    """A host name that can't be looked up is an error of the source."""
    with pytest.raises(FetchError):
        fetch_url(Request(f"http://{'x' * 64}.example/"), PATIENCE)


@contextlib.contextmanager
def https_github(tmp_path: Path) -> Iterator[tuple[FakeGitHub, Path]]:
    """A GitHub over TLS at 127.0.0.1, and the certificate that makes it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    trusted, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    trusted.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, private)
    with FakeGitHub(context) as github:
        github.script("example", gh.keys(KEY))
        yield github, trusted


def test_fetches_over_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS, fetches, redirects, truncation and the deadline work as without."""
    with https_github(tmp_path) as (github, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert get(github) == f"{KEY}\n".encode()
        github.script("example", gh.redirect(f"{github.url}/EXAMPLE.keys"))
        github.script("EXAMPLE", gh.keys(KEY))
        assert get(github) == f"{KEY}\n".encode()
        github.script("example", gh.truncated(KEY))
        assert "cut off" in failure(github)
        github.script("example", gh.drip(KEY))
        assert failure(github, IMPATIENCE) == f"no answer within {IMPATIENCE:g} s"


def test_downloads_at_the_same_time_read_the_certificates_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel downloads share one TLS context, since reading the certificates takes processor time and memory."""
    made: list[weakref.ref[ssl.SSLContext]] = []
    make = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        context = make()
        made.append(weakref.ref(context))
        return context

    async def all_at_once(url: str) -> None:
        async with asyncio.TaskGroup() as downloads:
            for _ in range(4):
                downloads.create_task(download(Request(url), PATIENCE))

    with https_github(tmp_path) as (github, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        monkeypatch.setattr(ssl, "create_default_context", counted)
        gate = threading.Event()
        github.script("example", gh.held(gh.keys(KEY), gate))

        def let_go() -> None:
            github.wait_for_requests("example", 4)
            gate.set()

        opener = threading.Thread(target=let_go)
        opener.start()
        asyncio.run(all_at_once(f"{github.url}/example.keys"))
        opener.join()
    for thread in threading.enumerate():
        if thread.name == "fetch-keys":
            thread.join(PATIENCE)
    gc.collect()
    assert [context() for context in made] == [None]


def test_refuses_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    """A man in the middle cannot answer for GitHub."""
    with https_github(tmp_path) as (github, _):
        assert "is not trusted: self-signed certificate" in failure(github)
        assert github.requests.total() == 0


def test_refuses_a_certificate_for_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A valid certificate for another host is refused."""
    with https_github(tmp_path) as (github, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        with pytest.raises(FetchError, match="is not trusted: Hostname mismatch"):
            fetch_url(Request(github.url.replace("127.0.0.1", "localhost")), PATIENCE)


def test_says_when_the_other_side_speaks_no_tls(github: FakeGitHub) -> None:
    """https never falls back to plain HTTP."""
    with pytest.raises(FetchError, match=r"no TLS connection to 127\.0\.0\.1"):
        fetch_url(Request(github.url.replace("http:", "https:")), PATIENCE)
    assert github.requests.total() == 0
