"""A terminal window with a program in it: a pty whose controlling process is the program, read with deadlines."""

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import PATIENCE

Attributes = list[Any]


class Terminal:
    """`argv` in a new terminal of `size` (rows, columns). Its output is kept in `screen`, without interpretation.

    `attributes` may change the terminal's termios(3) attributes before the program starts.
    """

    def __init__(
        self,
        argv: list[str],
        environ: dict[str, str],
        *,
        size: tuple[int, int] = (24, 80),
        attributes: Callable[[Attributes], None] | None = None,
    ) -> None:
        self.screen = b""
        self._seen = 0
        self._master, slave = os.openpty()
        try:
            self.resize(*size)
            if attributes is not None:
                values = termios.tcgetattr(slave)
                attributes(values)
                termios.tcsetattr(slave, termios.TCSANOW, values)
            # setsid makes the terminal the program's controlling one, so that the kernel signals it (Ctrl-C, resize).
            self.process = subprocess.Popen(
                ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=environ
            )
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the window: the program gets SIGHUP, as from a terminal emulator that is quit."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def resize(self, rows: int, columns: int) -> None:
        """Give the window another size; the kernel notifies the program in the foreground (SIGWINCH)."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes | str) -> None:
        """Type `data`."""
        data = data.encode() if isinstance(data, str) else data
        while data:
            data = data[os.write(self._master, data) :]

    def expect(self, pattern: bytes | str, seconds: float = PATIENCE) -> re.Match[bytes]:
        """Wait until the regular expression matches the output since the last match."""
        expression = re.compile(pattern.encode() if isinstance(pattern, str) else pattern, re.DOTALL)
        deadline = time.monotonic() + seconds
        while True:
            found = expression.search(self.screen, self._seen)
            if found:
                self._seen = found.end()
                return found
            more = self._read(deadline)
            assert more, f"no {pattern!r} within {seconds} s (or before the end); the screen: {self.screen[-3000:]!r}"

    def ask(self, command: str, pattern: str, seconds: float = PATIENCE) -> re.Match[bytes]:
        """Type `command` at a shell's prompt and wait for `pattern`, which the typed text itself must not match."""
        self.send(command + "\n")
        return self.expect(pattern, seconds)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Read until the program has ended; returns its exit status."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        try:
            return self.process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {seconds} s; the screen: {self.screen[-3000:]!r}") from None

    def _read(self, deadline: float) -> bool:
        """Read the next output; False at the end or at the deadline."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: no process has the terminal open any more
            return False
        self.screen += data
        return bool(data)
