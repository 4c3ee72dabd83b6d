"""core.access.source_match: which addresses the patterns of `from=` match, in agreement with OpenSSH's sshd."""

import os
import random
import shutil
import subprocess
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyssh_gateway.core.access.source_match import MAX_PATTERN, MAX_PATTERNS, PatternError, matches, split, wildcard

SSHD = shutil.which("sshd", path="/usr/local/sbin:/usr/sbin:/sbin")
PRIVILEGE_SEPARATION = Path("/run/sshd")

TABLE = [
    # Addresses
    ("10.0.0.1", "10.0.0.1", True),
    ("10.0.0.1", "10.0.0.2", False),
    ("10.0.0.1", "10.0.0.11", False),
    ("2001:db8::1", "2001:db8::1", True),
    ("2001:DB8:0::0001", "2001:db8::1", True),
    ("::1", "127.0.0.1", False),
    # Networks
    ("10.0.0.0/8", "10.255.0.1", True),
    ("10.0.0.0/8", "11.0.0.1", False),
    ("10.0.0.0/08", "10.0.0.1", True),
    ("0.0.0.0/0", "203.0.113.9", True),
    ("0.0.0.0/0", "2001:db8::1", False),
    ("::/0", "2001:db8::1", True),
    ("::/0", "203.0.113.9", False),
    ("192.0.2.128/25", "192.0.2.127", False),
    ("192.0.2.1/32", "192.0.2.1", True),
    ("2001:db8::/32", "2001:db8:ffff::1", True),
    ("2001:db8::/32", "2001:db9::1", False),
    # Wildcards
    ("*", "203.0.113.9", True),
    ("*", "2001:db8::1", True),
    ("10.*", "10.1.2.3", True),
    ("10.*", "110.1.2.3", False),
    ("10.0.0.?", "10.0.0.7", True),
    ("10.0.0.?", "10.0.0.77", False),
    ("?0.0.0.1", "10.0.0.1", True),
    ("2001:db8:*", "2001:db8::1", True),
    ("*1", "2001:db8::1", True),
    # Lists and exclusions
    ("10.0.0.1,10.0.0.2", "10.0.0.2", True),
    ("10.0.0.1,10.0.0.2", "10.0.0.3", False),
    ("10.0.0.0/8,!10.1.0.0/16", "10.2.0.1", True),
    ("10.0.0.0/8,!10.1.0.0/16", "10.1.0.1", False),
    ("!10.1.0.0/16,10.0.0.0/8", "10.1.0.1", False),
    ("!10.1.0.0/16,10.1.0.1", "10.1.0.1", False),
    ("!10.1.0.0/16", "10.2.0.1", False),
    ("*,!10.1.?.1", "10.1.2.1", False),
    ("!*,10.0.0.1", "10.0.0.1", False),
    # Names are never looked up
    ("localhost", "127.0.0.1", False),
    ("*.example.org", "203.0.113.9", False),
    ("*.example.org,203.0.113.9", "203.0.113.9", True),
    ("cafe", "203.0.113.9", False),
    ("beef.cafe", "203.0.113.9", False),
    ("*.cafe", "203.0.113.9", False),
]

REFUSED_BY_BOTH = ["10.0.0.1,", ",10.0.0.1", "!", "10.0.0.1,!", "10.0.0.1/8", "2001:db8::1/32", "10.0.0.0/33"]

