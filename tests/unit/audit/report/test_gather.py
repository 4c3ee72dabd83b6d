"""audit.report.gather and notes: what is kept of the lines, within bounds, and what is notable."""

from typing import Literal

import msgspec
import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.report import facts, gather, notes
from pyssh_gateway.audit.report.gather import Gathered
from pyssh_gateway.core.idle.what_if.log_lines import Heads
from pyssh_gateway.core.idle.what_if.numbering import OTHERS_NUMBERS
from tests.support.written_log import MONDAY, WrittenLog, identity

ME = identity("amos")


def gathered(log: WrittenLog, *, people: tuple[str, ...] = (), most: int = 100, since: float = 0.0) -> Gathered:
    """What is gathered of a log."""
    found = Gathered(most_sessions=most, people=people)
    lines = gather.gather(log.lines, found, since=since, until=MONDAY + 86400, heads=Heads())
    assert len(list(lines)) == found.lines
    return found


def opened(session: str, *, kind: str = "exec", command: str = "make", who: ev.Identity = ME) -> ev.SessionOpened:
    """A session begins."""
    fields = {"conn": session.partition(".")[0], "session": session, "user": "dev", "kind": kind, "command": command}
    return msgspec.convert(
        fields | {"event": "session.opened", "tty": "", "term": "", "pid": 1, "identity": who}, ev.SessionOpened
    )


def closed(session: str, *, size: tuple[int, int] = (10, 20), who: ev.Identity = ME) -> ev.SessionClosed:
    """It ends after 5 seconds."""
    return ev.SessionClosed(
        conn=session.partition(".")[0],
        session=session,
        user="dev",
        reason="the process ended",
        exit_status=7,
        exit_signal=None,
        bytes_in=size[0],
        bytes_out=size[1],
        seconds=5.0,
        identity=who,
    )


def file_done(session: str, path: str = "/etc/x", *, read: int = 0, written: int = 0, **more: str) -> ev.FileOperation:
    """An operation on a file."""
    fields = {"operation": "file.closed", "target": "", "detail": "read", "outcome": "ok"} | more
    return ev.FileOperation(
        conn=session.partition(".")[0],
        session=session,
        user="dev",
        path=path,
        bytes_read=read,
        bytes_written=written,
        identity=ME,
        **fields,
    )


def test_a_session_with_its_files_forwards_and_end() -> None:
    """Everything that the log says about a session is with it, and counted for its person and its source."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    log.write(1, opened("c1.1", kind="subsystem", command="sftp"))
    log.write(2, file_done("c1.1", read=100))
    log.write(3, file_done("c1.1", written=50, detail="scp write"))
    log.write(4, file_done("c1.1", operation="file.removed"))
    forward = {"conn": "c1", "user": "dev", "kind": "direct-tcpip", "target": "db:5432"}
    log.write(5, ev.ForwardOpened(**forward, identity=ME))
    log.write(6, ev.ForwardClosed(**forward, bytes_in=1, bytes_out=2, seconds=1.0, identity=ME))
    log.write(6, ev.ForwardListening(conn="c1", user="dev", kind="forwarded-tcpip", target="*:80", identity=ME))
    log.write(7, ev.RequestDenied(conn="c1", user="dev", request="x11-req", reason="not served", identity=ME))
    log.write(8, closed("c1.1"))
    log.go(9, "c1")
    found = gathered(log)
    (session,) = found.sessions
    assert (session.name, session.link.peer, session.link.person) == ("c1.1", "203.0.113.9", "file:amos")
    assert (session.exit_status, session.seconds, session.is_cut) == (7, 5.0, False)
    assert (session.file_count, session.uploaded, session.downloaded) == (3, 50, 100)
    assert [one.target for one in session.link.forwards] == ["db:5432", "*:80"]
    assert session.link.denied == [(MONDAY + 7, "x11-req", "not served")]
    (person,) = found.people.all
    assert (person.logins, person.sessions, person.users, person.forwarded) == (1, 1, {"dev": 2}, 3)
    assert person.copied == {"sftp": facts.Copied(0, 100, 1), "scp": facts.Copied(50, 0, 1)}
    assert [(one.name, one.logins) for one in found.sources.all] == [("203.0.113.9", 1)]
    (tunnel,) = found.tunnels.all
    assert (tunnel.count, tunnel.bytes_in, tunnel.bytes_out, tunnel.people) == (1, 1, 2, {"file:amos": 1})
    found.shorten_largest()
    assert [size for size, *_ in found.largest] == [100, 50]


def test_rsync_and_git_are_counted_by_the_bytes_of_their_sessions() -> None:
    """The log has no files of these, so what went through their pipes counts."""
    log = WrittenLog()
    commands = ("rsync --server . /x", "/usr/bin/git-receive-pack 'a'", "git upload-pack 'a'", "make rsync --server")
    for number, command in enumerate(commands):
        log.write(number, opened(f"c{number}.1", command=command))
        log.write(number, closed(f"c{number}.1"))
    (person,) = gathered(log).people.all
    assert person.copied == {"rsync": facts.Copied(10, 20), "git": facts.Copied(20, 40)}


def test_a_connection_without_a_session_is_told_too() -> None:
    """`ssh -N -L` opens no session; what it did must not be missing."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    log.write(1, ev.ForwardListening(conn="c1", user="dev", kind="forwarded-tcpip", target="*:80", identity=ME))
    log.go(9, "c1")
    log.come(10, "c2", "amos")
    log.go(19, "c2")
    log.come(20, "c3")
    log.go(29, "c3", user="")
    assert [(one.name, one.kind, one.seconds) for one in gathered(log).sessions] == [
        ("c1", "forwards", 9.0),
        ("c2", "connection", 9.0),
    ]


