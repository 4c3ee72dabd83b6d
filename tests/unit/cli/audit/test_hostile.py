"""cli.audit: whatever stands in the log and in recordings, nothing of it reaches a terminal that could affect it.

The server escapes what it writes. These logs are written without it, as by somebody who took over the monitor.
"""

import io
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyssh_gateway import events as ev
from pyssh_gateway.cli.audit import tail
from pyssh_gateway.cli.main import run

NASTY = (
    "a\nb\r\tc",
    "\x1b[2J\x1b]52;c;AAAA\x07\x1b]0;title\x1b\\",
    "\x00\x7f\x9b31m\u0085\u2028\u202eevil",
    "</script><script>alert(1)</script>",
    "\\x1b[31m \\n \\",
    "'; DROP TABLE connections; --",
    "=cmd|' /C calc'!A0",
    "\U000e0041\ufeff\u200b",
)
LONG = ("x" * 1_000_000, "你好" * 5000)
MOMENT = "2026-01-05T00:00:00.000000Z"
COMMANDS = (
    "sessions", "sessions --json", "sessions --denied", "sessions --denied --json", "show c1", "show c1.1 --all",
    "show c1 --json", "search a", "search x", "search 1", "search a --json", "tail -n 1000", "tail -n 1000 --json",
    "export", "export --format csv", "export --format ecs", "export --format ocsf",
)  # fmt: skip


def line(tag: str, **fields: object) -> bytes:
    """A line of the log."""
    return json.dumps({"ts": MOMENT, "seq": 1, "event": tag} | fields, ensure_ascii=False).encode() + b"\n"


def events_with(text: str) -> Iterator[bytes]:
    """Every kind of event, with `text` in each of its fields that has a text."""
    identity = {"person": text, "id": 7, "fingerprint": text}
    for kind in ev.AnyEvent.__args__:
        fields: dict[str, object] = {}
        for field in msgspec.structs.fields(kind):
            name = str(field.type)
            if field.name in {"conn", "session"}:
                fields[field.name] = "c1" if field.name == "conn" else "c1.1"
            elif field.name == "identity":
                fields[field.name] = identity
            elif "Literal" in name:
                fields[field.name] = field.type.__args__[0]
            elif field.type is str:
                fields[field.name] = text
            elif "tuple[str" in name:
                fields[field.name] = [text, text]
            elif "tuple" in name:
                fields[field.name] = [[0, 5]]
            elif field.type is bool:
                fields[field.name] = True
            elif "Algorithms" in name or "PreviousLogin" in name:
                fields[field.name] = None
            elif field.required:
                fields[field.name] = 5
        yield line(kind.__struct_config__.tag, **fields)
    yield line("auth.attempt", conn="c2", peer=text, user=text, result="denied", method=text, reason=text)
    yield line("future.event", conn="c1", text=text, list=[text], object={text: text})
    yield line(text, conn=text, session=text, user=text, identity=identity)


def recording(text: str) -> bytes:
    """A recording that shows `text`."""
    head = {"version": 3, "term": {"cols": 80, "rows": 24}, "title": text[:100]}
    return b"".join(
        json.dumps(one).encode() + b"\n" for one in (head, [1.5, "o", text[:5000] + "\r\n"], [0.5, "x", "0"])
    )


@contextmanager
def log(lines: list[bytes], shown: str = "") -> Iterator[Path]:
    """A log with these lines, and a recording."""
    directory = Path(tempfile.mkdtemp(prefix="pyssh-test-"))
    try:
        (directory / "events.jsonl").write_bytes(b"".join(lines))
        (directory / "recordings" / "dev").mkdir(parents=True)
        if shown:
            (directory / "recordings" / "dev" / "c1.1.cast.zst").write_bytes(recording(shown))
        yield directory
    finally:
        shutil.rmtree(directory)


def output(directory: Path, command: str) -> str:
    """What a command prints, on standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert run(["audit", *command.split(), "--dir", str(directory)], {}) in {0, 1}
    assert "Traceback (most" not in err.getvalue()
    check_printable(err.getvalue())
    return out.getvalue()


def check_printable(text: str) -> None:
    """Fail unless every character but the ends of lines prints."""
    for one in text.replace("\r\n", "\n").split("\n"):
        assert one.isprintable(), repr(one)[:300]


def check(lines: list[bytes], shown: str = "") -> None:
    """Run every command on a log, and fail if it prints anything that doesn't print, or no JSON where it should."""
    with log(lines, shown) as directory:
        for command in COMMANDS:
            text = output(directory, command)
            check_printable(text)
            if "json" in command or command in {"export", "export --format ecs", "export --format ocsf"}:
                for one in text.splitlines():
                    json.loads(one)


def test_no_text_of_an_event_reaches_the_terminal() -> None:
    """In every text of every event, and on the screen of a recording."""
    check([one for text in NASTY for one in events_with(text)], "".join(NASTY))


def test_a_very_long_text_is_bounded() -> None:
    """A megabyte in a field is a line of the log as any other."""
    lines = [line("session.opened", conn="c1", session="c1.1", command=text) for text in LONG]
    check([line("connection.opened", conn="c1", peer="203.0.113.9"), *lines], LONG[0])


def test_no_text_reaches_a_terminal_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the lines have escape sequences of ours, and no others."""
    monkeypatch.setattr(tail, "_has_colour", lambda _: True)
    with log([one for text in NASTY for one in events_with(text)]) as directory:
        coloured = output(directory, "tail -n 1000")
    assert "\x1b[" in coloured
    check_printable(re.sub(r"\x1b\[(0|2|3[1-6])m", "", coloured))


TEXT = st.text(max_size=20)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXT, below, max_size=3),
    max_leaves=5,
)
FIELDS = st.dictionaries(
    st.sampled_from(["conn", "session", "user", "identity", "command", "ts", "bytes_in", "exit_status", "path", "peer"])
    | TEXT,
    VALUE,
    max_size=6,
)
LINE = st.builds(
    lambda tag, fields: json.dumps({"ts": MOMENT, "seq": 1, "event": tag, "conn": "c1"} | fields).encode() + b"\n",
    st.sampled_from([kind.__struct_config__.tag for kind in ev.AnyEvent.__args__]) | TEXT,
    FIELDS,
) | st.binary(max_size=60).map(lambda data: data + b"\n")


@settings(max_examples=max(4, settings().max_examples // 25), suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LINE, max_size=8))
def test_no_line_at_all_breaks_a_command(lines: list[bytes]) -> None:
    """Whatever types the fields have, whatever bytes the line."""
    check(lines)


def test_the_recording_is_searched() -> None:
    """Protects the tests above: what the recording has shown is really in the answers."""
    opened = line("connection.opened", conn="c1", peer="203.0.113.9", peer_port=1)
    with log([opened], "needle\x1b]0;title\x07") as where:
        assert "needle" in output(where, "search needle")
        assert "audit replay dev/c1.1 --at 0" in output(where, "search needle")
