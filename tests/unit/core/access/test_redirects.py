"""core.access.redirects: which redirects keep the name of an account, and which lead to another name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access.redirects import is_same_name, login_of

NAMES = st.text("aA.-_~/?%", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("target", "exact", "any_case"),
    [
        ("/example.keys", True, True),
        ("/example.keys/", True, True),
        ("/Example.keys", False, True),
        ("/EXAMPLE.KEYS/", False, True),
        ("/other.keys", False, False),
        ("/example", False, False),
        ("/other/example.keys", False, False),
        ("/example.keys//", False, False),
        ("/example.keys?page=2", False, False),
        ("/%65xample.keys", False, False),
        ("/", False, False),
        ("", False, False),
    ],
)
def test_a_redirect_leads_to_the_same_name(target: str, exact: bool, any_case: bool) -> None:
    """A slash at the end, and other capitals where the server ignores case, keep the name; nothing else does."""
    assert is_same_name("/example.keys", target, any_case=False) == exact
    assert is_same_name("/example.keys", target, any_case=True) == any_case


def test_a_query_is_part_of_the_address() -> None:
    """Only a slash of the path is ignored, and queries must be equal."""
    assert is_same_name("/keys?of=a", "/keys/?of=a", any_case=False)
    assert not is_same_name("/keys?of=a", "/keys?of=a/", any_case=False)
    assert not is_same_name("/keys?of=a", "/keys?of=b", any_case=True)


@given(NAMES, NAMES)
def test_what_is_the_same_is_so_both_ways(one: str, other: str) -> None:
    """A name is the same as itself, sameness has no direction, and exactly equal names are equal in any case, too."""
    assert is_same_name(one, one, any_case=False)
    for any_case in (False, True):
        assert is_same_name(one, other, any_case=any_case) == is_same_name(other, one, any_case=any_case)
    if is_same_name(one, other, any_case=False):
        assert is_same_name(one, other, any_case=True)


@pytest.mark.parametrize(
    ("target", "login"),
    [
        ("/other.keys", "other"),
        ("/Other.keys/", "Other"),
        ("/login", ""),
        ("/login?return_to=%2Fexample.keys", ""),
        ("/a/b.keys", ""),
        ("/.keys", ""),
        ("other.keys", ""),
        ("/other.keys?x", ""),
        ("", ""),
    ],
)
def test_a_page_of_keys_names_an_account(target: str, login: str) -> None:
    """A redirect to another account's keys is told apart from one to a login page."""
    assert login_of(target) == login
