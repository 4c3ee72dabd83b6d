"""core.login_rules: an account's rules, reduced by the options of a key."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.types import Config, Forwarding, Login
from pyssh_gateway.core.access.key_options import NO_OPTIONS, KeyOptions, parse_options
from pyssh_gateway.core.forwarding import ForwardingRules
from pyssh_gateway.core.login_rules import LoginRules, chroot_problems, in_force, restrict, rules_for

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
    """A key without options changes nothing, such as one from a source where options are not allowed."""
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
    """Each restriction switches off its own rights only, and leaves the rest as configured."""
    forwarding = msgspec.structs.replace(rules.forwarding, **dict.fromkeys(off - {"pty", "user_rc"}, False))
    expected = msgspec.structs.replace(rules, pty="pty" not in off, user_rc="user_rc" not in off, forwarding=forwarding)
    assert restrict(rules, parse_options(options)) == expected


@given(st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_a_key_switches_nothing_on(pty: bool, rc: bool, agent: bool, x11: bool) -> None:
    """Protects the configuration: a right that it does not grant stays off, whatever a key's line says."""
    forwarding = ForwardingRules(scope="none", agent=agent, x11=x11)
    rules = msgspec.structs.replace(RULES, pty=pty, user_rc=rc, forwarding=forwarding)
    options = parse_options(b"restrict,pty,user-rc,port-forwarding,agent-forwarding,X11-forwarding")
    assert restrict(rules, options) == rules


def test_lists_go_beside_the_configurations() -> None:
    """`permitopen=` and `permitlisten=` apply in addition to the configuration's lists."""
    options = parse_options(b'permitopen="a:*",permitlisten="8080"')
    forwarding = msgspec.structs.replace(RULES.forwarding, key_permit_open=("a:*",), key_permit_listen=("*:8080",))
    assert restrict(RULES, options) == msgspec.structs.replace(RULES, forwarding=forwarding)


@pytest.mark.parametrize("command", [b"the key's", b""])
def test_command(command: bytes) -> None:
    """`command=`, also an empty one, is forced, unless the configuration forces another."""
    options = KeyOptions(command=command)
    assert restrict(RULES, options).force_command == command
    assert restrict(FORCED, options).force_command == b"the configuration's"


def test_environment() -> None:
    """The configuration's variables override those of `environment=`, which its forced command does not get at all."""
    options = KeyOptions(environment=((b"KEY", b"key"), (b"BOTH", b"key")))
    assert restrict(RULES, options).env == {b"KEY": b"key", b"SET": b"config", b"BOTH": b"config"}
    assert restrict(FORCED, options).env == RULES.env
    assert RULES.env == {b"SET": b"config", b"BOTH": b"config"}


def test_environment_and_command_of_one_key() -> None:
    """A line's own command gets the line's variables, since both have the same author."""
    restricted = restrict(RULES, KeyOptions(command=b"x", environment=((b"KEY", b"key"),)))
    assert (restricted.force_command, restricted.env[b"KEY"]) == (b"x", b"key")


@pytest.mark.parametrize(
    "name", [b"SSH_CLIENT", b"SSH_CONNECTION", b"SSH_ORIGINAL_COMMAND", b"SSH_TTY", b"PYSSH_IDENTITY", b"PYSSH_SESSION"]
)
def test_what_only_the_server_says(name: bytes) -> None:
    """Protects scripts and logs: no key file can set the variables by which the server describes a session."""
    options = KeyOptions(environment=((name, b"forged"), (b"SSH_USER", b"amos")))
    assert restrict(RULES, options).env == {b"SSH_USER": b"amos"} | RULES.env


# -- settings that follow other settings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sockets", "agent", "x11"),
    [
        ({}, "all", True, False),
        ({"forwarding": "remote"}, "remote", True, False),
        ({"forwarding": "none"}, "none", False, False),
        ({"permit_open": ("a:1",)}, "remote", True, False),
        ({"permit_listen": ("a:1",)}, "local", True, False),
        ({"permit_open": ("a:1",), "forward_sockets": "local", "forward_x11": True}, "local", True, True),
        ({"chroot": "/srv"}, "none", False, False),
    ],
)
def test_what_comes_out(changes: dict[str, object], sockets: str, agent: bool, x11: bool) -> None:
    """Protects readers of `config show`: an omitted setting is shown with the value that is in force."""
    login = msgspec.structs.replace(Login(user="amos", keys=("file:/k",)), **changes)
    found = in_force(login, Forwarding())
    assert (found.forward_sockets, found.forward_agent, found.forward_x11) == (sockets, agent, x11)


# -- a chroot ---------------------------------------------------------------------------------------------------------

JAILED = Login(user="amos", keys=("file:/k",), chroot="/srv/%u")


def test_a_chroot_is_for_sftp() -> None:
    """A chroot serves only SFTP, whatever the key's line says, and runs no ~/.ssh/rc."""
    rules = rules_for(Config(login=(JAILED,)))["amos"]
    assert (rules.force_command, rules.user_rc) == (b"internal-sftp", False)
    assert restrict(rules, KeyOptions(command=b"sh")).force_command == b"internal-sftp"
    optioned = msgspec.structs.replace(JAILED, force_command="internal-sftp -R")
    assert rules_for(Config(login=(optioned,)))["amos"].force_command == b"internal-sftp -R"


def test_a_chroot_has_no_sockets() -> None:
    """Protects sockets outside of the chroot, since the process for them runs outside; ports stay permitted."""
    rules = rules_for(Config(login=(JAILED,), forwarding=Forwarding(agent=True, x11=True)))["amos"].forwarding
    assert rules == ForwardingRules(sockets="none", agent=False, x11=False)


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({}, []),
        ({"force_command": "internal-sftp -d /in"}, []),
        ({"force_command": "internal-sftpd"}, ["force_command"]),
        ({"force_command": "/bin/sh"}, ["force_command"]),
        ({"forward_sockets": "none", "forward_agent": False, "forward_x11": False, "forwarding": "all"}, []),
        (
            {"forward_sockets": "remote", "forward_agent": True, "forward_x11": True},
            ["forward_sockets", "forward_agent", "forward_x11"],
        ),
    ],
)
def test_what_does_not_go_together_with_a_chroot(changes: dict[str, object], keys: list[str]) -> None:
    """Protects administrators from settings without effect: they are errors with a chroot, and fine without one."""
    login = msgspec.structs.replace(JAILED, **changes)
    assert [problem.partition(":")[0] for problem in chroot_problems(login)] == keys
    assert chroot_problems(msgspec.structs.replace(login, chroot="")) == []
