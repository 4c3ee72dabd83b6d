"""Properties of any key file, options field and list of patterns, which `make fuzz` tests for longer."""

from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.key_properties import check_keys, check_options, check_patterns, written
from pyssh_gateway.core.access.authorized_keys import parse
from pyssh_gateway.core.access.key_options import KeyOptions, parse_options
from tests.support.key_lines import SK_ED25519_LINE, SOURCE, ed25519, rsa

NAMES = (
    *("restrict", "cert-authority", "pty", "no-pty", "port-forwarding", "no-agent-forwarding", "No-X11-Forwarding"),
    *("user-rc", "no-touch-required", "verify-required", "no-verify-required", "unknown", "", " "),
)
VALUES = {
    "command": ("", "true", r"echo \"a\"", r"back\slash", "a,b c", 'a"b'),
    "environment": ("A=b", "A=", "B=c=d", "=b", "LD_PRELOAD=x", "A B=c"),
    "expiry-time": ("20300101", "20300101Z", "203001011200", "20300101120000z", "19700101Z", "20300231", "99991231"),
    "from": ("*", "10.0.0.0/8,!10.1.*", "::1", "10.0.0.1/8", "!a.example", "a.example", ",", "::ffff:1.2.3.4"),
    "permitlisten": ("8080", "*", "[::1]:80", "a:0", "localhost:*"),
    "permitopen": ("a:80", "[::1]:*", "*:*", "a/80", "80", ":80"),
    "principals": ("amos", "a,b", "a,,b", ""),
    "tunnel": ("0", "any", "x"),
}
PIECES = [*NAMES, *(f'{name}="{value}"' for name, values in VALUES.items() for value in values)]

field = st.lists(st.sampled_from(PIECES), max_size=6).map(lambda pieces: ",".join(pieces).encode())
"""Options fields, about half of which are valid."""

broken_field = st.builds(
    lambda text, at, more: text[:at] + more + text[at:],
    field,
    st.integers(0, 60),
    st.sampled_from([b'"', b"\\", b",", b"\0"]),
)

lines = st.builds(
    lambda options, blank, key, comment: options + blank + key + comment,
    field | broken_field | st.just(b""),
    st.sampled_from([b" ", b"\t", b" \t ", b""]),
    st.sampled_from([ed25519(1), ed25519(2), SK_ED25519_LINE, rsa(2048), rsa(1024), ed25519()[:-1], b"# x", b""]),
    st.sampled_from([b"", b" a comment", b"\tb \r", b" \xff\t\x1b[31m"]),
)

addresses = st.ip_addresses().map(str) | st.sampled_from(["10.1.2.3", "::ffff:10.1.2.3", "fe80::1%eth0", "", "x"])
patterns = st.builds(
    lambda negated, body: "!" * negated + body,
    st.booleans(),
    st.ip_addresses().map(str)
    | st.ip_addresses(network="10.0.0.0/14").map(str)
    | st.sampled_from(
        ["*", "10.*", "?*:*", "10.0.0.0/8", "::/0", "::ffff:0:0/96", "10.0.0.1/8", "a.example", "", "1.2"]
    ),
)


@given(st.lists(lines, max_size=8).map(b"\n".join) | st.binary(max_size=500))
@example(b'command="a\\\\\\"b" ' + ed25519() + b" " + b"x" * 255 + b" y")
def test_key_files(text: bytes) -> None:
    """Any text gives the keys of its good lines as they are written, whatever its bad lines contain."""
    check_keys(text)


@given(field | broken_field | st.binary(max_size=100))
def test_option_fields(text: bytes) -> None:
    """Accepted options have one meaning, and `restrict` leaves nothing permitted, wherever it stands."""
    check_options(text)


@given(addresses, st.lists(patterns, max_size=5) | st.lists(st.text(max_size=20), max_size=5))
def test_lists_of_patterns(address: str, texts: list[str]) -> None:
    """The order of a list does not matter, an exclusion always counts, and a malformed list matches nobody."""
    check_patterns(f"{address} {','.join(texts)}".encode("utf-8", "replace"))


SECRET = b"hunter2"


@given(
    st.sampled_from([b'command="', b'environment="A=', b'environment="LD_A=', b'environment="']), field, broken_field
)
def test_no_reason_has_a_command_or_a_variable_in_it(name: bytes, before: bytes, after: bytes) -> None:
    """Protects secrets in key files from the log, however the rest of the line is misspelt."""
    secret = name + SECRET + b'"'
    for options in (secret, before + b"," + secret, secret + b"," + after, before + b"," + secret + after):
        refused = parse(options + b" " + ed25519(), SOURCE, allow_options=True).refused
        assert SECRET.decode() not in "".join(refused)


def test_the_examples_are_understood_and_refused() -> None:
    """Protects these tests from examples that are all refused at once."""
    text = ",".join(name for name in NAMES if name.strip() and name != "unknown")
    text += "".join(f',{name}="{values[1]}"' for name, values in VALUES.items())
    options = parse_options(text.encode())
    assert options != KeyOptions()
    assert parse_options(written(options)) == options
