"""Which lines apply to an account, by sshd's rules, and compared with the real sshd."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyssh_gateway.core.sshd_config.effective import Account, effective, matches, named_users
from pyssh_gateway.core.sshd_config.login import first_of_each
from tests.support.sshd_configs import AMOS, BUILD, read
from tests.support.waiting import PATIENCE

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")

FILES = {
    "the first counts": "X11Forwarding yes\nX11Forwarding no\nMaxAuthTries 3\nMaxAuthTries 4\n",
    "lists add up": "AcceptEnv A B\nAcceptEnv C\nAllowUsers root amos\nAllowUsers *\nPort 23\nPort 24\n",
    "the first list counts": "PermitOpen a:1 b:2\nPermitOpen c:3\nAuthorizedKeysFile a b\nAuthorizedKeysFile c\n",
    "the first SetEnv counts": "SetEnv A=1 B=2 A=3\nSetEnv C=4\n",
    "quotes": 'Banner "/etc/a b"\nForceCommand sh -c \'echo "#1"\' # not a comment\nAcceptEnv \'LC_*\' "LANG" # one\n',
    "equals": "maxsessions=3\nMaxAuthTries = 2\n\tGatewayPorts   clientspecified\n",
    "a block counts more": "X11Forwarding no\nMatch User root\nX11Forwarding yes\n",
    "a block before": "Match User root\nX11Forwarding yes\nMatch all\nMaxSessions 2\nMatch all\nMaxSessions 3\n",
    "a block of others": "X11Forwarding no\nMatch User somebody\nX11Forwarding yes\n",
    "patterns": "Match User r*t,!r?o?\nX11Forwarding yes\nMatch User *,!amos\nMaxSessions 1\n",
    "a pattern that only excludes": "Match User !amos\nMaxAuthTries 1\n",
    "groups": "Match Group root\nMaxSessions 1\nMatch Group *,!root\nMaxAuthTries 1\nMatch Group r*\nPermitTTY no\n",
    "two criteria": "Match User root Group other\nMaxSessions 1\nMatch User root Group root\nMaxAuthTries 1\n",
    "a list in a block": "AcceptEnv A B\nAllowUsers x\nMatch User root\nAcceptEnv C\nAcceptEnv D\nAllowUsers root\n",
    "an address": "Match Address 192.0.2.0/24\nMaxSessions 1\nMatch User root\nMaxAuthTries 1\n",
    "forwarding": "AllowTcpForwarding remote\nAllowStreamLocalForwarding local\nPermitListen *:8080\n",
    "included": "Include {directory}/inc-*\nX11Forwarding no\nMaxSessions 9\n",
    "included in a block": "Match User somebody\nInclude {directory}/inc-*\nMatch User root\nInclude {directory}/inc-a",
}
INCLUDED = {
    "inc-a": "X11Forwarding yes\nMaxAuthTries 1\nMatch User root\nGatewayPorts yes\nMatch User other\nPermitTTY no\n",
    "inc-b": "PermitTTY yes\nX11DisplayOffset 11\n",
}
SWITCHES = {"true": "yes", "false": "no", "all": "yes"}
APART = frozenset({"acceptenv", "allowusers", "port", "setenv"})
"""Keywords of which sshd -T prints each value on its own line."""


def real(path: Path) -> dict[str, list[str]]:
    """The effective configuration by sshd itself, for root from an address."""
    argv = [str(SSHD), "-T", "-f", str(path), "-C", "user=root,host=client.example,addr=198.51.100.7"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


@pytest.mark.skipif(SSHD is None or os.geteuid() != 0, reason="there is no sshd here, or it can't read its keys")
@pytest.mark.parametrize("name", FILES)
def test_as_sshd_has_it(name: str, tmp_path: Path) -> None:
    """Protects people who move from sshd: the lines that apply to an account are those that sshd would apply."""
    for file, content in INCLUDED.items():
        (tmp_path / file).write_text(content)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=PATIENCE)
    text = FILES[name].replace("{directory}", str(tmp_path))
    (tmp_path / "config").write_text(f"HostKey {key}\n{text}")
    included = {str(tmp_path / file): content for file, content in INCLUDED.items()}
    found = effective(read(text, **included), Account("root", 0, "/root", ("root",)))
    sshd = real(tmp_path / "config")
    for keyword, lines in found.lines.items():
        if keyword == "forcecommand":
            ours = [lines[0].rest]
        elif keyword in APART:
            ours = first_of_each(found.words(keyword))
        else:
            ours = [" ".join(SWITCHES.get(word.lower(), word) for word in found.words(keyword))]
        assert sshd[keyword] == ours, keyword
    silent = real_defaults(tmp_path, key)
    set_there = {keyword for keyword, values in sshd.items() if values != silent.get(keyword)}
    assert set_there <= found.lines.keys() | {"listenaddress"}


def real_defaults(directory: Path, key: Path) -> dict[str, list[str]]:
    """The values of sshd without any settings."""
    (directory / "nothing").write_text(f"HostKey {key}\n")
    return real(directory / "nothing")


@pytest.mark.parametrize(
    ("name", "patterns", "fits"),
    [
        ("amos", "amos", True),
        ("amos", "Amos", False),
        ("amos", "a*,build", True),
        ("amos", "build,!amos,*", False),
        ("amos", "*,!amos", False),
        ("amos", "!build", False),
        ("amos", "a?os", True),
        ("amos", "", False),
    ],
)
def test_patterns(name: str, patterns: str, fits: bool) -> None:
    """Patterns of a Match block fit as in sshd (match.c, match_pattern_list)."""
    assert matches(name, patterns) == fits


def test_what_depends_on_the_connection() -> None:
    """Blocks that depend on the connection are listed as unsure, and their lines are not applied."""
    lines = read(
        "Match User amos Address 192.0.2.0/24\nBanner a\nMatch User amos Host x\nBanner b\n"
        "Match invalid-user\nBanner c\n"
    )
    assert [line.arguments for line in effective(lines, AMOS).unsure] == [("a",), ("b",)]
    assert effective(lines, BUILD).unsure == ()
    assert [line.arguments for line in effective(lines, None).unsure] == [("a",), ("b",)]
    assert effective(lines, AMOS).lines == {}


def test_groups_exclude() -> None:
    """A block that excludes one group excludes its members even if they are in other groups (groupaccess.c)."""
    lines = read("Match Group *,!staff\nBanner a\nMatch Group staff\nBanner b\nMatch Group sftponly\nBanner c\n")
    assert effective(lines, AMOS).words("banner") == ("b",)
    assert effective(lines, BUILD).words("banner") == ("a",)


def test_former_names() -> None:
    """Protects old files: a former keyword counts under its present name, and the first line of both counts."""
    found = effective(read("ChallengeResponseAuthentication no\nKbdInteractiveAuthentication yes\n"), None)
    assert found.word("kbdinteractiveauthentication", "-") == "no"
    assert found.word("port", "22") == "22"


def test_accounts_that_are_named() -> None:
    """Protects accounts that the machine's list lacks: the names in the files are found, for a lookup."""
    lines = read("AllowUsers amos b* c@d\nPort 22\nMatch User x,!y,z Group g\nBanner a\nMatch all\nBanner b\n")
    assert named_users(lines) == {"amos", "x", "z"}
