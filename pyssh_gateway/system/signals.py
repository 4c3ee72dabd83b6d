"""Names of signals, as in signal(7) and as in SSH."""

import signal

SIGNAL_NAMES = ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")
"""The signals of RFC 4254 section 6.10."""

HANDED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGUSR1}
"""The signals that end the server, each with the one that the spawner then sends to the monitor. SIGHUP to the monitor
means a reload of the configuration; the spawner ends by it when its terminal is gone."""


def unix_name(number: int) -> str:
    """SIGTERM for 15. Real-time signals have no names, and Python raises for most of them."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def ssh_name(number: int) -> str:
    """The name of a signal in exit-signal; signals without one are named as by sshd (session.c, sig2name)."""
    name = unix_name(number).removeprefix("SIG")
    return name if name in SIGNAL_NAMES else "SIG@openssh.com"
