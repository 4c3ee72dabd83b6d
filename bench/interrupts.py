"""Ctrl-C and SIGTERM end a run, but never in the middle of cleaning up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def install() -> None:
    """From here on the first of the signals raises KeyboardInterrupt. Later ones don't interrupt the cleaning up."""
    for number in SIGNALS:
        signal.signal(number, _interrupt)


@contextmanager
def held_back() -> Iterator[None]:
    """Signals wait until this context ends. A program that is started in it does not get them, either."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt(_number: int, _frame: object) -> None:
    for number in SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    raise KeyboardInterrupt
