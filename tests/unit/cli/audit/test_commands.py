"""cli.audit: what the commands print about a log, for people and for programs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.index.search import Hit
from pyssh_gateway.audit.segments import sealed_name
from pyssh_gateway.cli.audit.search import table
from pyssh_gateway.cli.main import run
from tests.support.made_logs import write_log
from tests.support.places import ROOT
from tests.support.waiting import PATIENCE
from tests.support.written_log import WrittenLog, identity

DAY = 86400.0


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two people on a Monday; c1 is a name that was used twice."""
    monkeypatch.setenv("TZ", "UTC")
    log = WrittenLog()
    for begin in (0.0, 36000.0):
        log.start(begin)
        log.come(begin + 1, "c1", "amos")
        which: dict[str, Any] = {"conn": "c1", "session": "c1.1", "user": "dev", "identity": identity("amos")}
        opened = ev.SessionOpened(**which, kind="exec", command="rm -rf build", tty="", term="", pid=1)
        log.write(begin + 2, opened)
        closed = ev.SessionClosed(
            **which,
            reason="the process ended",
            exit_status=3,
            exit_signal=None,
            bytes_in=1,
            bytes_out=2048,
            seconds=60.0,
        )
        log.write(begin + 62, closed)
        log.go(begin + 63, "c1")
    log.come(37000, "c2")
    denied = ev.AuthAttempt(
        conn="c2", peer="198.51.100.7", user="root", method="publickey", result="denied", reason="unknown account"
    )
    log.write(37001, denied)
    return write_log(tmp_path, log.lines, cuts=[4, 8])


