"""What may be forwarded where: the rules, and how they are made from the configuration."""

import ipaddress
import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.types import Config, Forwarding, Login, Session
from pyssh_gateway.config.values import Duration
from pyssh_gateway.core.forwarding import (
    ANY_ADDRESS,
    LOOPBACK,
    MAX_HOST,
    ForwardingRules,
    ForwardingScope,
    GatewayPorts,
    X11Display,
    listen_addresses,
    may_connect,
    may_connect_unix,
    may_listen,
    may_listen_unix,
    x11_display,
)
from pyssh_gateway.core.login_rules import LoginRules, rules_for

EVERYTHING = ForwardingRules()

ports = st.integers(1, 65535)
names = st.lists(
    st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=10), min_size=1, max_size=4
).map(".".join)
addresses = st.ip_addresses().map(str)
hosts = names | addresses
gateway_ports = st.sampled_from(["no", "yes", "clientspecified"])


def written(host: str) -> str:
    """`host` in the form before a port."""
    return f"[{host}]" if ":" in host else host


# -- outgoing connections -----------------------------------------------------------------------------------------


WAYS = {"all": (True, True), "local": (True, False), "remote": (False, True), "none": (False, False)}
"""The directions that each scope permits: outgoing, and towards the client."""


@pytest.mark.parametrize("scope", WAYS)
@pytest.mark.parametrize("sockets", [None, *WAYS])
def test_scope(scope: ForwardingScope, sockets: ForwardingScope | None) -> None:
    """Each value of `forwarding` and `forward_sockets` permits its directions, of ports or of sockets."""
    rules = ForwardingRules(scope=scope, sockets=sockets)
    assert (may_connect(rules, "localhost", 80) is None, may_listen(rules, "localhost", 80) is None) == WAYS[scope]
    assert (may_connect_unix(rules) is None, may_listen_unix(rules) is None) == WAYS[sockets or scope]


@given(hosts, ports)
def test_everything_is_permitted_without_rules(host: str, port: int) -> None:
    """By default, people may connect to anywhere from their machine."""
    assert may_connect(EVERYTHING, host, port) is None
    assert may_listen(EVERYTHING, host, port) is None


@given(hosts, st.integers(-(2**31), 0) | st.integers(65536, 2**32 - 1))
def test_port_that_is_none(host: str, port: int) -> None:
    """Protects system calls from numbers that are no port; 0 asks for any port to listen on."""
    assert may_connect(EVERYTHING, host, port) == f"{port} is not a port"
    assert may_listen(EVERYTHING, host, port) == (None if port == 0 else f"{port} is not a port")


@pytest.mark.parametrize("host", ["", "x" * (MAX_HOST + 1), "a\0", "a\n", "\udcff", "\x1b[31m", "a\u202eb"])
def test_host_that_is_none(host: str) -> None:
    """Protects the resolver and readers of the log from impossible host names."""
    assert may_connect(EVERYTHING, host, 80) == "not a host name"


@pytest.mark.parametrize("host", ["x" * (MAX_HOST + 1), "a\0", "a\n", "\udcff", "\x1b[31m"])
def test_address_to_listen_on_that_is_none(host: str) -> None:
    """Impossible addresses to listen on are refused, too; there an empty name means every address."""
    assert may_listen(EVERYTHING, host, 80) is not None


@given(hosts, ports, hosts, ports)
def test_only_what_is_listed_is_permitted(host: str, port: int, other: str, other_port: int) -> None:
    """An exact entry of a list permits only itself, in upper and lower case."""
    entry = f"{written(host)}:{port}"
    opening = ForwardingRules(permit_open=("unrelated.invalid:1", entry))
    listening = ForwardingRules(permit_listen=("unrelated.invalid:1", entry))
    same = (host.lower(), port) == (other.lower(), other_port)
    for answer in (may_connect(opening, host.upper(), port), may_listen(listening, host.upper(), port)):
        assert answer is None
    for answer in (may_connect(opening, other, other_port), may_listen(listening, other, other_port)):
        assert (answer is None) == same