def test_sessions_whose_beginning_or_end_is_not_there() -> None:
    """One that began before, one that a kill or a stop cut off, one whose process has ended but not its output."""
    log = WrittenLog()
    log.write(100, closed("c0.1"))
    log.write(101, opened("c1.1"))
    log.write(
        102, ev.SessionExited(conn="c1", session="c1.1", user="dev", exit_status=3, exit_signal=None, seconds=1.0)
    )
    log.start(200)
    log.write(201, opened("c2.1"))
    log.stop(202)
    log.start(300)
    log.write(301, opened("c3.1"))
    before, killed, stopped, still = gathered(log).sessions
    assert (before.opened, before.begun) == (None, MONDAY + 95)
    assert (killed.is_cut, killed.closed, killed.exit_status) == (True, None, 3)
    assert stopped.is_cut
    assert (still.is_cut, still.closed) == (False, None)


def test_what_the_log_says_of_recordings_and_emergencies() -> None:
    """A session that is recorded, and a login that was only let in because the log could not be written."""
    log = WrittenLog()
    log.come(0, "c1", "amos")
    login = log.lines.pop().replace(b'"break_glass":false', b'"break_glass":true')
    assert b'"break_glass":true' in login
    log.lines.append(login)
    log.write(1, opened("c1.1"))
    recording = {"conn": "c1", "session": "c1.1", "user": "dev", "file": "f"}
    log.write(2, ev.RecordingStarted(**recording, input=False))  # type: ignore[arg-type]  # all are texts
    found = gathered(log)
    assert found.sessions[0].is_recorded
    assert [one.kind for one in found.notes.newest_first] == ["break-glass login"]


