"""Settings for everybody: the setting for each keyword, or the reason why it has none."""

import pytest

from pyssh_gateway.core.sshd_config import server
from pyssh_gateway.core.sshd_config.effective import effective
from tests.support.sshd_configs import read, translated


def setting(text: str, path: str) -> object:
    """The value of the setting `path` for a file that consists of `text`."""
    table, _, key = path.partition(".")
    return translated(text).tables.get(table, {}).get(key)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("AcceptEnv LANG LC_*\nAcceptEnv A", "session.accept_env", ["LANG", "LC_*", "A"]),
        ("AllowAgentForwarding no", "forwarding.agent", False),
        ("Banner /etc/issue.net", "listen.banner", "file:/etc/issue.net"),
        ("ExposeAuthInfo yes", "session.expose_auth_info", True),
        ("RekeyLimit 1G 1h", "session.rekey_bytes", 2**30),
        ("RekeyLimit 1G 1h", "session.rekey_time", "1h"),
        ("RekeyLimit default none", "session.rekey_time", "off"),
        ("ClientAliveCountMax 3", "session.keepalive_misses", 3),
        ("ClientAliveInterval 15", "session.keepalive", "15s"),
        ("ClientAliveInterval 0", "session.keepalive", "off"),
        ("GatewayPorts ClientSpecified", "forwarding.gateway_ports", "clientspecified"),
        ("HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /k/my_ed25519_key", "host_keys.types", ["ed25519", "rsa"]),
        ("HostKey /etc/ssh/keys/ecdsa_key\nHostKey /k/rsa", "host_keys.types", ["ecdsa", "rsa"]),
        ("HostKey /a/rsa_key\nHostKey /b/rsa_key", "host_keys.files", ["/b/rsa_key"]),
        ("HostCertificate /k/key-cert.pub", "host_keys.certificates", ["/k/key-cert.pub"]),
        ("RevokedKeys /a /b", "keys.revoked", ["file:/a", "file:/b"]),
        ("LoginGraceTime 1m", "limits.login_grace", "1m"),
        ("MaxAuthTries 3", "limits.auth_attempts", 3),
        ("MaxSessions 5", "limits.sessions_per_connection", 5),
        ("MaxStartups 10:30:60", "limits.unauthenticated", 60),
        ("MaxStartups 10:40:60", "limits.early_drop_rate", 40),
        ("MaxStartups 20", "limits.unauthenticated", 20),
        ("MaxStartups 20", "limits.early_drop_start", 20),
        ("PerSourceMaxStartups 7", "limits.unauthenticated_per_source", 7),
        ("PerSourcePenalties no", "limits.penalties", False),
        ("PerSourcePenalties max:5m min:10s", "limits.penalty_max", "5m"),
        ("PerSourcePenalties max:5m min:10s", "limits.penalty_min", "10s"),
        ("PerSourcePenaltyExemptList 192.0.2.0/24,::1", "limits.penalty_exempt", ["192.0.2.0/24", "::1"]),
        ("StreamLocalBindMask 0111", "forwarding.socket_mask", "0111"),
        ("StreamLocalBindUnlink yes", "forwarding.socket_unlink", True),
        ("VersionAddendum by us", "listen.identification", "OpenSSH_9.9 by us"),
        ("VersionAddendum none", "listen.identification", None),
        ("X11Forwarding yes", "forwarding.x11", True),
        ("Banner none\nRevokedKeys none\nRekeyLimit default", "listen.banner", None),
    ],
)
def test_settings(text: str, path: str, value: object) -> None:
    """Each keyword gets its setting and value."""
    assert setting(text, path) == value
    assert not translated(text).left_out


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("LoginGraceTime 0", "there is a limit here: at most 10m"),
        ("LoginGraceTime 1h", "limits.login_grace: expected a duration from 1ms to 10m"),
        ("MaxAuthTries 0", "limits.auth_attempts: expected a whole number"),
        ("MaxSessions 0", "limits.sessions_per_connection: expected a whole number"),
        ("MaxStartups 1:2", "1:2 is neither one number nor three"),
        ("ClientAliveCountMax 0", "session.keepalive_misses: expected a whole number"),
        ("PerSourceMaxStartups none", "there is a limit for each source here"),
        ("PerSourcePenalties authfail:5s", "authfail: each offence has OpenSSH's default, and no setting"),
        ("PerSourcePenaltyExemptList office", "limits.penalty_exempt[0]: expected an address, or a network"),
        ("HostKey /k/key", "the name says none of the types ed25519, ecdsa and rsa"),
        ("HostKey /k/ssh_host_dsa_key\nHostKey /k/rsa_key", "the name says none of the types"),
        ("AcceptEnv 'A B'", "session.accept_env[0]: expected the name of an environment variable"),
        ("X11Forwarding perhaps", "perhaps is neither yes nor no"),
        ("RekeyLimit 1T", "1T is not a number of bytes"),
        ("VersionAddendum ä", "listen.identification: expected printable ASCII"),
    ],
)
def test_values_that_there_is_no_way_to_say(text: str, reason: str) -> None:
    """Protects from lines that are lost silently: each value without a counterpart is listed with the reason."""
    left_out = [each.text for each in translated(text).left_out]
    assert len([line for line in left_out if line.startswith("f line 1: ") and reason in line]) == 1, left_out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Banner /etc/issue.net", {"listen.banner": "file:/etc/issue.net"}),
        ("ExposeAuthInfo yes", {"session.expose_auth_info": True}),
        ("RekeyLimit 1G 1h", {"session.rekey_bytes": 2**30, "session.rekey_time": "1h"}),
        ("RekeyLimit default none", {"session.rekey_time": "off"}),
        ("RevokedKeys /a /b", {"keys.revoked": ["file:/a", "file:/b"]}),
        ("HostCertificate /a\nHostCertificate /b", {"host_keys.certificates": ["/a", "/b"]}),
        ("PerSourcePenalties yes max:1h", {"limits.penalties": True, "limits.penalty_max": "1h"}),
    ],
)
def test_several_settings_of_a_line(text: str, expected: dict[str, object]) -> None:
    """A line may give several settings, or values in another notation."""
    ((_, found),) = server.settings(effective(read(text), None))
    assert found == expected


