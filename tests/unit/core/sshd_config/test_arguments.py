"""Arguments of sshd's keywords, and errors about wrong ones."""

from collections.abc import Callable

import pytest

from pyssh_gateway.core.sshd_config import arguments
from pyssh_gateway.core.sshd_config.arguments import Untranslatable


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (arguments.switch, "YES", True),
        (arguments.switch, "true", True),
        (arguments.switch, "no", False),
        (arguments.number, "007", 7),
        (arguments.seconds, "90", 90.0),
        (arguments.seconds, "1h30M", 5400.0),
        (arguments.seconds, "1w1d", 691200.0),
        (arguments.seconds, "0", 0.0),
        (arguments.duration, "120", "2m"),
        (arguments.size, "1G", 2**30),
        (arguments.size, "512k", 2**19),
        (arguments.size, "4m", 2**22),
        (arguments.size, "4096", 4096),
        (arguments.port_number, "65535", 65535),
    ],
)
def test_values(read: Callable[[str], object], text: str, value: object) -> None:
    """Each way to write a value that sshd accepts is understood."""
    assert read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (arguments.switch, "maybe"),
        (arguments.number, "-1"),
        (arguments.number, "1.5"),
        (arguments.number, "9" * 40),
        (arguments.seconds, "1y"),
        (arguments.seconds, ""),
        (arguments.seconds, "none"),
        (arguments.size, "1T"),
        (arguments.port_number, "0"),
        (arguments.port_number, "65536"),
        (arguments.port_number, "ssh"),
    ],
)
def test_values_that_are_none(read: Callable[[str], object], text: str) -> None:
    """Protects from guessed settings: wrong values are refused."""
    with pytest.raises(Untranslatable):
        read(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1", "192.0.2.1:22"),
        ("192.0.2.1:2222", "192.0.2.1:2222"),
        ("2001:db8::1", "[2001:db8::1]:22"),
        ("[2001:db8::1]", "[2001:db8::1]:22"),
        ("[2001:db8::1]:2222", "[2001:db8::1]:2222"),
    ],
)
def test_addresses_to_listen_on(text: str, endpoint: str) -> None:
    """Each form of ListenAddress is understood."""
    assert arguments.listen_address(text, 22) == endpoint


@pytest.mark.parametrize("text", ["localhost", "gateway.example:22", "*", "[::1", "192.0.2.1:0", "[::1]:ssh"])
def test_addresses_that_are_none(text: str) -> None:
    """Host names are refused here, though sshd looks them up."""
    with pytest.raises(Untranslatable):
        arguments.listen_address(text, 22)


def test_permits() -> None:
    """PermitListen's bare ports are understood, and OpenSSH's alternative form of host and port."""
    assert arguments.permits(("8080", "localhost:1", "[::1]:2"), any_host=True) == ["*:8080", "localhost:1", "[::1]:2"]
    assert arguments.permits(("a/1", "b:*"), any_host=False) == ["a:1", "b:*"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".ssh/keys", "/home/amos/.ssh/keys"),
        ("/etc/keys/%u", "/etc/keys/amos"),
        ("%h/keys", "/home/amos/keys"),
        ("/k/%U/100%%", "/k/7/100%"),
    ],
)
def test_paths(path: str, found: str) -> None:
    """The tokens of AuthorizedKeysFile are expanded, and relative paths start at the home directory."""
    assert arguments.expanded(path, name="amos", uid=7, home="/home/amos") == found


@pytest.mark.parametrize("path", ["/k/%x", "/k/%"])
def test_unknown_tokens(path: str) -> None:
    """Unknown tokens are refused, as by sshd."""
    with pytest.raises(Untranslatable, match="has no meaning"):
        arguments.expanded(path, name="amos", uid=7, home="/home/amos")
