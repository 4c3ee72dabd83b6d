"""Certificates of the server's keys, and several keys of one type, as clients see them."""

import base64
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import KeyPair
from tests.support.certificates import Authority, make_key
from tests.support.client import Client, client_environment
from tests.support.commands import as_root
from tests.support.server import Server
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
TYPES = ["ed25519", "ecdsa", "rsa"]
LEARN = ("-o", "UpdateHostKeys=yes")
LONG_ENOUGH = "sleep 0.5"  # the client accepts new keys while the command still runs


def certify(authority: Authority, public: Path, *options: str) -> Path:
    """Put a certificate for HOST beside a host key of the server."""
    target = public.with_name(public.name.replace(".pub", "-cert.pub"))
    shutil.copy(authority.certify(public, "-h", *options, principals=HOST), target)
    return target


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for hosts."""
    return Authority(tmp_path_factory.mktemp("authority"), "hosts")


@pytest.fixture(scope="module")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, user_key: KeyPair, authority: Authority
) -> Iterator[Server]:
    """A server with a certified key of every type, and a second ed25519 key."""
    directory = tmp_path_factory.mktemp("server")
    second = make_key(directory, "second")
    own = {"types": TYPES, "files": [str(second)]}
    keys_dir = directory / "keys"
    keys_dir.mkdir(mode=0o700)
    for kind in TYPES:
        certify(authority, make_key(keys_dir, f"ssh_host_{kind}_key", kind).with_suffix(".pub"))
    keys = [f"file:{user_key.public}"]
    with Server(directory, login=account.pw_name, keys=keys, settings={"host_keys": own}) as running:
        yield running


def trust(authority: Authority, server: Server) -> None:
    """Make clients trust the authority, and no key of the server."""
    server.known_hosts.write_text(f"@cert-authority [{HOST}]:{server.port} {authority.public.read_text()}")


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"])
def test_a_server_is_known_by_its_authority(
    fleet: Server, user_key: KeyPair, authority: Authority, algorithm: str
) -> None:
    """A client that trusts the authority accepts the server at first contact, with each key type, and after a rekey."""
    trust(authority, fleet)
    name = f"{algorithm}-cert-v01@openssh.com"
    options = ("-v", "-o", f"HostKeyAlgorithms={name}", "-o", "RekeyLimit=64K")
    result = Client(fleet, user_key.private).run("head -c 300000 /dev/zero", *options)
    assert (result.status, len(result.stdout)) == (0, 300_000)
    assert f"kex: host key algorithm: {name}".encode() in result.stderr
    assert b"rekeying in progress" in result.stderr


def test_clients_without_the_authority_learn_plain_keys_only(
    fleet: Server, user_key: KeyPair, authority: Authority
) -> None:
    """Protects hostkeys-00: a client that knows one key learns all others, also the second of a type."""
    trust(authority, fleet)
    first, *others = (fleet.keys_dir / f"ssh_host_{kind}_key.pub" for kind in TYPES)
    others.append(fleet.directory / "second.pub")
    fleet.known_hosts.write_text(f"[{HOST}]:{fleet.port} {first.read_text()}")
    assert Client(fleet, user_key.private).run(LONG_ENOUGH, *LEARN).status == 0
    learned = {line.split()[2] for line in fleet.known_hosts.read_text().splitlines()}
    assert learned == {path.read_text().split()[1] for path in (first, *others)}


def test_a_certificate_that_is_over_is_told_and_the_plain_key_goes_on(
    fleet: Server, user_key: KeyPair, authority: Authority
) -> None:
    """Protects people when a certificate expires: the plain key still works, and SIGHUP loads a new certificate."""
    client = Client(fleet, user_key.private)
    public = fleet.keys_dir / "ssh_host_ed25519_key.pub"
    since = fleet.mark()
    path = certify(authority, public, "-V", "20200101:20210101")
    fleet.signal(signal.SIGHUP)
    told = fleet.wait_for("host_key.certificate", since=since, path=str(path))
    assert told["problem"].startswith("it expired ")
    only = ("-o", "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com,ssh-ed25519")
    fleet.known_hosts.write_text(f"[{HOST}]:{fleet.port} {public.read_text()}")
    assert client.run("true", *only).status == 0
    trust(authority, fleet)
    assert client.run("true", *only).status == 255
    for command in ("status", "keys", "check"):
        assert "it expired " in as_root(client, command).stdout

    since = fleet.mark()
    certify(authority, public)
    fleet.signal(signal.SIGHUP)
    assert fleet.wait_for("host_key.certificate", since=since, path=str(path))["problem"] == ""
    assert client.run("true", *only).status == 0
    assert "it expired " not in as_root(client, "check").stdout


@pytest.mark.skipif(shutil.which("plink") is None, reason="PuTTY is not on this machine")
def test_putty_knows_the_server_by_its_authority(
    fleet: Server, user_key: KeyPair, authority: Authority, tmp_path: Path
) -> None:
    """PuTTY, which has its own implementation of certificates, accepts ours and does not ask about the key."""
    authorities = tmp_path / ".putty" / "sshhostcas"
    authorities.mkdir(parents=True)
    known = base64.b64encode(authority.blob).decode()
    authorities.joinpath("hosts").write_text(f"PublicKey={known}\nValidity=*\nPermitRSASHA256=1\nPermitRSASHA512=1\n")
    environ = client_environment(HOME=str(tmp_path))
    run = partial(subprocess.run, env=environ, capture_output=True, text=True, timeout=PATIENCE, check=False)
    key = tmp_path / "key.ppk"
    made = run(["puttygen", str(user_key.private), "-O", "private", "-o", str(key)])
    assert made.returncode == 0, made
    target = ["-P", str(fleet.port), "-l", fleet.login, HOST, "echo in"]
    done = run(["plink", "-batch", "-v", "-i", str(key), *target], stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "in\n"), done
    assert "Accepted certificate" in done.stderr
