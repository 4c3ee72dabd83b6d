"""keys.download: headers of requests and answers: validators, limits, tokens."""

import asyncio

import pytest

from pyssh_gateway.config import parser as config
from pyssh_gateway.keys.download import Request, download, fetch_url
from pyssh_gateway.keys.http_answer import LIMITED_HOLD, MAX_HOLD, NO_VALIDATORS, Answer, FetchError, Validators
from tests.support import github as gh
from tests.support.github import FakeGitHub
from tests.support.waiting import PATIENCE

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z
TAG = 'W/"4d7a"'
DATE = "Mon, 21 Sep 2026 14:00:00 GMT"


def ask(github: FakeGitHub, validators: Validators = NO_VALIDATORS) -> Answer:
    """The answer of the page with an account's keys, at NOW."""
    request = Request(f"{github.url}/example.keys", any_case=True, validators=validators)
    return asyncio.run(download(request, PATIENCE, now=lambda: NOW))


def fail(github: FakeGitHub) -> FetchError:
    """The error of a request without a usable answer."""
    with pytest.raises(FetchError) as caught:
        ask(github)
    assert caught.value.reason == str(caught.value)
    return caught.value


def test_keeps_what_the_server_wants_to_hear_again(github: FakeGitHub) -> None:
    """Protects server and rate limit: an answer's validators let the next one be "not modified"."""
    github.script("example", gh.conditional(gh.keys(KEY), etag=TAG, modified=DATE))
    first = ask(github)
    assert first == Answer(f"{KEY}\n".encode(), Validators(TAG, DATE))
    again = ask(github, validators=first.validators)
    assert again == Answer(None, Validators(TAG, DATE))
    unasked, asked = github.headers
    assert not {"If-None-Match", "If-Modified-Since"} & set(unasked)
    assert (asked["If-None-Match"], asked["If-Modified-Since"]) == (TAG, DATE)


@pytest.mark.parametrize("validators", [Validators(etag=TAG), Validators(modified=DATE)], ids=["tag", "date"])
def test_asks_with_one_validator_alone(github: FakeGitHub, validators: Validators) -> None:
    """One of the two validators is enough, since some providers send only one."""
    github.script("example", gh.conditional(gh.keys(KEY), etag=validators.etag, modified=validators.modified))
    assert ask(github).validators == validators
    assert ask(github, validators=validators).text is None


def test_new_keys_come_with_new_validators(github: FakeGitHub) -> None:
    """A changed answer is taken in full, and its validators replace the earlier ones."""
    github.script("example", gh.conditional(gh.empty(), etag='"new"'))
    assert ask(github, validators=Validators(TAG)) == Answer(b"", Validators('"new"'))


def test_an_answer_without_validators_keeps_none(github: FakeGitHub) -> None:
    """The validators of an earlier answer do not count for a later answer without any."""
    github.script("example", gh.keys(KEY))
    assert ask(github, validators=Validators(TAG, DATE)).validators == NO_VALIDATORS


def test_nothing_new_to_a_question_that_was_not_conditional_is_an_error(github: FakeGitHub) -> None:
    """A 304 to a request without validators is an error, so that a confused cache cannot take keys away."""

    def nothing_new(handler: gh.Handler) -> None:
        handler.send_response(304)
        handler.end_headers()

    github.script("example", nothing_new)
    assert fail(github).reason == "the server answered 304 (Not Modified)"


def test_validators_belong_to_the_address_that_gave_them(github: FakeGitHub) -> None:
    """A "not modified" from a redirect's target does not count for the URL that was asked."""
    github.script("example", gh.redirect("/Example.keys"))
    github.script("Example", gh.conditional(gh.keys(KEY), etag=TAG))
    assert ask(github, validators=Validators(TAG)) == Answer(f"{KEY}\n".encode(), NO_VALIDATORS)
    assert "If-None-Match" not in github.headers_of["Example"][0]


def test_validators_that_no_request_could_have_are_not_kept(github: FakeGitHub) -> None:
    """A header that would fill the disk or break the next request is not kept as a validator."""
    github.script("example", gh.with_headers(gh.keys(KEY), ETag='"' + "x" * 5000 + '"', Last_Modified="\xe9\x7f"))
    assert ask(github).validators == NO_VALIDATORS


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (gh.limited(429, Retry_After="120"), 120.0),
        (gh.limited(503, Retry_After="7"), 7.0),
        (gh.limited(403, Retry_After="Mon, 21 Sep 2026 14:15:00 GMT"), 100.0),
        (gh.limited(403, X_RateLimit_Remaining="0", X_RateLimit_Reset=str(int(NOW) + 300)), 300.0),
        (gh.limited(429, Retry_After=str(10**9)), MAX_HOLD),
        (gh.limited(429), LIMITED_HOLD),
        (gh.status(403), None),
        (gh.status(500), None),
        (gh.status(404), None),
    ],
)
def test_knows_how_long_a_server_wants_to_be_left_alone(
    github: FakeGitHub, answer: gh.Answer, seconds: float | None
) -> None:
    """A rate limit is obeyed, since GitHub would otherwise block us for longer."""
    github.script("example", answer)
    failed = fail(github)
    assert failed.retry_after == seconds
    assert not failed.gone or "404" in failed.reason


def test_says_how_long_it_will_be_left_alone(github: FakeGitHub) -> None:
    """Protects people who wait for a new key: the log says how long the server is left alone."""
    github.script("example", gh.limited(429, Retry_After="120"))
    assert fail(github).reason == "the server answered 429 (Too Many Requests) and wants to be left alone for 2m"


def test_sends_a_token_and_what_else_is_asked_for(github: FakeGitHub) -> None:
    """The API is asked with its headers and with the token, also after a redirect, and the token is not shown."""
    github.script("example", gh.redirect("/Example.keys"))
    github.script("Example", gh.with_headers(gh.raw(b"[]"), Link='<https://x/?page=2>; rel="next"'))
    request = Request(
        f"{github.url}/example.keys", any_case=True, token=config.Secret("hush"), headers={"Accept": "text/x"}
    )
    assert asyncio.run(download(request, PATIENCE)).next_page == "https://x/?page=2"
    for headers in github.headers:
        assert (headers["Authorization"], headers["Accept"]) == ("Bearer hush", "text/x")
    assert "hush" not in repr(request)


def test_a_token_goes_to_no_other_server(github: FakeGitHub) -> None:
    """A redirect to another server does not get the token."""
    with FakeGitHub() as other:
        github.script("example", gh.redirect(f"{other.url}/example.keys"))
        with pytest.raises(FetchError, match="redirected to another place"):
            fetch_url(Request(f"{github.url}/example.keys", token=config.Secret("hush")), PATIENCE)
        assert other.requests.total() == 0


@pytest.mark.parametrize("url", ["http://192.0.2.1/", "http://localhost@192.0.2.1/"])
def test_a_token_is_not_sent_in_the_clear(url: str) -> None:
    """A token is never sent over a connection that others can read."""
    with pytest.raises(FetchError, match="a token is not sent over a connection that others can read"):
        fetch_url(Request(url, token=config.Secret("hush")), PATIENCE)
