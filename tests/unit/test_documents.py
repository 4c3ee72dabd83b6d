"""The documents' links and names exist, and their promises have tests."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.places import ROOT

DOCUMENTS = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md"]

LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MODULE = re.compile(r"`([a-z_]+(?:/[a-z_0-9]+)+\.py)`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Protects readers from dead links, and promises from links to tests that are gone."""
    missing = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(document: Path) -> None:
    """Protects the map of the tree from outdated module names."""
    named = set(MODULE.findall(document.read_text()))
    missing = [name for name in named if not (ROOT / "pyssh_gateway" / name).exists() and not (ROOT / name).exists()]
    assert not missing


def test_every_promise_has_its_test() -> None:
    """Protects the promises of docs/security.md: each links to a test."""
    section = (ROOT / "docs" / "security.md").read_text().partition("## Promises")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 30
    assert not [row.split("|")[1].strip() for row in rows if "](../tests/" not in row.split("|")[-2]]


def test_the_recording_shows_a_login_and_an_idle_stop() -> None:
    """README's recording is a small asciicast of a real run, and shows nothing of the machine on which it was made."""
    header, *lines = (ROOT / "docs" / "first-minutes.cast").read_text().splitlines()
    assert json.loads(header).keys() == {"version", "width", "height", "title", "env"}
    assert json.loads(header)["version"] == 2
    events = [json.loads(line) for line in lines]
    assert {kind for _, kind, _ in events} == {"o"}
    assert all(before <= after for (before, _, _), (after, _, _) in pairwise(events))
    assert events[-1][0] < 60
    assert len(lines) < 500
    shown = "".join(text for _, _, text in events)
    words = re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|\([A-Z])", "", shown)
    for seen in ("make run", "listens on", "log in    ssh -p 2222 amos@localhost", "is on as amos", "Goodbye"):
        assert seen in words
    assert set(re.findall(r"@([a-z]+)", shown)) == {"localhost", "laptop", "openssh"}
    assert not re.search(r"\x1b\[>?\d*[cq]", shown)  # a question, which a viewer's terminal would answer
    assert not re.search(r"/root|/tmp|/work|BEGIN OPENSSH", shown)


@pytest.mark.parametrize("name", ["report-desktop-light.png", "report-desktop-dark.png", "report-phone.png"])
def test_screenshots_are_small_and_shown(name: str) -> None:
    """The pictures of the report are PNGs that load quickly, and a document shows each."""
    picture = (ROOT / "docs" / name).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < 300 * 1024
    assert any(name in document.read_text() for document in DOCUMENTS)