def test_several_host_keys_of_a_type() -> None:
    """Protects a host key rotation in progress: the first key of a type and the further ones are kept."""
    lines = effective(read("HostKey /a/rsa_key\nHostKey /b/ed25519_key\nHostKey /c/rsa_key"), None)
    found, problems = server.host_keys(lines, lambda _path: False)
    assert found == {"host_keys.types": ["ed25519", "rsa"], "host_keys.files": ["/c/rsa_key"]}
    assert not problems


# -- where to listen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", ["0.0.0.0:22", "[::]:22"]),
        ("Port 2222", ["0.0.0.0:2222", "[::]:2222"]),
        ("AddressFamily inet\nPort 22\nPort 2222", ["0.0.0.0:22", "0.0.0.0:2222"]),
        ("AddressFamily inet6", ["[::]:22"]),
        ("ListenAddress 192.0.2.1\nListenAddress [::1]:2022\nPort 23", ["192.0.2.1:23", "[::1]:2022"]),
        ("ListenAddress 192.0.2.1\nPort 23\nPort 24", ["192.0.2.1:23", "192.0.2.1:24"]),
        ("ListenAddress 192.0.2.1:22\nPort 23\nPort 24", ["192.0.2.1:22"]),
        ("ListenAddress localhost", ["127.0.0.1:22", "[::1]:22"]),
        ("ListenAddress localhost:23", ["127.0.0.1:23", "[::1]:23"]),
    ],
)
def test_listening(text: str, addresses: list[str]) -> None:
    """Protects the port that clients know: addresses, ports and families combine as in sshd."""
    assert setting(text, "listen.address") == addresses


def test_no_ipv6() -> None:
    """On a machine without IPv6, only IPv4 addresses are used, as by sshd."""
    assert translated("", ipv6=False).tables["listen"] == {"address": ["0.0.0.0:22"]}
    assert translated("ListenAddress localhost", ipv6=False).tables["listen"] == {"address": ["127.0.0.1:22"]}


@pytest.mark.parametrize(
    "text", ["ListenAddress gateway.example", "ListenAddress 192.0.2.1 rdomain 1", "Port ssh\nListenAddress x"]
)
def test_where_there_is_no_way_to_listen(text: str) -> None:
    """If sshd's address can't be translated, the server listens on loopback only, and not on all addresses."""
    found = translated(text)
    assert "f line 1: " in found.left_out[0].text
    assert found.tables["listen"] == {"address": ["127.0.0.1:22"]}


def test_host_keys_that_are_there() -> None:
    """Protects clients from a warning: sshd's default host keys are served as far as they exist."""
    there = frozenset({"/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key"})
    assert translated("", files=there).tables["host_keys"] == {"types": ["ed25519", "ecdsa"]}
    assert "host_keys" not in translated("").tables
    assert translated("HostKey /k/dsa_key\nHostKey /k/rsa_key", files=there).tables["host_keys"] == {"types": ["rsa"]}
