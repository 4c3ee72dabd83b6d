"""When a service that has ended is started again."""

FIRST_SECONDS = 0.5
"""A service that ends for a temporary reason (a file that was not there yet) is back before anybody notices."""

LONGEST_SECONDS = 60.0
"""A service that can't run costs a process and a log line a minute, and runs soon after its problem is solved."""

SETTLED_SECONDS = 60.0
"""A service that has run for so long had started well: its pauses begin again with the first."""


def next_delay(last: float | None, lived: float) -> float:
    """Seconds until the next start of a service that ran for `lived` seconds; `last` is the pause before that run.

    `last` is None for a first run. The pauses double, as systemd's RestartSteps= and Kubernetes' CrashLoopBackOff do.
    """
    if last is None or lived >= SETTLED_SECONDS:
        return FIRST_SECONDS
    return min(2 * last, LONGEST_SECONDS)
