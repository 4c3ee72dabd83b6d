"""cli.what_if: what it prints, refuses and reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.audit import header as headers
from pyssh_gateway.audit.header import Header
from pyssh_gateway.audit.segments import LONGEST_LINE, sealed_name
from pyssh_gateway.audit.zstd import ZstdFile
from pyssh_gateway.cli import what_if
from pyssh_gateway.cli.main import run
from pyssh_gateway.config.types import Idle
from tests.support.written_log import MONDAY, WrittenLog

HOUR = 3600


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with a log: an editor is open for three hours, and used in the first; client_idle was an hour."""
    monkeypatch.setattr("pyssh_gateway.cli.what_if.time.time", lambda: MONDAY + 24 * HOUR)
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos\x1b[31m")
    log.quiet(2 * HOUR, "c1", HOUR)
    log.stop(2 * HOUR + 60, "c1", (0, HOUR), person="amos\x1b[31m")
    (tmp_path / "events.jsonl").write_bytes(b"".join(log.lines))
    path = tmp_path / "config.toml"
    path.write_text(f'audit_dir = "{tmp_path}"\n[idle]\ntimeout = "1m"\nclient_idle = "1h"\n')
    return path


def answer(config: Path, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The answer for programs."""
    assert run(["idle", "what-if", "--config", str(config), "--json", *words], {}) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_side_by_side(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was, what the settings in force would have done, and the changed ones, with the cost of each."""
    found = answer(config, capsys, "--price", "0.5", "client_idle=30m")
    assert found["recorded"] == {
        "settings": None, "awake": 7260.0, "starts": 1, "found_asleep": None, "killed": None, "cost": 1.01
    }  # fmt: skip
    assert found["in_force"]["awake"] == pytest.approx(7260, abs=30)
    assert found["changed"]["awake"] == pytest.approx(5460, abs=30)
    assert found["changed"]["cost"] == pytest.approx(0.76, abs=0.01)
    assert found["in_force"]["settings"]["client_idle"] == 3600
    assert found["changed"]["settings"]["client_idle"] == 1800
    assert (found["lines"], found["damaged"]) == (8, 0)
    assert found["since"] == "2026-01-05T00:00:00.000000Z"


def test_for_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with a column for each way, what was changed, and what the figures can't contain."""
    assert run(["idle", "what-if", "--config", str(config), "client_idle=30m"], {}) == 0
    printed = capsys.readouterr().out
    assert "changed: idle.client_idle = 30m" in printed
    assert "RECORDED  IN FORCE  CHANGED" in printed
    assert "can't know" in printed
    assert "cost" not in printed
    assert printed.replace("\n", "").isprintable()


def test_without_a_change(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The settings in force alone can be compared with what was."""
    found = answer(config, capsys)
    assert found["changed"] is None
    assert found["in_force"]["cost"] is None


def test_lines_that_are_no_events_are_counted(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damage costs no more than itself, and is said."""
    with (config.parent / "events.jsonl").open("ab") as log:
        log.write(b"\x1b]0;title\x07\n" + b"x" * (2 * LONGEST_LINE) + b'\n{"half a line')
    found = answer(config, capsys)
    assert (found["lines"], found["damaged"]) == (10, 2)
    assert found["recorded"]["awake"] == 7260.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["client_idl=3m"], "there is timeout,"),
        (["background_cpu=5"], "can't be changed here"),
        (["listen.port=5"], "can't be changed here"),
        (["client_idle"], "NAME=VALUE"),
        (["client_idle=soon"], 'expected a duration such as 60s, 5m or 1h30m, or "off", got "soon"'),
        (["timeout=1m", "idle.timeout=2m"], "set twice"),
        (["stop.action=explode"], "stop.action: expected"),
        (["--price", "free"], "--price takes"),
        (["--price=nan"], "--price takes"),
        (["--price=-1"], "--price takes"),
        (["--since", "lately"], "--since takes"),
    ],
)
def test_what_can_not_be_asked(config: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    """A mistake is named, with what is allowed, and ends with 2."""
    assert run(["idle", "what-if", "--config", str(config), *words], {}) == 2
    assert said in capsys.readouterr().err


def test_hostile_words_are_shown_safely(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects the terminal from what is repeated in an error."""
    assert run(["idle", "what-if", "--config", str(config), "\x1b[31m=3"], {}) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_every_setting_can_be_changed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All settings of [idle] are allowed but those whose effect the log can't tell; lists, too."""
    assert set(what_if.allowed()) == set(Idle.__struct_fields__) - what_if.UNKNOWN | {"stop.action"}
    found = answer(config, capsys, "schedule=mon-fri 00:00-12:00", "timezone=Europe/Berlin", "stop.action=suspend")
    # Midnight in UTC is 1:00 in Berlin.
    assert found["changed"]["awake"] == pytest.approx(7260, abs=30)
    assert found["changed"]["settings"]["schedule"] == ["mon-fri 00:00-12:00"]


def test_nothing_of_that_time(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log without an event of the time that is asked for is no answer, but one line, and 1."""
    assert run(["idle", "what-if", "--config", str(config), "--since", "1h"], {}) == 1
    assert "has no events of the last 1h" in capsys.readouterr().err


def test_another_file(config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A copy of the log can be asked on any machine; a file that is missing is named."""
    moved = (config.parent / "events.jsonl").rename(tmp_path / "copy")
    assert answer(config, capsys, "--log", str(moved))["recorded"]["starts"] == 1
    assert run(["idle", "what-if", "--config", str(config)], {}) == 1
    assert "there is no log in" in capsys.readouterr().err


def test_all_files_of_the_log(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log that was cut into files is read over all of them, and headers are not lines."""
    log = config.parent / "events.jsonl"
    before = log.read_bytes().splitlines(keepends=True)
    first = config.parent / sealed_name(0, compressed=True)
    with first.open("wb") as file, ZstdFile(file, "wb") as packed:
        packed.write(b"".join(before[:4]))
    log.write_bytes(headers.encode(Header(4, ("A" * 43 + "=",))) + b"\n" + b"".join(before[4:]))
    found = answer(config, capsys)
    assert (found["lines"], found["damaged"], found["recorded"]["awake"]) == (8, 0, 7260.0)
    assert answer(config, capsys, "--log", str(first))["lines"] == 4
