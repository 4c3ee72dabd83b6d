"""The chroot: which directories are permitted, and that the directory checked is the one that is entered."""

import os
import pwd
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyssh_gateway.spawner.processes import chroot
from tests.support.chroots import roots_own_directory
from tests.support.spawning import ended

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another root directory")

USER = pwd.getpwnam("nobody").pw_uid


@pytest.fixture
def below() -> Iterator[Path]:
    """A directory of root's with a jail in it, which is recognised by its file."""
    with roots_own_directory() as path:
        (path / "jail").mkdir(0o755)
        (path / "jail" / "inside").touch()
        yield path


def found(path: Path | str) -> str:
    """The contents of / in a process that has entered `path`, or the reason why it could not."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            chroot.enter(os.fsencode(path))
            there = f"{sorted(os.listdir('/'))} {os.getcwd()}"  # noqa: PTH109, PTH208 - names, in as few steps as may be
        except chroot.UnfitRootError as error:
            there = str(error)
        os.write(writer, there.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    assert ended(pid) == 0
    return said


def test_it_is_the_root_and_the_working_directory(below: Path) -> None:
    """Protects against the oldest escape: a working directory that is still outside."""
    assert found(below / "jail") == "['inside'] /"
    assert found(f"{below}//./jail/") == "['inside'] /"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: os.chown(path, USER, -1), f"belongs to uid {USER}, and has to be root's"),
        (lambda path: path.chmod(0o775), "has mode 0775, and only root may write there (chmod go-w)"),
        (lambda path: path.chmod(0o1757), "has mode 1757, and only root may write there (chmod go-w)"),
    ],
)
@pytest.mark.parametrize("last", [True, False], ids=["directory", "way"])
def test_others_may_write_nowhere_on_the_way(
    below: Path, spoil: Callable[[Path], None], reason: str, last: bool
) -> None:
    """Protects the process from files that others could replace in its root, as sshd's safely_chroot does."""
    spoil(below / "jail" if last else below)
    assert found(below / "jail") == f"{below / 'jail' if last else below} {reason}"


def test_what_is_no_directory(below: Path) -> None:
    """Protects the administrator from a session that ends without a reason."""
    assert found(below / "jail" / "inside") == f"{below}/jail/inside is not a directory"
    assert found(below / "jail" / "inside" / "x") == f"{below}/jail/inside is not a directory"
    assert found(below / "missing" / "x") == f"{below}/missing: No such file or directory"


def test_links_of_roots_are_followed(below: Path) -> None:
    """Protects machines whose /home or /srv is a link to a volume."""
    (below / "absolute").symlink_to(below / "jail")
    (below / "relative").symlink_to("absolute/../jail")
    assert found(below / "absolute") == found(below / "relative") == "['inside'] /"
    (below / "loop").symlink_to("loop")
    assert found(below / "loop") == f"{below}/loop: Too many levels of symbolic links"


def test_the_way_to_a_links_target_counts(below: Path, tmp_path: Path) -> None:
    """Protects against a directory above a link's target that others may replace; sshd checks only the target."""
    theirs = tmp_path / "theirs"
    (theirs / "jail").mkdir(parents=True)
    os.chown(theirs, USER, -1)
    (below / "link").symlink_to(theirs / "jail")
    assert "has mode" in found(below / "link")  # of /tmp itself
    os.chown(below / "jail", USER, -1)
    (below / "jail" / "out").symlink_to("/")
    assert found(below / "jail" / "out") == f"{below}/jail belongs to uid {USER}, and has to be root's"


def test_names_of_others_do_not_reach_a_terminal(below: Path) -> None:
    """Protects readers of the message from control characters in a name."""
    assert found(below / "a\x1b[2J") == f"'{below}/a\\x1b[2J': No such file or directory"
