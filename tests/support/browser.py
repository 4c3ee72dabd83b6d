"""A real Chromium without a window, and what it has to say about a page: errors, requests, violations of the policy."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.support.waiting import PATIENCE

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (package chromium)")
"""For tests that drive it; `scripts/test-deps.sh` installs it."""

WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own."""
    with sync_playwright() as playwright:
        # Its own sandbox does not work for root, which the tests often are.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Seen:
    """A page, and everything that must not happen on it."""

    def __init__(self, context: BrowserContext, path: Path, fragment: str = "") -> None:
        self.faults: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._request)
        self.page.add_init_script(WATCH)
        self.page.goto(path.as_uri() + fragment)

    def _request(self, request: Any) -> None:  # noqa: ANN401 - playwright's
        if request.url.partition("#")[0] != self.page.url.partition("#")[0] and request.url.startswith(("http", "ws")):
            self.faults.append(f"request: {request.url}")

    def check(self) -> None:
        """Nothing was printed, thrown, loaded or stopped by the policy."""
        self.faults += [f"policy: {one}" for one in self.page.evaluate("window.violations || []")]
        assert self.faults == []

    def is_scrolled_sideways(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
