"""Tests of the text that recordings have shown: what a person saw, and bounds."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.audit.recordings import screen_text
from pyssh_gateway.audit.recordings.emulator import Emulator
from pyssh_gateway.audit.recordings.screen import MAX_COLS, MAX_ROWS, TextScreen
from pyssh_gateway.audit.recordings.screen_text import shown
from pyssh_gateway.core.recordings.asciicast import Encoder, Header


def screen(output: str, cols: int = 10, rows: int = 4) -> list[str]:
    """The rows of a screen after this output."""
    text = TextScreen(cols, rows)
    Emulator(text).feed(output)
    return [text.buffer[y].render() if y in text.buffer else "" for y in range(text.lines)]


@pytest.mark.parametrize(
    ("output", "rows"),
    [
        ("abc\r\ndef", ["abc", "def", "", ""]),
        ("1\r\n2\r\n3\r\n4\r\n5", ["2", "3", "4", "5"]),
        ("0123456789ab", ["0123456789", "ab", "", ""]),
        ("\x1b[?7l0123456789ab", ["012345678b", "", "", ""]),
        ("012345678漢", ["012345678", "漢", "", ""]),
        ("漢字\x1b[2Gx", [" x字", "", "", ""]),
        ("a漢b\x1b[3GX", ["a Xb", "", "", ""]),
        ("e\u0301漢\u0301\u200d", ["é漢\u0301\u200d", "", "", ""]),
        ("abc\b\bX\x1b[C!", ["aXc!", "", "", ""]),
        ("a\tb", ["a       b", "", "", ""]),
        ("main\x1b[?1049h\x1b[Halt\x1b[?1049l", ["main", "", "", ""]),
        ("a\x1b[3bb", ["aaaab", "", "", ""]),
        ("1\r\n2\r\n3\x1b[2S", ["3", "", "", ""]),
        ("1\r\n2\r\n3\x1b[T", ["", "1", "2", "3"]),
        ("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\nX", ["1", "3", "X", "4"]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[Lx", ["1", "x", "2", "3"]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[M", ["1", "3", "", ""]),
        ("abcdef\x1b[3G\x1b[2P\x1b[1@", ["ab ef", "", "", ""]),
        ("abcdef\x1b[3G\x1b[2X", ["ab  ef", "", "", ""]),
        ("abcdef\x1b[3G\x1b[K", ["ab", "", "", ""]),
        ("abcdef\x1b[3G\x1b[1K", ["   def", "", "", ""]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[J", ["1", "", "", ""]),
        ("1\r\n2\r\n3\x1b[2;1H\x1b[1J", ["", "", "3", ""]),
        ("a\x1b7b\x1b8c\x1b8d", ["ad", "", "", ""]),
        ("\x1b(0lqk\x1b(Bx", ["┌─┐x", "", "", ""]),
        ("ab\x1b[4h\x1b[1Gx\x1b[4ly", ["xyb", "", "", ""]),
        ("x\x1bcy", ["y", "", "", ""]),
    ],
)
def test_the_screen(output: str, rows: list[str]) -> None:
    """The screen is that of xterm, also where pyte's is not."""
    assert screen(output) == rows


def test_resizes() -> None:
    """What does not fit any more goes at the top, from below the cursor only if that is empty."""
    text = TextScreen(10, 6)
    to = Emulator(text)
    to.feed("1\r\n2\r\n3")
    text.resize(lines=2, columns=5)
    assert [text.buffer[y].render() for y in range(2)] == ["2", "3"]
    assert [row.render() for row in text.scrolled] == ["1"]
    text.resize(lines=10**6, columns=10**6)
    assert (text.lines, text.columns) == (MAX_ROWS, MAX_COLS)


PIECES = st.sampled_from(
    [
        *(
            "\x1b[",
            "\x1b",
            "?",
            ";",
            "9999",
            "1049",
            "7",
            "1",
            "24",
            "漢",
            "\u0301",
            "text",
            "\r\n",
            "\b",
            "\t",
            "\x0e",
        ),
        *("\x1b(0", "\x1bM", "\x1bD", "\x1b7", "\x1b8", "\x1bc", "\x1b[!p", "\x1b[4h", "\x1b[?6h"),
        *"hlHfrABCDEFGLMPST@XZabdegJKmsun",
    ]
)
SIZES = st.tuples(st.integers(1, 20), st.integers(1, 8))


