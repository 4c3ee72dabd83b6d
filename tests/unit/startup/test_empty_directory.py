"""The directory that strangers' processes have for a root: made, and refused if it is not what it has to be."""

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
    """A directory of root's whose parents are root's as well."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-empty-", dir="/run"))
    yield directory
    shutil.rmtree(directory)


def test_it_is_made(place: Path) -> None:
    """At the first start, with what is above it; at the next it is taken as it is."""
    for _ in range(2):
        descriptor = open_empty_directory(str(place / "run" / "empty"))
        assert os.path.samestat(os.fstat(descriptor), (place / "run" / "empty").stat())
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
    assert (place / "run" / "empty").stat().st_mode & 0o7777 == 0o755


def test_one_that_others_could_fill_is_refused(place: Path) -> None:
    """An account that may write there, or exchange it, would decide what a stranger's process finds."""
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
    """What is in there is in a stranger's reach."""
    (place / "file").touch()
    with pytest.raises(UnfitDirectory, match="must be empty"):
        open_empty_directory(str(place))


@pytest.mark.parametrize("kind", ["link", "file"])
def test_something_else_is_refused(place: Path, kind: str) -> None:
    """A link leads to where its maker wants; the message names the place."""
    if kind == "link":
        (place / "real").mkdir()
        (place / "empty").symlink_to("real")
    else:
        (place / "empty").touch()
    with pytest.raises(UnfitDirectory, match=f"can't use {place / 'empty'} as an empty directory"):
        open_empty_directory(str(place / "empty"))
