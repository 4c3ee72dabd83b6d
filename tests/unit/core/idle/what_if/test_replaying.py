"""core.idle.what_if: histories with known answers, under the settings that they were recorded with, and others."""

import pytest

from pyssh_gateway.core.idle.replay.server import Rules
from pyssh_gateway.core.idle.tracker import IdlePolicy
from pyssh_gateway.core.idle.what_if.history import History
from pyssh_gateway.core.idle.what_if.reading import read
from pyssh_gateway.core.idle.what_if.replaying import Figures, recorded, replayed
from pyssh_gateway.events import (
    HoldEnded,
    HoldStarted,
    MachineResumed,
    ScheduleEntered,
    StopStep,
    TerminalQuiet,
    TerminalUsed,
)
from tests.support.written_log import MONDAY, WrittenLog

MINUTE = 60
HOUR = 3600
WINDOW = 15.0
"""How late use, and its end, may be noticed."""


def history_of(log: WrittenLog) -> History:
    """What the reader makes of a log."""
    history = read(log.lines, since=0, now=MONDAY + 30 * 24 * HOUR)
    assert not history.damaged
    return history


def rules(timeout: float, client_idle: float | None = None, *, background: bool = False, boot: float = 0) -> Rules:
    """Settings."""
    return Rules(
        policy=IdlePolicy(timeout=timeout, boot_grace=boot or None),
        client_idle=client_idle,
        background=background,
    )


def figures(log: WrittenLog, settings: Rules, *, suspends: bool = False) -> Figures:
    """What the settings would have done."""
    return replayed(history_of(log), settings, suspends=suspends)


def editor() -> WrittenLog:
    """An editor used from 9:00 to 10:00 and from 12:00 to 12:10, open until it stops for want of use; timeout 60 s.

    With client_idle = 1h it becomes unused at 11:00, and the machine stops at 11:01; the second time from 13:10 on.
    """
    log = WrittenLog()
    log.start(9 * HOUR)
    log.come(9 * HOUR, "c1", "amos")
    log.quiet(11 * HOUR, "c1", HOUR)
    log.stop(11 * HOUR + 60, "c1", (0, HOUR))
    log.start(12 * HOUR)
    log.come(12 * HOUR, "c1", "amos")
    log.quiet(13 * HOUR + 10 * MINUTE, "c1", HOUR)
    log.stop(13 * HOUR + 11 * MINUTE, "c1", (0, 10 * MINUTE))
    return log


def test_the_settings_of_then_give_the_hours_of_then() -> None:
    """Protects the trust in the answer: the same settings give what was recorded, to the precision of a look."""
    log = editor()
    was = recorded(history_of(log))
    assert was == Figures(2 * HOUR + MINUTE + HOUR + 11 * MINUTE, 2)
    found = figures(log, rules(60, HOUR))
    assert found.awake == pytest.approx(was.awake, abs=2 * WINDOW)
    assert (found.starts, found.found_asleep, found.killed) == (2, 0, 0)


def test_a_shorter_client_idle_saves_what_it_should() -> None:
    """Ten minutes instead of an hour save 50 minutes of each of the two unused spans."""
    found = figures(editor(), rules(60, 10 * MINUTE))
    assert found.awake == pytest.approx((71 + 21) * MINUTE, abs=2 * WINDOW)


def test_the_schedule_of_then_does_not_hold_the_machine_now() -> None:
    """The hours of the schedule are a setting: those in the log do not count, only those of the replay."""
    log = WrittenLog()
    log.start(0)
    log.write(0, ScheduleEntered(seconds=HOUR, what=""))
    log.stop(HOUR + 60)
    assert figures(log, rules(60)).awake == pytest.approx(60, abs=WINDOW)


def test_without_client_idle_an_editor_that_was_cut_off_stays_until_its_person_comes_again() -> None:
    """Protects from flattery: what a recorded stop cut off would have held the machine under other settings."""
    found = figures(editor(), rules(60))
    assert found.awake == pytest.approx(4 * HOUR + 11 * MINUTE, abs=WINDOW)
    assert found.starts == 1


