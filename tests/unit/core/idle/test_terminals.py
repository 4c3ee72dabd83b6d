"""core.idle.terminals: a terminal that somebody uses without a connection, and one that nobody uses."""

import os

import pytest

from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.terminals import (
    CLOCK_SECONDS,
    PAUSE_SECONDS,
    Terminal,
    connected_by_mosh,
    left_behind,
    line_of,
    tells_who_wants_messages,
    used,
)

NOW = 1_795_000_000.0


def process(pid: int, parent: int, name: str, tty: str = "", *, started: float = 0.0, uid: int = 1000) -> Process:
    """A process that uses nothing."""
    return Process(pid, parent, started, uid, name, 0.0, 0, tty)


SAMPLE = Sample(
    0.0,
    (
        process(10, 1, "mosh-server"),
        process(11, 10, "bash", "pts/3"),
        process(12, 11, "vim", "pts/3", uid=0),
        process(20, 1, "tmux: server"),
        process(22, 20, "zsh", "pts/5", started=2.0, uid=0),
        process(21, 20, "zsh", "pts/5", started=1.0),
        process(30, 99, "nano", "pts/6"),
        process(40, 1, "bash", "pts/9"),
    ),
)


@pytest.mark.parametrize(
    ("major", "minor", "line"),
    [(136, 0, "pts/0"), (136, 255, "pts/255"), (137, 1, "pts/257"), (143, 255, "pts/2047"), (4, 1, ""), (0, 0, "")],
)
def test_which_terminal_a_number_is(major: int, minor: int, line: str) -> None:
    """Protects the lookup of the right device: numbers are the kernel's tty_nr."""
    assert line_of(os.makedev(major, minor)) == line


def test_a_ptys_number_can_be_large() -> None:
    """A pty's minor number may be so large that it surrounds the major number's bits."""
    assert line_of(os.makedev(136, 0x12345)) == f"pts/{0x12345}"


def test_what_was_left_behind() -> None:
    """Shows the owner and the program of each terminal, except those of open sessions."""
    assert left_behind(SAMPLE, ["pts/9", ""]) == {
        "pts/3": (1000, "mosh-server"),
        "pts/5": (1000, "tmux: server"),
        "pts/6": (1000, "nano"),
    }


def test_who_is_connected_by_mosh() -> None:
    """A record counts only if a living mosh-server has written it for that terminal."""
    hosts = {
        "pts/3": "203.0.113.9 via mosh [10]",
        "pts/5": "203.0.113.9 via mosh [20]",  # written by tmux
        "pts/6": "203.0.113.9 via mosh [1234]",  # written by a process that is gone
        "pts/7": "mosh [10]",  # not connected to its client
        "pts/8": "203.0.113.9",
    }
    assert connected_by_mosh(hosts, SAMPLE) == {"pts/3"}


MOSH = Terminal("pts/3", 1000, "mosh-server", NOW - 100, NOW - 100)
TMUX = Terminal("pts/5", 1000, "tmux: server", NOW - 100, NOW - 900)
FRESH = Terminal("pts/5", 1000, "script", NOW - 100, NOW - 100)
GONE = NOW - PAUSE_SECONDS - CLOCK_SECONDS
LINKED = Terminal("pts/3", 1000, "mosh-server", NOW - 9999, NOW - 9999, connected=True)


@pytest.mark.parametrize(
    ("terminal", "since", "timeout", "client_idle", "is_used"),
    [
        (MOSH, NOW, 60, None, True),
        (Terminal("pts/3", 1000, "mosh-server", GONE, GONE), 0, 60, None, False),
        (Terminal("pts/3", 1000, "mosh-server", GONE, GONE), 0, 600, None, True),
        (MOSH, 0, 60, 90, False),
        (MOSH, 0, 60, 93, True),
        (TMUX, NOW - 200, 60, None, True),
        (TMUX, NOW - 100, 60, None, False),
        (FRESH, NOW - 200, 60, None, False),
        (LINKED, NOW, 60, None, True),
        (LINKED, NOW, 60, 600, False),
    ],
    ids=[
        "typed",
        "typed long ago",
        "a long timeout",
        "no use",
        "the kernel's clock",
        "typed since",
        "typed before",
        "just made",
        "connected",
        "connected and unused",
    ],
)
def test_who_is_at_it(
    terminal: Terminal, since: float, timeout: float, client_idle: float | None, is_used: bool
) -> None:
    """Protects mosh users from a stop while they work, and the bill from terminals that nobody uses."""
    found = used([terminal], now=NOW, since=since, timeout=timeout, client_idle=client_idle)
    assert found == ((terminal,) if is_used else ())


@pytest.mark.parametrize(
    ("mounts", "tells"),
    [
        ("proc /proc proc rw 0 0\ndevpts /dev/pts devpts rw,gid=5,mode=620,ptmxmode=000 0 0\n", True),
        ("devpts /dev/pts devpts rw,mode=600,ptmxmode=000 0 0\n", False),
        ("devpts /dev/pts devpts rw,ptmxmode=620 0 0\n", False),
        ("devpts /dev/pts devpts rw,mode=620 0 0\ndevpts /dev/pts devpts rw,mode=600 0 0\n", False),
        ("devpts /srv/dev/pts devpts rw,mode=620 0 0\n", False),
        ("", False),
    ],
)
def test_whether_mesg_has_an_effect(mounts: str, tells: bool) -> None:
    """Protects people in containers from being taken for some who want no messages; the last mount counts."""
    assert tells_who_wants_messages(mounts) is tells
