"""The client's terminal settings, on a real pty."""

import fcntl
import os
import stat
import struct
import termios
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.launch import Terminal
from pyssh_gateway.spawner.processes.terminal import apply_modes, open_pty
from pyssh_gateway.system.pty_size import set_size
from tests.support import leaks

IFLAG, OFLAG, CFLAG, LFLAG, ISPEED, OSPEED, CC = range(7)


@pytest.fixture
def slave() -> Iterator[int]:
    """The terminal's side of a pty."""
    master, terminal = os.openpty()
    yield terminal
    os.close(master)
    os.close(terminal)


def after(slave: int, *modes: tuple[int, int]) -> list[Any]:
    """The terminal's attributes after `modes` were set on it."""
    termios.tcsetattr(slave, termios.TCSANOW, apply_modes(termios.tcgetattr(slave), modes))
    return termios.tcgetattr(slave)


def size_of(descriptor: int) -> tuple[int, ...]:
    """Rows, columns, width and height."""
    return struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))


FLAGS = [
    *((IFLAG, opcode, getattr(termios, name)) for opcode, name in [
        (30, "IGNPAR"), (31, "PARMRK"), (32, "INPCK"), (33, "ISTRIP"), (34, "INLCR"), (35, "IGNCR"), (36, "ICRNL"),
        (37, "IUCLC"), (38, "IXON"), (39, "IXANY"), (40, "IXOFF"), (41, "IMAXBEL"),
    ]),
    (IFLAG, 42, 0o40000),
    *((LFLAG, opcode, getattr(termios, name)) for opcode, name in [
        (50, "ISIG"), (51, "ICANON"), (53, "ECHO"), (54, "ECHOE"), (55, "ECHOK"), (56, "ECHONL"), (57, "NOFLSH"),
        (58, "TOSTOP"), (59, "IEXTEN"), (60, "ECHOCTL"), (61, "ECHOKE"),
    ]),
    *((OFLAG, opcode, getattr(termios, name)) for opcode, name in [
        (70, "OPOST"), (71, "OLCUC"), (72, "ONLCR"), (73, "OCRNL"), (74, "ONOCR"), (75, "ONLRET"),
    ]),
    (CFLAG, 93, termios.PARODD),
]  # fmt: skip


@pytest.mark.parametrize(("field", "opcode", "flag"), FLAGS)
def test_flags_reach_the_kernel(slave: int, field: int, opcode: int, flag: int) -> None:
    """Each flag of RFC 4254 section 8 is set by any value but 0 and cleared by 0, without a change to other flags."""
    off = after(slave, (opcode, 0))
    on = after(slave, (opcode, 1))
    assert not off[field] & flag
    assert on[field] ^ off[field] == flag
    assert after(slave, (opcode, 0)) == off
    assert after(slave, (opcode, 0xFFFFFFFF)) == on


@pytest.mark.parametrize(
    ("opcode", "index"),
    [
        (1, termios.VINTR), (2, termios.VQUIT), (3, termios.VERASE), (4, termios.VKILL), (5, termios.VEOF),
        (6, termios.VEOL), (7, termios.VEOL2), (8, termios.VSTART), (9, termios.VSTOP), (10, termios.VSUSP),
        (12, termios.VREPRINT), (13, termios.VWERASE), (14, termios.VLNEXT), (18, termios.VDISCARD),
    ],
)  # fmt: skip
def test_characters_reach_the_kernel(slave: int, opcode: int, index: int) -> None:
    """Each special character is set to the client's value; 255 disables it."""
    assert after(slave, (opcode, 0x14))[CC][index] == b"\x14"
    assert after(slave, (opcode, 255))[CC][index] == b"\0"


def test_vmin_and_vtime_are_left_alone(slave: int) -> None:
    """VMIN and VTIME, which are in the same array as the characters, are not changed."""
    before = termios.tcgetattr(slave)
    changed = after(slave, *((opcode, 7) for opcode in range(1, 19)))
    for index in (termios.VMIN, termios.VTIME):
        assert changed[CC][index] == before[CC][index]


@pytest.mark.parametrize(
    ("speed", "constant"), [(9600, termios.B9600), (38400, termios.B38400), (115200, termios.B115200)]
)
def test_speeds_that_exist_are_set(slave: int, speed: int, constant: int) -> None:
    """Speeds that have a constant are set, as programs that pad their output use them."""
    changed = after(slave, (128, speed), (129, speed))
    assert (changed[ISPEED], changed[OSPEED]) == (constant, constant)


