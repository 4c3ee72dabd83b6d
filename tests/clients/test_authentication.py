"""Logins and refusals, as OpenSSH's client sees them: all refusals look the same to it; only the log has reasons."""

import asyncio
import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncssh
import pytest

from pyssh_gateway.core.strangers.admission import NEEDED
from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, Result, client_environment
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE

MakeKey = Callable[..., KeyPair]

STRANGERS_NAME = "daemon"
STRANGER = pwd.getpwnam(STRANGERS_NAME).pw_uid
"""Another account, which is neither the one that the tests log in to nor the network side's."""


def refusal(result: Result) -> str:
    """What the client says about being refused, without the account's name."""
    assert result.status == 255
    assert result.stdout == b""
    return re.sub(r"^\S+@127\.0\.0\.1: ", "", result.stderr.decode()).strip()


def test_login_is_told_in_the_log(client: Client, server: Server, user_key: KeyPair) -> None:
    """Protects the audit of logins: the log has the account, key type, fingerprint, source and client of each login."""
    since = server.mark()
    assert client.run("true").status == 0
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(user_key.public)], capture_output=True, check=True, text=True
    ).stdout.split()[1]
    attempt = server.wait_for("auth.attempt", since=since, result="accepted")
    assert attempt["user"] == server.login
    assert attempt["key_type"] == "ssh-ed25519"
    assert attempt["fingerprint"] == fingerprint
    assert attempt["source"] == f"file:{user_key.public}"
    on = server.wait_for("connection.authenticated", since=since)
    assert on["client"].startswith("SSH-2.0-OpenSSH_")
    assert on["conn"] == attempt["conn"]


def test_the_log_has_the_software_and_what_was_negotiated(client: Client, server: Server) -> None:
    """Protects the audit of clients: fingerprints and algorithms are those that OpenSSH's client itself names."""
    since = server.mark()
    told = client.run("true", "-vv").stderr.decode()
    on = server.wait_for("connection.authenticated", since=since)
    offers = [
        dict(re.findall(r"debug2: (\S.*?): (\S.*?)\r?$", offer, re.MULTILINE))
        for offer in re.split("KEXINIT proposal", told)[1:3]
    ]
    for offer, way, field in zip(offers, ("ctos", "stoc"), ("hassh", "hassh_server"), strict=True):
        names = ("KEX algorithms", f"ciphers {way}", f"MACs {way}", f"compression {way}")
        assert on[field] == hashlib.md5(";".join(offer[name] for name in names).encode()).hexdigest()
    found = re.findall(r"debug1: kex: (.*?): (\S+)(?: MAC: (\S+) compression: (\S+))?\r?$", told, re.MULTILINE)
    chosen = {what: values for what, *values in found}
    algorithms = on["algorithms"]
    assert algorithms["kex"] == chosen["algorithm"][0]
    assert algorithms["host_key"] == chosen["host key algorithm"][0]
    for way, ours in (("client->server", "in"), ("server->client", "out")):
        cipher, mac, compression = chosen[f"{way} cipher"]
        assert algorithms[f"cipher_{ours}"] == cipher
        assert algorithms[f"mac_{ours}"] == mac.replace("<implicit>", "")
        assert algorithms[f"compression_{ours}"] == compression
    closed = server.wait_for("connection.closed", since=since, conn=on["conn"])
    assert (closed["client"], closed["hassh"]) == (on["client"], on["hassh"])


def test_the_log_has_the_previous_login(client: Client, server: Server) -> None:
    """A person's last login before this one is beside it, and a scanner's fingerprint is in the log without a login."""
    since = server.mark()
    for _ in range(2):
        assert client.run("true").status == 0
    first, second = (server.wait_for("connection.authenticated", since=since, count=count) for count in (1, 2))
    assert second["previous"] == {"time": first["ts"], "peer": "127.0.0.1"}
    since = server.mark()
    scan = ["ssh-keyscan", "-t", "ed25519", "-p", str(server.port), "127.0.0.1"]
    subprocess.run(scan, check=True, capture_output=True)
    closed = server.wait_for("connection.closed", since=since, user="")
    assert closed["client"].startswith("SSH-2.0-OpenSSH")
    assert re.fullmatch("[0-9a-f]{32}", closed["hassh"])


