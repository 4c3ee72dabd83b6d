"""The two meanings of SIGHUP: the terminal that the server was started from is gone, or it is to reload.

A server that was started in the foreground of a terminal ends with that terminal, as other programs do; otherwise it
would go on unnoticed. sshd has no such case: it leaves its terminal at the start.
"""

import os
import signal


class Terminal:
    """The controlling terminal that this process was started with, if any. Made before there are signal handlers.

    Under nohup, which ignores SIGHUP, the end of the terminal is no reason to end.
    """

    def __init__(self) -> None:
        self._ends_with_it = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _is_there()

    def is_gone(self) -> bool:
        """Whether the server should end with its terminal, and the terminal is gone.

        The kernel takes the terminal away from its processes before it sends them SIGHUP (tty_io.c, __tty_hangup). So
        if the terminal can still be opened, the signal has come from a person or a program.
        """
        return self._ends_with_it and not _is_there()


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:  # ENXIO: there is no controlling terminal
        return False
    return True
