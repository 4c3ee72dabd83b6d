"""When a service that has ended is started again."""

FIRST_SECONDS = 0.5
"""A service that ends for a reason that passes (a file that was not there yet) is back before anybody misses it."""

LONGEST_SECONDS = 60.0
"""One that can't run costs a process and a line of the log a minute, and runs soon after what it lacked is there."""

SETTLED_SECONDS = 60.0
"""A service that has run for so long had started well: its end is a new matter."""


def next_delay(last: float | None, lived: float) -> float:
    """Seconds until the next start of a service that ran for `lived` seconds; `last` is the pause before that run.

    `last` is None for a first run. The pauses double, as systemd's RestartSteps= and Kubernetes' CrashLoopBackOff do.
    """
    if last is None or lived >= SETTLED_SECONDS:
        return FIRST_SECONDS
    return min(2 * last, LONGEST_SECONDS)
