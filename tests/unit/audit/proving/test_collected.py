"""Checkpoints are found in whatever collectors make of our lines, and never in what strangers have sent."""

import json
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.audit.human import human_checkpoint
from pyssh_gateway.audit.printable import printable_event
from pyssh_gateway.audit.proving.collected import find
from pyssh_gateway.audit.proving.names import for_people
from pyssh_gateway.events import SessionOpened
from tests.support.signed_log import SignedLog, notes


@pytest.fixture
def log(tmp_path: Path) -> SignedLog:
    """A log with two checkpoints."""
    log = SignedLog(tmp_path)
    for _ in range(2):
        log.write(3)
        log.sign()
    return log


def wrapped(line: str) -> dict[str, str]:
    """A line as it comes through several collectors."""
    in_docker = json.dumps({"log": line + "\n", "stream": "stdout", "time": "2026-01-02T03:04:05.678901234Z"})
    in_dotnet = json.dumps({"a": [1, {"message": line}]}).replace("+", "\\u002B").replace("/", "\\/")
    flat = json.dumps(json.loads(line) | {"host": "dev", "labels": {"app": "x"}})
    return {
        "as it is": line,
        "carriage return": f"{line}\r",
        "journald": f"Jan 02 03:04:05 dev pyssh-gateway[7]: {line}",
        "with braces before": f"{{x}} {{}} [app {{dev}}] {line}",
        "docker": in_docker,
        "docker in docker": json.dumps({"log": in_docker}),
        "escaped more than needed": in_dotnet,
        "flat": flat,
        "csv": '2026-01-02,"{}"'.format(line.replace('"', '""')),
        "fly": json.dumps({"event": {"provider": "app"}, "fly": {"app": {"name": "x"}}, "message": line}),
    }


def test_every_wrapping(log: SignedLog) -> None:
    """A note is found, unchanged, at its line."""
    line = log.collected[0].decode().rstrip()
    (note,) = notes(log.collected[:1])
    for name, text in wrapped(line).items():
        found = list(find([b"noise\n", text.encode() + b"\n", b"noise\n"]))
        assert [(one.line, one.note) for one in found] == [(2, note)], name


def test_notes_as_they_are(log: SignedLog) -> None:
    """Signed notes are found among other text, also with further signatures, and without the last newline."""
    first, second = notes(log.collected)
    text = f"\n> noise\n{first}{first}{second}— witness.example YWJjZGVmZ2g=\nnoise\n{second}".rstrip()
    found = [one.note for one in find(line.encode() for line in text.splitlines(keepends=True))]
    assert found == [first, first, f"{second}— witness.example YWJjZGVmZ2g=\n", second]
    assert [one.line for one in find(line.encode() for line in text.splitlines(keepends=True))] == [3, 8, 13, 20]
    assert list(find([b"\xe2\x80\x94 name YWJj\n"])) == []


def test_lines_for_people(log: SignedLog) -> None:
    """The line for people has the whole note."""
    (note, _) = notes(log.collected)
    line = human_checkpoint(0.0, for_people(note))
    assert line.startswith("00:00:00Z log      checkpoint pyssh-gateway/")
    for text in (line, f"2026-01-02T03:04:05.67Z app {line}"):
        assert [one.note for one in find([text.encode()])] == [note]
    assert [one.note for one in find([line[:-9].encode() + b"!"])] == [line[:-9] + "!"]


@pytest.mark.parametrize("level", range(4))
def test_what_strangers_send(log: SignedLog, level: int) -> None:
    """Protects the verdict: a command that has a checkpoint in it, however escaped, is no checkpoint."""
    for text in (*notes(log.collected), log.collected[0].decode(), "log.checkpoint"):
        sent = text
        for _ in range(level):
            sent = json.dumps({"log": sent})
        event = SessionOpened(
            conn="c1", session="c1.1", user="dev", kind="exec", command=sent, tty="", term="", pid=1
        )  # fmt: skip
        fields = msgspec.structs.asdict(printable_event(event))
        line = json.dumps({"ts": "2026-01-02T03:04:05.678901Z", "seq": 1, "event": "session.opened"} | fields)
        for name, collected in wrapped(line).items():
            assert list(find([collected.encode()])) == [], name
    human = "00:00:00Z login    dev on c1: " + human_checkpoint(0.0, for_people(notes(log.collected)[0]))
    assert list(find([human.encode()])) == []


def test_a_damaged_checkpoint(log: SignedLog) -> None:
    """It is not passed over in silence."""
    for line in (log.collected[0][:-20], log.collected[0].replace(b'"note"', b'"other"'), b"x" + log.collected[0][1:]):
        assert len(list(find([line]))) == 1


def test_too_deep() -> None:
    """JSON in JSON without end is given up."""
    text = '{"event":"log.checkpoint","note":"x"}'
    for _ in range(9):
        text = json.dumps({"log": text})
    assert [one.note for one in find([text.encode()])] == [text]
    assert len(list(find([b"[" * 100_000 + b'{"a":' * 3000 + b"log.checkpoint"]))) == 1
