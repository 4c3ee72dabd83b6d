"""core.idle.usage: which traffic counts as use of a client, and which is only an open editor."""

import pytest

from pyssh_gateway.core.idle.usage import (
    PROBATION_TRICKLE_BYTES,
    PROBATION_WINDOW_SECONDS,
    PROOF_WINDOWS,
    SETTLING_SECONDS,
    TRICKLE_BYTES,
    WINDOW_SECONDS,
    Counters,
    Usage,
)


def watch(usage: Usage, steps: list[tuple[float, Counters]]) -> list[tuple[float, str]]:
    """The reports about one client, with these counters at these times."""
    said = []
    for now, counters in steps:
        quiet, used = usage.look({"c1": counters}, now)
        said += [(now, f"quiet for {seconds:.0f}") for _, seconds in quiet]
        said += [(now, "used") for _ in used]
    return said


def test_heartbeats_are_no_use() -> None:
    """Protects the bill from an editor that was left open: its small, steady traffic does not count as use."""
    beats = [(15.0 * step, Counters(worked=300 * step)) for step in range(30)]
    assert watch(Usage(60), beats) == [(60.0, "quiet for 60")]


def test_a_key_is_use() -> None:
    """Protects a person who thinks: a single key in a terminal counts as use, however few bytes it has."""
    usage = Usage(60)
    assert watch(usage, [(0, Counters(typed=5)), (59, Counters(typed=6)), (118, Counters(typed=6))]) == []
    assert watch(usage, [(119, Counters(typed=6)), (300, Counters(typed=7))]) == [(119, "quiet for 60"), (300, "used")]


def test_a_request_for_a_file_is_use() -> None:
    """Protects a person who browses by SFTP: one request counts as use, however few bytes it has."""
    usage = Usage(60)
    assert watch(usage, [(0, Counters()), (59, Counters(asked=20)), (118, Counters(asked=20))]) == []
    assert watch(usage, [(119, Counters(asked=20))]) == [(119, "quiet for 60")]


def test_counters_are_added_one_by_one() -> None:
    """Protects the totals of a connection: each of its sessions' counters goes into its own total."""
    each = {name: number for number, name in enumerate(Counters.__struct_fields__, 1)}
    assert Counters(**each) + Counters(**each) == Counters(**{name: 2 * number for name, number in each.items()})


def test_a_transfer_is_use() -> None:
    """Protects a running copy: more than a trickle through a command or a forward counts as use."""
    steps = [(15.0 * step, Counters(worked=(TRICKLE_BYTES + 1) * step)) for step in range(20)]
    assert watch(Usage(60), steps) == []


def test_output_in_a_terminal_is_use_while_its_programs_work() -> None:
    """Protects a build that is watched: output in a terminal counts while its programs work, a trickle does not."""
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
    """Protects the bill from a log that scrolls by: output counts only while programs of the terminal work."""
    steps = [(15.0 * step, Counters(shown=10**6 * step)) for step in range(5)]
    assert watch(Usage(60), steps) == [(60.0, "quiet for 60")]


def test_a_session_is_use() -> None:
    """Protects work by short commands: each session counts, even without data and after its end."""
    usage = Usage(60)
    assert watch(usage, [(0, Counters()), (59, Counters(opened=1)), (118, Counters(opened=1))]) == []
    assert watch(usage, [(119, Counters(opened=1)), (300, Counters(opened=2))]) == [
        (119, "quiet for 60"),
        (300, "used"),
    ]


def test_who_goes_is_forgotten() -> None:
    """Protects memory, and a later client of the same name: a client that left is forgotten."""
    usage = Usage(60)
    watch(usage, [(0, Counters()), (60, Counters())])
    assert usage.look({}, 61) == ([], [])
    assert watch(usage, [(70, Counters()), (129, Counters()), (130, Counters())]) == [(130, "quiet for 60")]


def test_it_is_said_when_a_client_will_be_quiet() -> None:
    """Protects `status`: it has the time until a client counts as quiet, and none for a quiet or an unknown client."""
    usage = Usage(60)
    assert usage.quiet_in("c1", 0) is None
    usage.look({"c1": Counters()}, 0)
    assert usage.quiet_in("c1", 45) == 15
    assert usage.quiet_in("c1", 99) == 0
    usage.look({"c1": Counters()}, 60)
    assert usage.quiet_in("c1", 61) is None


@pytest.mark.parametrize(("client_idle", "window"), [(3600, WINDOW_SECONDS), (60, 15), (2, 0.5)])
def test_the_window_is_short_enough(client_idle: float, window: float) -> None:
    """Protects short times: the window for measuring is shorter than the time itself."""
    assert Usage(client_idle).window == window


