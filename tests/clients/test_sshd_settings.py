"""Settings that people know from sshd_config: Banner, ExposeAuthInfo, RekeyLimit; with the real ssh."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client
from tests.support.reloads import Config
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def banner_file(tmp_path: Path) -> Path:
    """The file with the server's banner."""
    path = tmp_path / "issue.net"
    path.write_text("Authorised use only.\nÄußerst vertraulich.")
    return path


@pytest.fixture
def server(make_server: MakeServer, banner_file: Path) -> Server:
    """A server with all of these settings."""
    session = {"expose_auth_info": True, "rekey_bytes": "64KiB", "rekey_time": "off"}
    return make_server({"listen": {"banner": f"file:{banner_file}"}, "session": session})


def test_the_banner(server: Server, user_key: KeyPair, banner_file: Path) -> None:
    """Protects operators who must show a notice: ssh shows it before the login, to strangers too; SIGHUP renews it."""
    client = Client(server, user_key.private)
    whole = "Authorised use only.\nÄußerst vertraulich.\n".encode()
    result = client.run("echo in", environ={"LC_ALL": "C.UTF-8"})
    assert (result.status, result.stdout) == (0, b"in\n")
    assert result.stderr.replace(b"\r\n", b"\n") == whole
    stranger = client.run("true", "-o", "PubkeyAuthentication=no", environ={"LC_ALL": "C.UTF-8"})
    assert stranger.stderr.replace(b"\r\n", b"\n").startswith(whole)

    banner_file.write_text("Another one.\n")
    assert Config(server).reload({})["changed"] == ["listen.banner"]
    assert client.run("true").stderr.replace(b"\r\n", b"\n") == b"Another one.\n"
    banner_file.write_bytes(b"caf\xe9\n")
    (problem,) = Config(server).reload_in_vain(server.config.read_text())["problems"]
    assert problem == f"listen.banner: {banner_file} is not UTF-8: convert it with iconv -t UTF-8"
    assert client.run("true").stderr.replace(b"\r\n", b"\n") == b"Another one.\n"


def test_how_somebody_has_authenticated(server: Server, user_key: KeyPair) -> None:
    """Protects scripts that look at the key: the file has sshd's format, belongs to the account, and is removed."""
    key = " ".join(user_key.public.read_text().split()[:2])
    ssh = Client(server, user_key.private).popen(
        'cat "$SSH_USER_AUTH"; stat -c %a "$SSH_USER_AUTH"; echo "$SSH_USER_AUTH"; cat', "-q"
    )
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    lines = [ssh.stdout.readline().decode().rstrip("\n") for _ in range(3)]
    assert lines[:2] == [f"publickey {key}", "600"]
    assert lines[2].startswith("/tmp/sshauth.")
    assert Path(lines[2]).exists()
    ssh.communicate(timeout=PATIENCE)
    until(lambda: not Path(lines[2]).exists(), what="its removal")


def test_a_certificate_is_told_whole(server: Server, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects scripts that look at a certificate: the file has the certificate itself, as with sshd."""
    config = Config(server)
    authority = tmp_path / "ca.pub"
    authority.write_text(user_key.public.read_text())
    private = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", private], check=True, timeout=PATIENCE)
    sign = ["ssh-keygen", "-q", "-s", str(user_key.private), "-I", "somebody", "-n", server.login, f"{private}.pub"]
    subprocess.run(sign, check=True, timeout=PATIENCE)
    config.reload({"login": [{"user": server.login, "keys": [f"ca:{authority}"]}]})
    told = Client(server, private).run('cat "$SSH_USER_AUTH"', "-q", "-i", str(private)).stdout.decode()
    certificate = " ".join((tmp_path / "id-cert.pub").read_text().split()[:2])
    assert told == f"publickey {certificate}\n"


@pytest.mark.parametrize("command", ["cat >/dev/null", "head -c 400000 /dev/zero"], ids=["up", "down"])
def test_new_keys_either_way(server: Server, user_key: KeyPair, command: str) -> None:
    """Protects the limit of RekeyLimit: a client that never rekeys gets new keys, counted by either side's bytes."""
    result = Client(server, user_key.private).run(command, "-v", input=bytes(400_000) if ">" in command else b"")
    assert result.status == 0
    # How many more follow the first one depends on how much is on its way when the server requests them.
    assert result.stderr.count(b"SSH2_MSG_KEXINIT received") >= 2


def test_new_keys_after_a_time(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the time of RekeyLimit: a quiet session gets new keys with its next data."""
    client = Client(make_server({"session": {"rekey_time": "200ms"}}), user_key.private)
    result = client.run("sleep 0.3; echo said", "-v")
    assert (result.status, result.stdout) == (0, b"said\n")
    assert result.stderr.count(b"SSH2_MSG_KEXINIT received") >= 2


def test_nothing_of_it_by_default(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the defaults: there is no banner, and no file."""
    assert Client(make_server(), user_key.private).output('echo "${SSH_USER_AUTH-none}"') == "none\n"