@given(st.lists(PIECES, max_size=60).map("".join), SIZES, SIZES)
def test_hostile_output(output: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    """Nothing raises, or leaves the screen."""
    text = TextScreen(*before)
    to = Emulator(text)
    for _ in range(2):
        to.feed(output)
        assert all(0 <= y < text.lines for y in text.buffer)
        assert all(len(row) <= text.columns + 1 for row in text.buffer.values())
        text.resize(lines=after[1], columns=after[0])


class Made:
    """A recording in the making."""

    def __init__(self, path: Path, cols: int = 80, rows: int = 24, term: str = "xterm") -> None:
        self.path = path / "c1.1.cast"
        self._to = Encoder()
        self._data = [self._to.header(Header(cols=cols, rows=rows, term=term))]

    def add(self, at: float, output: str) -> None:
        """Output at that time."""
        self._data.append(self._to.output(at, output.encode()))

    def shown(self) -> list[tuple[float, str]]:
        """What it has shown."""
        self.path.write_bytes(b"".join(self._data))
        return [(each.time, each.text) for each in shown(self.path)]


def test_what_a_person_saw(tmp_path: Path) -> None:
    """Typed lines are whole, edited text is as it stood, progress is its end, and each line comes once."""
    made = Made(tmp_path)
    for at, key in enumerate("ls -lx\b \b"):
        made.add(1 + at / 10, key)
    made.add(2.5, "\r\nfile\r\nfile\r\n")
    for at in range(100):
        made.add(3 + at / 100, f"\r{at} %")
    made.add(5, "\r\n\x1b[?1049h\x1b[2J\x1b[H\x1b[1mfirst\x1b[m line\x1b[5;10Hsecond")
    made.add(7, "\x1b[5;16H!")
    made.add(8, "\x1b[2J\x1b[HPassword: ")
    made.add(9, "\x1b[?1049l$ " + "word " * 30 + "\r\n")
    found = made.shown()
    assert [text for _, text in found].count("file") == 1
    assert {"ls -l", "file", "99 %", "first line", "second!", "Password:", "$ " + "word " * 29 + "word"} <= {
        text for _, text in found
    }
    assert not {text for _, text in found} & {"50 %", "ls", ""}
    assert {text: at for at, text in found}["second!"] == 7


def test_output_without_a_terminal(tmp_path: Path) -> None:
    """A newline alone ends a line where no terminal has translated it."""
    made = Made(tmp_path, term="")
    made.add(1, "one\ntwo\nthree")
    assert [text for _, text in made.shown()] == ["one", "two", "three"]


def test_a_flood_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many lines the first are found, the last screen, and what comes after them."""
    monkeypatch.setattr(screen_text, "BURST", 1000)
    made = Made(tmp_path)
    made.add(1, "before\r\n")
    lines = [f"\x1b[32mline\x1b[m {number}\r\n" for number in range(50_000)]
    for start in range(0, len(lines), 1000):
        made.add(2, "".join(lines[start : start + 1000]))
    made.add(3, "$ after")
    found = [text for _, text in made.shown()]
    assert found[:3] == ["before", "line 0", "line 1"]
    assert {"line 49999", "line 49980", "$ after"} <= set(found)
    assert len(found) < 1200


def test_much_drawing_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After too many sequences only plain lines are found: a hostile recording can't keep a search busy."""
    monkeypatch.setattr(screen_text, "MAX_TOKENS", 1000)
    made = Made(tmp_path)
    made.add(1, "\x1b[Hx" * 1000)
    made.add(2, "\x1b[Hdrawn later")
    made.add(3, "".join(f"plain {number}\r\n" for number in range(500)))
    found = [text for _, text in made.shown()]
    assert "drawn later" not in found
    assert "plain 250" in found


def test_long_lines(tmp_path: Path) -> None:
    """Protects memory: a line without an end is cut."""
    made = Made(tmp_path)
    made.add(1, "x" * 1_000_000)
    assert all(len(text) <= screen_text.MAX_LINE for _, text in made.shown())
