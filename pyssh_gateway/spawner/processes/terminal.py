"""The pty of a session: made, given to its owner, set to the modes of the client's terminal (RFC 4254 section 8)."""

import os
import termios
from contextlib import suppress
from typing import Any

from pyssh_gateway.core.launch import Terminal
from pyssh_gateway.system.pty_size import set_size

_TTY_MODE = 0o620
"""The owner reads and writes, group tty may write (wall, write): grantpt(3)."""

_CONTROL_CHARACTERS = {
    1: termios.VINTR,
    2: termios.VQUIT,
    3: termios.VERASE,
    4: termios.VKILL,
    5: termios.VEOF,
    6: termios.VEOL,
    7: termios.VEOL2,
    8: termios.VSTART,
    9: termios.VSTOP,
    10: termios.VSUSP,
    12: termios.VREPRINT,
    13: termios.VWERASE,
    14: termios.VLNEXT,
    18: termios.VDISCARD,
}
"""RFC 4254 section 8 opcode -> index in termios(3) `c_cc`. Opcodes without a character in Linux are left out."""

_NO_CHARACTER = 255
"""The value in the protocol for a control character that is disabled; Linux's _POSIX_VDISABLE is 0."""

_INPUT_FLAGS = {
    30: termios.IGNPAR,
    31: termios.PARMRK,
    32: termios.INPCK,
    33: termios.ISTRIP,
    34: termios.INLCR,
    35: termios.IGNCR,
    36: termios.ICRNL,
    37: termios.IUCLC,
    38: termios.IXON,
    39: termios.IXANY,
    40: termios.IXOFF,
    41: termios.IMAXBEL,
    42: 0o040000,  # IUTF8 (RFC 8160), for which Python's termios has no name
}
_LOCAL_FLAGS = {
    50: termios.ISIG,
    51: termios.ICANON,
    52: termios.XCASE,
    53: termios.ECHO,
    54: termios.ECHOE,
    55: termios.ECHOK,
    56: termios.ECHONL,
    57: termios.NOFLSH,
    58: termios.TOSTOP,
    59: termios.IEXTEN,
    60: termios.ECHOCTL,
    61: termios.ECHOKE,
    62: termios.PENDIN,
}
_OUTPUT_FLAGS = {
    70: termios.OPOST,
    71: termios.OLCUC,
    72: termios.ONLCR,
    73: termios.OCRNL,
    74: termios.ONOCR,
    75: termios.ONLRET,
}
_CONTROL_FLAGS = {92: termios.PARENB, 93: termios.PARODD}
_CHARACTER_SIZES = {90: termios.CS7, 91: termios.CS8}
_INPUT_SPEED, _OUTPUT_SPEED = 128, 129
_SPEEDS = {
    int(name[1:]): getattr(termios, name)
    for name in dir(termios)
    if name[0] == "B" and name[1:].isdigit() and name != "B0"
}
"""Bits per second -> the constant for it. 0 (hang up) is not a speed that a client may set."""


def open_pty(terminal: Terminal, uid: int, gid: int) -> tuple[int, int, str]:
    """A new pty set up as `terminal` says: master, slave, and the slave's path.

    `uid`, `gid` own the slave; pass -1 to leave it to the process that made it.
    """
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        if uid != -1:
            os.fchown(slave, uid, gid)
            os.fchmod(slave, _TTY_MODE)
        set_size(slave, terminal.columns, terminal.rows, terminal.width, terminal.height)
        # A mode that the kernel refuses must not cost the user the session; sshd goes on, too (ttymodes.c).
        with suppress(termios.error):
            termios.tcsetattr(slave, termios.TCSANOW, apply_modes(termios.tcgetattr(slave), terminal.modes))
    except BaseException:
        os.close(master)
        os.close(slave)
        raise
    return master, slave, path


def apply_modes(attributes: list[Any], modes: tuple[tuple[int, int], ...]) -> list[Any]:
    """`attributes` (as from `termios.tcgetattr`) with the client's `modes` set; unknown opcodes are ignored."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = attributes
    characters = list(characters)
    for opcode, value in modes:
        if opcode in _CONTROL_CHARACTERS:
            characters[_CONTROL_CHARACTERS[opcode]] = bytes([0 if value == _NO_CHARACTER else value & 0xFF])
        elif opcode in _INPUT_FLAGS:
            iflag = _with_flag(iflag, _INPUT_FLAGS[opcode], value)
        elif opcode in _LOCAL_FLAGS:
            lflag = _with_flag(lflag, _LOCAL_FLAGS[opcode], value)
        elif opcode in _OUTPUT_FLAGS:
            oflag = _with_flag(oflag, _OUTPUT_FLAGS[opcode], value)
        elif opcode in _CONTROL_FLAGS:
            cflag = _with_flag(cflag, _CONTROL_FLAGS[opcode], value)
        elif opcode in _CHARACTER_SIZES and value:
            cflag = cflag & ~termios.CSIZE | _CHARACTER_SIZES[opcode]
        elif opcode == _INPUT_SPEED:
            ispeed = _SPEEDS.get(value, ispeed)
        elif opcode == _OUTPUT_SPEED:
            ospeed = _SPEEDS.get(value, ospeed)
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]


def _with_flag(flags: int, flag: int, value: int) -> int:
    return flags | flag if value else flags & ~flag
