"""keys.host_keys: one key of each kind, made once, private, and never replaced by accident."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_private_key

from pyssh_gateway.core.access.authorized_keys import parse
from pyssh_gateway.keys import host_keys as module
from pyssh_gateway.keys.host_keys import (
    KINDS,
    HostKey,
    HostKeyError,
    create_key_pair,
    existing_keys,
    load_next,
    load_or_create,
    server_keys,
)
from tests.support.waiting import PATIENCE

HOST_KEY_NAME = "ssh_host_ed25519_key"
NOBODY = 65534
STRANGER = 12345


@pytest.fixture
def ordinary_account() -> Iterator[Path]:
    """A directory of an ordinary account, as which the test runs."""
    directory = Path(tempfile.mkdtemp())
    if os.geteuid() != 0:
        yield directory
        directory.chmod(0o700)
    else:
        os.chown(directory, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        yield directory
        os.seteuid(0)
    shutil.rmtree(directory)


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def keygen(*arguments: str | Path) -> str:
    """The output of ssh-keygen."""
    return subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True, text=True).stdout


def only(keys_dir: Path, kind: str = "ed25519") -> HostKey:
    """The host key of a server with one."""
    (key,) = load_or_create(keys_dir, (kind,))
    return key


def error(keys_dir: Path, kind: str = "ed25519") -> str:
    """The reason why there is no host key."""
    with pytest.raises(HostKeyError) as caught:
        load_or_create(keys_dir, (kind,))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("umask", "kind", "key_type", "shown"),
    [
        (0o000, "ed25519", "ssh-ed25519", "256 ED25519"),
        (0o022, "ecdsa", "ecdsa-sha2-nistp256", "256 ECDSA"),
        (0o077, "rsa", "ssh-rsa", "3072 RSA"),
    ],
)
def test_makes_a_key_that_openssh_can_read(tmp_path: Path, umask: int, kind: str, key_type: str, shown: str) -> None:
    """With any umask, the first start makes a private key pair, with the same fingerprint for OpenSSH."""
    earlier = os.umask(umask)
    try:
        key = only(tmp_path / "keys", kind)
    finally:
        os.umask(earlier)
    assert (key.created, key.next, key.key_type) == (True, False, key_type)
    assert key.path == tmp_path / "keys" / f"ssh_host_{kind}_key"
    assert key.private_pem == key.path.read_bytes()
    assert (mode(key.path), mode(key.path.with_suffix(".pub"))) == (0o600, 0o644)
    assert mode(key.path.parent) & 0o077 == 0
    assert sorted(path.name for path in key.path.parent.iterdir()) == [key.path.name, f"{key.path.name}.pub"]
    bits, name = shown.split()
    assert keygen("-lf", key.path).split() == [bits, key.fingerprint, "pyssh-gateway", "host", "key", f"({name})"]
    (public,) = parse(key.path.with_suffix(".pub").read_bytes(), "", allow_options=False).accepted
    assert public.blob == key.public_blob
    assert keygen("-y", "-f", key.path).split()[:2] == key.path.with_suffix(".pub").read_text().split()[:2]


def test_keys_come_in_the_configured_order(tmp_path: Path) -> None:
    """Clients see the keys in the configuration's order, and a kind that is named twice is one key."""
    first = load_or_create(tmp_path, ("rsa", "ed25519", "ecdsa", "rsa"))
    assert [key.key_type for key in first] == ["ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256"]
    second = load_or_create(tmp_path, KINDS)
    assert [key.key_type for key in second] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]
    assert {key.fingerprint for key in first} == {key.fingerprint for key in second}


def test_next_keys_are_those_of_the_kinds_in_use(tmp_path: Path) -> None:
    """A next key is announced only for a kind that is in use and whose key exists."""
    in_use = load_or_create(tmp_path, ("ed25519", "ecdsa"))
    assert load_next(tmp_path, KINDS) == ()
    for kind in KINDS:
        create_key_pair(tmp_path / f"ssh_host_{kind}_key_next", "next", kind)
    (following,) = load_next(tmp_path, ("ed25519", "rsa"))
    assert (following.path.name, following.next, following.created) == ("ssh_host_ed25519_key_next", True, False)
    assert following.fingerprint not in {key.fingerprint for key in in_use}
    following.path.chmod(0o644)
    with pytest.raises(HostKeyError, match="too open"):
        load_next(tmp_path, ("ed25519",))


