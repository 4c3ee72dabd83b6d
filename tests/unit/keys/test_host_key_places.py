"""keys.host_keys and keys.files: empty files, as a power cut leaves them, and file systems without hard links."""

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.keys import files
from pyssh_gateway.keys.host_key_changes import import_from, prepare_next
from pyssh_gateway.keys.host_keys import (
    NEXT_SUFFIX,
    EmptyKeyError,
    HostKey,
    create_key_pair,
    key_path,
    load,
    load_next,
    load_or_create,
)
from tests.support.linkless import without_links
from tests.support.waiting import PATIENCE

KIND = "ed25519"
BLANK = [b"", b"\0" * 399, b"\n"]


@pytest.fixture
def linkless(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system without hard links."""
    with without_links(tmp_path) as mount:
        (mount / "one").touch()
        with pytest.raises(OSError, match="not permitted"):
            (mount / "other").hardlink_to(mount / "one")
        (mount / "one").unlink()
        yield mount


def only(keys_dir: Path) -> HostKey:
    """The host key of a server with one."""
    (key,) = load_or_create(keys_dir, (KIND,))
    return key


def put(path: Path, data: bytes) -> None:
    """Write a private file, as a power cut may leave one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)


def names(directory: Path) -> set[str]:
    """The names of the files in a directory."""
    return {path.name for path in directory.iterdir()}


# -- empty files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", BLANK, ids=["empty", "zeros", "a line"])
def test_a_key_file_without_a_key_gets_one(tmp_path: Path, blank: bytes) -> None:
    """A server whose key file a power cut has emptied starts with a new key, which is reported as such."""
    path = key_path(tmp_path, KIND)
    put(path, blank)
    with pytest.raises(EmptyKeyError, match="is empty, as a power cut may leave a file"):
        load(path, KIND)
    key = only(tmp_path)
    assert (key.created, key.was_empty) == (True, True)
    again = only(tmp_path)
    assert (again.fingerprint, again.created, again.was_empty) == (key.fingerprint, False, False)
    assert names(tmp_path) == {path.name, f"{path.name}.pub"}
    assert path.stat().st_mode & 0o777 == 0o600


def test_servers_that_find_an_empty_file_at_once_end_with_one_key(tmp_path: Path) -> None:
    """Of several servers that find the empty file at once, one replaces it, and the others use its key."""
    put(key_path(tmp_path, KIND), b"")
    code = (
        "import sys; from pathlib import Path; from pyssh_gateway.keys.host_keys import load_or_create; "
        "sys.stdin.read(); (key,) = load_or_create(Path(sys.argv[1]), ('ed25519',)); "
        "print(key.fingerprint, key.was_empty)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    found = []
    for process in started:
        assert process.stdout is not None
        found.append(process.stdout.read().split())
        process.stdout.close()
        assert process.wait(PATIENCE) == 0
    assert len({fingerprint for fingerprint, _ in found}) == 1
    assert sorted(was_empty for _, was_empty in found) == ["False"] * 5 + ["True"]
    assert only(tmp_path).fingerprint == found[0][0]


def test_a_key_that_was_put_back_meanwhile_stays(tmp_path: Path) -> None:
    """A key that was restored meanwhile is not overwritten."""
    path = key_path(tmp_path, KIND)
    create_key_pair(path, "restored")
    before = path.read_bytes()
    assert create_key_pair(path, "new", in_place_of_empty=True) is False
    assert path.read_bytes() == before


def test_an_empty_next_key_stops_no_start(tmp_path: Path) -> None:
    """An empty next key, which no client knows, is ignored at the start, and made anew when a rotation begins."""
    key = only(tmp_path)
    path = key.path.with_name(key.path.name + NEXT_SUFFIX)
    put(path, b"")
    assert load_next(tmp_path, (KIND,)) == ()
    (change,) = prepare_next(tmp_path, (KIND,))
    assert change.done
    assert [following.fingerprint for following in load_next(tmp_path, (KIND,))] == [change.fingerprint]
    (again,) = prepare_next(tmp_path, (KIND,))
    assert (again.done, again.fingerprint) == (False, change.fingerprint)


def test_a_key_is_imported_in_the_place_of_an_empty_one(tmp_path: Path) -> None:
    """sshd's key may be imported in the place of an empty one."""
    create_key_pair(key_path(tmp_path / "etc", KIND), "sshd's")
    put(key_path(tmp_path / "keys", KIND), b"")
    (change,) = import_from(tmp_path / "etc", tmp_path / "keys")
    assert change.done
    assert only(tmp_path / "keys").fingerprint == change.fingerprint


# -- no hard links -----------------------------------------------------------------------------------------------------


def test_a_key_is_made_where_there_are_no_links(linkless: Path) -> None:
    """Without hard links, as on a network share or sshfs, a private key of mode 0600 is made, and stays the same."""
    keys_dir = linkless / "keys"
    key = only(keys_dir)
    assert (key.created, key.was_empty) == (True, False)
    assert only(keys_dir).fingerprint == key.fingerprint
    assert key.path.stat().st_mode & 0o777 == 0o600
    assert names(keys_dir) == {key.path.name, f"{key.path.name}.pub"}
    with pytest.raises(FileExistsError):
        create_key_pair(key.path, "second")
    assert only(keys_dir).fingerprint == key.fingerprint
    key.path.write_bytes(b"")
    replaced = only(keys_dir)
    assert (replaced.created, replaced.was_empty) == (True, True)
    assert only(keys_dir).fingerprint == replaced.fingerprint


def test_of_many_that_make_a_file_at_once_one_does(linkless: Path) -> None:
    """Of several writers at once without links, one makes the file, and no reader sees a part of it."""
    path, made, seen = linkless / "key", list[int](), set[bytes]()

    def make(number: int) -> None:
        try:
            files.create_file(path, b"%d" % number * 1000, 0o600)
        except FileExistsError:
            seen.add(path.read_bytes())
        else:
            made.append(number)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(made) == 1
    assert seen | {path.read_bytes()} == {b"%d" % made[0] * 1000}
    assert names(linkless) == {"key"}


def test_a_directory_that_stays_locked_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that hangs with the lock does not delay a start for ever, and the error names it."""
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    put(tmp_path / "key", b"")
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(OSError, match="another process has locked the directory"):
        files.replace_empty_file(tmp_path / "key", b"new", 0o600)
    os.close(descriptor)
    assert files.replace_empty_file(tmp_path / "key", b"new", 0o600)
    assert (tmp_path / "key").read_bytes() == b"new"


def test_a_new_key_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key's bytes, its name and the names of new directories are on the disk before a client can learn the key."""
    synced: list[str] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    only(tmp_path / "data" / "keys")
    assert synced[:2] == [str(tmp_path / "data"), str(tmp_path)]
    private, after, public, last = synced[2:]
    assert f".{key_path(tmp_path, KIND).name}." in private
    assert f".{key_path(tmp_path, KIND).name}.pub." in public
    assert after == last == str(tmp_path / "data" / "keys")
