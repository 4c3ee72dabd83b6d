"""Tests of the filter in front of a reader's terminal, and of the splitting of sequences below it."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyssh_gateway.core.recordings.sequences import MAX_SEQUENCE, TOKEN, Splitter
from pyssh_gateway.core.recordings.terminal_filter import TerminalFilter, reset

PIECES = [
    *(
        "\x1b",
        "\x1b[",
        "\x1b]",
        "\x1bP",
        "\x1b_",
        "\x1b\\",
        "[",
        "]",
        "\\",
        "\x07",
        "\x18",
        "\x9b",
        "\x9d",
        "\x9c",
        "\x05",
    ),
    *(
        "52;c;",
        "?",
        ">",
        "1",
        "49",
        ";",
        "$",
        " ",
        "!",
        "h",
        "l",
        "m",
        "n",
        "c",
        "t",
        "q",
        "p",
        "H",
        "J",
        "漢",
        "x",
        "\r\n",
    ),
]
OUTPUT = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join)


def filtered(*parts: str) -> str:
    """What of these parts reaches the terminal."""
    to = TerminalFilter()
    return "".join(to.feed(part) for part in parts)


@pytest.mark.parametrize(
    "drawing",
    [
        "plain text, 漢字 and 🦊\r\n\tand\b\x0e\x0f",
        "\x1b[1;38;5;208;48:2::1:2:3mcolours\x1b[m\x1b[0m",
        "\x1b[H\x1b[2J\x1b[J\x1b[K\x1b[1K\x1b[10;20H\x1b[10;20f\x1b[5A\x1b[B\x1b[3C\x1b[D\x1b[7G\x1b[4d",
        "\x1b[2L\x1b[M\x1b[@\x1b[4P\x1b[10X\x1b[3S\x1b[2T\x1b[5b\x1b[1;24r\x1b[r\x1b[4h\x1b[4l",
        "\x1b7\x1b8\x1bD\x1bE\x1bM\x1bH\x1b[3g\x1b(0\x1b(B\x1b)0\x1b#8\x1b[s\x1b[u\x1b[2 q\x1b[!p",
        "\x1b[?1049h\x1b[?25l\x1b[?7h\x1b[?12l\x1b[?25h\x1b[?1049l",
    ],
)
def test_what_draws_is_unchanged(drawing: str) -> None:
    """The screen of a replay is the screen that was recorded, whatever pieces the output came in."""
    assert filtered(drawing) == drawing
    assert filtered(*drawing) == drawing


@pytest.mark.parametrize(
    "act",
    [
        *(
            "\x1b]52;c;cm0gLXJm\x07",
            "\x1b]52;c;?\x1b\\",
            "\x1b]0;title\x07",
            "\x1b]8;;http://example\x07",
            "\x1b]10;?\x07",
        ),
        *("\x1b]9;note\x07", "\x1b]777;notify;a;b\x07", "\x1b]133;A\x07", "\x1b]4;1;rgb:0/0/0\x07", "\x1b]52;c;a\x18"),
        *(
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1b_Gi=1\x1b\\",
            "\x1b^pm\x1b\\",
            "\x1bXsos\x1b\\",
            "\x1b]50;x\x1b\x1b\\",
        ),
        *(
            "\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\",
            "\x1b[c",
            "\x1b[>c",
            "\x1b[=c",
            "\x1b[0c",
            "\x1b[5n",
            "\x1b[6n",
            "\x1b[?6n",
        ),
        *(
            "\x1b[21t",
            "\x1b[8;1;1t",
            "\x1b[22;0t",
            "\x1b[x",
            "\x1b[1$p",
            "\x1b[?25$p",
            "\x1b[1;1;1;1;1;1*y",
            "\x1b[?1;1;0S",
        ),
        *(
            "\x1b[3J",
            "\x1b[i",
            "\x1b[4i",
            "\x1b[?5i",
            "\x1b[20h",
            "\x1b[2h",
            "\x1b[?1h",
            "\x1b[?1000;1006h",
            "\x1b[?1004h",
        ),
        *(
            "\x1b[?2004h",
            "\x1b[?3h",
            "\x1b[?2l",
            "\x1b[>1u",
            "\x1b[?u",
            "\x1b[>4;2m",
            "\x1b[?4m",
            '\x1b[1"q',
            "\x1b[>0q",
        ),
        *(
            "\x1b=",
            "\x1b>",
            "\x1bZ",
            "\x1b%@",
            "\x1b%G",
            "\x1bN",
            "\x1b F",
            "\x1bl",
            "\x1b|",
            "\x07",
            "\x05",
            "\x00",
            "\x7f",
        ),
        *(
            "\x9b",
            "\x9d",
            "\x90",
            "\x85",
            "\x1a",
            "\x1b[999999A",
            "\x1b[1;2;3H",
            "\x1b[1 2m",
            "\x1b[" + "1;" * 100 + "m",
        ),
    ],
)
def test_what_acts_is_left_out(act: str) -> None:
    """Nothing makes the reader's terminal answer, or touches anything beside its screen."""
    assert filtered(f"before{act}after") == "beforeafter"
    assert filtered(*f"before{act}after") == "beforeafter"


