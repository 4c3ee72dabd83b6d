"""The lines that a person who watches gets for a connection: each fact once, and none left out."""

from typing import Any

import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit import human_view
from pyssh_gateway.audit.human_view import HELD_SECONDS, HumanView

TIME = 1767323045.0  # 03:04:05Z
SHA = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"
AMOS = ev.Identity("github:example", 583231, SHA)


def opened(conn: str = "c1", **fields: Any) -> ev.ConnectionOpened:  # noqa: ANN401 - an event's fields
    """A connection."""
    return ev.ConnectionOpened(conn=conn, peer="203.0.113.5", peer_port=50022, **fields)


def attempt(result: Any, **fields: Any) -> ev.AuthAttempt:  # noqa: ANN401 - as above
    """An attempt to log in."""
    return ev.AuthAttempt(
        conn="c1", peer="203.0.113.5", user="amos", method="publickey", result=result, fingerprint=SHA, **fields
    )


def authenticated() -> ev.ConnectionAuthenticated:
    """A login."""
    return ev.ConnectionAuthenticated(
        conn="c1",
        peer="203.0.113.5",
        user="amos",
        fingerprint=SHA,
        source="github:example",
        client="OpenSSH_9.9",
        cipher="aes256-gcm@openssh.com",
        seconds=0.068,
        identity=AMOS,
    )


def session(number: int = 1, *, kind: Any = "shell", command: str = "", tty: str = "/dev/pts/0") -> ev.SessionOpened:  # noqa: ANN401 - as above
    """A session."""
    return ev.SessionOpened(
        conn="c1", session=f"c1.{number}", user="amos", kind=kind, command=command, tty=tty, term="xterm", pid=12
    )


def ended(number: int = 1) -> ev.SessionClosed:
    """The session's end."""
    return ev.SessionClosed(
        conn="c1",
        session=f"c1.{number}",
        user="amos",
        reason="the process ended",
        exit_status=7,
        exit_signal=None,
        bytes_in=12,
        bytes_out=20480,
        seconds=3.21,
    )


def closed(user: str = "amos") -> ev.ConnectionClosed:
    """The connection's end."""
    return ev.ConnectionClosed(
        conn="c1",
        peer="203.0.113.5",
        user=user,
        reason="the client disconnected",
        seconds=182.4,
        bytes_in=5310,
        bytes_out=1204224,
    )


LISTENING = ev.ForwardListening(conn="c1", user="amos", kind="auth-agent", target="/tmp/agent")
DENIED = ev.RequestDenied(conn="c1", user="amos", request="direct-tcpip 127.0.0.1:9", reason="Connection refused")
LOGIN = (opened(), attempt("offered"), attempt("accepted"), authenticated())
OUT = "5.2 KiB in, 1.1 MiB out"


class Watcher:
    """Collects the lines that the view shows for events at one moment, without the time in front."""

    def __init__(self) -> None:
        self.view = HumanView(colour=False)

    def sees(self, *events: ev.AnyEvent) -> list[str]:
        """The lines that these events produce at once."""
        return self.plain([line for event in events for line in self.view.show(ev.Record(1, TIME, event))])

    def sees_later(self, seconds: float = HELD_SECONDS) -> list[str]:
        """The lines that are shown when this many seconds have passed."""
        return self.plain(self.view.overdue(TIME + seconds))

    def plain(self, lines: list[str]) -> list[str]:
        """The lines without their time."""
        assert all(line.startswith("03:04:05Z ") for line in lines)
        return [line.removeprefix("03:04:05Z ") for line in lines]


@pytest.fixture
def watcher() -> Watcher:
    """A watcher who has seen nothing yet."""
    return Watcher()


def test_a_login_of_a_shell_is_one_line_and_its_end_another(watcher: Watcher) -> None:
    """Protects the terminal from five lines for one login: one line has the person, address, key and command."""
    (line,) = watcher.sees(*LOGIN, session())
    who = f"login    amos from 203.0.113.5 with {SHA} of github:example#583231"
    assert line == (f"{who}: shell on /dev/pts/0 (xterm), c1.1, pid 12; OpenSSH_9.9, aes256-gcm@openssh.com, in 0.07s")
    assert not watcher.view.holds
    assert watcher.sees(ended(), closed()) == [
        f"logout   amos from 203.0.113.5, c1.1 exit 7 after 3m02s: the process ended, the client disconnected; {OUT}"
    ]
    assert not watcher.view.holds


