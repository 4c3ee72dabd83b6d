"""What the documents point to is there."""

import re
from pathlib import Path

import pytest

from tests.support.places import ROOT

DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]

LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MODULE = re.compile(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Protects the reader, and each promise from being linked to a test that is not there any more."""
    missing = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(document: Path) -> None:
    """Protects the map of the tree from naming rooms as they were."""
    named = set(MODULE.findall(document.read_text()))
    missing = [name for name in named if not (ROOT / "pyssh_gateway" / name).exists() and not (ROOT / name).exists()]
    assert not missing


def test_every_promise_has_its_test() -> None:
    """Protects what docs/security.md promises from being a promise alone."""
    section = (ROOT / "docs" / "security.md").read_text().partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 30
    assert not [row.split("|")[1].strip() for row in rows if "](../tests/" not in row.split("|")[-2]]
