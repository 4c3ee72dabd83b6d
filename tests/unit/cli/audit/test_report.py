"""cli.audit.report: `audit report` writes the page, for its owner only, or says why not."""

import re
from pathlib import Path

import pytest

from pyssh_gateway.audit.report import render
from pyssh_gateway.audit.report.recordings import Chosen
from pyssh_gateway.cli.main import run
from tests.support.example_log import ExampleLog

NOW = 1_761_933_600.0
"""Fri 31 Oct 2025 18:00 UTC."""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A believable week, without recordings."""
    directory = tmp_path_factory.mktemp("log")
    (directory / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in ExampleLog(NOW, days=8).lines()))
    return directory


def report(log: Path, *words: str) -> int:
    """The exit code of the command, about all of the log."""
    return run(["audit", "report", "--dir", str(log), "--since", "2025-10-01T00:00:00Z", *words], {})


def test_the_page_is_written_for_its_owner(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line says what is in it; nobody else may read the file, which replaces a report only."""
    path = tmp_path / "report.html"
    path.write_text("before")
    path.chmod(0o644)
    assert report(log, "-o", str(path)) == 1
    assert report(log, "-o", "/dev/null") == 1
    assert "is no report of ours" in capsys.readouterr().err
    assert path.read_text() == "before"
    path.unlink()
    assert report(log, "-o", str(path)) == 0
    path.chmod(0o644)
    capsys.readouterr()
    assert report(log, "-o", str(path), "--price", "0.5") == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch(
        rf"{path}: \d+ days, 3 people, \d+ sessions, 0 recordings, [\d.]+ KiB\n", capsys.readouterr().out
    )
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_page_lacks(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Recordings that can't be read are not taken for none; standard output has the page alone all the same."""
    for chosen, said in (
        (Chosen({}, 0, 0, 0, 0, "they may not be read"), "without recordings: they may not be read"),
        (Chosen({}, 0, 0, 2, 0), "2 recordings can't be read, and so not shown"),
    ):
        monkeypatch.setattr("pyssh_gateway.audit.report.make.choose", lambda *_, chosen=chosen: chosen)
        assert report(log, "-o", "-") == 0
        shown = capsys.readouterr()
        assert shown.err == f"pyssh-gateway: {said}\n"
        assert shown.out.startswith("<!DOCTYPE html>")


def test_the_page_on_standard_output(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but the page."""
    assert report(log, "--output", "-", "--title", "my <box>") == 0
    text = capsys.readouterr().out
    assert text.startswith("<!DOCTYPE html>")
    assert text.endswith("</html>\n")
    assert '<h1 id="lead-title">my &lt;box&gt;</h1>' in text
    assert "my <box>" not in text


def test_a_part_of_the_time_and_of_the_people(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--until cuts the end off, and --person leaves the others out."""
    assert report(log, "-o", "-", "--person", "github:amos", "--until", "2025-10-29T00:00:00Z") == 0
    text = capsys.readouterr().out
    assert "29 October 2025, 00:00" in text
    people = set(re.findall(r'data-person="([^"]*)"', text))
    assert people == {"github:amos"}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--price", "free"], "--price takes what an hour costs"),
        (["--price", "-1"], "--price takes what an hour costs"),
        (["--price", "inf"], "--price takes what an hour costs"),
        (["--recordings", "much"], "--recordings takes a size such as 20MiB"),
        (["--since", "soon"], "--since takes a length"),
        (["--until", "2025-09-01"], "--since is later than --until"),
    ],
)
def test_words_that_can_not_be_meant(
    log: Path, words: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are refused before anything is read or written."""
    assert report(log, "-o", "/nonexistent/report.html", *words) == 2
    assert problem in capsys.readouterr().err


def test_what_can_not_be_read_or_written(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No log, nothing of that time, no directory for the page: a line each, and no traceback."""
    assert report(tmp_path) == 1
    assert "there is no log" in capsys.readouterr().err
    assert report(log, "--since", "2010-01-01", "--until", "2010-01-02") == 1
    assert "no events of that time" in capsys.readouterr().err
    assert report(log, "-o", str(tmp_path / "none" / "report.html")) == 1
    assert "can't be written: No such file or directory" in capsys.readouterr().err


def test_without_its_packages(log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names what is missing, and how to get it."""
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    assert report(log) == 1
    assert "pip install 'pyssh-gateway[audit]'" in capsys.readouterr().err
