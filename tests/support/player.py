"""asciinema's web player, the bundle that the report contains, in a real Chromium: what its screen shows at the end."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unicodedata import normalize

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.places import ROOT
from tests.support.waiting import PATIENCE

BUNDLE = ROOT / "pyssh_gateway" / "audit" / "report" / "assets" / "asciinema-player.min.js"
CHROMIUM = shutil.which("chromium")

needs_player = pytest.mark.skipif(
    CHROMIUM is None or not BUNDLE.exists(), reason="no chromium (package chromium), or no player in the report"
)
"""For tests that use it."""

LOAD = """
async (cast) => {
    const url = URL.createObjectURL(new Blob([cast]));
    window.player = AsciinemaPlayer.create({url}, document.getElementById("player"), {preload: true});
    await new Promise((ready) => player.addEventListener("ready", ready));
    await player.seek("100%");
}
"""
ROWS = """
() => [...document.querySelectorAll(".ap-line")].map((line) =>
    [...line.children].map((span) => [Number(span.style.getPropertyValue("--offset")), span.textContent]))
"""
"""The rows: pieces of text, and the columns that they begin in."""


@contextmanager
def player() -> Iterator["Player"]:
    """A page with the player."""
    with sync_playwright() as playwright:
        # Its own sandbox does not work for root, which the tests often are.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield Player(browser.new_page())
        finally:
            browser.close()


class Player:
    """Plays one recording after the other. `faults` are what it has complained about."""

    def __init__(self, page: Page) -> None:
        self.faults: list[str] = []
        self._page = page
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def load(self, cast: Path) -> None:
        """Go to the end of that recording."""
        self._page.set_content('<div id="player"></div>')
        self._page.add_script_tag(content=BUNDLE.read_text())
        self._page.evaluate(LOAD, cast.read_text())

    def screen(self) -> list[str]:
        """Its rows, without spaces at their ends."""
        rows = []
        for pieces in self._page.evaluate(ROWS):
            cells: list[str] = []
            for column, text in pieces:
                cells += [" "] * (column - len(cells)) + [cell for char in text for cell in (char, *_second(char))]
            rows.append(normalize("NFC", "".join(cells).rstrip()))
        return rows


def _second(char: str) -> list[str]:
    """What a wide character has in its second cell."""
    from wcwidth import wcwidth  # late: a package of the extra

    return [""] if wcwidth(char) == 2 else []