def test_a_window_that_came_back_by_itself_was_not_used() -> None:
    """Protects the hours of a night: a return on probation that showed nobody is neither use nor a person."""
    log = WrittenLog()
    log.start(17 * HOUR)
    log.come(17 * HOUR, "c0", "amos")
    log.quiet(18 * HOUR + 20 * MINUTE, "c0", 20 * MINUTE)
    log.stop(18 * HOUR + 22 * MINUTE, "c0", (0, HOUR))
    for number in range(20):
        at = 19 * HOUR + number * 30 * MINUTE
        log.start(at)
        log.come(at, f"d{number}", "amos", probation=25.0)
        log.stop(at + 25, f"d{number}")
    was = recorded(history_of(log))
    default = Rules(policy=IdlePolicy(timeout=120, wake_grace=2), client_idle=20 * MINUTE)
    found = figures(log, default)
    assert found.awake == pytest.approx(was.awake, abs=20 * 2)
    assert (found.starts, found.found_asleep) == (was.starts, 0)
    longer = figures(log, rules(120, 12 * HOUR))
    assert (longer.starts, longer.found_asleep) == (1, 0)


def test_who_pauses_longer_than_the_times_finds_it_asleep() -> None:
    """A person who was on all the time, and paused for four minutes, would have had to wait for a start."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.go(20 * MINUTE, "c1", (0, 10 * MINUTE), (14 * MINUTE, 20 * MINUTE))
    log.stop(21 * MINUTE)
    was = figures(log, rules(60, 10 * MINUTE))
    assert (was.starts, was.found_asleep) == (1, 0)
    found = figures(log, rules(60, MINUTE))
    assert (found.starts, found.found_asleep) == (2, 1)
    assert found.awake == pytest.approx((12 + 7) * MINUTE, abs=2 * WINDOW)


def test_a_longer_timeout_spares_starts() -> None:
    """Two short visits ten minutes apart need one start if the machine waits that long."""
    log = WrittenLog()
    for hour in (9, 10):
        for minute in (0, 10):
            at = hour * HOUR + minute * MINUTE
            log.start(at)
            log.come(at, "c1", "amos")
            log.go(at + 30, "c1")
            log.stop(at + 90)
    assert recorded(history_of(log)) == Figures(4 * 90, 4)
    assert figures(log, rules(60)) == Figures(4 * 90, 4, 0, 0)
    assert figures(log, rules(15 * MINUTE)) == Figures(25.5 * MINUTE + (10 * MINUTE + 90), 2, 0, 0)


def test_a_scanner_costs_its_grace() -> None:
    """Each connection without a login that wakes the machine costs `boot_grace`, whatever that is."""
    log = WrittenLog()
    for number in range(3):
        log.start(number * HOUR)
        log.come(number * HOUR, "c1")
        log.go(number * HOUR + 1, "c1", user="", goodbye=False)
        log.stop(number * HOUR + 5 * MINUTE)
    assert figures(log, rules(60, boot=5 * MINUTE)).awake == pytest.approx(15 * MINUTE, abs=3)
    assert figures(log, rules(60, boot=10)).awake == pytest.approx(30, abs=3)


def left_behind() -> WrittenLog:
    """A build that somebody leaves behind at 1:00, and that works until 2:00; timeout 60 s, samples every 15 s."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.go(HOUR, "c1", (0, HOUR))
    log.work(HOUR + 15, 45)
    log.work(HOUR + 30, 2 * HOUR)
    log.work(2 * HOUR + 30, 0)
    log.stop(2 * HOUR + 90)
    return log


def test_a_build_is_killed_by_rules_that_ignore_it() -> None:
    """Work that kept the machine up would have died without `background`, and costs nothing then."""
    log = left_behind()
    was = figures(log, rules(60, background=True))
    assert was.awake == pytest.approx(recorded(history_of(log)).awake, abs=2 * WINDOW)
    assert was.killed == 0
    found = figures(log, rules(60))
    assert found == Figures(HOUR + 60, 1, 0, 1)


def test_a_suspend_kills_no_build() -> None:
    """Where a stop suspends the machine, the processes are there again afterwards."""
    assert figures(left_behind(), rules(60), suspends=True).killed == 0


def test_a_build_under_an_unused_client_counts_from_its_last_use() -> None:
    """Work that is seen as soon as a client is unused ran before, so a shorter `client_idle` finds it, too."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.quiet(HOUR, "c1", 50 * MINUTE)
    log.work(HOUR + 15, 10 * HOUR)
    log.work(3 * HOUR + 30, 0)
    log.stop(3 * HOUR + 90, "c1", (0, 10 * MINUTE))
    found = figures(log, rules(60, 10 * MINUTE, background=True))
    assert found.killed == 0
    assert found.awake == pytest.approx(3 * HOUR + 60, abs=4 * WINDOW)
    assert figures(log, rules(60, 10 * MINUTE)).killed == 1


def test_work_beside_an_unused_client_is_known() -> None:
    """A build that ran while an unused client kept the machine up dies under a short `client_idle`, or keeps it up."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.seen(2 * HOUR, (110 * MINUTE, HOUR))
    log.go(2 * HOUR, "c1", (0, 10 * MINUTE))
    log.stop(2 * HOUR + 60)
    assert figures(log, rules(60, 10 * MINUTE)).killed == 1
    found = figures(log, rules(60, 10 * MINUTE, background=True))
    assert found.killed == 0
    assert found.awake == pytest.approx(HOUR + 60, abs=4 * WINDOW)


