"""The empty root directory of strangers' processes: it is made, and refused if it is unsafe."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyssh_gateway.startup.empty_directory import UnfitDirectory, open_empty_directory

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes it")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of root's below directories of root's."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-empty-", dir="/run"))
    yield directory
    shutil.rmtree(directory)


def test_it_is_made(place: Path) -> None:
    """The first start makes it and its parents; the next one uses it."""
    for _ in range(2):
        descriptor = open_empty_directory(str(place / "run" / "empty"))
        assert os.path.samestat(os.fstat(descriptor), (place / "run" / "empty").stat())
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    assert (place / "run" / "empty").stat().st_mode & 0o7777 == 0o755


def test_one_that_others_could_fill_is_refused(place: Path) -> None:
    """Another account must not be able to write to it or replace it, and so choose what a stranger's process finds."""
    for change in (0o757, 0o775):
        empty = place / "empty"
        empty.mkdir(exist_ok=True)
        empty.chmod(change)
        with pytest.raises(UnfitDirectory, match=f"{empty} must be root's, .* chmod go-w {empty}"):
            open_empty_directory(str(empty))
        empty.chmod(0o755)
        place.chmod(change)
        with pytest.raises(UnfitDirectory, match=f"{place} must be root's"):
            open_empty_directory(str(empty))
        place.chmod(0o755)
    os.chown(empty, 1, 0)
    with pytest.raises(UnfitDirectory, match="must be root's"):
        open_empty_directory(str(empty))


def test_one_that_is_not_empty_is_refused(place: Path) -> None:
    """A directory with contents is refused, as strangers' processes could reach these."""
    (place / "file").touch()
    with pytest.raises(UnfitDirectory, match="must be empty"):
        open_empty_directory(str(place))


@pytest.mark.parametrize("kind", ["link", "file"])
def test_something_else_is_refused(place: Path, kind: str) -> None:
    """A link or a file is refused, and the message names the path."""
    if kind == "link":
        (place / "real").mkdir()
        (place / "empty").symlink_to("real")
    else:
        (place / "empty").touch()
    with pytest.raises(UnfitDirectory, match=f"can't use {place / 'empty'} as an empty directory"):
        open_empty_directory(str(place / "empty"))
