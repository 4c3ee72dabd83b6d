"""audit.report.recordings: which are put into the page, and what is told of the others."""

import gzip
import json
from base64 import b64decode
from pathlib import Path

import pytest

from pyssh_gateway.audit.recordings.files import NoRecording
from pyssh_gateway.audit.report import recordings
from pyssh_gateway.audit.report.facts import Link, Session
from pyssh_gateway.audit.report.recordings import choose
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from tests.support.example_log import build_recording, write_recording

PLENTY = 1 << 24


def session(name: str, user: str = "dev", conn: str = "") -> Session:
    """A session of an account."""
    link = Link(conn or name.partition(".")[0], "github:example", "github:example", user)
    return Session(name, link, "shell", 0.0)


def cast(*output: bytes) -> bytes:
    """A recording, with a line each second."""
    encoder = Encoder()
    parts = [encoder.header(Header(cols=40, rows=5, term="xterm"))]
    return b"".join([*parts, *(encoder.output(float(at), line + b"\r\n") for at, line in enumerate(output, start=1))])


def test_a_recording_with_its_commands_and_its_text(tmp_path: Path) -> None:
    """The commands that the shell has marked, and each line that was shown, with its time."""
    write_recording(tmp_path, "dev", "c1.1", build_recording(Encoder()))
    chosen = choose(tmp_path, [session("c1.1"), session("c2.1")], PLENTY)
    (found,) = chosen.found.values()
    assert [one.text for one in found.commands] == ["git pull --rebase && make -j8", "make test", "rm -rf build/cache"]
    lines = {text: at for at, text in json.loads(gzip.decompress(b64decode(found.lines)))}
    assert lines["  LD   build/api".strip()] > lines["Fast-forward"]
    assert (found.missing, found.broken, found.more_commands) == (0, 0, 0)
    assert (chosen.left_out, chosen.unreadable, chosen.unsearched) == (0, 0, 0)


def test_parts_are_one_recording(tmp_path: Path) -> None:
    """One that was interrupted goes on in another file; what was not recorded in between is told."""
    encoder = Encoder()
    first = cast(b"before")
    second = (
        encoder.header(Header(cols=50, rows=6, term="xterm"))
        + encoder.missing(0.5, 700)
        + encoder.output(1.0, b"after\r\n")
    )
    write_recording(tmp_path, "dev", "c1.1", first)
    write_recording(tmp_path, "dev", "c1.1.2", second)
    found = choose(tmp_path, [session("c1.1")], PLENTY).found["dev", "c1.1"]
    assert [text for _, text in json.loads(gzip.decompress(b64decode(found.lines)))] == ["before", "after"]
    assert found.missing == 700


def test_the_newest_that_fit(tmp_path: Path) -> None:
    """A recording that does not fit is counted, and a smaller, older one may still be there."""
    names = ("c3.1", "c2.1", "c1.1")
    large = cast(*(bytes([33 + at * 7 % 90]) * (at % 37) + str(hash(str(at))).encode() for at in range(2000)))
    for name, data in zip(names, (cast(b"new"), large, cast(b"old")), strict=True):
        write_recording(tmp_path, "dev", name, data)
    chosen = choose(tmp_path, map(session, names), 2000)
    assert (list(chosen.found), chosen.left_out) == ([("dev", "c3.1"), ("dev", "c1.1")], 1)
    assert chosen.left_out_bytes > 10_000
    assert choose(tmp_path, map(session, names), 1).left_out == 3


def test_too_much_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory and time: a file that unpacks to very much is left out, and of much text there is no search."""
    write_recording(tmp_path, "dev", "c1.1", cast(b"x" * 60_000))
    monkeypatch.setattr(recordings, "MOST_SEARCHED", 1000)
    chosen = choose(tmp_path, [session("c1.1")], PLENTY)
    assert chosen.unsearched == 1
    assert json.loads(gzip.decompress(b64decode(chosen.found["dev", "c1.1"].lines))) == []
    monkeypatch.setattr(recordings, "LARGEST", 1000)
    assert choose(tmp_path, [session("c1.1")], PLENTY).left_out == 1


def test_what_can_not_be_read_costs_only_itself(tmp_path: Path) -> None:
    """Garbage, a link, a file that is cut off, and lines that are no events."""
    good = cast(b"shown")
    write_recording(tmp_path, "dev", "c1.1", b"garbage\n" + good)
    path = write_recording(tmp_path, "dev", "c2.1", good)
    path.write_bytes(path.read_bytes()[:-4])
    write_recording(tmp_path, "dev", "c3.1", good + b'[1, "o"]\nnonsense\n')
    (tmp_path / "recordings" / "dev" / "c4.1.cast.zst").symlink_to("/nonexistent")
    chosen = choose(tmp_path, [session(f"c{number}.1") for number in range(1, 5)], PLENTY)
    assert chosen.unreadable == 2
    assert {name: one.broken for name, one in chosen.found.items()}["dev", "c3.1"] == 2


def test_who_may_only_read_the_log_gets_a_report_without_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it says why; asked for none, nothing is even looked for."""

    def refuse(_directory: Path) -> list[tuple[str, int, Path]]:
        raise NoRecording("recordings may not be read by this account")

    monkeypatch.setattr("pyssh_gateway.audit.recordings.files.recordings", refuse)
    assert choose(tmp_path, [session("c1.1")], PLENTY).problem == "recordings may not be read by this account"
    assert choose(tmp_path, [session("c1.1")], 0).problem == ""


def test_a_recording_belongs_to_the_account_in_whose_directory_it_is(tmp_path: Path) -> None:
    """Protects from evidence that another account has made up: a file or a line of the log with a foreign session."""
    write_recording(tmp_path, "dev", "c5.1", cast(b"forged"))
    assert not choose(tmp_path, [session("c5.1", "amos"), session("c5.1", "dev", "c9")], PLENTY).found
    write_recording(tmp_path, "amos", "c5.1", cast(b"true"))
    chosen = choose(tmp_path, [session("c5.1", "dev", "c9"), session("c5.1", "amos")], PLENTY)
    assert list(chosen.found) == [("amos", "c5.1")]
    (lines,) = (json.loads(gzip.decompress(b64decode(one.lines))) for one in chosen.found.values())
    assert [text for _, text in lines] == ["true"]
