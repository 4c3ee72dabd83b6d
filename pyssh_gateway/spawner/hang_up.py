"""What a SIGHUP means: that the terminal is gone from which the server was started, or that somebody wants it reloaded.

A server that was started in the foreground of a terminal ends with it, as every program there does; it would stay
behind else, with nobody to see it. sshd has no such case: it leaves its terminal at the start.
"""

import os
import signal


class Terminal:
    """The controlling terminal that this process was started with, if any. Made before there are signal handlers.

    Under nohup, which has SIGHUP ignored, a terminal that goes away is no reason to end.
    """

    def __init__(self) -> None:
        self._ends_with_it = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_there()

    def is_gone(self) -> bool:
        """Whether the server was to end with its terminal, and that is gone.

        The kernel takes a terminal away from its processes before anybody gets a SIGHUP for it (tty_io.c,
        __tty_hangup), so while it can be opened the signal has come from a person or a program.
        """
        return self._ends_with_it and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # ENXIO: there is none
        return False
    return True
