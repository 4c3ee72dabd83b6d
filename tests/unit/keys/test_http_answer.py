"""keys.http_answer: the headers of an answer: rate limits, validators and the next page."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.keys.http_answer import (
    LIMITED_HOLD,
    MAX_HOLD,
    MAX_VALIDATOR,
    NO_VALIDATORS,
    Header,
    Validators,
    hold_of,
    next_page_of,
    validators_of,
)

NOW = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def headers(**fields: str) -> Header:
    """The headers of an answer, with `_` for `-`."""
    return lambda name: fields.get(name.replace("-", "_"), "")


@pytest.mark.parametrize(
    ("status", "fields", "hold"),
    [
        (429, {"Retry_After": "0"}, 0.0),
        (429, {"Retry_After": "90"}, 90.0),
        (429, {"Retry_After": "3600"}, 3600.0),
        (429, {"Retry_After": "3601"}, MAX_HOLD),
        (429, {"Retry_After": "9" * 5000}, MAX_HOLD),
        (403, {"Retry_After": "90"}, 90.0),
        (503, {"Retry_After": "90"}, 90.0),
        (500, {"Retry_After": "90"}, None),
        (404, {"Retry_After": "90"}, None),
        (200, {"Retry_After": "90"}, None),
        # The three forms of RFC 9110 section 5.6.7, and one without a time zone.
        (503, {"Retry_After": "Mon, 21 Sep 2026 14:14:20 GMT"}, 60.0),
        (503, {"Retry_After": "Monday, 21-Sep-26 14:14:20 GMT"}, 60.0),
        (503, {"Retry_After": "Mon Sep 21 14:14:20 2026"}, 60.0),
        (503, {"Retry_After": "Mon, 21 Sep 2026 14:14:20 -0000"}, 60.0),
        (503, {"Retry_After": "Mon, 21 Sep 2026 14:00:00 GMT"}, 0.0),
        (503, {"Retry_After": "Mon, 21 Sep 2099 14:00:00 GMT"}, MAX_HOLD),
        (503, {"Retry_After": "Mon, 31 Feb 2026 14:00:00 GMT"}, None),
        (503, {"Retry_After": "soon"}, None),
        (503, {"Retry_After": "-5"}, None),
        (503, {"Retry_After": "1.5"}, None),
        (503, {"Retry_After": "\u0661"}, None),
        (503, {"Retry_After": "Mon, 21 Sep 2026 14:14:20 GMT" + " " * 100}, None),
        (503, {}, None),
        (429, {"Retry_After": "soon"}, LIMITED_HOLD),
        (429, {}, LIMITED_HOLD),
        (403, {}, None),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1790000300"}, 300.0),
        (429, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1790000300"}, 300.0),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1789999999"}, 0.0),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "9999999999"}, MAX_HOLD),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "never"}, None),
        (403, {"X_RateLimit_Remaining": "0"}, None),
        (429, {"X_RateLimit_Remaining": "0"}, LIMITED_HOLD),
        (403, {"X_RateLimit_Remaining": "12", "X_RateLimit_Reset": "1790000300"}, None),
        (403, {"X_RateLimit_Reset": "1790000300"}, None),
        (503, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1790000300"}, None),
        (403, {"Retry_After": "60", "X_RateLimit_Remaining": "0", "X_RateLimit_Reset": "1790000300"}, 60.0),
    ],
)
def test_reads_how_long_to_leave_a_server_alone(status: int, fields: dict[str, str], hold: float | None) -> None:
    """Rate limits in all their forms are read, and none keeps revoked keys in force for more than an hour."""
    assert hold_of(status, headers(**fields), NOW) == hold


@given(st.sampled_from([403, 429, 503]), st.text(), st.text(), st.text(), st.floats(0, 1e12))
def test_no_header_breaks_the_reading_of_limits(status: int, after: str, left: str, reset: str, now: float) -> None:
    """Any header gives a time within the limit, or none."""
    fields = {"Retry_After": after, "X_RateLimit_Remaining": left, "X_RateLimit_Reset": reset}
    hold = hold_of(status, headers(**fields), now)
    assert hold is None or 0 <= hold <= MAX_HOLD


@pytest.mark.parametrize(
    ("fields", "validators"),
    [
        ({}, NO_VALIDATORS),
        ({"ETag": 'W/"a b"', "Last_Modified": "Mon"}, Validators('W/"a b"', "Mon")),
        ({"ETag": "x" * MAX_VALIDATOR}, Validators("x" * MAX_VALIDATOR)),
        ({"ETag": "x" * (MAX_VALIDATOR + 1), "Last_Modified": "Mon"}, Validators(modified="Mon")),
        ({"ETag": '"\u00e9"', "Last_Modified": "Mon\n"}, NO_VALIDATORS),
        ({"ETag": '"\x7f"', "Last_Modified": "\x00"}, NO_VALIDATORS),
    ],
)
def test_keeps_validators_that_can_be_sent_again(fields: dict[str, str], validators: Validators) -> None:
    """A validator that is kept is short, and can't add a line to the next request."""
    assert validators_of(headers(**fields)) == validators
    assert bool(validators) == (validators != NO_VALIDATORS)


@given(st.text(), st.text())
def test_validators_that_are_kept_are_read_again(etag: str, modified: str) -> None:
    """A validator that is stored in a copy is always accepted when the copy is loaded, and nothing else is."""
    kept = validators_of(headers(ETag=etag, Last_Modified=modified))
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Validators) == kept
    raw = msgspec.json.encode({"etag": etag, "modified": modified})
    if (kept.etag, kept.modified) != (etag, modified):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(raw, type=Validators)


@pytest.mark.parametrize(
    ("link", "page"),
    [
        ("", ""),
        ('<https://api.example/?page=2>; rel="next"', "https://api.example/?page=2"),
        ('<https://a/?page=1>; rel="prev", <https://a/?page=3>; rel="next"', "https://a/?page=3"),
        ('<https://a/?page=2>; rel="next", <https://a/?page=9>; rel="last"', "https://a/?page=2"),
        ("<https://a/?page=2>;rel=next;title=x", "https://a/?page=2"),
        ('<https://a/?page=2>; title="x"; rel="next"', "https://a/?page=2"),
        ('<https://a/>; rel="last"', ""),
        ('<https://a/>; rel="nextish"', ""),
        ("<https://a/>; rel=next-but-one", ""),
        ('https://a/; rel="next"', ""),
        ('<https://a/; rel="next"', ""),
    ],
)
def test_finds_where_an_answer_goes_on(link: str, page: str) -> None:
    """The next page is found, so that a team of more than a hundred has all its members."""
    assert next_page_of(link) == page


@given(st.text('<>;, ="relnxt', max_size=60))
def test_no_link_breaks_the_search_for_the_next_page(link: str) -> None:
    """Any header gives a URL out of it, or none."""
    page = next_page_of(link)
    assert page in link
