"""keys.http_connection: https servers by way of an HTTP proxy, which sees no secrets."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.config import source
from pyssh_gateway.keys.download import Request, fetch_url
from pyssh_gateway.keys.github import account_id
from pyssh_gateway.keys.http_answer import FetchError
from pyssh_gateway.keys.http_connection import Proxies
from pyssh_gateway.keys.sources import fetch, parse_source
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.http_proxy import ConnectProxy
from tests.support.waiting import PATIENCE
from tests.unit.keys.test_download import IMPATIENCE, KEY, https_github

PASSWORD = "p%40ss:word"  # "p@ss:word" in a URL
BASIC = "Basic YW1vczpwQHNzOndvcmQ="


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGitHub]:
    """A GitHub over TLS whose account `example` has a key."""
    with https_github(tmp_path) as (running, trusted):
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        yield running


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    """A running proxy."""
    with ConnectProxy() as running:
        yield running


def settings(github: FakeGitHub, proxy: str, no_proxy: str = "", seconds: float = PATIENCE) -> config.Keys:
    """A configuration with this proxy."""
    return config.Keys(
        github_url=github.url,
        github_token=config.Secret("hush"),
        timeout=config.Duration(seconds),
        https_proxy=config.Secret(proxy),
        no_proxy=no_proxy,
    )


async def no_file(path: str) -> bytes:
    """A reader of files for tests that must not read one."""
    raise AssertionError(path)


def get(keys: config.Keys) -> bytes | None:
    """The text that a fetch returns."""
    return asyncio.run(fetch(parse_source("github:example"), keys, no_file)).text


def failure(keys: config.Keys) -> str:
    """The reason for which a fetch fails."""
    with pytest.raises(FetchError) as caught:
        get(keys)
    return caught.value.reason


def test_keys_and_numbers_are_asked_for_through_the_proxy(github: FakeGitHub, proxy: ConnectProxy) -> None:
    """Through a proxy, keys and account numbers are fetched."""
    github.account("example", 7)
    keys = settings(github, proxy.url)
    assert get(keys) == f"{KEY}\n".encode()
    assert asyncio.run(account_id("example", keys)) == 7
    assert proxy.targets == [github.url.removeprefix("https://")] * 2
    assert all(seen["Host"] == target for seen, target in zip(proxy.seen, proxy.targets, strict=True))
    assert "Proxy-Authorization" not in proxy.seen[0]


def test_the_proxy_sees_nothing(github: FakeGitHub, proxy: ConnectProxy) -> None:
    """TLS goes through the tunnel to the server itself, so the proxy can read no token, path or key."""
    github.account("example", 7)
    asyncio.run(account_id("example", settings(github, proxy.url)))
    assert proxy.carried
    for secret in (b"hush", b"users/example", b"Authorization"):
        assert secret not in proxy.carried
    assert github.headers[0]["Authorization"] == "Bearer hush"
    assert "Proxy-Authorization" not in github.headers[0]


def test_a_proxy_cannot_answer_for_the_server(github: FakeGitHub, proxy: ConnectProxy) -> None:
    """The certificate must be that of the requested server, whatever server the proxy connects to."""
    url = github.url.replace("127.0.0.1", "keys.example")
    with pytest.raises(FetchError, match=r"the certificate of keys\.example:\d+ is not trusted: Hostname mismatch"):
        fetch_url(Request(f"{url}/example.keys", proxies=Proxies(config.Secret(proxy.url))), PATIENCE)
    assert proxy.targets == [url.removeprefix("https://")]
    assert github.requests.total() == 0


def test_a_password_is_for_the_proxy_alone(github: FakeGitHub) -> None:
    """The password in the proxy's URL is sent only to the proxy, and is in no error message."""
    with ConnectProxy(BASIC) as proxy:
        good = proxy.url.replace("//", f"//amos:{PASSWORD}@")
        assert get(settings(github, good)) == f"{KEY}\n".encode()
        bad = proxy.url.replace("//", "//amos:sesame@")
        reason = failure(settings(github, bad))
        assert "407 'Proxy Authentication Required'; it wants a user and a password in keys.https_proxy" in reason
        assert "sesame" not in reason
        assert "sesame" not in repr(settings(github, bad))


@pytest.mark.parametrize(
    ("no_proxy", "proxied"), [("127.0.0.0/8", False), ("*", False), ("example.com", True), ("127.0.0.1:1", True)]
)
def test_some_are_reached_directly(github: FakeGitHub, proxy: ConnectProxy, no_proxy: str, proxied: bool) -> None:
    """Hosts in no_proxy, such as an internal GitHub, are asked without the proxy."""
    assert get(settings(github, proxy.url, no_proxy)) == f"{KEY}\n".encode()
    assert bool(proxy.targets) == proxied


