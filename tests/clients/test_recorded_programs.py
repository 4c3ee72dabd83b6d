"""Recordings of real programs: each reader shows the screen that the program had, cell by cell.

A program runs in a tmux window, whose screen is the real one, and is recorded there.
"""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unicodedata import normalize

import pytest

from pyssh_gateway.audit.recordings import screen_text
from pyssh_gateway.audit.recordings.emulator import Emulator
from pyssh_gateway.audit.recordings.reading import Recording, events
from pyssh_gateway.audit.recordings.screen import TextScreen
from pyssh_gateway.audit.recordings.screen_text import shown
from pyssh_gateway.core.recordings import asciicast
from tests.support.places import ROOT
from tests.support.player import needs_player, player
from tests.support.tmux import Window, gateway
from tests.support.waiting import PATIENCE, until

SIZE = (80, 24)

WIDE = """
import os, sys
lines = ["漢字かな交じり文 " * 9, "emoji 🦊🚀", "한국어 " * 12]
lines += ["x" * 79 + "漢 wrapped", "\\t🦊\\ttab"]
for line in lines:
    for byte in (line + "\\n").encode():
        os.write(1, bytes([byte]))
sys.stdin.readline()
"""
"""Writes byte by byte, so that every character is split."""

COMBINED = WIDE.replace("emoji", "e\\u0301 a\\u0308 漢\\u0301")
"""With combining characters, which asciinema's web player, at present, gives cells of their own."""


def emulated(path: Path) -> list[str]:
    """The screen at the end of the recording, as it is now."""
    with Recording([path]) as recording:
        screen = TextScreen(recording.header.cols, recording.header.rows)
        emulator = Emulator(screen)
        while (found := recording.read()) is not None:
            for event in found:
                if (size := asciicast.size(event)) is not None:
                    screen.resize(columns=size[0], lines=size[1])
                elif event.code == "o":
                    emulator.feed(event.data)
    rows = [screen.buffer[y].render() if y in screen.buffer else "" for y in range(screen.lines)]
    return [normalize("NFC", row) for row in rows]


@contextmanager
def recorded(directory: Path, *argv: str, size: tuple[int, int] = SIZE) -> Iterator[tuple[Window, Path]]:
    """That program in a window, and the file that it is recorded to."""
    path = directory / "c1.1.cast.zst"
    command = [sys.executable, "-m", "tests.support.recorded_program", str(path), *argv]
    with Window(directory, command, size, HOME=str(directory), LANG="C.UTF-8") as window:
        yield window, path


def agree(one: Callable[[], list[str]], other: Callable[[], list[str]]) -> list[str]:
    """Wait until both are the same, and return it. The difference is in the error."""
    seen: list[list[str]] = [[], []]

    def same() -> bool:
        seen[:] = [one(), other()]
        return seen[0] == seen[1] and any(seen[0])

    try:
        until(same, PATIENCE / 4)
    except AssertionError:
        assert seen[0] == seen[1]
    return seen[0]


def vim(window: Window, directory: Path) -> None:
    """Edit, scroll, split the window, insert in the middle of a line."""
    window.wait_for("line 1")
    window.type("80G", "dd", "10k", "A", " changed 漢字", "Escape", ":split", "Enter", "gg", "O", "first", "Escape")
    window.type("C-w", "j", "C-f", "C-f", "C-y", "3J", "/line 42", "Enter")
    window.wait_for("first")


def less(window: Window, directory: Path) -> None:
    """Scroll both ways."""
    window.wait_for("line 1")
    window.type("G", "5k", "20", "b")


def wide(window: Window, directory: Path) -> None:
    """It only writes."""
    window.wait_for("tab")


def htop(window: Window, directory: Path) -> None:
    """It draws all the time; stopped, its screen stands."""
    window.wait_for("F10Quit")
    window.type("Down", "Down", "F6")
    window.wait_for("Sort by")


PROGRAMS: dict[str, tuple[list[str], Callable[[Window, Path], None]]] = {
    "vim": (["vim", "-u", "NONE", "-N", "lines"], vim),
    "htop": (["htop", "--delay=100"], htop),
    "less": (["less", "-S", "lines"], less),
    "wide": ([sys.executable, "-c", WIDE], wide),
    "combined": ([sys.executable, "-c", COMBINED], wide),
}
"""How each is started and used."""