def test_who_was_turned_away() -> None:
    """Denied attempts and refused connections, by source, reason and day; an IPv6 source is its /64."""
    log = WrittenLog()
    for user in ("root", "admin", "root"):
        log.write(
            1,
            ev.AuthAttempt(
                conn="c1", peer="2001:db8::5", user=user, method="none", result="denied", reason="no", code="x"
            ),
        )
    log.write(2, ev.AuthAttempt(conn="c1", peer="2001:db8::5", user="dev", method="publickey", result="offered"))
    log.write(3, ev.ConnectionRefused(peer="2001:db8::6", peer_port=1, reason="penalised", count=40))
    found = gathered(log)
    (source,) = found.sources.all
    assert (source.name, source.denied, source.refused) == ("2001:db8::/64", 3, 40)
    assert source.users == {"root": 2, "admin": 1}
    assert (found.denials, found.refusals) == ({"no": 3}, {"penalised": 40})
    assert found.turned_away == {int(MONDAY // 86400): 43}


@pytest.mark.parametrize("wanted", ["file:amos", "SHA256:amos"])
def test_only_some_people(wanted: str) -> None:
    """By the person or the key; others' sessions, logins and forwards do not count, refusals do."""
    log = WrittenLog()
    other = identity("joe")
    for conn, person, who in (("c1", "amos", ME), ("c2", "joe", other)):
        log.come(0, conn, person)
        log.write(1, opened(f"{conn}.1", who=who))
        log.write(2, closed(f"{conn}.1", who=who))
    found = gathered(log, people=(wanted,))
    assert [one.name for one in found.sessions] == ["c1.1"]
    assert [one.name for one in found.people.all] == ["file:amos"]
    assert gathered(log, people=("dev",)).session_count == 2


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sessions the newest stay, of files, forwards and sources the first; of all the number is kept."""
    for module, name in (
        (gather, "MOST_FILES"),
        (gather, "MOST_FORWARDS"),
        (gather, "MOST_SOURCES"),
        (gather, "MOST_OPEN"),
    ):
        monkeypatch.setattr(module, name, 2)
    log = WrittenLog()
    for number in range(5):
        log.write(number, opened(f"c{number}.1"))
        log.write(number, ev.ConnectionRefused(peer=f"192.0.2.{number}", peer_port=1, reason=f"{number}"))
    for _ in range(4):
        log.write(6, file_done("c4.1", written=1))
        log.write(6, ev.ForwardListening(conn="c4", user="dev", kind="x11", target="", identity=ME))
    found = gathered(log, most=3)
    assert ([one.name for one in found.sessions], found.session_count) == (["c2.1", "c3.1", "c4.1"], 5)
    last = found.sessions[-1]
    assert (len(last.files), last.file_count, len(last.link.forwards), last.link.forward_count) == (2, 4, 2, 4)
    assert [(one.name, one.refused) for one in found.sources.all] == [("192.0.2.0", 1), ("192.0.2.1", 1), ("others", 3)]


def test_what_is_no_event_or_of_another_time_costs_only_itself() -> None:
    """Damaged lines, a line of a megabyte, another version's fields, and lines before and after the report's time."""
    log = WrittenLog()
    log.write(-10, opened("c0.1"))
    log.write(1, opened("c1.1", command="x" * 1_000_000))
    log.lines += [b"{", b'{"ts":"now"}', b"\xff", b"[" * 100_000, b'{"ts":"2026-01-05T00:00:01.000000Z","seq":1}']
    log.lines.append(log.lines[-6].replace(b'"command"', b'"future":[{}],"command"').replace(b"c1", b"c2"))
    log.write(100_000, opened("c3.1"))
    found = gathered(log, since=MONDAY)
    assert [one.name for one in found.sessions] == ["c1.1", "c2.1"]
    assert (found.damaged, found.has_older) == (5, True)
    assert len(found.sessions[0].command) < 2100
    assert found.sessions[0].command.endswith("… (998000 more characters)")


class TestNotes:
    """What is notable."""

    def test_each_kind(self) -> None:
        """Crashes, errors, keys, configuration, holds, recordings: each is there once, with its facts."""
        log = WrittenLog()
        log.write(1, ev.GatewayCrashed(pid=7, cause="killed by SIGSEGV", sessions=0))
        log.write(2, ev.InternalError(where="session", error="Traceback\n  x\nKeyError: 's1'\n"))
        log.write(3, ev.HostKeyCreated(key_type="ssh-ed25519", fingerprint="SHA256:x", path="/k", reason="empty"))
        log.write(4, ev.ConfigReloaded(changed=(), restart=("listen.port",), users=()))
        log.write(5, ev.ConfigRejected(problems=("a", "b")))
        log.write(6, ev.KeysFailed(source="github:example", reason="no answer within 5s", kept=2))
        log.write(7, ev.HoldStarted(hold="h1", user="dev", seconds=7200.0, reason="", pid=0))
        log.write(8, ev.StopStep(step="suspend", outcome="HTTP 500", result="failed", seconds=1.0))
        ended = {"conn": "c1", "session": "c1.1", "user": "dev", "bytes": 1, "seconds": 1.0}
        log.write(9, ev.RecordingEnded(**ended, file="f", reason=ev.SESSION_ENDED, missing=2048))  # type: ignore[arg-type]  # all are texts
        log.write(10, ev.RecordingEnded(**ended, file="f", reason=ev.SESSION_ENDED, missing=0))  # type: ignore[arg-type]  # all are texts
        log.write(11, file_done("c1.1", operation="events.lost", detail="12"))
        log.write(12, ev.ServiceEnded(service="dockerd", pid=1, cause="exit code 1", again=0.5))
        found = [(one.kind, one.tone, one.text) for one in reversed(gathered(log).notes.newest_first)]
        assert found == [
            ("crash", "bad", "the monitor, which decides and writes the log: killed by SIGSEGV"),
            ("internal error", "bad", "session: KeyError: 's1'"),
            ("host key replaced", "bad", "ssh-ed25519 SHA256:x: its file was empty"),
            ("configuration changed", "watch", "nothing at once; at the next start: listen.port"),
            ("configuration rejected", "bad", "a; b"),
            ("keys not readable", "watch", "github:example: no answer within 5s"),
            ("hold", "plain", "dev for 2 h: no reason given"),
            ("stop step failed", "bad", "suspend: HTTP 500"),
            ("recording incomplete", "watch", "session c1.1 of dev: 2.0 KiB of the output are missing"),
            ("file events lost", "bad", "12 of session c1.1"),
            ("service ended", "watch", "dockerd: exit code 1; started again after 0.5 s"),
        ]

    def test_lines_that_are_missing(self) -> None:
        """A gap in the numbers is told; an older server's new beginning at 1 is none."""
        log = WrittenLog()
        for at in range(6):
            log.write(at, ev.IdleTick(idle=0, remaining=0, message=""))
        del log.lines[1], log.lines[2:4]
        log.start(10)
        found = gathered(log).notes
        assert found.missing == 3
        assert [one.text for one in reversed(found.newest_first)] == [
            "1 line before this moment: 2",
            "2 lines before this moment: 4 to 5",
        ]

    def test_host_keys_that_change(self) -> None:
        """A new key beside the old one is no alarm; an old one that is gone is."""
        log = WrittenLog()
        start = ev.ServerStarted(
            version="", address="", port=0, pid=1, generation=1, host_keys=("a",), users=(), idle_timeout=None
        )
        for at, keys in enumerate((("a",), ("a", "b"), ("b",), ("b",))):
            log.write(at, msgspec.structs.replace(start, host_keys=keys))
        assert [one.kind for one in gathered(log).notes.newest_first] == ["host keys changed"]

    def test_the_newest_of_a_flood(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kind that happens all the time hides neither others nor how often it was."""
        monkeypatch.setattr(notes, "MOST_OF_A_KIND", 2)
        log = WrittenLog()
        log.write(0, ev.GatewayCrashed(pid=7, cause="x", sessions=0))
        for at in range(5):
            log.write(at, ev.KeysFailed(source="s", reason=str(at), kept=0))
        found = gathered(log).notes
        assert [one.text for one in found.newest_first[:2]] == ["s: 4", "s: 3"]
        assert (len(found.newest_first), found.left_out) == (3, 3)


def test_every_type_of_line_is_one_of_our_events() -> None:
    """Protects the report from a renamed event or field: what it reads is what the server writes."""
    from pyssh_gateway.audit.report import lines

    ours = {kind.__struct_config__.tag: kind for kind in ev.AnyEvent.__args__}
    for kind in lines.KINDS:
        assert set(kind.__struct_fields__) <= set(ours[kind.__struct_config__.tag].__struct_fields__), kind


def test_a_session_of_another_connection_can_not_be_spoken_for() -> None:
    """Protects from a process that its user had taken over: what it says of another's session is told of its own."""
    mallory = ev.Identity("file:mallory", None, "SHA256:mallory")

    def claim(event: ev.AnyEvent) -> ev.AnyEvent:
        return msgspec.structs.replace(event, conn="c9", user="mallory", identity=mallory)

    log = WrittenLog()
    log.write(1, opened("c5.1", command="true"))
    recording = {"conn": "c9", "session": "c5.1", "user": "mallory", "file": "f"}
    log.write(2, ev.RecordingStarted(**recording, input=False))  # type: ignore[arg-type]  # all are texts
    log.write(3, claim(file_done("c5.1", "/forged", read=9)))
    log.write(4, claim(closed("c5.1")))
    log.write(5, claim(opened("c5.1", command="forged")))
    log.write(6, file_done("c5.1", "/true"))
    log.write(7, closed("c5.1"))
    true, *forged = gathered(log).sessions
    assert (true.command, true.link.person, true.closed) == ("true", ME.person, MONDAY + 7)
    assert [one.path for one in true.files] == ["/true"]
    assert not true.is_recorded
    assert {(one.name, one.link.conn, one.link.person) for one in forged} == {("c5.1", "c9", "file:mallory")}


def test_an_older_server_that_still_writes() -> None:
    """Its numbers are not missing, and its stop does not cut off what the newer server serves."""
    log = WrittenLog()
    log.start(0)
    older = log.skip(OTHERS_NUMBERS)
    log.start(10)
    log.write(11, opened("c1.1"))
    log.skip(older - log.seq)
    log.write(12, ev.ServerStopped(reason="signal", exit_code=0))
    found = gathered(log)
    assert found.notes.missing == 0
    assert not found.sessions[0].is_cut


@pytest.mark.parametrize(("origin", "count"), [("fetched", 1), ("last-good", 0)])
def test_a_last_good_copy_is_no_change(origin: Literal["fetched", "last-good"], count: int) -> None:
    """At every start all its keys count as added."""
    log = WrittenLog()
    loaded = ev.KeysLoaded(source="github:a", origin=origin, accepted=1, refused=0, changed=True, added=("SHA256:x",))
    log.write(1, loaded)
    assert len(gathered(log).notes.newest_first) == count