def test_a_key_that_has_followed_is_not_announced_again(tmp_path: Path) -> None:
    """After a rotation that was interrupted, a next key that is in use already is not announced a second time."""
    key = only(tmp_path)
    (tmp_path / f"{HOST_KEY_NAME}_next").write_bytes(key.private_pem)
    (tmp_path / f"{HOST_KEY_NAME}_next").chmod(0o600)
    assert load_next(tmp_path, ("ed25519",)) == ()


@pytest.mark.parametrize("curve", ["384", "521"])
def test_takes_an_ecdsa_key_of_any_curve_that_clients_know(tmp_path: Path, curve: str) -> None:
    """Protects machines whose sshd had a key of another curve than ours."""
    keygen("-q", "-t", "ecdsa", "-b", curve, "-N", "", "-f", tmp_path / "ssh_host_ecdsa_key")
    assert only(tmp_path, "ecdsa").key_type == f"ecdsa-sha2-nistp{curve}"


def test_refuses_a_weak_rsa_key(tmp_path: Path) -> None:
    """Protects clients, which would refuse a weak RSA key; the error says what is needed."""
    path = tmp_path / "ssh_host_rsa_key"
    keygen("-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", path)
    assert error(tmp_path, "rsa").startswith(f"{path}: an RSA key of 1024 bits is too weak, at least 2048 are needed")


def test_keeps_the_key(tmp_path: Path) -> None:
    """A restart keeps the key, so that clients are never warned of a changed one."""
    first = only(tmp_path)
    second = only(tmp_path)
    assert (first.created, second.created) == (True, False)
    assert (second.private_pem, second.fingerprint) == (first.private_pem, first.fingerprint)


def test_reads_a_key_of_ssh_keygen_through_a_link(tmp_path: Path) -> None:
    """People can use sshd's key, and keep it in another place behind a link."""
    keygen("-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "elsewhere")
    (tmp_path / HOST_KEY_NAME).symlink_to("elsewhere")
    key = only(tmp_path)
    assert not key.created
    assert key.fingerprint == keygen("-lf", tmp_path / "elsewhere").split()[1]


@pytest.mark.parametrize("bits", [0o644, 0o640, 0o601, 0o610, 0o660, 0o777])
def test_refuses_a_key_that_others_can_reach(tmp_path: Path, bits: int) -> None:
    """A key that others may have read is refused, and the error says how to mend the file."""
    path = only(tmp_path).path
    path.chmod(bits)
    assert error(tmp_path) == f"mode {bits:04o} of {path} is too open for a private key: run chmod 600 {path}"


@pytest.mark.parametrize("bits", [0o600, 0o400, 0o700])
def test_takes_a_key_that_only_its_owner_can_reach(tmp_path: Path, bits: int) -> None:
    """A file that is private by sshd's rules is accepted."""
    only(tmp_path).path.chmod(bits)
    assert not only(tmp_path).created


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_refuses_a_stranger_s_key(tmp_path: Path) -> None:
    """A key that belongs to another account, which may know it, is refused."""
    path = only(tmp_path).path
    os.chown(path, STRANGER, -1)
    assert error(tmp_path).startswith(
        f"{path} belongs to uid {STRANGER}: a private key has to belong to root or to uid 0"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_an_ordinary_account_cannot_read_root_s_key(ordinary_account: Path) -> None:
    """A server of an ordinary account that finds root's key says what is wrong."""
    os.seteuid(0)
    path = only(ordinary_account).path
    os.seteuid(NOBODY)
    assert error(ordinary_account) == f"cannot read the host key {path}: Permission denied"


def rsa_key(path: Path) -> None:
    """Make an RSA key by OpenSSH."""
    keygen("-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", path)


def ecdsa_key(path: Path) -> None:
    """Make an ECDSA key by OpenSSH."""
    keygen("-q", "-t", "ecdsa", "-N", "", "-f", path)


def pkcs8_key(path: Path) -> None:
    """Make an ed25519 key in another format."""
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_key(path: Path) -> None:
    """Put a public key in the place of the private one."""
    keygen("-q", "-t", "ed25519", "-N", "", "-f", path)
    path.with_suffix(".pub").replace(path)


def cut_off_key(path: Path) -> None:
    """Make a key whose end is missing."""
    keygen("-q", "-t", "ed25519", "-N", "", "-f", path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2] + lines[-1:]))