@given(hosts, ports, ports)
def test_any_host_or_port(host: str, port: int, other: int) -> None:
    """`*` in an entry stands for any host, or any port."""
    assert may_connect(ForwardingRules(permit_open=(f"*:{port}",)), host, port) is None
    assert may_connect(ForwardingRules(permit_open=(f"{written(host)}:*",)), host, port) is None
    assert (may_connect(ForwardingRules(permit_open=(f"*:{other}",)), host, port) is None) == (port == other)


@pytest.mark.parametrize(
    ("pattern", "host", "permitted"),
    [
        ("*.example:443", "www.example", True),
        ("*.example:443", "example", False),
        ("*.example:443", "www.example.org", False),
        ("10.0.?.1:443", "10.0.7.1", True),
        ("10.0.?.1:443", "10.0.77.1", False),
        ("127.0.0.1:443", "127.1", False),
        ("127.0.0.1:443", "localhost", False),
        ("127.0.0.1:443", "127.0.0.1.", False),
        ("localhost:443", "localhost", True),
        ("[::1]:443", "::1", True),
        ("[::1]:443", "0:0:0:0:0:0:0:1", False),
        ("[::1]:443", "[::1]", False),
    ],
)
def test_patterns(pattern: str, host: str, permitted: bool) -> None:
    """Patterns are compared with the host exactly as the client sent it, without normalisation."""
    assert (may_connect(ForwardingRules(permit_open=(pattern,)), host, 443) is None) == permitted


def test_lists_exclude_sockets() -> None:
    """Protects a list of destinations: with it, unix sockets are not permitted as a way around."""
    assert may_connect_unix(ForwardingRules(permit_open=("localhost:80",))) is not None
    assert may_connect_unix(ForwardingRules(permit_listen=("localhost:80",))) is None
    assert may_listen_unix(ForwardingRules(permit_listen=("localhost:80",))) is not None
    assert may_listen_unix(ForwardingRules(permit_open=("localhost:80",))) is None


def test_sockets_by_themselves_are_not_excluded() -> None:
    """`forward_sockets` counts beside a list of ports, as sshd's AllowStreamLocalForwarding beside PermitOpen."""
    rules = ForwardingRules(sockets="all", permit_open=("a:1",), permit_listen=("b:2",))
    assert (may_connect_unix(rules), may_listen_unix(rules)) == (None, None)
    assert may_connect_unix(msgspec.structs.replace(rules, ports=False)) is not None
    assert may_listen_unix(msgspec.structs.replace(rules, ports=False)) is not None
    assert may_connect_unix(msgspec.structs.replace(rules, key_permit_open=("a:1",))) is not None
    assert may_listen_unix(msgspec.structs.replace(rules, key_permit_listen=("a:1",))) is not None


@pytest.mark.parametrize(
    ("pattern", "host", "port", "permitted"),
    [
        ("localhost:8080", "localhost", 8080, True),
        ("localhost:8080", "localhost", 0, False),
        ("localhost:8080", "", 8080, False),
        ("localhost:8080", "*", 8080, False),
        ("*:8080", "", 8080, True),
        ("*:8080", "*", 8080, True),
        ("localhost:*", "localhost", 0, True),
    ],
)
def test_patterns_of_ports_to_listen_on(pattern: str, host: str, port: int, permitted: bool) -> None:
    """A client that asks for all addresses needs an entry of `permit_listen` for all addresses."""
    assert (may_listen(ForwardingRules(permit_listen=(pattern,)), host, port) is None) == permitted


def test_refusals_say_what_was_refused() -> None:
    """A refusal says what was refused."""
    assert may_connect(ForwardingRules(permit_open=("a:1",)), "b", 2) == "connections to b port 2 are not permitted"
    assert may_listen(ForwardingRules(permit_listen=("a:1",)), "b", 2) == "listening on port 2 is not permitted"


