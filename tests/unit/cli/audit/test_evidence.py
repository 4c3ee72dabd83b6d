"""`audit verify`, `prove`, `checkpoint` and `key`: what they print, and how they end."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyssh_gateway.audit.proving.names import KEY_NAME
from pyssh_gateway.cli.main import run
from tests.support.signed_log import SignedLog, notes


@pytest.fixture
def log(tmp_path: Path) -> SignedLog:
    """Two files, and two lines after the last checkpoint."""
    log = SignedLog(tmp_path / "log")
    log.write(9)
    log.sign()
    log.rotate()
    log.write(9)
    log.sign()
    log.write(2)
    return log


def audit(log: SignedLog, *words: str) -> int:
    """Run a command about this log."""
    return run(["audit", *words, "--dir", str(log.directory)], {})


def answer(log: SignedLog, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Its answer for programs."""
    audit(log, *words, "--json")
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def given(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """Standard input has this."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))


def test_an_intact_log(log: SignedLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A person reads how far it is proved, and what is not covered or gone."""
    assert audit(log, "verify") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("intact up to line 17, seq 18, 2026-01-05T00:00:18.000000Z\n")
    assert "by the checkpoint of 18 lines (checkpoints.jsonl, line 1)\n" in printed
    assert "2 lines after it are not covered" in printed
    log.files()[0].unlink()
    with log.files()[-1].open("ab") as file:
        file.write(b"torn")
    other = SignedLog(tmp_path / "other", seed=2)
    other.write()
    collected = tmp_path / "collected"
    collected.write_text(other.sign() + notes(log.collected)[1])
    assert audit(log, "verify", "--checkpoints", str(collected), "--key", log.key.text) == 0
    printed = capsys.readouterr().out
    assert "lines 0 to 8 are gone with their files; the other files prove themselves\n" in printed
    assert "1 checkpoint of other logs not compared" in printed
    assert "the last line of events.jsonl is not complete" in printed


def test_a_log_that_is_signed_to_its_end(log: SignedLog, capsys: pytest.CaptureFixture[str]) -> None:
    """A person reads that nothing is left out."""
    log.sign()
    assert audit(log, "verify") == 0
    assert capsys.readouterr().out.startswith("intact: all 20 lines, to seq 20, ")


def test_a_directory_without_a_log(log: SignedLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A missing directory is said to be one, not to be unsigned."""
    log.directory = tmp_path / "missing"
    assert audit(log, "verify") == 1
    assert f"there is no log in {tmp_path}/missing" in capsys.readouterr().err


def test_a_broken_log(log: SignedLog, capsys: pytest.CaptureFixture[str]) -> None:
    """A person and a program read where, between which checkpoints, and what is odd there."""
    path = log.files()[-1]
    path.write_bytes(path.read_bytes().replace(b'"seq":12', b'"seq":11'))
    assert audit(log, "verify") == 1
    printed = capsys.readouterr().out
    assert "11 lines after it are not proved\n" in printed
    assert printed.startswith("! the lines 9 to 17 are not those that were signed")
    assert "between the checkpoint of 9 lines and the checkpoint of 18 lines (checkpoints.jsonl, line 1)" in printed
    assert "    line 11 has seq 11, which does not follow 11\n" in printed
    assert "otherwise proved up to line 8" in printed
    assert printed.endswith("BROKEN: the log is not as it was signed\n")
    found = answer(log, capsys, "verify")
    assert found["intact"] is False
    (broken,) = found["broken"]
    assert (broken["kind"], broken["first"], broken["end"], broken["files"]) == ("changed", 9, 18, ["events.jsonl"])
    assert (found["proved"]["seq"], found["uncovered"]) == (9, 11)


def test_checkpoints_that_prove_nothing(log: SignedLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A person reads that this is no proof, which is neither good nor broken."""
    log.files()[0].unlink()
    collected = tmp_path / "collected"
    collected.write_text(notes(log.collected)[0])
    assert audit(log, "verify", "--checkpoints", str(collected)) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("! the log begins at line 9, and nothing is left of what the checkpoint of 9 lines ")
    assert "\nsigned up to line 17" in printed
    assert printed.endswith("NOT PROVED: the log may be as it was signed, or not\n")
    (broken,) = answer(log, capsys, "verify", "--checkpoints", str(collected))["broken"]
    assert broken["kind"] == "gone"


def test_empty_and_missing(log: SignedLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An empty log is intact; no log, no key and no checkpoint are errors."""
    (tmp_path / KEY_NAME).write_text(f"{log.key.text}\n")
    (tmp_path / "events.jsonl").touch()
    assert run(["audit", "verify", "--dir", str(tmp_path)], {}) == 0
    assert "intact: the log is empty" in capsys.readouterr().out
    assert run(["audit", "checkpoint", "--dir", str(tmp_path)], {}) == 1
    assert "no checkpoint" in capsys.readouterr().err
    (tmp_path / KEY_NAME).write_text("x\n")
    assert run(["audit", "key", "--dir", str(tmp_path)], {}) == 1
    assert "can't be used" in capsys.readouterr().err
    (tmp_path / KEY_NAME).unlink()
    assert run(["audit", "verify", "--dir", str(tmp_path)], {}) == 1
    assert "no server has signed the log" in capsys.readouterr().err
    assert run(["audit", "verify", "--dir", str(tmp_path / "x"), "--key", log.key.text], {}) == 1
    assert f"{tmp_path / 'x'} can't be read" in capsys.readouterr().err


def test_wrong_words(log: SignedLog, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A mistake ends with 2, and says what it is; a file without a checkpoint proves nothing, and is one."""
    (tmp_path / "empty").touch()
    for words, problem in (
        (["verify", "--key", "x"], "no key of a log"),
        (["verify", "--checkpoints", str(tmp_path / "empty")], "has no checkpoint"),
        (["verify", "--checkpoints", str(tmp_path / "nothing")], "can't be read"),
        (["prove"], "one line"),
        (["prove", "1", "--line", "1"], "one line"),
        (["prove", "x"], "no number"),
        (["prove", "1", "--check", "x"], "neither SEQ nor --line"),
        (["prove", "--check", str(tmp_path / "nothing")], "No such file"),
    ):
        assert audit(log, *words) == 2, words
        assert problem in capsys.readouterr().err


def test_keys_and_checkpoints(log: SignedLog, capsys: pytest.CaptureFixture[str]) -> None:
    """They are printed as other tools take them."""
    assert audit(log, "key") == 0
    assert capsys.readouterr().out == f"{log.key.text}\n"
    assert answer(log, capsys, "key") == {"keys": [log.key.text]}
    assert audit(log, "checkpoint") == 0
    assert capsys.readouterr().out == notes(log.collected)[-1]
    assert answer(log, capsys, "checkpoint") == {"size": 18, "note": notes(log.collected)[-1]}


def test_proofs(
    log: SignedLog, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof is printed, and checked from a file and from standard input, also where there is no log."""
    assert audit(log, "prove", "12") == 0
    text = capsys.readouterr().out
    assert audit(log, "prove", "--line", "11") == 0
    assert capsys.readouterr().out == text
    (tmp_path / "proof").write_text(text)
    elsewhere = ["audit", "prove", "--check", str(tmp_path / "proof"), "--key", log.key.text, "--dir", "/nowhere"]
    assert run(elsewhere, {}) == 0
    assert capsys.readouterr().out.startswith('proved: line 11 of 18 is\n{"ts":')
    given(monkeypatch, text.encode())
    assert answer(log, capsys, "prove", "--check", "-") == json.loads(text)
    given(monkeypatch, text.replace("amos", "anna").encode())
    assert audit(log, "prove", "--check", "-") == 1
    assert "the proof is wrong" in capsys.readouterr().err
    assert audit(log, "prove", "99") == 1
    assert "no event 99" in capsys.readouterr().err