def test_a_hold_keeps_it_up_and_ends() -> None:
    """A hold counts from its beginning to its end, which may be before its time."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.write(10, HoldStarted(hold="h1", user="dev", seconds=HOUR, reason="", pid=0))
    log.go(20, "c1")
    log.write(30 * MINUTE, HoldEnded(hold="h1", user="dev", why="released"))
    log.stop(31 * MINUTE)
    assert figures(log, rules(60)).awake == 31 * MINUTE
    assert figures(log, rules(10)).awake == 30 * MINUTE + 10


def test_a_terminal_that_was_left_behind_keeps_it_up() -> None:
    """A user of mosh has no connection, and counts all the same."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.go(10, "c1")
    log.write(20, TerminalUsed(what="dev is at pts/3"))
    log.write(HOUR, TerminalQuiet(what="dev is at pts/3"))
    log.stop(HOUR + 60)
    assert figures(log, rules(60)).awake == HOUR + 60


def test_a_suspend_and_its_resume_are_a_stop_and_a_start() -> None:
    """A machine that was suspended was not awake meanwhile, and the same settings give the same."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.go(10, "c1")
    log.stop(70, action="suspend")
    log.write(HOUR, StopStep(step="suspend", outcome="ok", result="done", seconds=1))
    log.write(HOUR, MachineResumed(seconds=HOUR - 70))
    log.come(HOUR, "c2", "amos")
    log.go(HOUR + 10, "c2")
    log.stop(HOUR + 70, action="suspend")
    assert recorded(history_of(log)) == Figures(140, 2)
    assert figures(log, rules(60), suspends=True) == Figures(140, 2, 0, 0)


def test_a_deploy_stops_it_under_any_settings() -> None:
    """No setting keeps the machine up through a stop that it was told to make, and nobody found it asleep for that."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.stop(HOUR, "c1", (0, HOUR), reason="signal")
    log.start(HOUR + 60)
    log.come(HOUR + 60, "c1", "amos")
    log.go(2 * HOUR, "c1", (0, 59 * MINUTE))
    log.stop(2 * HOUR + 60)
    assert figures(log, rules(24 * HOUR)).awake == pytest.approx(2 * HOUR, abs=1)
    assert figures(log, rules(60)) == Figures(2 * HOUR, 2, 0, 0)


def test_a_deploy_of_a_machine_that_would_have_slept_stops_nothing() -> None:
    """A stop by a signal that other settings would have come before changes nothing."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.go(10, "c1")
    log.stop(HOUR, reason="signal")
    assert figures(log, rules(60)) == Figures(70, 1, 0, 0)


def test_work_that_would_have_begun_after_a_stop_has_died() -> None:
    """A build that began in a session that other settings would have cut off counts as killed."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.quiet(HOUR, "c1", HOUR - 10)
    log.seen(HOUR + 300, (280, 10))
    log.go(2 * HOUR, "c1", (0, 10))
    log.stop(2 * HOUR + 60)
    assert figures(log, rules(60, 60)).killed == 1
    assert figures(log, rules(60, 60), suspends=True).killed == 0


def test_a_client_that_is_taken_for_a_loop_tries_again_if_somebody_is_there() -> None:
    """A command right after a stop under the person's window is refused once in the replay, and then let in."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.come(200, "c2", "amos")
    log.go(300, "c2", (0, 100))
    log.come(400, "c3", "amos")
    log.go(401, "c3", (0, 1))
    log.go(HOUR, "c1", (0, 10))
    log.stop(HOUR + 60)
    found = figures(log, rules(60, 60))
    assert found.starts >= 2
    assert found.found_asleep


def test_a_client_that_is_taken_for_a_loop_gives_up_if_nobody_is_there() -> None:
    """A short command that is refused in the replay is over before anybody would try again."""
    log = WrittenLog()
    log.start(0)
    log.come(0, "c1", "amos")
    log.come(200, "c2", "amos")
    log.go(201, "c2", (0, 1))
    log.go(HOUR, "c1", (0, 10))
    log.stop(HOUR + 60)
    assert figures(log, rules(60, 60)).starts == 2