MUCH = PROBATION_TRICKLE_BYTES + 1


def on_probation(usage: Usage, *windows: Counters) -> list[int]:
    """The numbers of the windows after which a client on probation, with these counters at their ends, is used."""
    said = []
    for number, counters in enumerate(windows):
        quiet, used = usage.look({"c1": counters}, PROBATION_WINDOW_SECONDS * number, on_probation={"c1"})
        assert not quiet
        said += [number for _ in used]
    return said


@pytest.mark.parametrize("sign", [Counters(terminals=1, opened=1), Counters(typed=1), Counters(asked=MUCH)])
def test_a_sign_of_a_person_ends_a_probation_at_once(sign: Counters) -> None:
    """Protects a person who is there: a terminal, a key or a transfer counts in the very first window."""
    assert on_probation(Usage(60), sign) == [0]


def test_what_an_editor_does_when_it_comes_back_is_no_sign() -> None:
    """Protects the bill: sessions, a burst of state, heartbeats and a single later burst are no use on probation."""
    burst = Counters(opened=3, worked=10**6, asked=100)
    heartbeats = [Counters(opened=3, worked=10**6 + 300 * step, asked=100) for step in range(8)]
    later = Counters(opened=4, worked=2 * 10**6, asked=100)
    assert on_probation(Usage(60), Counters(), burst, *heartbeats, later, later) == []


def test_traffic_that_goes_on_is_a_sign() -> None:
    """Protects a person who works in an editor: traffic in window after window is noticed soon."""
    windows = [Counters(worked=MUCH * step) for step in range(20)]
    first = int(SETTLING_SECONDS / PROBATION_WINDOW_SECONDS) + PROOF_WINDOWS
    assert on_probation(Usage(60), *windows)[0] == first
    assert first * PROBATION_WINDOW_SECONDS <= 20


def test_use_that_was_noticed_elsewhere_is_not_told_again() -> None:
    """Protects the log: a terminal that ends a probation by its event is not found once more at the next look."""
    usage = Usage(60)
    usage.look({"c1": Counters()}, 0, on_probation={"c1"})
    usage.count_as_used("c1", 1)
    usage.count_as_used("c1", 2)
    assert usage.look({"c1": Counters(terminals=1, opened=1)}, 5) == ([], [])
    assert usage.quiet_in("c1", 5) == 60


def test_windows_are_short_while_somebody_is_on_probation() -> None:
    """Protects a short leash: the machine does not stop before the client was looked at."""
    usage = Usage(600)
    assert usage.next_window(frozenset()) == WINDOW_SECONDS
    assert usage.next_window({"c1"}) == PROBATION_WINDOW_SECONDS
    assert Usage(1).next_window({"c1"}) == 0.25


def test_a_single_window_on_probation_is_told_apart() -> None:
    """Protects a person from a stop under their hands: what may become a proof is known before it is one."""
    usage = Usage(60)
    for number, worked in enumerate([0, MUCH, 2 * MUCH]):  # the two windows in which an editor settles, and one more
        usage.look({"c1": Counters(worked=worked)}, PROBATION_WINDOW_SECONDS * number, on_probation={"c1"})
    assert usage.stirring == {"c1"}
    usage.look({"c1": Counters(worked=2 * MUCH)}, PROBATION_WINDOW_SECONDS * 3, on_probation={"c1"})
    assert usage.stirring == frozenset()
    usage.look({"c1": Counters(typed=1)}, PROBATION_WINDOW_SECONDS * 4, on_probation={"c1"})
    usage.look({"c1": Counters(typed=1)}, 1000)
    assert usage.stirring == frozenset(), "its probation is over"


def test_more_looks_than_windows_do_not_shorten_the_beginning() -> None:
    """Protects the bill: a look before a warning, at the very beginning, does not make an editor's burst a proof."""
    usage = Usage(60)
    for at, worked in [(0, 0), (0.25, 0), (5, MUCH), (10, 2 * MUCH)]:
        assert usage.look({"c1": Counters(worked=worked)}, at, on_probation={"c1"}) == ([], [])


def test_a_client_whose_person_was_noticed_elsewhere_stirs_no_more() -> None:
    """Protects the bill: an editor whose probation another connection has ended does not hold the machine for ever."""
    usage = Usage(60)
    for number, worked in enumerate([0, MUCH, 2 * MUCH]):
        usage.look({"c1": Counters(worked=worked)}, PROBATION_WINDOW_SECONDS * number, on_probation={"c1"})
    assert usage.stirring == {"c1"}
    usage.look({"c1": Counters(worked=2 * MUCH)}, 100)
    assert usage.stirring == frozenset()