STRICTER = [
    ("", "comma too many"),
    ("10.1", "is not an address"),
    ("010.0.0.1", "is not an address"),
    ("10.0.0.256", "is not an address"),
    ("10.0.0.1.1", "is not an address"),
    ("1:2", "is not an address"),
    ("dead::beef::1", "is not an address"),
    ("::/129", "is not a network"),
    ("10.0.0.0/", "is not a network"),
    ("10.0.0.0/-8", "is not a network"),
    ("10.0.0.0/x", "is not a network"),
    ("10.0.0.0/8/8", "is not a network"),
    ("10.0.0.0/255.0.0.0", "is not a network"),
    ("10.0.0.0/0000", "is not a network"),
    ("10.0.0.*/24", "is not a network"),
    ("example.org/24", "is not a network"),
    ("/8", "is not a network"),
    ("::ffff:10.0.0.1/104", "bits set beyond its mask"),
    ("!www.example.org", "is a name"),
    ("!*.example.org", "is a name"),
    ("!cafe", "is a name"),
    ("!*.cafe", "is a name"),
    ("!0x7f.1", "is a name"),
    ("!!10.0.0.1", "is not an address, a network or a pattern"),
    (" 10.0.0.1", "is not an address, a network or a pattern"),
    ("10.0.0.1, !10.0.0.2", "is not an address, a network or a pattern"),
    ("fe80::1%eth0", "is not an address, a network or a pattern"),
    ("[::1]", "is not an address, a network or a pattern"),
    ("\u0661.1.1.1", "is not an address, a network or a pattern"),
    ("\x1b[31m", "is not an address, a network or a pattern"),
    ("x" * (MAX_PATTERN + 1), "is not an address, a network or a pattern"),
]


@pytest.mark.parametrize(("text", "address", "expected"), TABLE)
def test_table(text: str, address: str, expected: bool) -> None:
    """Protects each kind of pattern, and that an exclusion counts anywhere in a list."""
    assert matches(split(text), address) == expected


@pytest.mark.parametrize("text", REFUSED_BY_BOTH)
def test_refuses_what_sshd_refuses(text: str) -> None:
    """A list that sshd refuses is refused."""
    with pytest.raises(PatternError):
        split(text)


@pytest.mark.parametrize(("text", "reason"), STRICTER)
def test_refuses_what_would_never_match(text: str, reason: str) -> None:
    """An exclusion with a mistake, or with a host name, is refused, since it would exclude nobody."""
    with pytest.raises(PatternError, match=reason) as caught:
        split(text)
    assert str(caught.value).isprintable()


def test_takes_a_bounded_number_of_patterns() -> None:
    """Protects every login from a long list to search."""
    assert len(split(",".join(["10.0.0.1"] * MAX_PATTERNS))) == MAX_PATTERNS
    with pytest.raises(PatternError, match="too many"):
        split(",".join(["10.0.0.1"] * (MAX_PATTERNS + 1)))


