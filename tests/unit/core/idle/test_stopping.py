"""What a stop says, how its time is divided, and how one sees that the machine stood still."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.stopping import (
    AWAY_SECONDS,
    SPAWNER_GONE,
    Clocks,
    away,
    farewell,
    hook_seconds,
    session_seconds,
)

SECONDS = st.floats(0.001, 300)


@pytest.mark.parametrize("action", ["exit", "suspend", "command"])
def test_a_signal_is_told_as_a_deploy(action: str) -> None:
    """Protects the person who is on while somebody deploys: they read that it is over in a moment."""
    words = farewell("signal", action)
    assert words.screen == "pyssh-gateway: the server is stopping for a deploy, reconnect in a moment. Goodbye!"
    assert words.message == "The server is stopping for a deploy, reconnect in a moment"


def test_a_stop_by_hand_is_told_as_one() -> None:
    """Protects people from waiting for a deploy that nobody makes, when somebody has pressed Ctrl-C."""
    assert farewell("signal", "exit", "SIGINT").message == "The server was stopped by hand (Ctrl-C)"
    assert farewell("signal", "exit", "SIGHUP").message == "The server was stopped with the terminal that it ran in"
    assert farewell("signal", "exit", "SIGTERM") == farewell("signal", "exit")


def test_the_death_of_the_server_is_told_as_one() -> None:
    """Protects whoever looks for the reason: a server that died is no deploy either."""
    assert farewell("signal", "exit", SPAWNER_GONE).message.startswith("The server has died")


def test_an_idle_stop_says_what_happens() -> None:
    """Protects who left a terminal open: it says why it ends, and what reconnecting does."""
    assert "goes to sleep; reconnect to wake it" in farewell("idle", "suspend").message
    assert "stops; reconnect to start it" in farewell("idle", "exit").screen
    assert farewell("idle", "command") == farewell("idle", "exit")


@pytest.mark.parametrize(
    ("reason", "hooks", "expected"),
    [("idle", 0, 4.0), ("idle", 2, 4.0), ("signal", 0, 4.0), ("signal", 1, 2.0), ("signal", 2, 2.0)],
)
def test_time_for_the_sessions(reason: str, hooks: int, expected: float) -> None:
    """Protects both: only after a signal, when there are hooks, do sessions have to leave time for them."""
    assert session_seconds(reason, 4.0, 10.0, hooks) == expected


def test_quick_hooks_leave_the_sessions_more() -> None:
    """Protects the sessions: hooks that may take a second only keep a second."""
    assert session_seconds("signal", 4.0, 1.0, 1) == 3.0


@given(SECONDS, SECONDS, st.floats(0, 1))
def test_after_a_signal_all_is_done_within_the_drain_time(drain: float, hook_timeout: float, used: float) -> None:
    """Protects from the platform's kill: sessions and hooks together never take longer than the drain time."""
    spent = session_seconds("signal", drain, hook_timeout, 1) * used
    hooks = hook_seconds("signal", drain, hook_timeout, spent)
    assert spent + hooks <= drain + 1e-9 or hooks <= drain / 2
    assert hooks >= min(hook_timeout, drain / 2) - 1e-9


def test_nobody_hurries_an_idle_stop() -> None:
    """Protects hooks that save things: with nobody waiting for the end they have all of their time."""
    assert hook_seconds("idle", 4.0, 10.0, 4.0) == 10.0


@pytest.mark.parametrize(
    ("steady", "wall", "expected"),
    [
        (0.3, 0.3, 0.0),  # it ran
        (0.25, 600.25, 600.0),  # suspended; only the time of day shows it
        (60.25, 60.25, 60.0),  # stopped; both clocks went on
        (0.25, 0.25, 0.0),  # a snapshot's clocks go on where they were: nothing to see
        (0.25, -3600.0, 0.0),  # the clock was set back
        (0.25 + AWAY_SECONDS, 0.25 + AWAY_SECONDS, 0.0),  # late, as on a busy machine
    ],
)
def test_standing_still_is_seen_in_either_clock(steady: float, wall: float, expected: float) -> None:
    """Protects the resume: the machine was away if either clock says so, and not if somebody set it back."""
    assert away(Clocks(100.0, 1e9), Clocks(100.0 + steady, 1e9 + wall), 0.25) == pytest.approx(expected)
