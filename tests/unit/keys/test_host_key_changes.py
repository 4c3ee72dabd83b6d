"""keys.host_key_changes: no step of a rotation or an import loses a key that clients know, even in a crash."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa as dsa_keys

from pyssh_gateway.keys import host_key_changes as changes
from pyssh_gateway.keys.files import replace_file
from pyssh_gateway.keys.host_key_changes import (
    LEARNING_SECONDS,
    abort,
    finish,
    import_from,
    kinds_waiting,
    prepare_next,
)
from pyssh_gateway.keys.host_keys import KINDS, HostKeyError, load_next, load_or_create
from tests.support.waiting import PATIENCE

ED25519 = ("ed25519",)
NAME = "ssh_host_ed25519_key"


def keygen(*arguments: str | Path) -> str:
    """The output of ssh-keygen."""
    return subprocess.run(
        ["ssh-keygen", *arguments], check=True, capture_output=True, text=True, timeout=PATIENCE
    ).stdout


def fingerprint(path: Path) -> str:
    """A key's fingerprint, by ssh-keygen."""
    return keygen("-lf", path).split()[1]


def names(directory: Path) -> set[str]:
    """The names of the files in a directory."""
    return {path.name for path in directory.iterdir()}


def ripe(keys_dir: Path) -> float:
    """A time at which the next ed25519 key is old enough."""
    return (keys_dir / f"{NAME}_next").stat().st_mtime + LEARNING_SECONDS


