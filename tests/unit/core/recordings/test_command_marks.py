"""Tests of the marks that shells put around commands."""

import pytest

from pyssh_gateway.core.recordings.asciicast import Event
from pyssh_gateway.core.recordings.command_marks import MAX_COMMAND, MAX_EVERYTHING, Command, CommandMarks


def found(*outputs: str) -> list[Command]:
    """The commands in output that came a second apart."""
    marks = CommandMarks()
    commands = [each for at, data in enumerate(outputs) for each in marks.feed(Event(float(at), "o", data))]
    return commands + marks.end()


PROMPT = "\x1b]133;A\x07$ \x1b]133;B\x07"


@pytest.mark.parametrize("end", ["\x07", "\x1b\\"])
def test_a_command_with_its_status(end: str) -> None:
    """The command is what the mark says, its times are those of the marks."""
    named = f"\x1b]133;C;cmdline_url=rm%20-rf%20%C3%A4%3Bx%0Ay{end}"
    assert found(PROMPT, "whatever\r\n", named, "output", f"\x1b]133;D;12{end}" + PROMPT) == [
        Command(2.0, "rm -rf ä;x\ny", 4.0, 12)
    ]


def test_a_command_that_only_stands_on_the_screen() -> None:
    """Without a name it is what was typed, with the editing that a shell's line editor shows."""
    typed = "ls -lx\b\b\x1b[K\x1b[1mal\x1b[m /tmq\x1b[1Dp\x1b[2D\x1b[1P\x1b[@o\x1b[C\x1b[9C!\x1b[?2004l\r\n"
    assert found(PROMPT, *typed, "\x1b]133;C\x07") == [Command(float(len(typed) + 1), "ls -al /top!")]


def test_vs_codes_marks() -> None:
    """VS Code's shell integration says the command escaped."""
    marks = [
        "\x1b]633;A\x07$ \x1b]633;B\x07",
        "x",
        "\x1b]633;E;echo a\\x3bb\\\\n;nonce\x07\x1b]633;C\x07",
        "\x1b]633;D;0\x07",
    ]
    assert found(*marks) == [Command(2.0, "echo a;b\\n", 3.0, 0)]


def test_marks_that_are_missing() -> None:
    """A command without its end ends with the next prompt or command, or is still running; without text it is none."""
    begin = "\x1b]133;C;cmdline_url={}\x07"
    assert found(
        begin.format("a"), PROMPT, begin.format("b"), begin.format("c"), "\x1b]133;D\x07", begin.format("d")
    ) == [
        Command(0.0, "a", 1.0),
        Command(2.0, "b", 3.0),
        Command(3.0, "c", 4.0),
        Command(5.0, "d"),
    ]
    assert found("\x1b]133;C\x07", "\x1b]133;D;0\x07", PROMPT + "\x1b]133;C;aid=1\x07") == []


@pytest.mark.parametrize(
    "mark", ["\x1b]133\x07", "\x1b]133;E;x\x07", "\x1b]133;Z\x07", "\x1b]2;133;C\x07", "\x1b]133;D;-1\x07"]
)
def test_other_sequences(mark: str) -> None:
    """What is no mark changes nothing; a status that is no number is none."""
    assert found("\x1b]133;C;cmdline_url=a\x07", "text", mark)[0].status is None
    assert found("text", mark) == []


def test_hostile_marks_are_bounded() -> None:
    """Protects memory: long commands, endless lines and many commands."""
    long = "x" * MAX_COMMAND
    assert found(PROMPT, *[long, "\x1b[9999@", "y"], "\x1b]133;C\x07")[0].text == long
    many = CommandMarks()
    each = "\x1b]133;C;cmdline_url=a\x07" * 100
    assert sum(len(many.feed(Event(1.0, "o", each))) for _ in range(MAX_EVERYTHING // 100 + 5)) == MAX_EVERYTHING
    assert many.feed(Event(2.0, "i", each)) == []