def test_this_machine_is_reached_directly(proxy: ConnectProxy) -> None:
    """Plain HTTP is only for this machine itself, and uses no proxy."""
    with FakeGitHub() as github:
        github.script("example", gh.keys(KEY))
        assert get(settings(github, proxy.url)) == f"{KEY}\n".encode()
    assert proxy.targets == []


def test_says_what_is_wrong_with_a_proxy(github: FakeGitHub, proxy: ConnectProxy) -> None:
    """An error names the proxy and its answer, on one line."""
    where = proxy.url.removeprefix("http://")
    proxy.refusal = lambda handler: handler.send_error(403, "not to \x1b[31mthem")
    reason = failure(settings(github, proxy.url))
    assert reason.startswith(f"the proxy {where} does not connect to 127.0.0.1:")
    assert "403" in reason
    assert "\x1b" not in reason
    proxy.refusal = gh.not_http()  # type: ignore[assignment]  # what it uses of a handler
    assert failure(settings(github, proxy.url)) == (f"the proxy {where} does not answer in proper HTTP (BadStatusLine)")
    proxy.refusal = lambda _: None
    assert "does not answer in proper HTTP" in failure(settings(github, proxy.url))
    assert "no connection to the proxy 127.0.0.1:1: " in failure(settings(github, "http://127.0.0.1:1"))
    assert "no connection to the proxy nowhere.invalid:1080: " in failure(settings(github, "http://nowhere.invalid"))


def test_a_proxy_that_hangs_is_given_up(github: FakeGitHub, proxy: ConnectProxy) -> None:
    """A proxy that does not answer, or sends single bytes, delays nothing beyond the deadline."""

    def drip(handler: gh.Handler) -> None:
        gh.drip_headers()(handler)

    for refusal in (gh.hang(), drip):
        proxy.refusal = refusal  # type: ignore[assignment]  # what they use of a handler
        assert failure(settings(github, proxy.url, seconds=IMPATIENCE)) == f"no answer within {IMPATIENCE:g} s"


# -- the configuration -------------------------------------------------------------------------------------------------


def configured(environ: dict[str, str], file: str, tmp_path: Path) -> config.Keys:
    """The settings in force with this environment and this file."""
    path = tmp_path / "config.toml"
    path.write_text(file)
    return config.parse(source.read(str(path), environ, {})).keys


@pytest.mark.parametrize(
    ("environ", "file", "proxy", "no_proxy"),
    [
        ({}, "", "", ""),
        ({"HTTPS_PROXY": "http://a:1"}, "", "http://a:1", ""),
        ({"https_proxy": "b:2", "HTTPS_PROXY": "http://a:1"}, "", "http://b:2", ""),
        ({"https_proxy": "", "HTTPS_PROXY": "http://a:1"}, "", "http://a:1", ""),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x,y"}, "", "http://a:1", "x,y"),
        ({"no_proxy": "z", "NO_PROXY": "x,y"}, "", "", "z"),
        ({"HTTPS_PROXY": "http://a:1"}, '[keys]\nhttps_proxy = ""', "", ""),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x"}, '[keys]\nhttps_proxy = "http://c:3/"', "http://c:3/", "x"),
        ({"HTTPS_PROXY": "a:1", "PYSSH_GATEWAY_KEYS__HTTPS_PROXY": "d:4"}, "", "http://d:4", ""),
        ({"HTTP_PROXY": "http://a:1", "ALL_PROXY": "http://a:1"}, "", "", ""),
    ],
)
def test_the_environment_s_proxy_is_the_default(
    environ: dict[str, str], file: str, proxy: str, no_proxy: str, tmp_path: Path
) -> None:
    """HTTPS_PROXY and NO_PROXY are used as by other programs, unless the server's own settings override them."""
    keys = configured(environ, file, tmp_path)
    assert (keys.https_proxy, keys.no_proxy) == (proxy, no_proxy)


@pytest.mark.parametrize(
    "value",
    [
        "socks5://p:1",
        "https://p:1",
        "http://p:none",
        "http://",
        "http://p:1/path",
        "http://p:1?q",
        "a b",
        "p\\q",
        "[::1",
    ],
)
def test_a_proxy_that_is_none_is_said_without_its_password(value: str, tmp_path: Path) -> None:
    """An error about a proxy names its variable, and never shows what may be a password."""
    with pytest.raises(source.ConfigError) as caught:
        configured({"HTTPS_PROXY": value.replace("p:", "amos:sesame@p:")}, "", tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith('keys.https_proxy: expected an HTTP proxy such as "http://proxy.example:3128"')
    assert problem.endswith("(from environment HTTPS_PROXY)")
    assert "sesame" not in problem


def test_a_table_that_is_none_is_said_once(tmp_path: Path) -> None:
    """A mistake in the file is reported once, with any proxy in the environment."""
    with pytest.raises(source.ConfigError, match="keys: expected a table") as caught:
        configured({"HTTPS_PROXY": "http://a:1"}, "keys = 3", tmp_path)
    assert len(caught.value.problems) == 1