# -- the key's rules -----------------------------------------------------------------------------------------------


@given(hosts, ports)
def test_key_without_port_forwarding(host: str, port: int) -> None:
    """A key with `no-port-forwarding` neither connects nor listens, for ports and sockets alike."""
    rules = ForwardingRules(ports=False)
    assert may_connect(rules, host, port) == "forwarding is not permitted"
    assert may_connect_unix(rules) == "forwarding is not permitted"
    assert may_listen(rules, host, port) == "listening is not permitted"
    assert may_listen_unix(rules) == "listening is not permitted"
    assert rules.agent


@pytest.mark.parametrize(
    ("permit", "host", "port", "permitted"),
    [
        ("localhost:80", "localhost", 80, True),
        ("localhost:80", "localhost", 8080, False),
        ("localhost:80", "LOCALHOST", 80, False),
        ("localhost:80", "127.0.0.1", 80, False),
        ("localhost:80", "localhost.", 80, False),
        ("localhost:*", "localhost", 8080, True),
        ("*:80", "anywhere.example", 80, True),
        ("*:80", "anywhere.example", 81, False),
        ("*:*", "2001:db8::1", 1, True),
        ("[2001:db8::1]:80", "2001:db8::1", 80, True),
        ("[2001:db8::1]:80", "2001:db8:0::1", 80, False),
        ("*.example:80", "www.example", 80, False),
        ("*.example:80", "*.example", 80, True),
        ("?:80", "a", 80, False),
    ],
)
def test_destinations_of_a_key(permit: str, host: str, port: int, permitted: bool) -> None:
    """`permitopen=` permits exactly the named host, or any for a `*`; other patterns have no meaning there."""
    rules = ForwardingRules(key_permit_open=("unrelated.invalid:1", permit))
    assert (may_connect(rules, host, port) is None) == permitted
    assert may_listen(rules, host, port) is None


@pytest.mark.parametrize(
    ("permit", "host", "port", "permitted"),
    [
        ("localhost:80", "localhost", 80, True),
        ("localhost:80", "LocalHost", 80, True),
        ("LocalHost:80", "localhost", 80, True),
        ("localhost:80", "localhost", 0, False),
        ("localhost:*", "localhost", 0, True),
        ("localhost:80", "", 80, False),
        ("localhost:80", "*", 80, False),
        ("localhost:80", "127.0.0.1", 80, False),
        ("*:80", "", 80, True),
        ("*:80", "*", 80, True),
        ("*:80", "192.0.2.1", 80, True),
        ("192.0.2.*:80", "192.0.2.7", 80, True),
        ("192.0.2.?:80", "192.0.2.77", 80, False),
        ("?:80", "", 80, False),
        ("[::1]:80", "::1", 80, True),
    ],
)
def test_ports_that_a_key_may_open(permit: str, host: str, port: int, permitted: bool) -> None:
    """`permitlisten=` has patterns for the address as the client sends it, where "" means all addresses."""
    rules = ForwardingRules(key_permit_listen=("unrelated.invalid:1", permit))
    assert (may_listen(rules, host, port) is None) == permitted
    assert may_connect(rules, "localhost", 80) is None


def test_configuration_and_key_both_have_to_permit() -> None:
    """Both lists must permit a destination or port: the configuration's and the key's."""
    opening = ForwardingRules(permit_open=("a:*", "b:1"), key_permit_open=("b:*", "c:1"))
    permitted = [host for host in "abc" if may_connect(opening, host, 1) is None]
    listening = ForwardingRules(permit_listen=("a:*", "b:1"), key_permit_listen=("b:*", "c:1"))
    opened = [host for host in "abc" if may_listen(listening, host, 1) is None]
    assert (permitted, opened) == (["b"], ["b"])
    assert may_connect(opening, "a", 1) == "connections to a port 1 are not permitted with this key"
    assert may_listen(listening, "a", 1) == "listening on port 1 is not permitted with this key"


