"""core.idle.usage: what is use of a client, and what is an editor that somebody has left open."""

import pytest

from pyssh_gateway.core.idle.usage import TRICKLE_BYTES, WINDOW_SECONDS, Counters, Usage


def watch(usage: Usage, steps: list[tuple[float, Counters]]) -> list[tuple[float, str]]:
    """What is said of the one client, whose counters stand like this at those times."""
    said = []
    for now, counters in steps:
        quiet, used = usage.look({"c1": counters}, now)
        said += [(now, f"quiet for {seconds:.0f}") for _, seconds in quiet]
        said += [(now, "used") for _ in used]
    return said


def test_heartbeats_are_no_use() -> None:
    """Protects against the editor that was left open: its trickle, for hours, does not count."""
    beats = [(15.0 * step, Counters(worked=300 * step)) for step in range(30)]
    assert watch(Usage(60), beats) == [(60.0, "quiet for 60")]


def test_a_key_is_use() -> None:
    """Protects the person who thinks: one key in a terminal counts, however few bytes it is."""
    usage = Usage(60)
    assert watch(usage, [(0, Counters(typed=5)), (59, Counters(typed=6)), (118, Counters(typed=6))]) == []
    assert watch(usage, [(119, Counters(typed=6)), (300, Counters(typed=7))]) == [(119, "quiet for 60"), (300, "used")]


def test_a_transfer_is_use() -> None:
    """Protects the running copy: more than a trickle through a command or a forward counts."""
    steps = [(15.0 * step, Counters(worked=(TRICKLE_BYTES + 1) * step)) for step in range(20)]
    assert watch(Usage(60), steps) == []


def test_output_in_a_terminal_is_use_while_its_programs_work() -> None:
    """Protects the build that is watched: its output counts as it would without a terminal; a trickle does not."""
    usage = Usage(60)
    usage.look({"c1": Counters()}, 0)
    assert usage.shows({"c1": Counters(shown=TRICKLE_BYTES), "new": Counters(shown=10**6)}) == frozenset()
    for step in range(1, 20):
        counters = {"c1": Counters(shown=(TRICKLE_BYTES + 1) * step)}
        assert usage.shows(counters) == {"c1"}
        assert usage.look(counters, 15.0 * step, {"c1"}) == ([], [])
    still = {"c1": Counters(shown=(TRICKLE_BYTES + 1) * 19 + TRICKLE_BYTES)}
    assert usage.look(still, 15.0 * 23, {"c1"}) == ([("c1", 60.0)], [])


def test_output_alone_is_no_use() -> None:
    """Protects the bill from a log that scrolls by: nothing works there."""
    steps = [(15.0 * step, Counters(shown=10**6 * step)) for step in range(5)]
    assert watch(Usage(60), steps) == [(60.0, "quiet for 60")]


def test_a_session_is_use() -> None:
    """Protects who works by short commands: each session counts, although nothing goes through it and it is over."""
    usage = Usage(60)
    assert watch(usage, [(0, Counters()), (59, Counters(opened=1)), (118, Counters(opened=1))]) == []
    assert watch(usage, [(119, Counters(opened=1)), (300, Counters(opened=2))]) == [
        (119, "quiet for 60"),
        (300, "used"),
    ]


def test_who_goes_is_forgotten() -> None:
    """Protects the memory, and a later client with the same name from an earlier one's silence."""
    usage = Usage(60)
    watch(usage, [(0, Counters()), (60, Counters())])
    assert usage.look({}, 61) == ([], [])
    assert watch(usage, [(70, Counters()), (129, Counters()), (130, Counters())]) == [(130, "quiet for 60")]


def test_it_is_said_when_a_client_will_be_quiet() -> None:
    """Protects `status`: the time that is left to a client, and nothing for one that is quiet or was never seen."""
    usage = Usage(60)
    assert usage.quiet_in("c1", 0) is None
    usage.look({"c1": Counters()}, 0)
    assert usage.quiet_in("c1", 45) == 15
    assert usage.quiet_in("c1", 99) == 0
    usage.look({"c1": Counters()}, 60)
    assert usage.quiet_in("c1", 61) is None


@pytest.mark.parametrize(("client_idle", "window"), [(3600, WINDOW_SECONDS), (60, 15), (2, 0.5)])
def test_the_window_is_short_enough(client_idle: float, window: float) -> None:
    """Protects short times from being told with a window that is longer than they are."""
    assert Usage(client_idle).window == window
