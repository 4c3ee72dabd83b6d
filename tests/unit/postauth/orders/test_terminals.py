"""postauth.terminals: on which terminals a line is written, with real ptys."""

import os
import termios
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pyssh_gateway.ipc import postauth as ipc
from pyssh_gateway.ipc.spawner import ProtocolError
from pyssh_gateway.postauth.orders import terminals
from tests.support import leaks
from tests.support.waiting import until

LINE = b"\r\nGoodbye!\r\n"


class Pty:
    """A pty in raw mode; `screen` is what a person would see."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.path = Path(os.ttyname(self.slave))
        self.line = str(self.path.relative_to("/dev"))
        attributes = termios.tcgetattr(self.slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        self.path.chmod(0o620)
        os.set_blocking(self.master, False)

    @property
    def screen(self) -> bytes:
        """What was written since the last look."""
        try:
            return os.read(self.master, 65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Close both ends."""
        os.close(self.slave)
        os.close(self.master)


@pytest.fixture(autouse=True)
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's mounts, with terminals that have the group's right to write to begin with."""
    mounts = tmp_path / "mounts"
    mounts.write_text("devpts /dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=000 0 0\n")
    monkeypatch.setattr(terminals, "MOUNTS", mounts)
    return mounts


@pytest.fixture
def many() -> Iterator[list[Pty]]:
    """More ptys than are written on."""
    with leaks.nothing_left_open(), ExitStack() as ends:
        made = [Pty() for _ in range(terminals.MOST + 2)]
        for pty in made:
            ends.callback(pty.close)
        yield made


@pytest.fixture
def pty(many: list[Pty]) -> Pty:
    """One of them."""
    return many[0]


def test_an_own_terminal_gets_the_line(pty: Pty) -> None:
    """Protects people in an editor's terminal: they see the line, whatever mode the terminal is in."""
    assert terminals.show([pty.line], "Goodbye!") == 1
    assert pty.screen == LINE


def test_who_wants_no_messages_gets_none(pty: Pty) -> None:
    """Protects programs that read a terminal: after `mesg n` nothing is written there."""
    pty.path.chmod(0o600)
    assert terminals.show([pty.line], "Goodbye!") == 0
    assert pty.screen == b""


def test_where_nobody_can_refuse_messages_everybody_gets_them(pty: Pty, mounts: Path) -> None:
    """Protects people in containers: there, new terminals look like one with `mesg n`."""
    pty.path.chmod(0o600)
    mounts.write_text("devpts /dev/pts devpts rw,relatime,mode=600,ptmxmode=000 0 0\n")
    assert terminals.show([pty.line], "Goodbye!") == 1


def test_another_account_s_terminal_is_left_alone(pty: Pty, is_root: bool) -> None:
    """Protects other accounts: the owner of the device decides, also where the rights of this process go further."""
    if not is_root:
        pytest.skip("only root can give a terminal away")
    os.chown(pty.path, 65534, -1)
    assert terminals.show([pty.line], "Goodbye!") == 0
    assert pty.screen == b""


def test_a_stopped_terminal_is_passed_over(many: list[Pty]) -> None:
    """Protects the account's process: a terminal that was stopped with Ctrl-S does not block it, nor the next one."""
    stopped, other = many[:2]
    termios.tcflow(stopped.slave, termios.TCOOFF)
    assert terminals.show([stopped.line, other.line], "Goodbye!") == 1
    assert (stopped.screen, other.screen) == (b"", LINE)
    termios.tcflow(stopped.slave, termios.TCOON)


def test_a_full_terminal_is_passed_over(pty: Pty) -> None:
    """Protects the same from a terminal that nobody reads."""
    os.set_blocking(pty.slave, False)
    refused = 0

    def stays_full() -> bool:
        nonlocal refused
        try:
            os.write(pty.slave, b"x")
        except BlockingIOError:
            refused += 1
        else:  # the kernel has moved what was written on to the other end, and there is room again
            refused = 0
            with suppress(BlockingIOError):
                while True:
                    os.write(pty.slave, b"x" * 1024)
        return refused >= 10

    until(stays_full, what="a terminal that takes nothing")
    assert terminals.show([pty.line], "Goodbye!" * 100) == 0


def test_what_is_no_terminal_is_left_alone(pty: Pty) -> None:
    """Protects files: only terminals are written to, and one that is gone is no error."""
    assert terminals.show(["null", "pts/ptmx", "pts/9999999", "pts"], "Goodbye!") == 0
    assert terminals.show([pty.line], "Goodbye!") == 1


def test_the_last_used_ones_are_enough(many: list[Pty]) -> None:
    """Protects the bill: so few lines that they don't count as use of the editor that shows them."""
    for number, pty in enumerate(many):
        os.utime(pty.path, (1_000_000_000 + number, 1_000_000_000))
    assert terminals.show([pty.line for pty in many], "Goodbye!") == terminals.MOST
    assert [bool(pty.screen) for pty in many] == [False] * 2 + [True] * terminals.MOST


@pytest.mark.parametrize("line", ["pts/../sda", "/dev/pts/1", "tty1", "pts/1\n", "pts/", ""])
def test_only_ptys_can_be_named(line: str) -> None:
    """Protects the account's files from a monitor that was taken over: it can name nothing but ptys."""
    packet = ipc.encode(ipc.ShowOn((line,), "Goodbye!"))
    with pytest.raises(ProtocolError):
        ipc.decode_from_monitor(packet)
    whole = ipc.ShowOn(("pts/1", "pts/1234567"), "Goodbye!")
    assert ipc.decode_from_monitor(ipc.encode(whole)) == whole