def test_what_is_left_of_a_sequence() -> None:
    """Modes that draw are kept out of a list of modes; a full reset becomes one of the screen."""
    assert filtered("\x1b[?1000;25;2004;7h") == "\x1b[?25;7h"
    assert "\x1bc" not in filtered("\x1bc")
    assert "\x1b[2J" in filtered("\x1bc")
    assert filtered("\x1b[12\x1b[1mx\x1b[1\nmy") == "\x1b[1mx\nmy"


@example("\x1b]\x1b[\x1b", [4])
@given(OUTPUT, st.lists(st.integers(0, 60), max_size=6))
def test_pieces_make_no_difference(output: str, cuts: list[int]) -> None:
    """However the output is cut, the same reaches the terminal."""
    places = [0, *sorted(min(cut, len(output)) for cut in cuts), len(output)]
    assert filtered(*(output[a:b] for a, b in pairwise(places))) == filtered(output)


@given(OUTPUT)
def test_what_is_let_through_is_safe_as_it_stands(output: str) -> None:
    """What has passed passes again, so it has only what is on the list; and it ends with no open sequence."""
    passed = filtered(output)
    assert filtered(passed) == passed
    assert not re.search(r"\x1b(?:[]PX^_]|\Z)|[\x00\x05\x07\x7f-\x9f]", passed)


@given(OUTPUT)
def test_tokens_are_everything(output: str) -> None:
    """Each character of what is complete belongs to exactly one token."""
    complete = Splitter().feed(output)
    assert "".join(match[0] for match in TOKEN.finditer(complete)) == complete


@pytest.mark.parametrize("end", ["\x07", "\x1b\\", "\x18", "\x1b[m"])
def test_a_string_without_an_end(end: str) -> None:
    """Protects memory: what is held back is bounded, and the text behind the string is shown."""
    splitter = Splitter()
    assert splitter.feed("a\x1b]52;c;") == "a"
    for _ in range(MAX_SEQUENCE):
        assert splitter.feed("x" * 10) == ""
    assert splitter.feed(end + "b").endswith("b")
    assert splitter.feed("\x1b[" + "1" * MAX_SEQUENCE) == ""
    assert splitter.feed("c") == "c"


def test_reset() -> None:
    """The end of a replay undoes what was let through."""
    assert reset(80).count("\x1bH") == 9
    assert filtered(reset(80)) == reset(80)
    # tmux ignores CSI ! p.
    assert all(each in reset(80) for each in ("\x1b[r", "\x1b[?6l", "\x1b[4l"))


def test_in_a_larger_terminal() -> None:
    """A recording of 24 rows scrolls at its 24th row, and reaches none below."""
    to = TerminalFilter(rows=24)
    assert to.feed("\x1b[r\x1b[2;23r\x1b[5r\x1b[1;50r\x1b[;0r") == "\x1b[1;24r\x1b[2;23r\x1b[5;24r\x1b[1;24r\x1b[1;24r"
    assert to.feed("\x1b[H\x1b[999;999H\x1b[3;4f\x1b[d\x1b[99d") == "\x1b[1H\x1b[24;999H\x1b[3;4f\x1b[1d\x1b[24d"
    assert to.feed("\x1b[!p\x1b[m\x1b[?25l") == "\x1b[!p\x1b[1;24r\x1b[m\x1b[?25l"
    assert to.feed("\x1bc").endswith("\x1b[1;24r")