@pytest.mark.parametrize(
    ("text", "address", "expected"),
    [
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.*", "::ffff:10.1.2.3", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        ("::ffff:10.1.2.3", "::ffff:a01:203", True),
        ("::ffff:10.0.0.0/104", "10.1.2.3", True),
        ("::ffff:10.0.0.0/104", "11.1.2.3", False),
        ("*,!::ffff:0:0/96", "10.1.2.3", False),
        ("::/95", "10.1.2.3", False),
        ("::/0", "::ffff:10.1.2.3", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("fe80::1", "fe80::1%2", True),
        ("fe80::?", "fe80::1%eth0", True),
        ("2001:DB8:*", "2001:db8::1", True),
        ("2001:db8:0:*", "2001:db8::1", False),
    ],
)
def test_addresses_with_several_spellings(text: str, address: str, expected: bool) -> None:
    """An IPv4 client of an IPv6 socket counts as IPv4, and an address's interface is ignored."""
    assert matches(split(text), address) == expected


@pytest.mark.parametrize("address", ["", "UNKNOWN", "example.org", "10.0.0", "*", "%eth0", "10.0.0.1 "])
def test_no_address_is_nobody(address: str) -> None:
    """A client without a known address matches no list, and gets in only where there is none."""
    assert not matches(("*",), address)
    assert matches((), address)


def test_a_malformed_pattern_matches_nobody() -> None:
    """A malformed pattern matches nobody, as in sshd, also in lists that `split` has not checked."""
    assert matches(("10.0.0.1",), "10.0.0.1")
    assert not matches(("10.0.0.1", "10.0.0.1/8"), "10.0.0.1")
    assert not matches(("10.0.0.1", ""), "10.0.0.1")


def is_mapped(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is an IPv4-mapped IPv6 address, which counts as the IPv4 address."""
    return isinstance(address, IPv6Address) and address.ipv4_mapped is not None


@given(st.ip_addresses(), st.ip_addresses(), st.integers(0, 128))
@example(IPv6Address("::ffff:10.0.0.1"), IPv6Address("::ffff:0:0"), 80)
def test_networks_are_those_of_the_library(
    address: IPv4Address | IPv6Address, base: IPv4Address | IPv6Address, length: int
) -> None:
    """A network has the same addresses as Python's own, and bits beyond its mask are refused."""
    text = f"{base}/{min(length, base.max_prefixlen)}"
    network = ip_network(text, strict=False)
    if network.network_address != base:
        with pytest.raises(PatternError):
            split(text)
    members = [address, network.network_address, network.broadcast_address]
    for member in () if is_mapped(network.network_address) else members:
        if not is_mapped(member):
            assert matches(split(str(network)), str(member)) == (member in network)


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_wildcards_are_those_of_the_library(pattern: str, text: str) -> None:
    """`*` and `?` mean the same as to Python's fnmatchcase."""
    assert wildcard(pattern, text) == fnmatchcase(text, pattern)


def test_wildcards_take_no_time() -> None:
    """Many stars cannot block the loop that serves everybody, as they would in a matcher that backtracks."""
    pattern = "*1" * (MAX_PATTERN // 2 - 1) + "*2"
    assert not wildcard(pattern, "1" * 1000)
    assert not matches(split(",".join([pattern] * 50)), "1111:1111:1111:1111:1111:1111:1111:1111")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a host key, for a real sshd to be asked what it would do."""
    if os.geteuid() == 0:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    if SSHD is None or not PRIVILEGE_SEPARATION.is_dir():
        pytest.skip("there is no sshd here to compare with")
    directory = tmp_path_factory.mktemp("sshd")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "host"], check=True, timeout=60)
    return directory


def sshd_says(directory: Path, text: str, address: str) -> bool | None:
    """Whether sshd matches `address` with the list; None if it refuses the list."""
    config = directory / "config"
    config.write_text(f"HostKey {directory}/host\nMaxSessions 5\nMatch Address {text}\nMaxSessions 3\n")
    argv = [str(SSHD), "-T", "-f", str(config), "-C", f"user=root,host={address},addr={address}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    if "Match address" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr
    return "\nmaxsessions 3\n" in done.stdout


def test_table_is_what_sshd_does(sshd: Path) -> None:
    """People's key files mean the same here as to OpenSSH."""
    for text, address, expected in TABLE:
        assert sshd_says(sshd, text, address) == expected, (text, address)
    for text in REFUSED_BY_BOTH:
        assert sshd_says(sshd, text, "192.0.2.1") is None, text


def test_lists_mean_what_they_mean_to_sshd(sshd: Path) -> None:
    """Random lists mean the same here as to OpenSSH."""
    generator = random.Random(4)

    def pattern() -> str:
        octets = [generator.choice(["10", "1", "0", "255"]) for _ in range(4)]
        match generator.randrange(4):
            case 0:
                length = generator.choice([0, 8, 16, 31, 32])
                made = str(ip_network(f"{'.'.join(octets)}/{length}", strict=False))
            case 1:
                made = ".".join(octets)
            case 2:
                octets[generator.randrange(4)] = generator.choice(["*", "?", "1?", "*0"])
                made = ".".join(octets)
            case _:
                made = generator.choice(["*", "2001:db8::/32", "example.org", "?.*"])
        return made if "." not in made or made == "example.org" or generator.random() < 0.7 else f"!{made}"

    for _ in range(60):
        text = ",".join(pattern() for _ in range(generator.randrange(1, 5)))
        address = ".".join(generator.choice(["10", "1", "0", "255"]) for _ in range(4))
        assert matches(split(text), address) == sshd_says(sshd, text, address), (text, address)
