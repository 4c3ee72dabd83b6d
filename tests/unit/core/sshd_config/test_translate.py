"""The translation of whole files: the configuration, the list of what is left out, and that our parser accepts it."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.config.parser import RawConfig, parse
from pyssh_gateway.core.sshd_config.keywords import KEYWORDS
from pyssh_gateway.core.sshd_config.lines import SshdConfigError
from tests.support.sshd_configs import KEY_FILES, translated

DEBIAN = """
Include /etc/ssh/sshd_config.d/*.conf
KbdInteractiveAuthentication no
UsePAM yes
X11Forwarding yes
PrintMotd no
AcceptEnv LANG LC_*
Subsystem\tsftp\t/usr/lib/openssh/sftp-server
"""
"""The file that Debian installs, without its comments."""

HARDENED = """
Port 2022
AddressFamily inet
HostKey /etc/ssh/ssh_host_ed25519_key
KexAlgorithms curve25519-sha256
LogLevel DEBUG
LoginGraceTime 20
PermitRootLogin no
StrictModes yes
MaxAuthTries 3
MaxSessions 4
PasswordAuthentication no
ChallengeResponseAuthentication no
PermitEmptyPasswords no
UsePAM no
AllowAgentForwarding no
AllowTcpForwarding local
X11Forwarding no
Compression no
ClientAliveInterval 300
ClientAliveCountMax 2
UseDNS no
PermitTunnel no
Protocol 2
Subsystem sftp internal-sftp -f AUTH -l INFO
AllowGroups staff sftponly
Match Group sftponly
    ChrootDirectory %h
    ForceCommand internal-sftp
    AllowTcpForwarding no
    X11Forwarding no
    MaxSessions 2
Match Address 10.0.0.0/8
    PasswordAuthentication yes
"""


def said(text: str) -> list[str]:
    """The lines about what is not translated."""
    return [each.text for each in translated(text).left_out]


def test_debians_file() -> None:
    """Protects the usual machine: a single remark remains, and the rest works as before."""
    found = translated(DEBIAN)
    assert found.toml == (
        '[listen]\naddress = ["0.0.0.0:22", "[::]:22"]\n\n'
        "[forwarding]\nx11 = true\n\n"
        '[session]\naccept_env = ["LANG", "LC_*"]\n\n'
        '[[login]]\nuser = "root"\nkeys = ["file:/root/.ssh/authorized_keys"]\n\n'
        '[[login]]\nuser = "amos"\nkeys = ["file:/home/amos/.ssh/authorized_keys"]\n\n'
        '[[login]]\nuser = "build"\nkeys = ["file:/srv/build/.ssh/authorized_keys"]\n'
    )
    (text,) = said(DEBIAN)
    assert text.startswith("f line 4: UsePAM yes: PAM is not asked.")


def test_a_hardened_file() -> None:
    """Protects a machine with rules: each account has its own, and each line without a counterpart is listed once."""
    found = translated(HARDENED)
    assert [login["user"] for login in found.logins] == ["amos", "build"]
    assert found.logins[0] == {
        "user": "amos",
        "keys": ["file:/home/amos/.ssh/authorized_keys"],
        "forwarding": "local",
        "forward_sockets": "all",
    }
    assert found.logins[1] == {
        "user": "build",
        "keys": ["file:/srv/build/.ssh/authorized_keys"],
        "force_command": "internal-sftp",
        "chroot": "%h",
        "forwarding": "none",
    }
    assert found.tables == {
        "listen": {"address": ["0.0.0.0:2022"]},
        "host_keys": {"types": ["ed25519"]},
        "limits": {"login_grace": "20s", "auth_attempts": 3, "sessions_per_connection": 4},
        "forwarding": {"agent": False, "x11": False},
        "session": {"keepalive": "5m", "keepalive_misses": 2},
    }
    starts = [
        "f line 5: KexAlgorithms curve25519-sha256: Fixed: modern algorithms only, see docs/security.md.",
        "f line 6: LogLevel DEBUG: Everything is in the event log, see docs/audit.md.",
        "f line 32: MaxSessions 2: limits.sessions_per_connection is for everybody, and not for Match Group sftponly",
        "f line 34: PasswordAuthentication yes: Public keys are the only way in.",
    ]
    assert said(HARDENED) == starts


BASTION = """
PermitRootLogin no
PasswordAuthentication no
AllowGroups staff
AuthorizedKeysFile .ssh/authorized_keys
PermitTTY no
X11Forwarding no
AllowAgentForwarding no
AllowStreamLocalForwarding no
AllowTcpForwarding local
PermitOpen 10.0.0.5:22 10.0.0.6:22 [2001:db8::5]:22
PermitTunnel no
GatewayPorts no
ForceCommand /bin/echo "use ssh -J"
MaxStartups 30:50:200
"""
"""A bastion: people only jump over it to other hosts."""

FLEET = """
TrustedUserCAKeys /etc/ssh/user_ca.pub
AuthorizedKeysFile none
AuthenticationMethods publickey
RequiredRSASize 2048
PubkeyAuthOptions touch-required
Match User build
    TrustedUserCAKeys /etc/ssh/robots_ca.pub
    ForceCommand /usr/local/bin/deploy
    DisableForwarding yes
    PermitTTY no
    PermitUserRC no
"""
"""A machine with an authority and without key files; build has no shell, so it is left out with its authority."""

MIRROR = """
AllowUsers root build
Match User build
    AuthorizedKeysFile /etc/ssh/authorized_keys/%u
    ChrootDirectory /srv/mirror
    ForceCommand internal-sftp -R -d /pool
    AllowTcpForwarding no
    PermitTunnel no
    PasswordAuthentication no
    AuthenticationMethods publickey
"""
"""A machine from which others fetch files."""


def test_a_bastion() -> None:
    """Protects networks behind a bastion: exactly the same destinations can be reached over it."""
    found = translated(BASTION)
    assert found.logins == (
        {
            "user": "amos",
            "keys": ["file:/home/amos/.ssh/authorized_keys"],
            "force_command": '/bin/echo "use ssh -J"',
            "forwarding": "local",
            "permit_open": ["10.0.0.5:22", "10.0.0.6:22", "[2001:db8::5]:22"],
            "forward_sockets": "none",
        },
    )
    assert found.tables["forwarding"] == {"x11": False, "agent": False, "gateway_ports": "no"}
    assert found.tables["limits"] == {"early_drop_start": 30, "early_drop_rate": 50, "unauthenticated": 200}
    assert said(BASTION) == ["f line 6: PermitTTY no: Each key's own: write no-pty before it."]


def test_a_fleet() -> None:
    """Protects machines with authorities only: people get in, and lines that are about other accounts are listed."""
    found = translated(FLEET)
    assert [(login["user"], login["keys"]) for login in found.logins] == [
        ("root", ["ca:/etc/ssh/user_ca.pub"]),
        ("amos", ["ca:/etc/ssh/user_ca.pub"]),
    ]
    assert said(FLEET) == ["f line 7: Match User build: it fits no account here that may log in"]


def test_a_mirror() -> None:
    """Protects a mirror's files: its clients can only read, and only in their directory."""
    found = translated(MIRROR, files=KEY_FILES | {"/etc/ssh/authorized_keys/build"})
    assert found.logins[1] == {
        "user": "build",
        "keys": ["file:/etc/ssh/authorized_keys/build"],
        "force_command": "internal-sftp -R -d /pool",
        "chroot": "/srv/mirror",
        "forwarding": "none",
    }
    assert not found.left_out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Prot 22", "f line 1: prot 22: sshd_config(5) has no such keyword"),
        ("Match User x\nX11Forwarding no", "f line 1: Match User x: it fits no account here that may log in"),
        ("AllowUsers amos gone go*", "f line 1: AllowUsers amos gone go*: there is no account gone on this machine"),
        ("AllowUsers daemon", "without a file of keys there is no [[login]]: daemon"),
        ("AuthorizedKeysFile none", "without a file of keys there is no [[login]]: amos"),
        ("PubkeyAuthentication no", "amos has no [[login]]: PubkeyAuthentication no: keys are the only way in here"),
        ("Match Host x\nX11Forwarding yes", "f line 2: X11Forwarding yes: Match Host x depends on the connection"),
        ("Subsystem backup /usr/bin/backup", "sftp is built in"),
        ("Subsystem sftp internal-sftp -R", "sftp is built in"),
        ("Subsystem sftp", "sftp is built in"),
        ("MaxStartups 5\nPerSourceMaxStartups 9", "limits.unauthenticated, which is 5, got 9 (from f line 2)"),
        ("PerSourcePenalties max:5s min:1m", "limits.penalty_min: expected at most limits.penalty_max, which is 5s"),
        ("Banner \udcff", "not UTF-8 text"),
        ("ChannelTimeout session=5m", "ChannelTimeout session=5m: idle.client_idle has the machine stop"),
        ("SetEnv A=\udcff", "not UTF-8 text"),
        ("AllowUsers x", "nobody may log in: no account that sshd would let in has a file of keys"),
    ],
)  # fmt: skip
def test_what_is_said(text: str, expected: str) -> None:
    """Protects from silence: each line without effect is listed with the reason."""
    assert any(expected in line for line in said(text)), said(text)


@pytest.mark.parametrize(
    "text",
    [
        "Protocol 2\nUsePrivilegeSeparation sandbox",  # sshd ignores them, too
        "PasswordAuthentication no # no passwords\nUseDNS no\nPermitTTY yes",  # what they demand is so here anyway
        "UseDNS no\nUseDNS yes",  # the second line does not count
        "Match User amos\nX11Forwarding yes\nMatch User amos\nX11Forwarding no",
        "Match all\nMaxSessions 3",
        "Match Group staff\nAllowTcpForwarding no",
    ],
)
def test_what_is_not_worth_a_word(text: str) -> None:
    """Protects the list from lines that nobody needs to read."""
    assert said(text) == []


def test_accounts_of_programs_are_not_listed() -> None:
    """Protects the list from dozens of system accounts that nobody has ever used for a login."""
    for text in ("PubkeyAuthentication no", "AuthorizedKeysFile %x", "AuthorizedKeysFile none", "AllowUsers d*@x"):
        assert not [line for line in said(text) if "daemon" in line]


def test_few_connections() -> None:
    """With a small MaxStartups, the limit for each source is reduced to the limit for all."""
    expected = {"unauthenticated": 5, "early_drop_start": 5, "unauthenticated_per_source": 5}
    assert translated("MaxStartups 5").tables["limits"] == expected
    found = translated("MaxStartups 5\nPerSourceMaxStartups 9")
    assert found.tables["limits"] == expected


def test_what_comes_out_can_be_read_back() -> None:
    """Quotes, backslashes and control characters in a command survive being written to the file."""
    command = 'sh -c "a \\\\b\\"" \'\x7f\' ä\t#'
    found = translated(f"ForceCommand {command}")
    assert tomllib.loads(found.toml)["login"][0]["force_command"] == command


LINES = st.builds(
    "{} {}".format,
    st.sampled_from([keyword.name for keyword in KEYWORDS]),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20)
    | st.sampled_from(
        ["yes", "no", "none", "any", "0", "1", "22", "10:30:100", "5m", "/k", "amos", "*", "User amos", "Group staff,*",
         "Address 192.0.2.0/24", "all", "internal-sftp", "192.0.2.1", "[::1]:22", "local", "remote", "a:1", "A=1"]
    ),
)  # fmt: skip


@given(st.lists(LINES, max_size=12))
def test_whatever_is_read_passes_our_parser(lines: list[str]) -> None:
    """Protects people from a file that our own server refuses, and from a traceback."""
    try:
        found = translated("\n".join(lines))
    except SshdConfigError:
        return
    config = parse(RawConfig(tomllib.loads(found.toml), {}, None))
    assert len(config.login) == len(found.logins)
    assert all(each.text.isprintable() for each in found.left_out)