def test_a_login_by_a_proxy_names_it(watcher: Watcher) -> None:
    """The login's line replaces the connection's own, so it also names the proxy."""
    events = (opened(proxy="172.16.3.2"), *LOGIN[1:], session(kind="exec", command="make", tty=""))
    (line,) = watcher.sees(*events)
    assert line.startswith(f"login    amos from 203.0.113.5 through 172.16.3.2 with {SHA} of ")
    assert ": exec make, c1.1, pid 12; " in line


def test_a_login_without_a_session_is_shown_when_it_has_waited(watcher: Watcher) -> None:
    """A user with `ssh -N` opens no session, and their login is shown after a while all the same."""
    assert watcher.sees(*LOGIN) == []
    assert watcher.view.holds
    assert watcher.sees_later(HELD_SECONDS / 2) == []
    (line,) = watcher.sees_later()
    assert line.startswith("login    amos from 203.0.113.5 on c1 in 0.07s with ")
    assert watcher.sees_later() == []
    assert watcher.sees(session()) == ["session  c1.1 amos shell on /dev/pts/0 (xterm), pid 12"]


def test_what_happens_between_comes_in_its_order(watcher: Watcher) -> None:
    """A login is shown before its forwards even without a session, and no end before the thing that it ends."""
    assert [line.split()[0] for line in watcher.sees(*LOGIN, DENIED)] == ["login", "forward"]
    assert [line.split()[0] for line in watcher.sees(session(), ended(), DENIED, closed())] == [
        *("session", "ended", "forward", "closed")
    ]


def test_an_agents_socket_does_not_part_a_login_from_its_session(watcher: Watcher) -> None:
    """A login with `ssh -A` is shown as any other, and the line of the agent's socket comes after it."""
    assert [line.split()[0] for line in watcher.sees(*LOGIN, LISTENING, session())] == ["login", "listen"]


def test_several_sessions_have_lines_of_their_own(watcher: Watcher) -> None:
    """A second session on one connection gets lines of its own, also for its end, apart from the connection's."""
    watcher.sees(*LOGIN)
    lines = watcher.sees(session(1), session(2), ended(1), ended(2), closed())
    assert [" ".join(line.split()[:2]) for line in lines] == [
        *("login amos", "session c1.2", "ended c1.1", "ended c1.2", "closed c1")
    ]


def test_a_session_that_ends_alone_is_shown_when_it_has_waited(watcher: Watcher) -> None:
    """When a session ends and its connection stays, as with a master connection, the session's end is shown too."""
    watcher.sees(*LOGIN, session(), ended())
    assert watcher.sees_later() == ["ended    c1.1 amos exit 7 after 3.21s: the process ended; 12 B in, 20.0 KiB out"]
    (line,) = watcher.sees(closed())
    assert line.startswith("closed   c1 amos ")


def test_a_stranger_is_one_line_for_each_key_and_one_at_the_end(watcher: Watcher) -> None:
    """A scanner gets a line for each key that it tries and one for its end, without a repeated address."""
    lines = watcher.sees(opened(), attempt("denied", reason="unknown account"), closed(""))
    assert [line.split()[0] for line in lines] == ["auth", "closed"]
    assert [line.split()[0] for line in watcher.sees(opened(), closed(""))] == ["closed"]


def test_a_stranger_who_waits_is_shown(watcher: Watcher) -> None:
    """A client that waits for a PIN, or sends nothing, is shown as connected after a while."""
    assert watcher.sees(opened(), attempt("offered")) == []
    assert [" ".join(line.split()[:2]) for line in watcher.sees_later()] == ["connect c1", "auth offered"]
    assert watcher.sees(*LOGIN[2:], session())[0].startswith("login    amos from 203.0.113.5 with ")


def test_nothing_that_waits_is_lost_at_the_end(watcher: Watcher) -> None:
    """Lines that are still held back when the server stops are shown, such as the last login's."""
    watcher.sees(*LOGIN)
    (line,) = watcher.plain(watcher.view.rest())
    assert line.startswith("login ")


def test_more_connections_than_are_followed_are_shown_line_by_line(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of connections does not fill the memory, and every connection is still shown."""
    monkeypatch.setattr(human_view, "MAX_FOLLOWED", 1)
    assert watcher.sees(opened("c0")) == []
    names = [line.split()[0] for line in watcher.sees(*LOGIN, session(), ended(), closed())]
    assert names == ["connect", "auth", "auth", "login", "session", "ended", "closed"]
