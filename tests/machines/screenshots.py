"""Makes the pictures of the report in docs/: `make screenshots`. The month in it is made up, and always the same."""

import tempfile
from pathlib import Path

from pyssh_gateway.cli.main import run
from tests.support.browser import Seen, chromium
from tests.support.example_log import ExampleLog
from tests.support.places import ROOT

NOW = 1_793_469_600.0
"""Sat 31 Oct 2026 18:00 UTC."""

PICTURES = (
    ("report-desktop-light.png", {"width": 1280, "height": 1440}, 1, "light"),
    ("report-desktop-dark.png", {"width": 1280, "height": 1000}, 1, "dark"),
    ("report-phone.png", {"width": 390, "height": 844}, 2, "light"),
)


def main() -> None:
    """Make them."""
    with tempfile.TemporaryDirectory() as name, chromium() as browser:
        directory = Path(name)
        ExampleLog(NOW).write(directory / "audit")
        path = directory / "report.html"
        words = ["--since", "2026-10-01T00:00:00Z", "--until", "2026-10-31T18:00:00Z", "--price", "0.50"]
        command = [
            "audit",
            "report",
            "--dir",
            str(directory / "audit"),
            "--title",
            "my-box in October",
            "-o",
            str(path),
        ]
        assert run([*command, *words], {}) == 0
        for picture, viewport, scale, scheme in PICTURES:
            context = browser.new_context(viewport=viewport, device_scale_factor=scale, color_scheme=scheme)  # type: ignore[arg-type]  # one of two literals
            seen = Seen(context, path)
            if scheme == "dark":
                play(seen)
            elif scale > 1:
                seen.page.locator("#awake").evaluate("(section) => section.scrollIntoView({ behavior: 'instant' })")
            seen.page.screenshot(path=ROOT / "docs" / picture)
            seen.check()
            context.close()


def play(seen: Seen) -> None:
    """Show what the search has found in a recording, and play it from there."""
    page = seen.page
    page.get_by_role("searchbox").fill("rm -rf")
    session = page.locator(".session:visible", has=page.locator(".hit")).first
    session.locator("summary").click()
    session.locator(".hits button").first.click()
    page.locator(".ap-term-text", has_text="rm -rf").wait_for(state="attached")
    page.locator("#sessions").evaluate("(section) => section.scrollIntoView({ behavior: 'instant' })")
    page.wait_for_timeout(2500)


if __name__ == "__main__":
    main()
