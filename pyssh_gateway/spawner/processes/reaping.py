"""Children that have ended, one after the other, without waiting, and in an order that keeps process groups apart."""

import os

from pyssh_gateway.spawner.processes.signalling import Signals


def next_ended(signals: Signals, now: float) -> tuple[int, int] | None:
    """The next child that has ended and its status, as waitpid(2) gives them; None: none for now.

    The leader of a group that a helper is about to signal is not reaped before the helper is: its number would be free,
    and the signal could go to somebody else. That helper is killed, and its end brings the next SIGCHLD.
    """
    if not signals.active:
        return _reap(-1)
    for helper in signals.helpers:
        ended = _reap(helper)
        if ended is not None:
            return ended
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if found is None:
        return None
    signals.give_up(found.si_pid, now)
    return None if signals.helper_for(found.si_pid) is not None else _reap(found.si_pid)


def _reap(pid: int) -> tuple[int, int] | None:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return (ended, status) if ended else None