@contextmanager
def used(directory: Path, program: str) -> Iterator[tuple[Path, list[str]]]:
    """A recording of that program, not yet ended, and its real screen."""
    (directory / "lines").write_text("".join(f"line {number} of the file\n" for number in range(200)))
    argv, use = PROGRAMS[program]
    with recorded(directory, "sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(directory), *argv) as (
        window,
        path,
    ):
        use(window, directory)
        real = agree(window.screen, lambda: emulated(path))
        copy = directory / "copy.cast.zst"
        copy.write_bytes(path.read_bytes())
        if program == "htop":  # it goes on drawing
            real = emulated(copy)
    yield copy, real


def exported(directory: Path, path: Path, version: str) -> Path:
    """The recording in that version of the format."""
    file = directory / f"{version}.cast"
    command = gateway("audit", "replay", str(path), "--format", version, "-o", str(file))
    subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE)
    return file


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_reader_shows_the_real_screen(program: str, tmp_path: Path) -> None:
    """Our emulator, our replay, and asciinema's play (version 2) end with the screen that the program had."""
    with used(tmp_path, program) as (path, real):
        v2, v3 = exported(tmp_path, path, "v2"), exported(tmp_path, path, "v3")
    play = [sys.executable, "-m", "asciinema", "play", "-s", "1000", "-i", "0.001", str(v2)]
    with Window(tmp_path, play, SIZE, HOME=str(tmp_path), LANG="C.UTF-8") as window:
        agree(window.screen, lambda: real)
    # Our own replay waits for something that happens much later. A row more than was recorded has the line about it.
    with v3.open("a") as file:
        file.write('[10000.0, "m", "later"]\n')
    replay = gateway("audit", "replay", str(v3), "--speed", "64", "--idle-limit", "1h")
    with Window(tmp_path, replay, (SIZE[0], SIZE[1] + 1), LANG="C.UTF-8") as window:
        agree(lambda: window.screen()[: SIZE[1]], lambda: real)
        window.type("g")
        window.type("G")
        window.wait_for("paused")
        agree(lambda: window.screen()[: SIZE[1]], lambda: real)
        window.type("q")


@pytest.mark.soak
@needs_player
@pytest.mark.parametrize("program", sorted(PROGRAMS.keys() - {"combined"}))
def test_the_web_player_shows_the_real_screen(program: str, tmp_path: Path) -> None:
    """asciinema's player in a browser takes version 3 without a complaint, and ends with the same screen."""
    with used(tmp_path, program) as (path, real), player() as web:
        web.load(exported(tmp_path, path, "v3"))
        agree(web.screen, lambda: real)
        assert web.faults == []


def test_a_storm_of_resizes(tmp_path: Path) -> None:
    """A program that draws anew at each resize ends with the same screen."""
    (tmp_path / "lines").write_text("".join(f"line {number} of the file\n" for number in range(200)))
    sizes = random.Random(1)
    with recorded(tmp_path, "vim", "-u", "NONE", "-N", str(tmp_path / "lines")) as (window, path):
        window.wait_for("line 1")
        for _ in range(40):
            window.resize(sizes.randint(20, 150), sizes.randint(5, 60))
        window.resize(100, 30)
        # tmux passes the last size on a moment later. In a tiny window vim may have asked for a key first.
        until(lambda: [each.data for each in events([path]) if each.code == "r"][-1:] == ["100x30"])
        window.type("Escape", "gg", "O", "the end", "Escape")
        window.wait_for("the end")
        agree(window.screen, lambda: emulated(path))


def test_what_vim_showed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of a file that was only looked at in vim is found."""
    monkeypatch.setattr(screen_text, "STOOD", 0.0)  # the test looks for a moment only
    (tmp_path / "lines").write_text("".join(f"line {number} of the file\n" for number in range(200)))
    with recorded(tmp_path, "vim", "-u", "NONE", "-N", str(tmp_path / "lines")) as (window, path):
        window.wait_for("line 1")
        window.type("150G")
        window.wait_for("line 150 of the file")
        window.type(":q!", "Enter")
        until(lambda: not window.screen()[0])
        found = {each.text for each in shown(path)}
    assert {"line 1 of the file", "line 150 of the file"} <= found
    assert "line 100 of the file" not in found
