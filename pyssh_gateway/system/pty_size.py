"""The size of a terminal's window."""

import fcntl
import struct
import termios


def set_size(descriptor: int, columns: int, rows: int, width: int, height: int) -> None:
    """Set the terminal's size in characters and pixels; its foreground processes get SIGWINCH if it changed."""
    limit = 0xFFFF
    size = struct.pack("HHHH", min(rows, limit), min(columns, limit), min(width, limit), min(height, limit))
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, size)
