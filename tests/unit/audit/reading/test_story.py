"""audit.reading.story: the sentences about a connection."""

import time
from typing import Any

import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.reading.story import Story

WHICH: dict[str, Any] = {"conn": "c1", "session": "c1.1", "user": "dev"}
AMOS = ev.Identity("github:example", 583231, "SHA256:x")


LOGIN = (
    "github:example#583231 logged in to the account dev from 203.0.113.9 with the key SHA256:x of github:example, "
    "0.07 s after connecting. The client is OpenSSH_9.9, the cipher aes256-gcm@openssh.com. "
    "The person's login before this one was at 2026-01-02 03:04:05 from 203.0.113.8."
)


def told(*events: ev.AnyEvent, session: str = "", every: bool = False) -> list[str]:
    """The sentences about events that happen a second apart."""
    story = Story(session, every=every)
    for at, event in enumerate(events):
        story.add(float(at), event)
    return [sentence.text for sentence in story.sentences()]


def operation(path: str, name: str = "file.closed", *, read: int = 0, written: int = 0, **more: str) -> ev.AnyEvent:
    """An operation on a file."""
    fields: dict[str, Any] = {"target": "", "detail": "write" if written else "read", "outcome": "ok"} | more
    return ev.FileOperation(**WHICH, operation=name, path=path, bytes_read=read, bytes_written=written, **fields)


def test_a_login_and_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, with which key, from where, what, and how it ended; what was refused before. Times are local ones."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    denied = ev.AuthAttempt(
        conn="c1",
        peer="203.0.113.9",
        user="dev",
        method="publickey",
        result="denied",
        reason="unknown key",
        key_type="ssh-rsa",
        fingerprint="SHA256:y",
    )
    login = ev.ConnectionAuthenticated(
        conn="c1",
        peer="203.0.113.9",
        user="dev",
        fingerprint="SHA256:x",
        source="github:example",
        client="OpenSSH_9.9",
        cipher="aes256-gcm@openssh.com",
        seconds=0.068,
        identity=AMOS,
        previous=ev.PreviousLogin("2026-01-02T03:04:05.678901Z", "203.0.113.8"),
    )
    opened = ev.SessionOpened(**WHICH, kind="shell", command="", tty="/dev/pts/0", term="xterm", pid=12)
    ended = ev.SessionClosed(
        **WHICH, reason="the process ended", exit_status=0, exit_signal=None, bytes_in=5, bytes_out=2048, seconds=125.0
    )
    closed = ev.ConnectionClosed(
        conn="c1", peer="", user="dev", reason="connection lost", seconds=130.0, bytes_in=1, bytes_out=2
    )
    assert told(denied, login, opened, ended, closed) == [
        "Asked for the account dev with the key ssh-rsa SHA256:y: refused, unknown key.",
        LOGIN,
        "c1.1 began: a shell on /dev/pts/0 (xterm), as process 12.",
        "c1.1 ended after 2m5s, with exit status 0: the process ended; 5 B in, 2.0 KiB out.",
        "The connection ended after 2m10s: connection lost; 1 B in, 2 B out. The client did not take its leave.",
    ]


def test_few_files_are_named_and_many_summed_up() -> None:
    """A copy of a directory is a sentence, unless all of it is asked for."""
    assert told(operation("/a", read=10), operation("/b", written=20), operation("/c", "file.removed")) == [
        "c1.1: read 10 B of /a.",
        "c1.1: wrote 20 B to /b.",
        "c1.1: removed /c.",
    ]
    many = [operation(f"/{number}", read=1024) for number in range(40)]
    more = [operation("/x", written=5), operation("/y", "file.removed")]
    more += [operation("/z", "file.removed", outcome="ENOENT"), operation("/d", "directory.made")]
    assert told(*many, *more) == [
        (
            "c1.1: read 40 files (/0, /1, /2 ...), 40.0 KiB; wrote 1 file (/x), 5 B; "
            "removed 1 file; failed to remove 1 file; made 1 directory. --all lists them."
        )
    ]
    every = told(*many, *more, every=True)
    assert len(every) == 44
    assert "c1.1: failed to remove /z (ENOENT)." in every


def test_forwards_are_summed_up_by_their_target() -> None:
    """Two hundred connections of a browser are one sentence."""
    events: list[ev.AnyEvent] = []
    for _ in range(3):
        fields: dict[str, Any] = {"conn": "c1", "user": "dev", "kind": "direct-tcpip", "target": "127.0.0.1:5432"}
        events += [
            ev.ForwardOpened(**fields),
            ev.ForwardClosed(**fields, bytes_in=10, bytes_out=20, seconds=1.0),
        ]
    events.append(ev.ForwardListening(conn="c1", user="dev", kind="forwarded-tcpip", target="localhost:80"))
    assert told(*events) == [
        "Forwarded to 127.0.0.1:5432: 3 connections, 30 B in, 60 B out.",
        "Opened a listener at localhost:80, for forwarded-tcpip.",
    ]


def test_holds_of_the_account_belong_to_it() -> None:
    """Those of others do not."""
    login = ev.ConnectionAuthenticated(
        conn="c1", peer="", user="dev", fingerprint="", source="", client="", cipher="", seconds=0.0, identity=AMOS
    )
    mine = ev.HoldStarted(hold="h1", user="dev", seconds=7200.0, reason="training run", pid=0)
    others = ev.HoldStarted(hold="h2", user="build", seconds=7200.0, reason="x", pid=0)
    assert told(login, mine, others)[1:] == ["Meanwhile dev held the machine for 2h: training run."]


@pytest.mark.parametrize(("session", "number"), [("", 3), ("c1.1", 2), ("c1.2", 2)])
def test_a_session_is_told_without_the_others(session: str, number: int) -> None:
    """What concerns the whole connection is told in any case."""
    other: dict[str, Any] = WHICH | {"session": "c1.2"}
    assert (
        len(
            told(
                ev.RequestDenied(conn="c1", user="dev", request="tun", reason="not served"),
                ev.SessionOpened(**WHICH, kind="exec", command="a", tty="", term="", pid=1),
                ev.SessionOpened(**other, kind="exec", command="b", tty="", term="", pid=2),
                session=session,
            )
        )
        == number
    )
