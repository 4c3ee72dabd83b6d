"""A terminal whose screen can be read: a window of a tmux server of its own."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from unicodedata import normalize

from tests.support.places import ROOT
from tests.support.waiting import PATIENCE, until


class Window:
    """`argv` in a window of `size` (columns, rows)."""

    def __init__(self, directory: Path, argv: list[str], size: tuple[int, int], **variables: str) -> None:
        self._socket = directory / f"tmux-{os.urandom(4).hex()}"
        self.size = size
        environ: Mapping[str, str] = {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **variables}
        settings = [f"{name}={value}" for name, value in environ.items()]
        # It stays when the program has ended, so that its last screen can be read.
        command = shlex.join(["env", *settings, *argv])
        configuration = directory / "tmux.conf"
        configuration.write_text("set -g status off\nset -g remain-on-exit on\nset -g remain-on-exit-format ''\n")
        self._tmux("-f", str(configuration), "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), command)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tmux("kill-server")

    def type(self, *keys: str) -> None:
        """Press keys, by their names in tmux(1), or text."""
        self._tmux("send-keys", *keys)

    def resize(self, cols: int, rows: int) -> None:
        """Give the window another size."""
        self.size = (cols, rows)
        self._tmux("resize-window", "-x", str(cols), "-y", str(rows))

    def screen(self) -> list[str]:
        """Its rows, without spaces at their ends, and with composed characters (NFC)."""
        rows = normalize("NFC", self._tmux("capture-pane", "-p", "-N")).split("\n")
        return [row.rstrip() for row in rows][: self.size[1]]

    def wait_for(self, text: str) -> None:
        """Wait until that is on the screen."""
        seen: list[str] = []

        def is_there() -> bool:
            seen[:] = self.screen()
            return any(text in line for line in seen)

        try:
            until(is_there, what=f"{text} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen: {seen}") from None

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-u", "-S", self._socket, *arguments],
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": "/nonexistent", "SHELL": "/bin/sh"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout


def gateway(*arguments: str) -> list[str]:
    """The command line of one of our commands."""
    return [sys.executable, "-m", "pyssh_gateway", *arguments]