def binary_file(path: Path) -> None:
    """Make a file that is no key."""
    path.write_bytes(bytes(range(256)))


@pytest.mark.parametrize(
    "make",
    [rsa_key, ecdsa_key, pkcs8_key, public_key, cut_off_key, binary_file],
    ids=lambda make: make.__name__,
)
def test_refuses_what_is_no_ed25519_key(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """An unusable file is reported in one line and never overwritten, as it may be the only copy of something."""
    path = tmp_path / HOST_KEY_NAME
    make(path)
    path.chmod(0o600)
    before = path.read_bytes()
    assert error(tmp_path).startswith(f"{path} is not an ed25519 private key in OpenSSH's format: move it away")
    assert path.read_bytes() == before


def test_refuses_a_key_with_a_passphrase(tmp_path: Path) -> None:
    """A key with a passphrase, which nobody can type for a server, is refused, and the error says how to remove it."""
    path = tmp_path / HOST_KEY_NAME
    keygen("-q", "-t", "ed25519", "-N", "secret", "-f", path)
    assert error(tmp_path) == f"{path} has a passphrase: remove it with ssh-keygen -p -N '' -f {path}"


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    """Nothing in the place of the key can hang or crash the start."""
    path = tmp_path / HOST_KEY_NAME
    path.mkdir()
    assert error(tmp_path) == f"{path} is not a regular file"
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert error(tmp_path) == f"{path} is not a regular file"
    path.unlink()
    path.symlink_to("nothing")
    assert "a link to nothing" in error(tmp_path)
    path.unlink()
    path.write_bytes(b"x" * 100_000)
    path.chmod(0o600)
    assert error(tmp_path) == f"{path} is too large for a private key"


def test_says_when_the_directory_cannot_be_made(tmp_path: Path) -> None:
    """A keys_dir that cannot exist gives one clear line."""
    (tmp_path / "file").touch()
    assert error(tmp_path / "file") == f"cannot read the host key {tmp_path}/file/{HOST_KEY_NAME}: Not a directory"


def test_says_when_the_directory_cannot_be_written(ordinary_account: Path) -> None:
    """A keys_dir that can't be written, as on a read-only disk, gives one clear line, and nothing is left behind."""
    ordinary_account.chmod(0o500)
    reason = "Permission denied (keys_dir has to be writable)"
    assert error(ordinary_account) == f"cannot write a new key to {ordinary_account}/{HOST_KEY_NAME}: {reason}"
    assert error(ordinary_account / "new") == f"cannot make the directory {ordinary_account}/new: Permission denied"
    assert list(ordinary_account.iterdir()) == []


def test_servers_that_start_at_once_have_one_key(tmp_path: Path) -> None:
    """Several servers at their first start end with the same key, and none reads a part of it."""
    script = (
        "import sys, pathlib; from pyssh_gateway.keys.host_keys import load_or_create; print('ready', flush=True);"
        "sys.stdin.read(); (key,) = load_or_create(pathlib.Path(sys.argv[1]), ['ed25519']);"
        "print(key.created, key.fingerprint)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "keys")]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
        racer.stdin = None
    results = [racer.communicate(timeout=PATIENCE)[0].split() for racer in racers]
    assert sorted(created for created, _ in results) == ["False"] * 5 + ["True"]
    assert {fingerprint for _, fingerprint in results} == {only(tmp_path / "keys").fingerprint}
    public = (tmp_path / "keys" / f"{HOST_KEY_NAME}.pub").read_text().split()[1]
    assert keygen("-y", "-f", tmp_path / "keys" / HOST_KEY_NAME).split()[1] == public
    assert len(list((tmp_path / "keys").iterdir())) == 2


def test_makes_a_key_pair_for_people(tmp_path: Path) -> None:
    """The demo key is a usable pair with its comment, and its directory is made as well."""
    create_key_pair(tmp_path / "new" / "demo_key", "demo key of pyssh-gateway")
    load_ssh_private_key((tmp_path / "new" / "demo_key").read_bytes(), password=None)
    (key,) = parse((tmp_path / "new" / "demo_key.pub").read_bytes(), "", allow_options=False).accepted
    assert key.comment == "demo key of pyssh-gateway"
    assert keygen("-lf", tmp_path / "new" / "demo_key").split()[1] == key.fingerprint
    assert mode(tmp_path / "new" / "demo_key") == 0o600


def test_never_replaces_a_private_key(tmp_path: Path) -> None:
    """An existing private key is never replaced, nor is its public half."""
    create_key_pair(tmp_path / "demo_key", "first")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(FileExistsError):
        create_key_pair(tmp_path / "demo_key", "second")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_several_keys_of_one_type_are_one_that_is_used_and_others_that_are_announced(tmp_path: Path) -> None:
    """Protects clients that know any of several keys: the first of each type is used, and the others are announced."""
    ed25519, ecdsa = (tmp_path / name for name in ("second", "other_curve"))
    create_key_pair(ed25519, "second")
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    ecdsa.write_bytes(pem)  # the format of sshd's old keys
    ecdsa.chmod(0o600)
    keys_dir = tmp_path / "keys"
    in_use = load_or_create(keys_dir, ("ed25519", "ecdsa"))
    create_key_pair(keys_dir / "ssh_host_ed25519_key_next", "next")
    files = [str(ed25519), str(ecdsa), str(in_use[0].path)]
    keys = server_keys(keys_dir, ("ed25519", "ecdsa"), files)
    assert [(key.key_type, key.spare, key.next) for key in keys] == [
        ("ssh-ed25519", False, False),
        ("ecdsa-sha2-nistp256", False, False),
        ("ssh-ed25519", True, False),
        ("ecdsa-sha2-nistp384", False, False),
        ("ssh-ed25519", False, True),
    ]
    assert existing_keys(keys_dir, ("ed25519", "ecdsa"), files) == keys
    ecdsa.unlink()
    assert len(existing_keys(keys_dir, ("ed25519", "ecdsa", "rsa"), files)) == 4
    (keys_dir / "ssh_host_ed25519_key_next").write_text("nonsense")
    assert len(existing_keys(keys_dir, ("ed25519", "ecdsa"), files)) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "there is no host key {path}: host_keys.files names keys that are there already"),
        ("nonsense", "{path} is no private key of a kind that is used: ed25519, ecdsa, rsa"),
    ],
)
def test_a_key_that_is_named_is_never_made(tmp_path: Path, text: str | None, reason: str) -> None:
    """Protects the machine's identity from a typing mistake: a key that is named is never made."""
    path = tmp_path / "named"
    if text is not None:
        path.write_text(text)
        path.chmod(0o600)
    with pytest.raises(HostKeyError) as raised:
        server_keys(tmp_path / "keys", ("ed25519",), [str(path)])
    assert str(raised.value) == reason.format(path=path)


def test_there_are_no_more_keys_than_clients_can_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects clients with UpdateHostKeys, which ask for proofs of all unknown keys at once: there is a limit."""
    monkeypatch.setattr(module, "MOST_KEYS", 1)
    with pytest.raises(HostKeyError, match="there are 2 host keys, of which clients can learn 1 at most"):
        server_keys(tmp_path, ("ed25519", "ecdsa"), ())
