"""The machine's clock, compared with that of the server that provides keys, or judged by the kernel."""

import contextlib
import http.client
from collections.abc import Iterator
from typing import Any

import pytest

from pyssh_gateway.cli.doctor import clock
from pyssh_gateway.cli.doctor.finding import Finding, Level
from pyssh_gateway.config.types import Config, Login

NOW = 1767323045.0
DATE = "Fri, 02 Jan 2026 03:04:05 GMT"
CONFIG = Config(login=(Login(user="amos", keys=("file:/k", "github:example")),))


class Answer:
    """A key server's connection and answer."""

    def __init__(self, date: str | Exception) -> None:
        self.date = date
        self.asked: list[tuple[str, str]] = []

    def request(self, method: str, path: str) -> None:
        """Record the request, or fail."""
        self.asked.append((method, path))
        if isinstance(self.date, Exception):
            raise self.date

    def getresponse(self) -> "Answer":
        """The answer, which is the same object."""
        return self

    def getheader(self, name: str, default: str) -> str:
        """The `Date` header, the only one."""
        return str(self.date) if name == "Date" else default


def look(monkeypatch: pytest.MonkeyPatch, date: str | Exception, config: Config = CONFIG) -> tuple[Finding, list[str]]:
    """The finding when servers answer with `date`, and which URLs were asked."""
    urls: list[str] = []

    @contextlib.contextmanager
    def connected(url: str, remaining: Any, proxies: Any) -> Iterator[Answer]:  # noqa: ANN401 - as the real one
        assert 0 < remaining() <= clock.ASK_SECONDS
        urls.append(url)
        yield Answer(date)

    monkeypatch.setattr(clock, "connected", connected)
    (finding,) = clock.look_at_clock(config, now=lambda: NOW)
    return finding, urls


def test_a_clock_that_agrees_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the server that provides keys anyway is asked for the time."""
    finding, asked = look(monkeypatch, DATE)
    assert (finding.level, finding.text) == (Level.OK, "it is the time that github.com has")
    assert asked == ["https://github.com"]


@pytest.mark.parametrize(
    ("date", "text"),
    [("Fri, 02 Jan 2026 03:05:05 GMT", "60 s behind"), ("Fri, 02 Jan 2026 01:04:05 GMT", "7200 s ahead")],
)
def test_a_clock_that_is_wrong_is_told(monkeypatch: pytest.MonkeyPatch, date: str, text: str) -> None:
    """A wrong clock is a warning, since expiry of keys and validity of certificates depend on it."""
    finding, _ = look(monkeypatch, date)
    assert finding.level is Level.WARNING
    assert finding.text == f"this machine's clock is {text}, by github.com"
    assert finding.hint


@pytest.mark.parametrize("date", ["", "soon", OSError("no network"), TimeoutError(), http.client.BadStatusLine("x")])
@pytest.mark.parametrize("synchronised", [True, False])
def test_without_an_answer_the_kernel_is_asked(
    monkeypatch: pytest.MonkeyPatch, date: str | Exception, synchronised: bool
) -> None:
    """Without an answer the kernel's judgement is used; that the server can't be reached is another topic's finding."""
    monkeypatch.setattr(clock, "_is_synchronised", lambda: synchronised)
    finding, _ = look(monkeypatch, date)
    assert finding.level is (Level.OK if synchronised else Level.NOTE)


def test_without_sources_on_the_network_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that needs no network uses none for this: the kernel's judgement is used as it is."""
    local = Config(login=(Login(user="amos", keys=("file:/k",)),))
    finding, asked = look(monkeypatch, DATE, local)
    assert asked == []
    assert finding.level in {Level.OK, Level.NOTE}
