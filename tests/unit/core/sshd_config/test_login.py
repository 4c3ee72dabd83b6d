"""What each account may do: who gets a login, with which keys, and never with more rights than under sshd."""

import pytest

from tests.support.sshd_configs import AMOS, BUILD, KEY_FILES, ROOT, translated


def users(text: str) -> set[object]:
    """The accounts that have a login."""
    return {login["user"] for login in translated(text).logins}


def login(text: str, user: str = "amos") -> dict[str, object]:
    """The account's login, without its name and its keys."""
    (found,) = [each for each in translated(text).logins if each["user"] == user]
    return {key: value for key, value in found.items() if key not in {"user", "keys"}}


def keys(text: str, user: str = "amos", files: frozenset[str] = KEY_FILES) -> object:
    """The account's sources of keys; None if it has no login."""
    found = {each["user"]: each["keys"] for each in translated(text, files=files).logins}
    return found.get(user)


# -- accounts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ("", {"root", "amos", "build"}),
        ("PermitRootLogin no", {"amos", "build"}),
        ("PermitRootLogin yes", {"root", "amos", "build"}),
        ("PermitRootLogin forced-commands-only", {"amos", "build"}),
        ("AllowUsers amos", {"amos"}),
        ("AllowUsers am* b?ild", {"amos", "build"}),
        ("DenyUsers amos", {"root", "build"}),
        ("AllowUsers amos build\nDenyUsers build", {"amos"}),
        ("AllowGroups staff", {"amos"}),
        ("DenyGroups sftp*", {"root", "amos"}),
        ("AllowGroups staff\nAllowUsers build", set()),
        ("PubkeyAuthentication no", set()),
        ("AuthenticationMethods publickey", {"root", "amos", "build"}),
        ("AuthenticationMethods publickey,password", set()),
        ("AuthenticationMethods publickey,password publickey", {"root", "amos", "build"}),
        ("RefuseConnection no\nMatch User amos\nRefuseConnection yes", {"root", "build"}),
        ("Match User root\nPermitRootLogin no", {"amos", "build"}),
        ("Match User amos\nAllowUsers build", {"root", "build"}),
        ("AllowUsers amos@192.0.2.0/24 build", {"build"}),
        ("DenyUsers amos@192.0.2.1", {"root", "build"}),
        ("Match Address 192.0.2.0/24\nForceCommand x", set()),
        ("Match User amos Address 192.0.2.0/24\nPermitOpen none", {"root", "build"}),
        ("Match User amos Address 192.0.2.0/24\nX11Forwarding yes", {"root", "amos", "build"}),
        ("RevokedKeys /r", {"root", "amos", "build"}),
        ("RevokedKeys none", {"root", "amos", "build"}),
        ("RevokedKeys r", set()),
        ("Match User amos\nRevokedKeys /r", {"root", "build"}),
        ("Match Address 192.0.2.0/24\nRevokedKeys /r", set()),
    ],
)
def test_who_gets_a_login(text: str, who: set[object]) -> None:
    """Protects the machine: an account that sshd kept out, or let in under a condition only, gets no login."""
    assert users(text) == who


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "AllowUsers amos@192.0.2.0/24",
            "AllowUsers amos@192.0.2.0/24 depends on the host: write from= before the keys",
        ),
        ("PermitRootLogin forced-commands-only", "keys without command= would let in, too"),
        ("AuthenticationMethods publickey,password", "AuthenticationMethods publickey,password: a key is enough here"),
        ("ChrootDirectory /srv", "ChrootDirectory /srv: nothing but a forced internal-sftp is served in one"),
        ("ChrootDirectory srv\nForceCommand internal-sftp", "expected an absolute path"),
        ("ForceCommand internal-sftp -x", "internal-sftp has no option '-x' here"),
        ("PubkeyAcceptedAlgorithms +ssh-rsa", "only a list of types can be had"),
        ("PubkeyAcceptedAlgorithms ssh-dss", "none of these is served"),
        ("PermitOpen nowhere", "permit_open[0]: expected"),
        ("AllowTcpForwarding sometimes", "allowtcpforwarding sometimes is none of yes, no, local and remote"),
        ("AuthorizedKeysFile %x", "%x has no meaning there"),
        ("Match LocalPort 22\nForceCommand x", "f line 2: forcecommand x is for some connections only"),
    ],
)
def test_who_is_left_out_is_said(text: str, reason: str) -> None:
    """Each account without a login is reported, so that the administrator need not find out at the next login."""
    found = translated(text)
    assert any("has no [[login]]: " in each.text and reason in each.text for each in found.left_out), found.left_out


# -- keys -----------------------------------------------------------------------------------------------------------


def test_key_files() -> None:
    """Keys are looked up where sshd did: its default, paths with tokens, several files, or none."""
    assert keys("") == ["file:/home/amos/.ssh/authorized_keys"]
    files = frozenset({"/etc/keys/amos", "/home/amos/.ssh/authorized_keys2"})
    assert keys("AuthorizedKeysFile /etc/keys/%u .ssh/authorized_keys2", files=files) == [
        "file:/etc/keys/amos",
        "file:/home/amos/.ssh/authorized_keys2",
    ]
    assert keys("AuthorizedKeysFile none") is None
    assert keys("", files=frozenset()) is None