@pytest.mark.parametrize("speed", [0, 1, 12345, 0xFFFFFFFF])
def test_other_speeds_are_passed_over(slave: int, speed: int) -> None:
    """Other speeds are ignored: 0 would hang up the terminal, and others have no constant."""
    before = termios.tcgetattr(slave)
    assert after(slave, (128, speed), (129, speed)) == before


def test_character_size(slave: int) -> None:
    """CS7 and CS8 replace each other; 0 for either changes nothing."""
    assert apply_modes(termios.tcgetattr(slave), ((90, 1),))[CFLAG] & termios.CSIZE == termios.CS7
    assert apply_modes(termios.tcgetattr(slave), ((90, 1), (91, 1)))[CFLAG] & termios.CSIZE == termios.CS8
    assert apply_modes(termios.tcgetattr(slave), ((90, 0), (91, 0))) == termios.tcgetattr(slave)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1)), max_size=30))
def test_no_modes_break_a_terminal(modes: list[tuple[int, int]]) -> None:
    """Any modes that a client may send still give a terminal."""
    master, slave, _ = open_pty(Terminal("xterm", 80, 24, 0, 0, tuple(modes)), -1, -1)
    os.close(master)
    os.close(slave)


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 2**32 - 1)), max_size=30))
def test_what_was_given_is_not_changed(modes: list[tuple[int, int]]) -> None:
    """The given attributes, including their array of characters, are not changed."""
    attributes = [0, 0, 0, 0, 0, 0, [b"\1"] * 32]
    apply_modes(attributes, tuple(modes))
    assert attributes == [0, 0, 0, 0, 0, 0, [b"\1"] * 32]


def test_modes_that_the_kernel_refuses_do_not_cost_the_others() -> None:
    """Modes that a pty refuses, such as parity or 7 bits, do not prevent the others, such as no echo."""
    master, slave, _ = open_pty(Terminal("xterm", 80, 24, 0, 0, ((90, 1), (92, 1), (53, 0))), -1, -1)
    try:
        attributes = termios.tcgetattr(slave)
        assert not attributes[LFLAG] & termios.ECHO
        assert attributes[CFLAG] & termios.CSIZE == termios.CS8
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize(
    ("asked", "given_"),
    [
        ((80, 24, 640, 480), (24, 80, 640, 480)),
        ((0, 0, 0, 0), (0, 0, 0, 0)),
        ((0x10001, 0xFFFFFFFF, 0x10000, 7), (0xFFFF, 0xFFFF, 0xFFFF, 7)),
    ],
)
def test_sizes_are_clipped_to_what_the_kernel_holds(
    slave: int, asked: tuple[int, int, int, int], given_: tuple[int, ...]
) -> None:
    """Sizes are clipped to 16 bits, as the upper bits of larger values would be lost."""
    set_size(slave, *asked)
    assert size_of(slave) == given_


def test_a_new_pty_is_as_asked() -> None:
    """Size and modes are set before anything runs, and both descriptors are close-on-exec."""
    master, slave, path = open_pty(Terminal("xterm", 132, 43, 0, 0, ((53, 0), (1, 20))), -1, -1)
    try:
        assert path == os.ttyname(slave)
        assert size_of(slave) == (43, 132, 0, 0)
        attributes = termios.tcgetattr(slave)
        assert not attributes[LFLAG] & termios.ECHO
        assert attributes[CC][termios.VINTR] == b"\x14"
        assert not os.get_inheritable(master)
        assert not os.get_inheritable(slave)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a tty away")
def test_a_tty_belongs_to_its_user() -> None:
    """The tty belongs to the user and the group tty, and others may not read or write it (grantpt(3))."""
    master, slave, path = open_pty(Terminal("xterm", 80, 24, 0, 0, ()), 65534, 5)
    try:
        status = os.stat(path)  # noqa: PTH116 - a device, by the name that programs use
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65534, 5, 0o620)
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a tty away")
def test_a_pty_that_fails_leaves_nothing_open() -> None:
    """A tty that can't be given to its user leaves no descriptor open."""
    with leaks.nothing_left_open(), pytest.raises((OSError, OverflowError)):
        open_pty(Terminal("xterm", 80, 24, 0, 0, ()), 2**40, 5)
