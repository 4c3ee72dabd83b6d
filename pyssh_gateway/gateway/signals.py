"""The names that signals have in SSH (RFC 4254 section 6.10)."""

import signal

SIGNAL_NAMES = ("ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2")
"""The signals of RFC 4254 section 6.10."""


def signal_name(number: int) -> str:
    """The name that exit-signal has for a signal; others are named as sshd names them (session.c, sig2name)."""
    name = signal.Signals(number).name.removeprefix("SIG") if number in signal.valid_signals() else ""
    return name if name in SIGNAL_NAMES else "SIG@openssh.com"
