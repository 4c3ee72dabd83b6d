"""Which key files are accepted: an account that can write to one decides who gets in."""

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pyssh_gateway.spawner.key_files import open_trusted

ME = pwd.getpwuid(os.geteuid()).pw_name
IS_ROOT = os.geteuid() == 0
STRANGER = 65534
STRANGERS_NAME = pwd.getpwuid(STRANGER).pw_name


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a key file in `inner/keys`, which everybody can reach."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "inner").mkdir()
        (place / "inner" / "keys").write_text("ssh-ed25519 AAAA example\n")
        for path, mode in ((place, 0o755), (place / "inner", 0o755), (place / "inner" / "keys", 0o644)):
            path.chmod(mode)
        yield place


def read(path: Path, *users: str) -> bytes:
    """The first bytes of a key file of `users`, if it is accepted."""
    descriptor = open_trusted(str(path), users)
    try:
        return os.read(descriptor, 4)
    finally:
        os.close(descriptor)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key file with correct owner and mode."""
    path = tmp_path / "keys"
    path.write_text("ssh-ed25519 AAAA example\n")
    path.chmod(0o644)
    return path


def test_an_ordinary_key_file_is_read(key_file: Path) -> None:
    """A file that only its owner can write is accepted, and its descriptor is close-on-exec."""
    descriptor = open_trusted(str(key_file), [ME])
    try:
        assert os.read(descriptor, 4) == b"ssh-"
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def shared_group() -> int:
    """A group that has other members."""
    if not IS_ROOT:
        pytest.skip("only root can give files to any group")
    return STRANGER


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_write_is_refused(key_file: Path, shared_group: int, mode: int) -> None:
    """As with sshd's StrictModes, a file that its group or everybody can write is refused, with the remedy."""
    os.chown(key_file, -1, shared_group)
    key_file.chmod(mode)
    with pytest.raises(OSError, match="others may write to it: run chmod go-w"):
        open_trusted(str(key_file), [ME])


