"""The tree is as documented, and no folder has too many files to find something in it."""

from pathlib import Path

import pytest

from tests.support.places import ROOT

PACKAGE = ROOT / "pyssh_gateway"
ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE)

MOST_FILES = 16
"""The most files in a folder: as many as fit on a screen at a glance."""


@pytest.mark.parametrize("room", ROOMS, ids=[str(room.relative_to(PACKAGE)) for room in ROOMS])
def test_every_room_is_described(room: Path) -> None:
    """docs/architecture.md describes each folder."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert f"`{room.name}/`" in text


MOST_LINES = 400
"""In a file of the package: more than fits in a head has more than one purpose."""


def test_no_file_is_too_long() -> None:
    """Protects the reader: a file that grows further is two."""
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("room", ROOMS, ids=[str(room.relative_to(PACKAGE)) for room in ROOMS])
def test_no_room_is_too_full(room: Path) -> None:
    """Protects the overview: a folder that grows further must be split."""
    files = [path for path in room.glob("*.py") if path.name != "__init__.py"]
    assert len(files) <= MOST_FILES
