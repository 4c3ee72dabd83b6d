"""core.login_rules: what the options of a key leave of its account's rules."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.types import Config, Login
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions, parse_options
from pyssh_gateway.core.forwarding import ForwardingRules
from pyssh_gateway.core.login_rules import LoginRules, restrict, rules_for

RULES = LoginRules(
    forwarding=ForwardingRules(x11=True, permit_open=("a:1",), permit_listen=("b:2",), gateway_ports="yes"),
    force_command=None,
    env={b"SET": b"config", b"BOTH": b"config"},
    accept_env=("APP_*",),
    linger=2.0,
)
FORCED = msgspec.structs.replace(RULES, force_command=b"the configuration's")


@pytest.mark.parametrize("rules", [RULES, FORCED], ids=["free", "forced"])
def test_a_key_without_options_changes_nothing(rules: LoginRules) -> None:
    """Protects everybody whose key comes from where no options are allowed."""
    assert restrict(rules, NO_OPTIONS) == rules


@pytest.mark.parametrize(
    ("options", "off"),
    [
        (b"restrict", {"pty", "user_rc", "ports", "agent", "x11"}),
        (b"no-pty", {"pty"}),
        (b"no-port-forwarding", {"ports"}),
        (b"no-agent-forwarding", {"agent"}),
        (b"no-X11-forwarding", {"x11"}),
        (b"no-user-rc", {"user_rc"}),
        (b"restrict,pty,agent-forwarding,user-rc", {"ports", "x11"}),
    ],
)
@pytest.mark.parametrize("rules", [RULES, FORCED], ids=["free", "forced"])
def test_switches(rules: LoginRules, options: bytes, off: set[str]) -> None:
    """Protects each restriction by itself: what it is about is off, and the rest stays as it is configured."""
    forwarding = msgspec.structs.replace(rules.forwarding, **dict.fromkeys(off - {"pty", "user_rc"}, False))
    expected = msgspec.structs.replace(rules, pty="pty" not in off, user_rc="user_rc" not in off, forwarding=forwarding)
    assert restrict(rules, parse_options(options)) == expected


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_a_key_switches_nothing_on(pty: bool, rc: bool, agent: bool, x11: bool) -> None:
    """Protects the configuration: what it does not permit stays off, whatever a key's line says."""
    forwarding = ForwardingRules(scope="none", agent=agent, x11=x11)
    rules = msgspec.structs.replace(RULES, pty=pty, user_rc=rc, forwarding=forwarding)
    options = parse_options(b"restrict,pty,user-rc,port-forwarding,agent-forwarding,X11-forwarding")
    assert restrict(rules, options) == rules


def test_lists_go_beside_the_configurations() -> None:
    """Protects `permitopen=` and `permitlisten=`: they come on top of the configuration's lists."""
    options = parse_options(b'permitopen="a:*",permitlisten="8080"')
    forwarding = msgspec.structs.replace(RULES.forwarding, key_permit_open=("a:*",), key_permit_listen=("*:8080",))
    assert restrict(RULES, options) == msgspec.structs.replace(RULES, forwarding=forwarding)


@pytest.mark.parametrize("command", [b"the key's", b""])
def test_command(command: bytes) -> None:
    """Protects `command=`, an empty one too: it is forced, unless the configuration forces another."""
    options = KeyOptions(command=command)
    assert restrict(RULES, options).force_command == command
    assert restrict(FORCED, options).force_command == b"the configuration's"


def test_environment() -> None:
    """Protects `environment=`: the configuration's variables count more, and its forced command is left alone."""
    options = KeyOptions(environment=((b"KEY", b"key"), (b"BOTH", b"key")))
    assert restrict(RULES, options).env == {b"KEY": b"key", b"SET": b"config", b"BOTH": b"config"}
    assert restrict(FORCED, options).env == RULES.env
    assert RULES.env == {b"SET": b"config", b"BOTH": b"config"}


def test_environment_and_command_of_one_key() -> None:
    """Protects lines that have both: whoever wrote the command wrote its variables."""
    restricted = restrict(RULES, KeyOptions(command=b"x", environment=((b"KEY", b"key"),)))
    assert (restricted.force_command, restricted.env[b"KEY"]) == (b"x", b"key")


@pytest.mark.parametrize(
    "name", [b"SSH_CLIENT", b"SSH_CONNECTION", b"SSH_ORIGINAL_COMMAND", b"SSH_TTY", b"PYSSH_IDENTITY", b"PYSSH_SESSION"]
)
def test_what_only_the_server_says(name: bytes) -> None:
    """Protects what scripts and logs believe about a session: no line of a key file can say something else."""
    options = KeyOptions(environment=((name, b"forged"), (b"SSH_USER", b"amos")))
    assert restrict(RULES, options).env == {b"SSH_USER": b"amos"} | RULES.env


def test_of_two_variables_of_one_name_the_first_counts() -> None:
    """Protects settings that come from sshd_config: SetEnv there takes the first, too."""
    login = Login(user="amos", keys=("file:/k",), set_env=("A=1", "B=2", "A=3"))
    assert rules_for(Config(login=(login,)))["amos"].env == {b"A": b"1", b"B": b"2"}