def test_authorities() -> None:
    """Protects fleets with certificates: people's accounts get in without a key file, and system accounts do not."""
    found = translated("TrustedUserCAKeys /etc/ssh/ca.pub\nAuthorizedKeysFile none")
    assert {each["user"]: each["keys"] for each in found.logins} == {
        ROOT.name: ["ca:/etc/ssh/ca.pub"],
        AMOS.name: ["ca:/etc/ssh/ca.pub"],
    }
    assert keys("TrustedUserCAKeys /etc/ssh/ca.pub", BUILD.name) == [
        f"file:{BUILD.home}/.ssh/authorized_keys",
        "ca:/etc/ssh/ca.pub",
    ]
    assert keys("TrustedUserCAKeys none\nAuthorizedKeysFile none") is None


@pytest.mark.parametrize("keyword", ["AuthorizedPrincipalsFile", "AuthorizedPrincipalsCommand"])
def test_principals_of_others(keyword: str) -> None:
    """Protects from certificates that sshd refused: with a list of principals, the authority is left out."""
    found = translated(f"TrustedUserCAKeys /etc/ssh/ca.pub\n{keyword} /etc/p/%u")
    assert {source for each in found.logins for source in each["keys"]} == {  # type: ignore[attr-defined]  # a list
        f"file:{account.home}/.ssh/authorized_keys" for account in (ROOT, AMOS, BUILD)
    }
    assert any(keyword.split(maxsplit=1)[0] in each.text for each in found.left_out)


def test_key_types() -> None:
    """Protects an old machine's list of algorithms: it becomes the types that are served here."""
    algorithms = "ssh-ed25519-cert-v01@openssh.com,ssh-ed25519,rsa-sha2-512,ssh-dss"
    assert login(f"PubkeyAcceptedAlgorithms {algorithms}") == {"key_types": ["ssh-ed25519", "ssh-rsa"]}


# -- rights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("AllowTcpForwarding yes\nAllowStreamLocalForwarding all", {}),
        ("AllowTcpForwarding local", {"forwarding": "local", "forward_sockets": "all"}),
        ("AllowTcpForwarding local\nAllowStreamLocalForwarding local", {"forwarding": "local"}),
        ("AllowTcpForwarding remote\nAllowStreamLocalForwarding no",
         {"forwarding": "remote", "forward_sockets": "none"}),
        ("AllowTcpForwarding no", {"forwarding": "none", "forward_sockets": "all", "forward_agent": True}),
        ("DisableForwarding yes", {"forwarding": "none"}),
        ("DisableForwarding yes\nX11Forwarding yes", {"forwarding": "none"}),
        ("X11Forwarding yes\nAllowAgentForwarding no", {}),
        ("Match User amos\nX11Forwarding yes\nAllowAgentForwarding no", {"forward_agent": False, "forward_x11": True}),
        ("PermitOpen a:1 [::1]:*", {"permit_open": ["a:1", "[::1]:*"], "forward_sockets": "all"}),
        ("PermitListen 8080 localhost:1", {"permit_listen": ["*:8080", "localhost:1"], "forward_sockets": "all"}),
        ("PermitOpen any\nPermitListen any", {}),
        ("PermitOpen none", {"forwarding": "remote", "forward_sockets": "all"}),
        ("PermitListen none", {"forwarding": "local", "forward_sockets": "all"}),
        (
            "PermitOpen none\nPermitListen none\nAllowAgentForwarding no",
            {"forwarding": "none", "forward_sockets": "all"},
        ),
        ("AllowTcpForwarding local\nPermitOpen none\nAllowStreamLocalForwarding no\nAllowAgentForwarding no",
         {"forwarding": "none"}),
    ],
)  # fmt: skip
def test_forwarding(text: str, expected: dict[str, object]) -> None:
    """For each kind and direction, the same forwards are permitted as by sshd, with as few settings as possible."""
    assert login(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "ForceCommand echo 'a  b' \"$SSH_ORIGINAL_COMMAND\"",
            {"force_command": "echo 'a  b' \"$SSH_ORIGINAL_COMMAND\""},
        ),
        ("ForceCommand none", {}),
        ("Match User build\nForceCommand x", {}),
        ("ChrootDirectory none", {}),
        (
            "Match Group staff\nChrootDirectory /srv/%u\nForceCommand internal-sftp -u 0027\nAllowTcpForwarding no",
            {"force_command": "internal-sftp -u 0027", "chroot": "/srv/%u", "forwarding": "none"},
        ),
        ("SetEnv A=1 'B=2 3' A=4\nSetEnv C=1", {"set_env": ["A=1", "B=2 3"]}),
    ],
)
def test_commands(text: str, expected: dict[str, object]) -> None:
    """Forced commands are kept as their shell must read them, with the settings that go with them."""
    assert login(text) == expected