def test_every_refusal_looks_the_same(client: Client, server: Server, make_key: MakeKey) -> None:
    """Protects against probing for account names: an unknown account and an unknown key get the same answer."""
    stranger = make_key()
    since = server.mark()
    words = {
        refusal(client.run("true", key=stranger.private)),
        refusal(client.run("true", user="no-such-account", key=stranger.private)),
        refusal(client.run("true", user="no-such-account")),
        refusal(client.run("true", user="root")),
        refusal(client.run("true", user="nobody")),
    }
    assert words == {"Permission denied (publickey)."}
    reasons = {event["reason"] for event in server.find("auth.attempt", since, result="denied")}
    assert reasons == {"key is not known", "unknown account"}


def test_a_key_file_that_somebody_else_could_replace(
    make_server: MakeServer, make_key: MakeKey, user_key: KeyPair, account: pwd.struct_passwd, is_root: bool
) -> None:
    """Protects a login from anybody else who may write to the directory of its key file, or who owns that file."""
    with TemporaryDirectory() as directory:
        keys, theirs = Path(directory) / "keys.pub", make_key()
        keys.write_text(user_key.public.read_text())
        logins = [{"user": account.pw_name, "keys": [f"file:{keys}"]}]
        if is_root:  # a server that is not root has one account only
            logins.append({"user": STRANGERS_NAME, "keys": [f"file:{theirs.public}"]})
        server = make_server({"login": logins, "keys": {"refresh": "1h"}})
        client = Client(server, user_key.private)
        assert client.run("exit 3").status == 3
        replacement = keys.with_name("other")
        replacement.write_text(theirs.public.read_text())
        if is_root:
            os.chown(replacement, STRANGER, STRANGER)
        since = server.mark()
        keys.parent.chmod(0o777)
        replacement.replace(keys)
        assert refusal(client.run("true", key=theirs.private)) == "Permission denied (publickey)."
        reason = server.wait_for("keys.failed", since=since)["reason"]
        assert f"others may write to the directory {directory}" in reason
        if is_root:
            keys.parent.chmod(0o755)
            assert server.stop() == 0
            server.start()
            assert refusal(client.run("true", key=theirs.private)) == "Permission denied (publickey)."
            assert "NOBODY GETS IN BY IT" in server.stderr
            assert f"belongs to uid {STRANGER}" in server.stderr
            assert f"run chown {account.pw_name} {keys}" in server.stderr


