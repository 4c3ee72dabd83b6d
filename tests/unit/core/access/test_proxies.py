"""core.access.proxies: the hosts that NO_PROXY excludes, by curl's rules."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyssh_gateway.core.access.proxies import bypasses_proxy


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypasses"),
    [
        ("github.com", "", False),
        ("github.com", "*", True),
        ("github.com", "example.com, *", True),
        ("github.com", "github.com", True),
        ("GitHub.com.", "github.COM", True),
        ("api.github.com", "github.com", True),
        ("api.github.com", ".github.com", True),
        ("github.com", ".github.com", True),
        ("github.com", "github.com.", True),
        ("nongithub.com", "github.com", False),
        ("github.com", "api.github.com", False),
        ("github.com", "example.com,github.com", True),
        ("github.com", "example.com github.com", True),
        ("github.com", " ,, example.com ,\tgithub.com", True),
        ("github.com", ".", False),
        ("github.com", "10.0.0.0/8", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "3", False),
        ("10.1.2.3", "example.com", False),
        ("10.1.2.3", "10.0.0.0/99", False),
        ("10.1.2.3", "::/0", False),
        ("fd00::1", "fd00::/8", True),
        ("fd00::1", "[fd00::1]", True),
        ("fd00::1", "[fd00::]/8", True),
        ("fd00::1", "fd00::1", True),
        ("fd00::1", "fd00::2", False),
        ("fd00::1", "0.0.0.0/0", False),
        ("github.com", "github.com:443", True),
        ("github.com", "github.com:8443", False),
        ("api.github.com", ".github.com:443", True),
        ("10.1.2.3", "10.0.0.0/8:443", True),
        ("10.1.2.3", "10.1.2.3:8443", False),
        ("fd00::1", "[fd00::1]:443", True),
        ("fd00::1", "[fd00::1]:8443", False),
        ("fd00::1", "[fd00::1", False),
        ("github.com", "github.com:https", False),
    ],
)
def test_hosts_that_are_reached_without_the_proxy(host: str, no_proxy: str, bypasses: bool) -> None:
    """Hosts in NO_PROXY, such as an internal GitHub, are asked directly, and all others through the proxy."""
    assert bypasses_proxy(host, 443, no_proxy) == bypasses


@given(st.text(max_size=40), st.text(max_size=60))
@example("a", "[::1%]")
def test_no_text_is_too_odd(host: str, no_proxy: str) -> None:
    """Any text in NO_PROXY is read without an error, and adding a host never removes another."""
    if bypasses_proxy(host, 443, no_proxy):
        assert bypasses_proxy(host, 443, f"{no_proxy},example.com")
    assert not bypasses_proxy(host, 443, "")
