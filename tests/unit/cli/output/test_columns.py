"""cli.output.columns: rows stay aligned, however long their cells are."""

import os
import pty

import pytest

from pyssh_gateway.cli.output.columns import aligned, places, terminal_width

HEADINGS = ("NAME", "SIZE", "WHAT")


def test_columns_stand_under_their_headings() -> None:
    """Protects comparison by eye: each column begins where its heading does, and numbers are aligned at the right."""
    rows = [("a", "7", "x"), ("longer", "1024", ""), ("", "1", "z")]
    assert aligned(HEADINGS, rows, width=None, numbers=("SIZE",), indent=" ") == [
        " NAME    SIZE  WHAT",
        " a          7  x",
        " longer  1024",
        "            1  z",
    ]


@pytest.mark.parametrize("width", [200, 60, 50, 40, 30])
def test_a_terminal_is_not_too_narrow(width: int) -> None:
    """Protects 80 columns: cells that may shrink are cut, the first named first, and stay long enough to tell apart."""
    row = ("n" * 30, "7", "w" * 30)
    heading, line = aligned(HEADINGS, [row], width=width, giving=("WHAT", "NAME"))
    assert len(line) == max(min(68, width), 32)
    assert line.count("…") == (0 if width >= 68 else 1 if width >= 50 else 2)
    assert len(line.split()[0]) == (30 if width >= 50 else max(12, width - 20))
    assert heading.index("SIZE") == line.index("7")


def test_wide_and_hostile_characters_keep_their_places() -> None:
    """Protects the table from the width of characters of other scripts, and the terminal from control characters."""
    lines = aligned(("WHO", "N"), [("你好", "1"), ("e\\u0301", "2"), ("\x1b[2J", "3")], width=None)
    assert lines == ["WHO      N", "你好     1", "e\\u0301  2", "\\x1b[2J  3"]
    assert [places(text) for text in ("你好", "e\u0301", "ab")] == [4, 1, 2]
    assert aligned(("WHO", "N"), [("你" * 10, "1")], width=16, giving=("WHO",)) == [
        "WHO            N",
        "你你你你你你…  1",
    ]


def test_only_a_terminal_has_a_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects pipes from cut columns: nothing is cut when standard output is no terminal, or is closed."""
    monkeypatch.setattr("sys.stdout", None)
    assert terminal_width() is None
    leader, follower = pty.openpty()
    with os.fdopen(leader), os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert terminal_width() is None  # a terminal without a size
        import fcntl
        import struct
        import termios

        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 77, 0, 0))
        assert terminal_width() == 77
