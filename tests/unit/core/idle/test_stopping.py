"""What a stop tells people, how its time is divided, and how a pause of the machine is detected."""

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
    """Protects users who are connected during a deploy: they read that they can reconnect in a moment."""
    words = farewell("signal", action)
    assert words.screen == "pyssh-gateway: the server is stopping for a deploy, reconnect in a moment. Goodbye!"
    assert words.message == "The server is stopping for a deploy, reconnect in a moment"


def test_a_stop_by_hand_is_told_as_one() -> None:
    """Protects people from waiting for a deploy when somebody has pressed Ctrl-C or closed the terminal."""
    assert farewell("signal", "exit", "SIGINT").message == "The server was stopped by hand (Ctrl-C)"
    assert farewell("signal", "exit", "SIGHUP").message == "The server was stopped with the terminal that it ran in"
    assert farewell("signal", "exit", "SIGTERM") == farewell("signal", "exit")


def test_the_death_of_the_server_is_told_as_one() -> None:
    """Protects people who look for the reason: a server that died is not called a deploy."""
    assert farewell("signal", "exit", SPAWNER_GONE).message.startswith("The server has died")


def test_an_idle_stop_says_what_happens() -> None:
    """Protects a person who left a terminal open: it says why it ends, and what reconnecting does."""
    assert "goes to sleep; reconnect to wake it" in farewell("idle", "suspend").message
    assert "stops; reconnect to start it" in farewell("idle", "exit").screen
    assert farewell("idle", "command") == farewell("idle", "exit")


@pytest.mark.parametrize(
    ("reason", "hooks", "expected"),
    [("idle", 0, 4.0), ("idle", 2, 4.0), ("signal", 0, 4.0), ("signal", 1, 2.0), ("signal", 2, 2.0)],
)
def test_time_for_the_sessions(reason: str, hooks: int, expected: float) -> None:
    """Protects sessions and hooks: sessions leave time for hooks only after a signal, and if there are hooks."""
    assert session_seconds(reason, 4.0, 10.0, hooks) == expected


def test_quick_hooks_leave_the_sessions_more() -> None:
    """Protects the sessions: hooks that may take one second reserve only that second."""
    assert session_seconds("signal", 4.0, 1.0, 1) == 3.0


@given(SECONDS, SECONDS, st.floats(0, 1))
def test_after_a_signal_all_is_done_within_the_drain_time(drain: float, hook_timeout: float, used: float) -> None:
    """Protects from the platform's kill: sessions and hooks together stay within the drain time."""
    spent = session_seconds("signal", drain, hook_timeout, 1) * used
    hooks = hook_seconds("signal", drain, hook_timeout, spent)
    assert spent + hooks <= drain + 1e-9 or hooks <= drain / 2
    assert hooks >= min(hook_timeout, drain / 2) - 1e-9


def test_nobody_hurries_an_idle_stop() -> None:
    """Protects hooks that save data: an idle stop gives them all of their time."""
    assert hook_seconds("idle", 4.0, 10.0, 4.0) == 10.0


@pytest.mark.parametrize(
    ("steady", "wall", "expected"),
    [
        (0.3, 0.3, 0.0),  # the machine ran
        (0.25, 600.25, 600.0),  # suspended: only the wall clock shows it
        (60.25, 60.25, 60.0),  # paused: both clocks went on
        (0.25, 0.25, 0.0),  # restored from a snapshot: both clocks continue where they were, so nothing shows
        (0.25, -3600.0, 0.0),  # the clock was set back
        (0.25 + AWAY_SECONDS, 0.25 + AWAY_SECONDS, 0.0),  # late, as on a busy machine
    ],
)
def test_standing_still_is_seen_in_either_clock(steady: float, wall: float, expected: float) -> None:
    """Protects the resume: a pause that either clock shows is detected, and a clock that was set back is none."""
    assert away(Clocks(100.0, 1e9), Clocks(100.0 + steady, 1e9 + wall), 0.25) == pytest.approx(expected)