def answer(log: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:  # noqa: ANN401 - JSON
    """What a command prints for programs: one line."""
    assert run(["audit", *words, "--dir", str(log), "--json"], {}) == code
    (line,) = capsys.readouterr().out.splitlines()
    return json.loads(line)


def printed(log: Path, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[str]:
    """What a command prints for people."""
    assert run(["audit", *words, "--dir", str(log)], {}) == code
    return capsys.readouterr().out.splitlines()


def test_sessions(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row a session, and the options that choose among them."""
    head, first, second = printed(log, capsys, "sessions")
    assert head.split()[:6] == ["SESSION", "WHO", "ACCOUNT", "FROM", "WHEN", "(UTC)"]
    assert first.split()[:6] == ["c1.1", "file:amos", "dev", "203.0.113.9", "2026-01-05", "00:00:02"]
    assert "rm -rf build" in first
    assert "2026-01-05 10:00:02" in second
    assert printed(log, capsys, "sessions", "-n", "1") == [head, second]
    assert printed(log, capsys, "sessions", "--at", "2026-01-05 10:00:30") == [head, second]
    assert not printed(log, capsys, "sessions", "--since", "2026-01-06")
    (denied,) = answer(log, capsys, "sessions", "--denied", "--from", "203.0.113.0/24")["sessions"]
    assert (denied["conn"], denied["user"], denied["reason"]) == ("c2", "root", "unknown account")
    (row,) = answer(log, capsys, "sessions", "--command", "RM", "--until", "2026-01-05 01:00")["sessions"]
    assert (row["since"], row["exit_status"]) == ("2026-01-05T00:00:02.000000Z", 3)


def test_show(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A story for each connection that has had the name; none is an error."""
    stories = answer(log, capsys, "show", "c1.1")["stories"]
    assert [story["session"] for story in stories] == ["c1.1", "c1.1"]
    assert [event["event"] for event in stories[0]["events"]] == [
        "connection.opened", "connection.authenticated", "session.opened", "session.closed", "connection.closed"
    ]  # fmt: skip
    lines = printed(log, capsys, "show", "c1")
    assert sum(line.startswith("c1, times in UTC") for line in lines) == 2
    assert "  00:00:02  c1.1 began: ran rm -rf build, as process 1." in lines
    assert printed(log, capsys, "show", "c2")[-1] == "  It is open, by the log."
    assert answer(log, capsys, "show", "c9", code=1)["error"]["code"] == "failed"


def test_search(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where it is, with its context; nothing found is a no."""
    lines = printed(log, capsys, "search", "rf bui")
    assert [line.split()[2] for line in lines[1:]] == ["c1.1", "c1.1"]
    (hit,) = answer(log, capsys, "search", "198.51", "--denied", code=2).get("hits", [None])
    assert hit is None
    assert answer(log, capsys, "search", "nothing", code=1) == {"hits": []}
    assert answer(log, capsys, "search", "", code=2)["error"]["code"] == "usage"


def test_tail(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last lines as the server prints them, with the date; or raw; and by what they are."""
    lines = printed(log, capsys, "tail", "-n", "3")
    assert lines[0] == "--- Mon 2026-01-05 (UTC) ---"
    assert "denied root from 198.51.100.7" in lines[-1]
    assert run(["audit", "tail", "--dir", str(log), "--json", "--event", "session.closed"], {}) == 0
    raw = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["exit_status"] for line in raw] == [3, 3]
    assert all(line.encode() + b"\n" in (log / "events.jsonl").read_bytes() for line in raw[1:])
    assert len(printed(log, capsys, "tail", "--since", "2026-01-05", "--denied")) == 2
    assert printed(log, capsys, "tail", "-n", "0") == []


def test_words_are_forgiving(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Upper and lower case, short options written together, and where the answer to another question is."""
    assert printed(log, capsys, "tail", "-n1") == printed(log, capsys, "tail", "-n", "1")
    assert len(printed(log, capsys, "tail", "--event", "Session.Closed")) == 3
    assert len(printed(log, capsys, "search", "rm", "--what", "Command")) == 3
    assert run(["audit", "sessions", "--dir", str(log), "--user", "root"], {}) == 0
    assert "--denied lists 1 connection on which nobody got in" in capsys.readouterr().err
    assert run(["audit", "export", "--json"], {}) == 2
    assert "--format jsonl" in capsys.readouterr().err


def test_what_was_found_is_seen_on_a_narrow_terminal() -> None:
    """Everything else gives room first; the command that replays it names the same log."""
    hit = Hit(
        DAY, DAY, "c10.1", "c10", "github:example", 583231, "development", "", "screen", "x" * 90 + "needle", 1, 5.0, 1
    )
    _, row, replayed = table([hit], "needle", 80, " --dir /log")
    assert len(row) <= 80
    assert "needle" in row
    assert replayed.endswith(" --at 3 --dir /log")


def test_export(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each format has each event in a line."""
    lengths = {}
    for form in ("jsonl", "csv", "ecs", "ocsf"):
        lines = printed(log, capsys, "export", "--format", form)
        lengths[form] = len(lines)
        if form != "csv":
            assert all(json.loads(line) for line in lines)
    assert lengths["jsonl"] == lengths["ecs"] == lengths["csv"] - 1 == 14
    assert 0 < lengths["ocsf"] <= lengths["jsonl"]


@pytest.mark.parametrize(
    "words",
    [
        ("sessions", "--since", "soon"),
        ("sessions", "--from", "nowhere"),
        ("sessions", "--at", "14:00", "--since", "7d"),
        ("sessions", "--since", "1h", "--until", "2h"),
        ("tail", "-n", "-1"),
        ("tail", "--event", "sesion.opened"),
        ("export", "--event", "nosuch"),
        ("search", "x", "--what", "bogus"),
        ("export", "--format", "xml"),
    ],
)
def test_what_can_not_be_understood_is_refused(
    log: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """With exit code 2, before anything is read."""
    assert run(["audit", *words, "--dir", str(log)], {}) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["sessions", "search x", "show c1", "tail", "export"])
def test_no_log_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Not a traceback, and no directory is made."""
    assert run(["audit", *command.split(), "--dir", str(tmp_path / "nothing")], {}) == 1
    assert "there is no log" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_reader_that_has_had_enough_is_none(log: Path) -> None:
    """Protects `... | head -1`: no traceback, also when there is much more to print."""
    with (log / "events.jsonl").open("ab") as file:
        file.writelines([(log / "events.jsonl").read_bytes()] * 2000)
    for command in ("export --format csv", "tail -n 5000", "search rm"):
        program = f"{sys.executable} -m pyssh_gateway audit {command} --dir {log}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {program} | head -1"],
            cwd=ROOT,
            env=os.environ | {"PYSSH_GATEWAY_CONFIG": "/dev/null"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert len(done.stdout.splitlines()) == 1, command
        assert "Traceback" not in done.stderr, command
        assert "Broken" not in done.stderr, command


@pytest.mark.parametrize("how", ["cut", "overwritten", "empty"])
def test_a_damaged_file_costs_only_its_own_lines(log: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    """Each command reads what can be read, in the other files too, and says what could not be."""
    path = log / sealed_name(4, compressed=True)
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) // 2], "overwritten": data[:20] + b"\0" * 200, "empty": b""}[how])
    for command in ("sessions", "search rm", "show c1", "tail -n 100", "export"):
        assert run(["audit", *command.split(), "--dir", str(log)], {}) == 0
        captured = capsys.readouterr()
        assert captured.out
        assert "damaged" in captured.err or command == "show c1" or how == "empty", command
    assert answer(log, capsys, "sessions")["sessions"][0]["since"] == "2026-01-05T00:00:02.000000Z"


def record(log: Path, account: str, shown: str) -> None:
    """Write a recording of c1.1 in which a shell has marked a command."""
    path = log / "recordings" / account / "c1.1.cast.zst"
    path.parent.mkdir(parents=True)
    head = {"version": 3, "term": {"cols": 80, "rows": 24, "type": "xterm"}}
    mark = f"\x1b]133;C;cmdline_url={shown}\x07{shown}\r\n"
    path.write_text(f"{json.dumps(head)}\n{json.dumps([1.0, 'o', mark])}\n")


def test_a_recording_is_the_one_of_the_session_s_account(log: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Protects from forged evidence: an account can name its own recordings like another one's session."""

    def replayed(session: str, code: int = 0) -> bytes:
        assert run(["audit", "replay", session, "--dir", str(log)], {}) == code
        told = capfdbinary.readouterr()
        return told.err if code else told.out

    def shown() -> bytes:
        assert run(["audit", "show", "c1.1", "--dir", str(log)], {}) == 0
        return capfdbinary.readouterr().out

    record(log, "mallory", "forged")
    assert b"c1.1 is one of dev, which has no recording of it; others have one: mallory/c1.1" in replayed("c1.1", 1)
    assert b"recorded" not in shown()
    record(log, "dev", "true")
    assert b"true" in replayed("c1.1")
    assert b"forged" in replayed("mallory/c1.1")
    assert b"at its shell: true" in (story := shown())
    assert b"forged" not in story
    assert run(["audit", "search", "forged", "--dir", str(log)], {}) == 0
    assert b"audit replay mallory/c1.1 --at 0" in capfdbinary.readouterr().out
    (log / "recordings" / "dev" / "c1.1.cast.zst").rename(log / "recordings" / "dev" / "c7.1.cast.zst")
    assert b"true" in replayed("c7.1")  # the log has forgotten it, and only one account has it
    (log / "recordings" / "mallory" / "c1.1.cast.zst").rename(log / "recordings" / "mallory" / "c7.1.cast.zst")
    assert b"several accounts have a recording of session c7.1; name one of dev/c7.1, mallory/c7.1" in replayed(
        "c7.1", 1
    )