def test_a_group_of_the_owners_alone_is_nobody_else(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Protects accounts with a umask of 002, whose files their own group can write: that group has no other member."""
    gid = os.getegid()
    alone, with_us = (grp.struct_group(("own", "x", gid, members)) for members in ([], [ME]))
    together, orphaned = (grp.struct_group(("own", "x", gid, [name])) for name in (STRANGERS_NAME, "no-such-account"))
    mine = pwd.getpwuid(os.geteuid())
    for path in (place, place / "inner"):
        path.chmod(0o775)
    (place / "inner" / "keys").chmod(0o664)
    # The test must not depend on the accounts of this machine.
    monkeypatch.setattr(pwd, "getpwall", lambda: [mine])
    for group in (alone, with_us):
        monkeypatch.setattr(grp, "getgrgid", {gid: group}.__getitem__)
        assert read(place / "inner" / "keys", ME) == b"ssh-"
    for group in (together, orphaned):
        monkeypatch.setattr(grp, "getgrgid", {gid: group}.__getitem__)
        with pytest.raises(OSError, match="others may write to the directory"):
            read(place / "inner" / "keys", ME)
    monkeypatch.setattr(grp, "getgrgid", {gid: alone}.__getitem__)
    neighbour = pwd.struct_passwd(("x", "x", mine.pw_uid + 1, gid, "", "/", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [mine, neighbour])
    with pytest.raises(OSError, match="others may write to the directory"):
        read(place / "inner" / "keys", ME)


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a file away")
def test_a_strangers_file_is_refused(key_file: Path) -> None:
    """The owner must be root or the only account that uses the file: one of several could get in as the others."""
    os.chown(key_file, STRANGER, STRANGER)
    for users in ([], [ME], [STRANGERS_NAME, "bin"], [STRANGERS_NAME, "no-such-account"]):
        with pytest.raises(OSError, match=f"belongs to uid {STRANGER} .*run chown root {key_file}$"):
            open_trusted(str(key_file), users)
    os.close(open_trusted(str(key_file), [STRANGERS_NAME]))


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A FIFO or a directory is refused at once, and is not taken for an empty file."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OSError, match="not a regular file"):
        open_trusted(str(fifo), [])
    with pytest.raises(OSError, match="a directory"):
        open_trusted(str(tmp_path), [])
    with pytest.raises(FileNotFoundError):
        open_trusted(str(tmp_path / "missing"), [])


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
@pytest.mark.parametrize("where", [".", "inner"])
def test_a_directory_that_others_may_write_is_refused(place: Path, shared_group: int, where: str, mode: int) -> None:
    """Protects a login from accounts that could put another file there, in any directory above, with the remedy."""
    directory = place / where
    os.chown(directory, -1, shared_group)
    directory.chmod(mode)
    with pytest.raises(
        OSError, match=f"others may write to the directory {directory}, .*: run chmod go-w {directory}$"
    ):
        read(place / "inner" / "keys", ME)
    directory.chmod(mode | 0o1000)  # sticky, like /tmp
    assert read(place / "inner" / "keys", ME) == b"ssh-"


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
def test_a_strangers_directory_is_refused(place: Path) -> None:
    """Protects a login from the owner of a directory above its key file, unless that is root or the login's account."""
    os.chown(place / "inner", STRANGER, STRANGER)
    for users in ((ME,), (STRANGERS_NAME, "bin")):
        with pytest.raises(OSError, match=f"the directory {place}/inner belongs to uid {STRANGER} .*run chown root "):
            read(place / "inner" / "keys", *users)
    assert read(place / "inner" / "keys", STRANGERS_NAME) == b"ssh-"
    (place / "inner").chmod(0o1777)
    with pytest.raises(OSError, match="belongs to uid"):
        read(place / "inner" / "keys", ME)


def test_links_are_followed_as_far_as_they_are_trusted(place: Path) -> None:
    """Protects mounted secrets, which are links, and logins from links through directories that others can change."""
    (place / "links").mkdir()
    for name, target in (
        ("absolute", f"{place}/inner/keys"),
        ("relative", "../inner/./keys"),
        ("twice", "relative"),
        ("directory", "../inner"),
        ("loop", "loop"),
    ):
        (place / "links" / name).symlink_to(target)
    ways = [place / "links" / way for way in ("absolute", "relative", "twice", "directory/keys")]
    assert [read(way, ME) for way in ways] == [b"ssh-"] * len(ways)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        read(place / "links" / "loop", ME)
    for directory in ("inner", "links"):
        (place / directory).chmod(0o777)
        for way in ways:
            with pytest.raises(OSError, match=f"others may write to the directory {place}/{directory}"):
                read(way, ME)
        (place / directory).chmod(0o755)


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a link away")
def test_a_strangers_link_is_refused(place: Path) -> None:
    """Protects against a stranger's link in a sticky directory, whose target the stranger could change."""
    place.chmod(0o1777)
    (place / "link").symlink_to("inner/keys")
    os.chown(place / "link", STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(OSError, match=f"the link {place}/link belongs to uid {STRANGER} .*run chown -h root "):
        read(place / "link", ME)


def test_what_is_above_the_home_does_not_matter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects homes in unusual places, as sshd does: above the account's own home nothing is checked."""
    keys, home = place / "inner" / "keys", pwd.getpwnam(ME)
    place.chmod(0o777)
    entry = pwd.struct_passwd((*home[:5], str(place / "inner"), home[6]))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: entry)
    assert read(keys, ME) == b"ssh-"
    (place / "beside").write_text("ssh-ed25519 AAAA example\n")
    for way in (place / "beside", place / "inner" / ".." / "beside"):
        with pytest.raises(OSError, match=f"others may write to the directory {place}, "):
            read(way, ME)
    (place / "inner").chmod(0o777)
    with pytest.raises(OSError, match=f"others may write to the directory {place}/inner, "):
        read(keys, ME)