def test_lists_of_a_key_exclude_sockets() -> None:
    """Protects a key's list: with it, unix sockets are not permitted as a way around, although sshd permits them."""
    assert may_connect_unix(ForwardingRules(key_permit_open=("*:*",))) is not None
    assert may_connect_unix(ForwardingRules(key_permit_listen=("*:*",))) is None
    assert may_listen_unix(ForwardingRules(key_permit_listen=("*:*",))) is not None
    assert may_listen_unix(ForwardingRules(key_permit_open=("*:*",))) is None


# -- addresses to listen on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requested", "no", "yes", "clientspecified"),
    [
        ("localhost", LOOPBACK, ANY_ADDRESS, LOOPBACK),
        ("", LOOPBACK, ANY_ADDRESS, ANY_ADDRESS),
        ("*", LOOPBACK, ANY_ADDRESS, ANY_ADDRESS),
        ("127.0.0.1", ("127.0.0.1",), ANY_ADDRESS, ("127.0.0.1",)),
        ("::1", ("::1",), ANY_ADDRESS, ("::1",)),
        ("0.0.0.0", LOOPBACK, ANY_ADDRESS, ("0.0.0.0",)),
        ("192.0.2.1", LOOPBACK, ANY_ADDRESS, ("192.0.2.1",)),
        ("host.example", LOOPBACK, ANY_ADDRESS, ("host.example",)),
    ],
)
def test_addresses(requested: str, no: tuple[str, ...], yes: tuple[str, ...], clientspecified: tuple[str, ...]) -> None:
    """GatewayPorts' three values work as in sshd_config(5), for each kind of address that ssh's -R sends."""
    assert listen_addresses(requested, "no") == no
    assert listen_addresses(requested, "yes") == yes
    assert listen_addresses(requested, "clientspecified") == clientspecified


@given(st.text() | hosts)
def test_only_loopback_by_default(requested: str) -> None:
    """Protects the machine's networks: by default, any request opens only loopback."""
    assert all(ipaddress.ip_address(address).is_loopback for address in listen_addresses(requested, "no"))


@given(st.text() | hosts, gateway_ports)
def test_there_is_always_somewhere_to_listen(requested: str, setting: GatewayPorts) -> None:
    """For any request there are one or two addresses: never none, nor more than descriptors are kept for."""
    assert 1 <= len(listen_addresses(requested, setting)) <= 2


# -- X11 ----------------------------------------------------------------------------------------------------------


def test_display() -> None:
    """Program and xauth get the name and cookie of a forwarded display (sshd's session.c, do_rc_files)."""
    display = x11_display(10, 1, "MIT-MAGIC-COOKIE-1", "0123456789abcdef")
    assert display == X11Display(10, 1, "MIT-MAGIC-COOKIE-1", "0123456789abcdef")
    assert display.name == b"localhost:10.1"
    assert display.xauth == b"remove unix:10.1\nadd unix:10.1 MIT-MAGIC-COOKIE-1 0123456789abcdef\n"
    assert display.for_rc == b"MIT-MAGIC-COOKIE-1 0123456789abcdef\n"


@pytest.mark.parametrize(
    "word", ["", "a b", "a\nadd", "a;b", "a'b", "$(a)", "`a`", "ä", "a\0", "x" * 257, "quit\n", "-"]
)
def test_words_that_xauth_must_not_read(word: str) -> None:
    """Protects the account from an X11 protocol or cookie that is a command for xauth or a shell."""
    cookie = x11_display(10, 0, "MIT-MAGIC-COOKIE-1", word)
    protocol = x11_display(10, 0, word, "00")
    if word != "-":  # a part of MIT-MAGIC-COOKIE-1, and harmless after a command's name
        assert (cookie, protocol) == (None, None)