def refusal(action: Callable[[], object]) -> str:
    """The reason for which an action is refused."""
    with pytest.raises(HostKeyError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- rotation ------------------------------------------------------------------------------------------------------


def test_a_rotation_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """A whole rotation: the old key is used until the end, then the next key is, and the old one is kept."""
    old = load_or_create(tmp_path, KINDS)
    made = prepare_next(tmp_path, KINDS)
    assert [change.done for change in made] == [True] * 3
    assert kinds_waiting(tmp_path) == KINDS
    assert [key.fingerprint for key in load_or_create(tmp_path, KINDS)] == [key.fingerprint for key in old]
    assert [key.fingerprint for key in load_next(tmp_path, KINDS)] == [change.fingerprint for change in made]

    finished = finish(tmp_path, KINDS, now=ripe(tmp_path) + 60)
    assert [change.fingerprint for change in finished] == [change.fingerprint for change in made]
    in_use = load_or_create(tmp_path, KINDS)
    assert [key.fingerprint for key in in_use] == [change.fingerprint for change in made]
    assert load_next(tmp_path, KINDS) == ()
    assert kinds_waiting(tmp_path) == ()
    for kind, before, after in zip(KINDS, old, in_use, strict=True):
        path = tmp_path / f"ssh_host_{kind}_key"
        assert fingerprint(Path(f"{path}_old")) == fingerprint(Path(f"{path}_old.pub")) == before.fingerprint
        assert fingerprint(path) == fingerprint(Path(f"{path}.pub")) == after.fingerprint
        assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(Path(f"{path}_old").stat().st_mode) == 0o600
    assert len(names(tmp_path)) == 12


def test_a_next_key_that_is_there_stays(tmp_path: Path) -> None:
    """Protects clients that have learned the next key: beginning a rotation twice changes nothing."""
    load_or_create(tmp_path, ED25519)
    (first,) = prepare_next(tmp_path, ED25519)
    (second,) = prepare_next(tmp_path, ED25519)
    assert (second.done, second.fingerprint) == (False, first.fingerprint)


def test_finishing_too_early_is_refused(tmp_path: Path) -> None:
    """Protects people from a warning about a changed key: clients need time to learn the next one."""
    load_or_create(tmp_path, ED25519)
    prepare_next(tmp_path, ED25519)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for now in (0.0, ripe(tmp_path) - LEARNING_SECONDS + 3600, ripe(tmp_path) - 1):
        reason = refusal(partial(finish, tmp_path, ED25519, now=now))
        assert f"{tmp_path}/{NAME}_next was made only" in reason
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    finish(tmp_path, ED25519, now=0.0, minimum_age=0.0)


def test_certificates_go_where_their_keys_go(tmp_path: Path) -> None:
    """Protects a fleet that trusts host certificates: a key's certificate is renamed and removed with the key."""
    load_or_create(tmp_path, ED25519)
    prepare_next(tmp_path, ED25519)
    names_of = {"old": f"{NAME}-cert.pub", "next": f"{NAME}_next-cert.pub"}
    for what, name in names_of.items():
        (tmp_path / name).write_text(what)
    finish(tmp_path, ED25519, now=0.0, minimum_age=0.0)
    assert (tmp_path / f"{NAME}-cert.pub").read_text() == "next"
    assert (tmp_path / f"{NAME}_old-cert.pub").read_text() == "old"
    assert not (tmp_path / names_of["next"]).exists()

    prepare_next(tmp_path, ED25519)
    (tmp_path / names_of["next"]).write_text("given up")
    abort(tmp_path, ED25519)
    assert not (tmp_path / names_of["next"]).exists()
    prepare_next(tmp_path, ED25519)
    finish(tmp_path, ED25519, now=0.0, minimum_age=0.0)
    assert not (tmp_path / f"{NAME}-cert.pub").exists()  # it belonged to the earlier key


def test_an_imported_key_brings_its_certificate(tmp_path: Path) -> None:
    """Protects hosts that move over from sshd: a key's certificate is imported, and overwrites none."""
    theirs, ours = tmp_path / "etc", tmp_path / "keys"
    load_or_create(theirs, ED25519)
    certificate = ours / f"{NAME}-cert.pub"
    (theirs / f"{NAME}-cert.pub").write_text("a certificate")
    import_from(theirs, ours)
    assert certificate.read_text() == "a certificate"
    certificate.write_text("a newer one")
    import_from(theirs, ours)
    assert certificate.read_text() == "a newer one"


def test_giving_up_keeps_the_key_in_use(tmp_path: Path) -> None:
    """Protects the way back: without the next key, everything is as before the rotation."""
    (key,) = load_or_create(tmp_path, ED25519)
    prepare_next(tmp_path, ED25519)
    abort(tmp_path, ED25519)
    assert names(tmp_path) == {NAME, f"{NAME}.pub"}
    assert load_or_create(tmp_path, ED25519)[0].fingerprint == key.fingerprint


def test_every_step_can_be_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against a crash at any step: the server starts with a key that clients know, and can finish again."""
    steps = 0
    while True:
        keys_dir = tmp_path / str(steps)
        (old,) = load_or_create(keys_dir, ED25519)
        (following,) = prepare_next(keys_dir, ED25519)
        with monkeypatch.context() as patched:
            crashed = _crash_after(steps, patched, keys_dir)
        known = {old.fingerprint, following.fingerprint}
        assert load_or_create(keys_dir, ED25519)[0].fingerprint in known
        assert len({key.fingerprint for key in load_next(keys_dir, ED25519)} | known) == 2
        if not crashed:
            break
        if kinds_waiting(keys_dir):
            finish(keys_dir, ED25519, now=ripe(keys_dir))
        assert fingerprint(keys_dir / NAME) == fingerprint(keys_dir / f"{NAME}.pub") == following.fingerprint
        assert fingerprint(keys_dir / f"{NAME}_old") == fingerprint(keys_dir / f"{NAME}_old.pub") == old.fingerprint
        assert names(keys_dir) == {NAME, f"{NAME}.pub", f"{NAME}_old", f"{NAME}_old.pub"}
        steps += 1
    assert steps == 7, "writing and removing six files in all, and a certificate that is not there"


class _CrashError(BaseException):
    """A simulated power cut."""


def _crash_after(steps: int, patched: pytest.MonkeyPatch, keys_dir: Path) -> bool:
    """Finish a rotation, with a crash after so many files were written or removed; returns whether it came to that."""
    left = steps
    remove = Path.unlink

    def count() -> None:
        nonlocal left
        if left == 0:
            raise _CrashError
        left -= 1

    def replace(path: Path, data: bytes, mode: int) -> None:
        count()
        replace_file(path, data, mode)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if NAME in path.name and not path.name.endswith(".tmp"):
            count()
        remove(path, missing_ok=missing_ok)

    patched.setattr(changes, "replace_file", replace)
    patched.setattr(Path, "unlink", unlink)
    now = ripe(keys_dir)
    try:
        finish(keys_dir, ED25519, now=now)
    except _CrashError:
        return True
    return False


def test_says_what_is_missing(tmp_path: Path) -> None:
    """Each step names the file that it lacks, and changes nothing without it."""
    path = tmp_path / NAME
    no_key = f"there is no ed25519 host key yet: {path} is made when the server starts"
    assert refusal(lambda: prepare_next(tmp_path, ED25519)) == no_key
    assert refusal(lambda: finish(tmp_path, ED25519, now=0.0)) == no_key
    load_or_create(tmp_path, ED25519)
    no_next = f"no ed25519 key waits to follow the one in use: there is no {path}_next"
    assert refusal(lambda: finish(tmp_path, ED25519, now=0.0)) == no_next
    assert refusal(lambda: abort(tmp_path, ED25519)) == no_next
    # Of several kinds, either all get a next key or none.
    assert "no rsa host key" in refusal(lambda: prepare_next(tmp_path, ("ed25519", "rsa")))
    assert names(tmp_path) == {NAME, f"{NAME}.pub"}


# -- import --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sshd's keys of all our kinds, made once, since RSA's takes a while."""
    directory = tmp_path_factory.mktemp("sshd")
    for kind in KINDS:
        keygen("-q", "-t", kind, "-N", "", "-C", "root@old", "-f", directory / f"ssh_host_{kind}_key")
    return directory


@pytest.fixture
def sshd(made_once: Path, tmp_path: Path) -> Path:
    """A directory with sshd's keys."""
    return Path(shutil.copytree(made_once, tmp_path / "ssh"))


def test_takes_over_the_keys_of_an_sshd(sshd: Path, tmp_path: Path) -> None:
    """Protects clients that know the machine: the imported keys are the same, and private."""
    keys_dir = tmp_path / "keys"
    found = import_from(sshd, keys_dir)
    assert [(change.kind, change.done) for change in found] == [(kind, True) for kind in KINDS]
    for key, change in zip(load_or_create(keys_dir, KINDS), found, strict=True):
        assert not key.created
        assert key.fingerprint == change.fingerprint == fingerprint(sshd / key.path.name)
        assert fingerprint(Path(f"{key.path}.pub")) == key.fingerprint
        assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(keys_dir.stat().st_mode) & 0o077 == 0
    again = import_from(sshd, keys_dir)
    assert [(change.kind, change.done) for change in again] == [(kind, False) for kind in KINDS]


@pytest.mark.parametrize("form", ["PEM", "PKCS8"])
def test_takes_keys_in_older_forms(sshd: Path, tmp_path: Path, form: str) -> None:
    """Keys from before OpenSSH's own format are imported, too."""
    keygen("-q", "-p", "-m", form, "-N", "", "-f", sshd / "ssh_host_rsa_key")
    assert b"OPENSSH" not in (sshd / "ssh_host_rsa_key").read_bytes()
    import_from(sshd, tmp_path / "keys")
    (key,) = load_or_create(tmp_path / "keys", ("rsa",))
    assert (key.created, key.fingerprint) == (False, fingerprint(sshd / "ssh_host_rsa_key.pub"))


def test_takes_a_key_that_a_group_may_read(sshd: Path, tmp_path: Path) -> None:
    """sshd's keys may be readable by ssh-keysign's group, as on Fedora; ours are private all the same."""
    for kind in KINDS:
        (sshd / f"ssh_host_{kind}_key").chmod(0o640)
    import_from(sshd, tmp_path / "keys")
    assert stat.S_IMODE((tmp_path / "keys" / NAME).stat().st_mode) == 0o600
    (sshd / NAME).chmod(0o644)
    assert "too open" in refusal(lambda: import_from(sshd, tmp_path / "others"))


def test_never_overwrites_another_key(sshd: Path, tmp_path: Path) -> None:
    """Protects clients that know this server: another key is never overwritten, and then nothing is imported."""
    keys_dir = tmp_path / "keys"
    (key,) = load_or_create(keys_dir, ("rsa",))
    assert refusal(lambda: import_from(sshd, keys_dir)) == (
        f"{key.path} is another key ({key.fingerprint}), which clients of this server may know: "
        f"move it away first if the one in {sshd} is to be used instead"
    )
    assert names(keys_dir) == {"ssh_host_rsa_key", "ssh_host_rsa_key.pub"}


def weak(path: Path) -> None:
    """Put an RSA key that is too short for clients there."""
    make_new(path, "-t", "rsa", "-b", "1024")


def locked(path: Path) -> None:
    """Give the key a passphrase."""
    keygen("-q", "-p", "-N", "secret", "-f", path)


def locked_pem(path: Path) -> None:
    """Give the key a passphrase, in the older format."""
    keygen("-q", "-p", "-m", "PEM", "-N", "secret", "-f", path)


def dsa(path: Path) -> None:
    """Put a DSA key there, which OpenSSH can't make since version 10."""
    private = dsa_keys.generate_private_key(1024)
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))