def test_public_key_without_the_private_one(client: Client, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects against a client that only knows the public key: it is asked for proof and has none."""
    public = tmp_path / "key.pub"
    public.write_text(user_key.public.read_text())
    assert "Permission denied (publickey)." in client.run("true", key=public).stderr.decode()


def test_only_public_keys_are_offered(client: Client) -> None:
    """Protects against guessing: the server offers neither passwords nor keyboard-interactive, and says so."""
    result = client.run("true", "-v", "-o", "PreferredAuthentications=password,keyboard-interactive")
    assert result.status == 255
    offered = re.findall(r"Authentications that can continue: (\S+)", result.stderr.decode())
    assert set(offered) == {"publickey"}


def test_no_method_lets_nobody_in(client: Client) -> None:
    """Protects against a login by `none`, which some servers grant to known users."""
    result = client.run("true", "-o", "PubkeyAuthentication=no")
    assert refusal(result) == "Permission denied (publickey)."


@pytest.mark.parametrize("method", ["password", "keyboard-interactive", "hostbased", "gssapi-with-mic"])
def test_other_methods_are_refused_and_logged(client: Client, server: Server, method: str) -> None:
    """Protects against authentication methods that a client tries although the server does not offer them."""
    since = server.mark()

    class Impolite(asyncssh.SSHClient):
        def password_auth_requested(self) -> str:
            return "secret"

        def kbdint_auth_requested(self) -> str:
            return ""

    async def try_it() -> None:
        try:
            async with client.connect(client_keys=None, client_factory=Impolite, preferred_auth=method):
                raise AssertionError("it got in")
        except asyncssh.PermissionDenied:
            pass

    asyncio.run(try_it())
    server.wait_for("connection.closed", since=since, user="")
    assert not server.find("connection.authenticated", since)


def test_too_many_keys_are_cut_off(client: Client, server: Server, make_key: MakeKey) -> None:
    """Protects against trying keys by the dozen; a person with a full agent and the administrator read what to set."""
    since = server.mark()
    keys = [make_key() for _ in range(7)]
    options = [part for pair in keys for part in ("-i", str(pair.private))]
    result = client.run("true", *options, key=keys[0].private)
    assert result.status == 255
    assert b"Too many authentication failures: this server allows 6." in result.stderr
    assert b"IdentitiesOnly" in result.stderr
    closed = server.wait_for("connection.closed", since=since)
    assert closed["user"] == ""
    assert "closed by the server after 6 failed attempts" in closed["reason"]
    assert "IdentitiesOnly" in closed["reason"]
    assert len(server.find("auth.attempt", since, result="denied")) == 6


def test_sixth_key_may_be_the_right_one(client: Client, make_key: MakeKey, user_key: KeyPair) -> None:
    """Protects people with many keys: after five wrong ones the right one still gets in."""
    keys = [*(make_key() for _ in range(5)), user_key]
    options = [part for pair in keys for part in ("-i", str(pair.private))]
    assert client.run("exit 3", *options, key=keys[0].private).status == 3


@pytest.fixture(scope="module")
def key_types(
    tmp_path_factory: pytest.TempPathFactory, make_key: MakeKey, account: pwd.struct_passwd
) -> Iterator[dict[tuple[str, ...], Client]]:
    """Clients of a server that lets in keys of every kind; by ssh-keygen's arguments."""
    kinds = [("rsa", "-b", "2048"), *(("ecdsa", "-b", bits) for bits in ("256", "384", "521")), ("ed25519",)]
    keys = {kind: make_key(*kind) for kind in kinds}
    directory = tmp_path_factory.mktemp("server")
    listed = directory / "authorized_keys"
    listed.write_text("".join(pair.public.read_text() for pair in keys.values()))
    with Server(directory, login=account.pw_name, keys=[f"file:{listed}"]) as running:
        yield {kind: Client(running, pair.private) for kind, pair in keys.items()}


@pytest.mark.parametrize(
    ("kind", "options", "algorithm"),
    [
        ("rsa", ("-b", "2048"), "rsa-sha2-512"),
        ("rsa", ("-b", "2048"), "rsa-sha2-256"),
        ("ecdsa", ("-b", "256"), "ecdsa-sha2-nistp256"),
        ("ecdsa", ("-b", "384"), "ecdsa-sha2-nistp384"),
        ("ecdsa", ("-b", "521"), "ecdsa-sha2-nistp521"),
        ("ed25519", (), "ssh-ed25519"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else "",
)
def test_key_types(
    key_types: dict[tuple[str, ...], Client], kind: str, options: tuple[str, ...], algorithm: str
) -> None:
    """Protects people's keys of every modern kind, each with every signature that it can make."""
    result = key_types[kind, *options].run("exit 3", "-o", f"PubkeyAcceptedAlgorithms={algorithm}")
    assert result.status == 3, result.stderr


def test_sha1_signatures_are_refused(key_types: dict[tuple[str, ...], Client]) -> None:
    """Protects RSA keys from the signature that can be forged: `ssh-rsa` alone does not get in."""
    result = key_types["rsa", "-b", "2048"].run("true", "-o", "PubkeyAcceptedAlgorithms=ssh-rsa")
    assert result.status == 255
    assert b"no mutual signature" in result.stderr or b"Permission denied (publickey)." in result.stderr


def test_certificate_is_refused(client: Client, make_key: MakeKey, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects against certificates where no authority is configured, even for a key that may log in."""
    authority = make_key()
    private = tmp_path / "certified"
    shutil.copy(user_key.private, private)
    shutil.copy(user_key.public, f"{private}.pub")
    private.chmod(0o600)
    command = [
        "ssh-keygen",
        "-q",
        "-s",
        str(authority.private),
        "-I",
        "id",
        "-n",
        client.server.login,
        f"{private}.pub",
    ]
    subprocess.run(command, check=True, timeout=PATIENCE)
    options = (
        "-o",
        f"CertificateFile={private}-cert.pub",
        "-o",
        "PubkeyAcceptedAlgorithms=ssh-ed25519-cert-v01@openssh.com",
    )
    assert refusal(client.run("true", *options, key=private)).endswith("Permission denied (publickey).")


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes256-ctr", "aes256-gcm@openssh.com"])
def test_client_with_one_cipher_gets_in(make_server: MakeServer, user_key: KeyPair, cipher: str) -> None:
    """Protects clients that are configured without AES-GCM: refused at most once, then offered the full list."""
    client = Client(make_server(), user_key.private)
    first = client.run("exit 3", "-c", cipher)
    if first.status == 255:
        assert b"no matching cipher" in first.stderr
    assert client.run("exit 3", "-c", cipher).status == 3
    assert client.run("exit 4").status == 4


@pytest.mark.parametrize(
    "option",
    [
        "KexAlgorithms=diffie-hellman-group14-sha1",
        "KexAlgorithms=diffie-hellman-group-exchange-sha256",
        "Ciphers=aes128-cbc",
        "Ciphers=3des-cbc",
        "HostKeyAlgorithms=ssh-rsa",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256",
    ],
)
def test_old_algorithms_are_not_spoken(client: Client, option: str) -> None:
    """Protects against a downgrade to broken algorithms, and to those that let an unknown peer use up our time."""
    result = client.run("true", "-o", option)
    assert result.status == 255
    assert b"no matching" in result.stderr


@pytest.mark.parametrize("mac", ["hmac-sha1", "hmac-md5", "umac-64@openssh.com"])
def test_old_macs_are_not_spoken(client: Client, mac: str) -> None:
    """Protects integrity with a cipher that needs a MAC: the old ones are not offered."""
    options = ("-c", "aes256-ctr", "-m", mac)
    client.run("true", *options)  # the first attempt with this cipher may be refused because of the cipher
    result = client.run("true", *options)
    assert result.status == 255
    assert b"no matching MAC" in result.stderr


def test_compression_is_refused(client: Client) -> None:
    """Protects our memory: `ssh -C` works, without compression."""
    result = client.run("exit 3", "-C", "-v")
    assert result.status == 3
    assert b"compression: none" in result.stderr


def test_host_key_is_the_one_on_disk(server: Server) -> None:
    """Protects first connections: ssh-keyscan gets exactly the host key that the server has on disk, and no other."""
    command = ["ssh-keyscan", "-p", str(server.port), "127.0.0.1"]
    result = subprocess.run(
        command, capture_output=True, check=True, timeout=PATIENCE, text=True, env=client_environment()
    )
    # OpenSSH 10 prints comments about the server on standard output; earlier versions print them on standard error.
    found = [line for line in result.stdout.splitlines() if not line.startswith("#")]
    assert found == server.known_hosts.read_text().splitlines()


def test_changed_host_key_is_noticed(client: Client, make_key: MakeKey, tmp_path: Path) -> None:
    """Protects the tests themselves: the client that they use really checks the host key."""
    blob = make_key().public.read_text().split()[1]
    other = tmp_path / "known"
    other.write_text(f"[127.0.0.1]:{client.server.port} ssh-ed25519 {blob}\n")
    result = client.run("true", "-o", f"UserKnownHostsFile={other}")
    assert result.status == 255
    assert b"Host key verification failed" in result.stderr


@pytest.mark.parametrize("spelling", ["{}\u00ad", "{}\u200b", " {}", "{} ", "{}.", "-{}"])
def test_other_spellings_of_a_name_are_refused(client: Client, server: Server, spelling: str) -> None:
    """Protects against names that a library maps to the account's name (RFC 4013 maps soft hyphens to nothing)."""
    since = server.mark()
    user = spelling.format(server.login)
    result = client.run("true", user=user)
    assert result.status == 255
    assert not server.find("connection.authenticated", since)


def test_login_grace_ends_a_silent_connection(make_server: MakeServer) -> None:
    """Protects the slots for unauthenticated peers: a silent client is disconnected after the login grace time."""
    server = make_server({"limits": {"login_grace": "1s"}})
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as peer:
        assert peer.recv(100).startswith(b"SSH-2.0-")
        while peer.recv(4096):
            pass
    closed = server.wait_for("connection.closed")
    assert 0.8 < closed["seconds"] < 1 + AT_ONCE


def test_too_many_silent_connections_from_one_source(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects others from one source that takes every slot, including others behind the same address."""
    server = make_server({"limits": {"unauthenticated_per_source": 3}})
    client = Client(server, user_key.private)
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) for _ in range(3)]
    try:
        for peer in silent:
            assert peer.recv(100)
        assert client.run("exit 2").status == 2
        assert server.wait_for("connection.closed", user="")["reason"] == NEEDED
        # Another source still gets in.
        assert client.run("exit 3", "-b", "127.0.0.2").status == 3
    finally:
        for peer in silent:
            peer.close()
    server.wait_for("connection.closed", user="", count=3)
    assert client.run("exit 4").status == 4