@pytest.mark.parametrize("screen", [-1, 100, 2**32 - 1])
def test_screen_that_is_none(screen: int) -> None:
    """Protects DISPLAY from impossible screen numbers."""
    assert x11_display(10, screen, "MIT-MAGIC-COOKIE-1", "00") is None


@given(st.text(max_size=300), st.text(max_size=300))
def test_what_xauth_reads_is_two_lines(protocol: str, cookie: str) -> None:
    """Any accepted words make two xauth commands with the expected number of words."""
    display = x11_display(10, 0, protocol, cookie)
    if display is not None:
        assert [len(line.split()) for line in display.xauth.split(b"\n")] == [2, 4, 0]


# -- from the configuration ---------------------------------------------------------------------------------------


def test_rules_of_a_login() -> None:
    """Each setting reaches the rule for which it stands."""
    config = Config(
        login=(
            Login(
                user="amos",
                keys=("file:/k",),
                forwarding="local",
                forward_sockets="remote",
                permit_open=("a:1",),
                permit_listen=("b:2",),
                force_command="ä --x",
                set_env=("A=1=2", "B="),
            ),
        ),
        session=Session(accept_env=("APP_*",), linger=Duration(2)),
        forwarding=Forwarding(agent=False, x11=True, gateway_ports="yes", socket_mask="0117", socket_unlink=True),
    )
    assert rules_for(config) == {
        "amos": LoginRules(
            forwarding=ForwardingRules(
                scope="local",
                sockets="remote",
                permit_open=("a:1",),
                permit_listen=("b:2",),
                gateway_ports="yes",
                socket_mask=0o117,
                socket_unlink=True,
                agent=False,
                x11=True,
            ),
            force_command="ä --x".encode(),
            env={b"A": b"1=2", b"B": b""},
            accept_env=("APP_*",),
            linger=2.0,
            user_rc=False,
        )
    }


@pytest.mark.parametrize(
    ("login", "shared", "agent", "x11"),
    [
        ({}, {}, True, False),
        ({}, {"agent": False, "x11": True}, False, True),
        ({"forwarding": "remote"}, {"x11": True}, True, True),
        ({"forwarding": "none"}, {"x11": True}, False, False),
        ({"forwarding": "none", "forward_agent": True, "forward_x11": True}, {}, True, True),
        ({"forward_agent": False, "forward_x11": False}, {"x11": True}, False, False),
        ({"forward_agent": True, "forward_x11": True}, {"agent": False}, True, True),
    ],
)
def test_agent_and_x11(login: dict[str, object], shared: dict[str, bool], agent: bool, x11: bool) -> None:
    """For agent and X11, a login's own setting counts first, then `forwarding = "none"`, then the common setting."""
    one = msgspec.structs.replace(Login(user="amos", keys=("file:/k",)), **login)
    rules = rules_for(Config(login=(one,), forwarding=msgspec.structs.replace(Forwarding(), **shared)))[
        "amos"
    ].forwarding
    assert (rules.agent, rules.x11) == (agent, x11)


def test_rules_by_default() -> None:
    """The defaults of the rules equal those of the configuration, and force no command."""
    rules = rules_for(Config(login=(Login(user="amos", keys=("file:/k",)),)))["amos"]
    assert rules.forwarding == ForwardingRules()
    assert (rules.force_command, rules.env, rules.user_rc) == (None, {}, True)
    assert rules.accept_env == Session().accept_env


def test_logins_are_apart() -> None:
    """One login's rules do not affect another's."""
    one = Login(user="one", keys=("file:/k",), forwarding="none", force_command="true")
    config = Config(login=(one, msgspec.structs.replace(one, user="two", forwarding="all", force_command="")))
    rules = rules_for(config)
    assert (rules["one"].forwarding.scope, rules["one"].force_command) == ("none", b"true")
    assert (rules["two"].forwarding.scope, rules["two"].force_command) == ("all", None)


def test_nobody_without_a_login() -> None:
    """Accounts without a login have no rules."""
    assert rules_for(Config()) == {}
