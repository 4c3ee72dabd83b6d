"""What signals are called: as signal(7) has them, and as SSH does."""

import signal

SIGNAL_NAMES = ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")
"""The signals of RFC 4254 section 6.10."""

HANDED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGUSR1}
"""What ends the server, and by which signal the spawner tells the monitor of it. SIGHUP, sent to the monitor, has the
configuration read again; the spawner ends by it when its terminal is gone."""


def unix_name(number: int) -> str:
    """SIGTERM for 15. Real-time signals have no names, and Python raises for most of them."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ssh_name(number: int) -> str:
    """The name that exit-signal has for a signal; others are named as sshd names them (session.c, sig2name)."""
    name = unix_name(number).removeprefix("SIG")
    return name if name in SIGNAL_NAMES else "SIG@openssh.com"