def other_kind(path: Path) -> None:
    """Put a key of another kind there."""
    make_new(path, "-t", "ed25519")


def make_new(path: Path, *options: str) -> None:
    """Put a new key in the place of the existing one."""
    path.unlink()
    keygen("-q", *options, "-N", "", "-f", path)


def no_key(path: Path) -> None:
    """Put a file without a key there."""
    path.write_text("no key")
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (weak, "an RSA key of 1024 bits is too weak"),
        (locked, "has a passphrase: remove it with ssh-keygen -p"),
        (locked_pem, "has a passphrase: remove it with ssh-keygen -p"),
        (dsa, "is not an rsa private key"),
        (other_kind, "is not an rsa private key"),
        (no_key, "is not an rsa private key"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_says_which_key_cannot_be_taken(sshd: Path, tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    """The error names the file and what is wrong with it, and nothing is imported."""
    path = sshd / "ssh_host_rsa_key"
    make(path)
    said = refusal(lambda: import_from(sshd, tmp_path / "keys"))
    assert said.startswith(str(path))
    assert reason in said
    assert not (tmp_path / "keys").exists()


def test_says_when_there_is_nothing_to_import(tmp_path: Path) -> None:
    """Protects against a mistyped directory."""
    assert refusal(lambda: import_from(tmp_path, tmp_path / "keys")).startswith("there is no ssh_host_*_key of")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories away")
def test_makes_no_keys_that_the_server_could_not_read(sshd: Path, tmp_path: Path) -> None:
    """Protects the next start: root does not put keys where an ordinary account's server could not read them."""
    keys_dir = tmp_path / "keys"
    keys_dir.mkdir()
    os.chown(keys_dir, 12345, 12345)
    assert refusal(lambda: import_from(sshd, keys_dir)).startswith(f"{keys_dir} belongs to uid 12345: run this as")
    assert names(keys_dir) == set()
