"""core.idle.what_if.numbering: which lines are missing, and which are an older server's."""

from pyssh_gateway.core.idle.what_if.numbering import OTHERS_NUMBERS, Numbering
from pyssh_gateway.core.idle.what_if.reading import read
from pyssh_gateway.events import IdleTick, ServerStopped
from tests.support.written_log import MONDAY, WrittenLog

TICK = IdleTick(idle=5, remaining=55, message="")


def test_an_older_server_that_still_writes() -> None:
    """Numbers that were left to it are not missing, but those that it skips are; its lines are no new beginning."""
    numbers = Numbering()
    assert not numbers.see(7, first=True)
    new = 7 + OTHERS_NUMBERS
    for seq, first, late, missing in (
        (8, False, False, None),
        (new, True, False, None),
        (9, False, True, None),
        (new + 1, False, False, None),
        (12, False, True, (10, 11)),
        (new + 4, False, False, (new + 2, new + 3)),
    ):
        assert not numbers.see(seq, first=first)
        assert (numbers.is_late, numbers.missing) == (late, missing)
    assert numbers.see(1, first=True)


def test_lines_that_were_lost_before_a_start_are_missing() -> None:
    """Only as many numbers as a new server leaves to an older one are not."""
    for seq in (100, 2 * OTHERS_NUMBERS + 9):
        numbers = Numbering()
        numbers.see(7, first=False)
        assert not numbers.see(seq, first=True)
        assert numbers.missing == (8, seq - 1)


def test_starts_are_counted_once() -> None:
    """Lines of the older server among those of the newer one are no further starts, and its stop is not the newer's."""
    log = WrittenLog()
    log.start(0)
    log.write(10, TICK)
    older = log.skip(OTHERS_NUMBERS - 1)
    log.start(20)
    for at in (30, 40, 50):
        newer = log.skip(older - log.seq)
        log.write(at, TICK if at < 50 else ServerStopped(reason="signal", exit_code=0))
        older = log.skip(newer - log.seq)
        log.write(at + 5, TICK)
    history = read(log.lines, since=0.0, now=MONDAY + 100)
    assert [(one.begun - MONDAY, one.ended - MONDAY, one.end) for one in history.awake] == [
        (0, 10, "lost"),
        (20, 55, "open"),
    ]


def test_a_running_server_is_awake_until_now() -> None:
    """The log of a server for which nothing happens has no lines; one that has stopped is not awake."""
    log = WrittenLog()
    log.start(0)
    (one,) = read(log.lines, since=0.0, now=MONDAY + 100, running=True).awake
    assert (one.ended - MONDAY, one.end) == (100, "open")
    log.stop(10)
    (one,) = read(log.lines, since=0.0, now=MONDAY + 100, running=True).awake
    assert (one.ended - MONDAY, one.end) == (10, "idle")
