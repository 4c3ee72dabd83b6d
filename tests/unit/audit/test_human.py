"""How each event is shown: to a person at a terminal, and in docs/events.md."""

import os
import pty
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from pyssh_gateway import events as ev
from pyssh_gateway.audit.human import MAX_LINE, human_gap, human_line
from pyssh_gateway.audit.human_view import wants_colour, wants_human
from pyssh_gateway.audit.log import FILE_NAME, AuditLog
from tests.support.places import ROOT

DOCUMENT = ROOT / "docs" / "events.md"
# 2026-01-02T03:04:05.678901Z
TIME = 1767323045.678901
SHA = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"

AMOS = ev.Identity("github:example", 583231, SHA)

# One event of each kind; docs/events.md shows each as the log writes it.
EXAMPLES: tuple[ev.AnyEvent, ...] = (
    ev.ServerStarted(
        version="0.1.0",
        address="0.0.0.0",
        port=2222,
        pid=7,
        generation=1,
        host_keys=(SHA,),
        users=("amos",),
        idle_timeout=60.0,
        addresses=("0.0.0.0:2222",),
    ),
    ev.HostKeyCreated(key_type="ssh-ed25519", fingerprint=SHA, path="/data/keys/ssh_host_ed25519_key", reason="empty"),
    ev.HostCertificateLoaded(
        path="/data/keys/ssh_host_ed25519_key-cert.pub",
        problem="",
        key=SHA,
        authority=SHA,
        key_id="amos",
        serial=3,
        principals=("amos.example",),
        valid_before=1798761600.0,
    ),
    ev.ServerStopping(reason="signal", detail="SIGTERM", connections=1, sessions=2, action="exit"),
    ev.ServerStopped(reason="idle", exit_code=0, message="Stopping machine. Goodbye!"),
    ev.ConfigReloaded(changed=("login", "idle.timeout"), restart=("listen.port",), users=("amos", "build")),
    ev.ConfigRejected(
        problems=(
            'limits.login_grace: expected a duration from 1ms to 10m, got "soon" (from /etc/pyssh-gateway/config.toml)',
        )
    ),
    ev.AuditReopened(),
    ev.AuditLost(reason="audit_dir /data/audit: not a directory; set audit_dir to one"),
    ev.AuditLimited(user="amos", lost=1200),
    ev.GatewayCrashed(pid=7, cause="killed by SIGSEGV", sessions=0),
    ev.InternalError(where="session", error="Traceback (most recent call last):\n  ...\nKeyError: 's1'", conn="c1"),
    ev.KeysLoaded(
        source="github:example",
        origin="fetched",
        accepted=2,
        refused=1,
        changed=True,
        refusals=("line 3: unknown key type ssh-dss",),
        added=(SHA,),
    ),
    ev.KeysFailed(source="github:example", reason="no answer within 5s", kept=2),
    ev.RevokedListLoaded(list="file:/etc/ssh/revoked_keys", kind="krl", entries=3, changed=True),
    ev.RevokedListFailed(
        list="file:/etc/ssh/revoked_keys",
        reason="it is a KRL, and it is cut off",
    ),
    ev.AccountChanged(
        source="github:example", expected=583231, found=9000001, message="github:example is account 9000001 now"
    ),
    ev.ConnectionOpened(conn="c1", peer="203.0.113.5", peer_port=50022, proxy="172.16.3.2", proxy_id="1F90:2A"),
    ev.ConnectionRefused(peer="2001:db8::5", peer_port=50023, reason="too many unauthenticated connections"),
    ev.AuthAttempt(
        conn="c1",
        peer="203.0.113.5",
        user="root",
        method="publickey",
        result="denied",
        reason="unknown account",
        code="unknown-account",
        key_type="ssh-ed25519",
        fingerprint=SHA,
    ),
    ev.ConnectionAuthenticated(
        conn="c1",
        peer="203.0.113.5",
        user="amos",
        fingerprint=SHA,
        source="github:example",
        client="OpenSSH_9.9",
        cipher="aes256-gcm@openssh.com",
        seconds=0.068,
        identity=AMOS,
        hassh="ec7378c1a92f5a8dde7e8b7a1ddf33d1",
        hassh_server="9ce2a2c0a1b1b3c8d2b3a7c1a1f0e0d5",
        algorithms=ev.Algorithms(
            kex="sntrup761x25519-sha512@openssh.com",
            host_key="ssh-ed25519",
            cipher_in="aes256-gcm@openssh.com",
            cipher_out="aes256-gcm@openssh.com",
            mac_in="",
            mac_out="",
            compression_in="none",
            compression_out="none",
        ),
        previous=ev.PreviousLogin("2026-01-01T17:20:11.120000Z", "203.0.113.5"),
    ),
    ev.ConnectionClosed(
        conn="c1",
        peer="203.0.113.5",
        user="amos",
        reason="the client disconnected",
        seconds=182.4,
        bytes_in=5310,
        bytes_out=1204224,
        goodbye=True,
        identity=AMOS,
        client="OpenSSH_9.9",
        hassh="ec7378c1a92f5a8dde7e8b7a1ddf33d1",
    ),
    ev.ConnectionRevoked(
        conn="c1",
        peer="203.0.113.5",
        user="amos",
        reason=f"the key {SHA} of github:example has been revoked",
        seconds=10.0,
        identity=AMOS,
    ),
    ev.ConnectionReinstated(
        conn="c1",
        peer="203.0.113.5",
        user="amos",
        reason=f"the key {SHA} of github:example is back",
        identity=AMOS,
    ),
    ev.RequestDenied(conn="c1", user="amos", request="x11-req", reason="not served", identity=AMOS),
    ev.SessionOpened(
        conn="c1",
        session="c1.1",
        user="amos",
        kind="exec",
        command="make",
        tty="/dev/pts/0",
        term="xterm",
        pid=12,
        identity=AMOS,
    ),
    ev.SessionExited(
        conn="c1",
        session="c1.1",
        user="amos",
        exit_status=7,
        exit_signal=None,
        seconds=1.5,
        identity=AMOS,
    ),
    ev.SessionClosed(
        conn="c1",
        session="c1.1",
        user="amos",
        reason="the process ended",
        exit_status=7,
        exit_signal=None,
        bytes_in=12,
        bytes_out=20480,
        seconds=3.21,
        identity=AMOS,
    ),
    ev.RecordingStarted(conn="c1", session="c1.1", user="amos", file="amos/c1.1.cast.zst", input=False, identity=AMOS),
    ev.RecordingEnded(
        conn="c1",
        session="c1.1",
        user="amos",
        file="amos/c1.1.cast.zst",
        reason="session ended",
        bytes=20480,
        missing=0,
        seconds=3.21,
        identity=AMOS,
    ),
    ev.FileOperation(
        conn="c1",
        session="c1.1",
        user="amos",
        operation="file.closed",
        path="/home/amos/notes.txt",
        target="",
        detail="write create truncate",
        bytes_read=0,
        bytes_written=20480,
        outcome="ok",
        identity=AMOS,
    ),
    ev.ForwardListening(conn="c1", user="amos", kind="forwarded-tcpip", target="localhost:8080", identity=AMOS),
    ev.ForwardOpened(conn="c1", user="amos", kind="direct-tcpip", target="127.0.0.1:8080", identity=AMOS),
    ev.ForwardClosed(
        conn="c1",
        user="amos",
        kind="direct-tcpip",
        target="127.0.0.1:8080",
        bytes_in=512,
        bytes_out=20480,
        seconds=3.21,
        identity=AMOS,
    ),
    ev.ClientQuiet(conn="c1", user="amos", seconds=1800.0, identity=AMOS),
    ev.ClientUsed(conn="c1", user="amos", identity=AMOS),
    ev.ClientUse(conn="c1", user="amos", spans=((0, 720), (1020, 1815)), identity=AMOS),
    ev.HoldStarted(hold="h1", user="amos", seconds=7200.0, reason="training run", pid=0),
    ev.HoldEnded(hold="h1", user="amos", why="released"),
    ev.BackgroundWork(seconds=30.0, what="make, cc1plus of amos"),
    ev.BackgroundSeen(spans=((2400, 1500), (900, 300))),
    ev.TerminalUsed(what="amos is at pts/3 (mosh-server)"),
    ev.TerminalQuiet(what="amos is at pts/3 (mosh-server)"),
    ev.ScheduleEntered(seconds=3600.0, what="mon-fri 08:00-18:00"),
    ev.MachineResumed(seconds=3600.0),
    ev.StopStep(step="suspend", outcome="ok", result="done", seconds=0.25),
    ev.BootStep(step="link /var/lib/docker to /data/docker", outcome="ok"),
    ev.ServiceStarted(service="dockerd", pid=20, restarts=1),
    ev.ServiceEnded(service="dockerd", pid=20, cause="exit code 1", again=0.5),
    ev.ServiceOutput(service="dockerd", line="API listen on /run/docker.sock"),
    ev.ControlRequest(uid=0, pid=20, command="keys.refresh", outcome="done"),
    ev.IdleTick(idle=5, remaining=55, message="Idle for 5s"),
    ev.IdleReached(idle=60.0, outcome="stop", message="Stopping machine. Goodbye!"),
)


def record(event: ev.AnyEvent) -> ev.Record:
    """A record of `event` at the fixed time."""
    return ev.Record(1, TIME, event)


def test_lines_for_people() -> None:
    """A terminal shows at a glance who logged in, what they ran and when it ended, and idle messages unchanged."""
    shown = [human_line(record(event), colour=False) for event in EXAMPLES]
    assert all(line.startswith("03:04:05Z ") for line in shown)
    assert (
        "\n".join(line.removeprefix("03:04:05Z ") for line in shown)
        == f"""\
start    accepting on 0.0.0.0:2222 for amos; stops when idle for 1m (version 0.1.0, pid 7)
host key new ssh-ed25519 {SHA} in /data/keys/ssh_host_ed25519_key: the file was empty; clients warn of the change
host key certificate /data/keys/ssh_host_ed25519_key-cert.pub for amos.example
stopping no longer accepting (signal, SIGTERM); 1 connection, 2 sessions open
stopped  Stopping machine. Goodbye!
config   changed: login, idle.timeout; needs a restart: listen.port
config   can't be used, the old one stays in force: limits.login_grace: expected a duration from 1ms \
to 10m, got "soon" (from /etc/pyssh-gateway/config.toml)
log      the file was moved or deleted; this is a new one
log      can't be opened anew, and goes on where it was: audit_dir /data/audit: not a directory; set audit_dir to one
log      amos has used its share: 1200 of its events are not logged
crash    the monitor (process 7) died: killed by SIGSEGV; 0 sessions ended with it
bug      session on c1
          | Traceback (most recent call last):
          |   ...
          | KeyError: 's1'
keys     github:example: 2 keys fetched, 1 refused, changed; line 3: unknown key type ssh-dss
keys     backend error: github:example: no answer within 5s; 2 keys from before in force
keys     file:/etc/ssh/revoked_keys: key revocation list with 3 entries, changed
keys     NOBODY GETS IN without the list of what is revoked: file:/etc/ssh/revoked_keys: it is a KRL, and it is cut off
keys     github:example is account 9000001 now
connect  c1 from 203.0.113.5:50022 through 172.16.3.2
refused  [2001:db8::5]:50023: too many unauthenticated connections
auth     denied root from 203.0.113.5 on c1 by publickey: unknown account (ssh-ed25519 {SHA})
login    amos from 203.0.113.5 on c1 in 0.07s with {SHA} of github:example#583231; OpenSSH_9.9, aes256-gcm@openssh.com
closed   c1 amos from 203.0.113.5 after 3m02s: the client disconnected; 5.2 KiB in, 1.1 MiB out
revoked  amos on c1 is off in 10s: the key {SHA} of github:example has been revoked
revoked  amos on c1 stays on after all: the key {SHA} of github:example is back
denied   amos on c1: x11-req: not served
session  c1.1 amos exec make on /dev/pts/0 (xterm), pid 12
exit     c1.1 amos exit 7 after 1.5s; its output is still open
ended    c1.1 amos exit 7 after 3.21s: the process ended; 12 B in, 20.0 KiB out
record   c1.1 amos in amos/c1.1.cast.zst
record   c1.1 amos: session ended
sftp     c1.1 amos file.closed /home/amos/notes.txt write create truncate ok; 20.0 KiB in, 0 B out
listen   c1 amos forwarded-tcpip from localhost:8080
forward  c1 amos direct-tcpip 127.0.0.1:8080
forward  c1 amos direct-tcpip 127.0.0.1:8080 closed after 3.21s; 512 B in, 20.0 KiB out
quiet    amos on c1 has not been used for 30m and does not keep the machine up
quiet    amos on c1 is used again
use      amos on c1 was used for 25m15s in all
hold     h1 by amos for 2h00m: training run
hold     h1 by amos ended: released
work     make, cc1plus of amos holds the machine for 30s
work     seen for 25m in all, while nobody used the clients that were on
terminal amos is at pts/3 (mosh-server) and keeps the machine up
terminal no longer so, or not looked at while somebody is on: amos is at pts/3 (mosh-server)
schedule mon-fri 08:00-18:00: the machine stays up for 1h00m
resumed  the machine was away for 1h00m
stop     suspend: ok after 0.25s
boot     link /var/lib/docker to /data/docker: ok
service  dockerd runs as pid 20, again
service  dockerd ended with exit code 1 and starts again in 0.5s
service  dockerd: API listen on /run/docker.sock
control  keys.refresh from uid 0 (pid 20): done
idle     Idle for 5s
idle     Stopping machine. Goodbye!"""
    )


@pytest.mark.parametrize(
    ("event", "changes", "shown"),
    [
        (
            ev.ServerStarted,
            {"idle_timeout": None, "generation": 2},
            "never stops by itself (version 0.1.0, pid 7, start 2)",
        ),
        (ev.HostKeyCreated, {"reason": "missing"}, "in /data/keys/ssh_host_ed25519_key: there was none"),
        (
            ev.KeysLoaded,
            {"origin": "last-good", "changed": False, "refused": 0, "refusals": ()},
            "from the last good copy, unchanged",
        ),
        (
            ev.KeysLoaded,
            {"origin": "last-good", "changed": True, "accepted": 1, "refused": 0, "refusals": ()},
            "1 key from the last good copy",
        ),
        (ev.HostCertificateLoaded, {"problem": "it expired 3d ago"}, "cert.pub is not offered: it expired 3d ago"),
        (ev.HostCertificateLoaded, {"principals": ()}, "for any host"),
        (
            ev.RevokedListLoaded,
            {"kind": "keys", "entries": 1, "changed": False},
            "file:/etc/ssh/revoked_keys: revoked keys with 1 entry, unchanged",
        ),
        (
            ev.ConnectionClosed,
            {"user": "", "reason": "", "seconds": 7322.0},
            "unauthenticated from 203.0.113.5 after 2h02m02s; 5.2 KiB",
        ),
        (
            ev.AuthAttempt,
            {"reason": "", "key_type": "", "fingerprint": ""},
            "denied root from 203.0.113.5 on c1 by publickey",
        ),
        (
            ev.ConnectionRefused,
            {"count": 1900, "seconds": 20.0},
            "1900 more connections within 20s, the last from [2001:db8::5]:50023: too many unauthenticated connections",
        ),
        (ev.SessionOpened, {"tty": "", "command": "", "kind": "shell"}, "c1.1 amos shell, pid 12"),
        (ev.SessionExited, {}, "c1.1 amos exit 7 after 1.5s; its output is still open"),
        (ev.SessionClosed, {"exit_status": None, "exit_signal": "KILL"}, "killed by KILL"),
        (ev.SessionClosed, {"exit_status": None, "bytes_out": 2**50}, "left its process running after 3.21s"),
        (ev.SessionClosed, {"bytes_out": 2**50}, "1024.0 TiB out"),
        (ev.RecordingEnded, {"missing": 2048}, "c1.1 amos: session ended; 2.0 KiB missing"),
        (ev.BackgroundWork, {"seconds": 0}, "make, cc1plus of amos has stopped"),
        (ev.ServiceStarted, {"restarts": 0}, "dockerd runs as pid 20"),
        (ev.ServiceEnded, {"again": None}, "ended with exit code 1 and is not started again"),
        (ev.ConnectionRevoked, {"seconds": None}, "amos on c1 stays on: the key"),
        (ev.ConnectionReinstated, {}, "amos on c1 stays on after all: the key"),
        (ev.ConnectionAuthenticated, {"identity": ev.Identity("file:amos", None, SHA)}, f"{SHA} of file:amos; OpenSSH"),
        (ev.ConfigReloaded, {"changed": (), "restart": ()}, "config   changed: nothing"),
        (ev.ServerStopped, {"message": ""}, "idle, exit code 0"),
        (
            ev.RequestDenied,
            {"request": "direct-tcpip 127.0.0.1:9", "reason": "Connection refused"},
            "forward  c1 amos direct-tcpip 127.0.0.1:9 not opened: Connection refused",
        ),
    ],
)
def test_what_is_absent_leaves_no_hole(event: type[ev.AnyEvent], changes: dict[str, object], shown: str) -> None:
    """A field that does not apply is left out together with the words around it."""
    (example,) = [each for each in EXAMPLES if type(each) is event]
    assert shown in human_line(record(msgspec.structs.replace(example, **changes)), colour=False)


def test_a_gap_is_told_to_people() -> None:
    """A person at a slow terminal learns that lines are missing, how many, and where."""
    assert human_gap(TIME, 1, colour=False).startswith("03:04:05Z log      1 line dropped here: ")


def test_a_line_for_people_is_short() -> None:
    """A command as long as a page is cut, so that the lines after it stay on the screen."""
    (opened,) = [event for event in EXAMPLES if isinstance(event, ev.SessionOpened)]
    shown = human_line(record(msgspec.structs.replace(opened, command="x" * 4096)), colour=False)
    assert shown.endswith("x…")
    assert len(shown) < MAX_LINE + 30


def test_colours_are_only_around_the_time_and_the_name() -> None:
    """A line without its colours equals the plain line: no text from an event is ever inside an escape sequence."""
    for event in EXAMPLES:
        coloured = human_line(record(event), colour=True)
        assert re.sub(r"\x1b\[\d*m", "", coloured) == human_line(record(event), colour=False)
        assert coloured.startswith("\x1b[2m03:04:05Z\x1b[0m \x1b[")


def test_a_terminal_gets_people_s_lines_and_a_pipe_json() -> None:
    """`auto` looks at the descriptor; colours need a terminal that supports them and a user who wants them."""
    main, terminal = pty.openpty()
    read_fd, pipe = os.pipe()
    try:
        assert wants_human(terminal, "auto")
        assert not wants_human(pipe, "auto")
        assert wants_human(pipe, "human")
        assert not wants_human(terminal, "json")
        assert wants_colour(terminal, "xterm-256color", None)
        assert wants_colour(terminal, "xterm", "")
        assert not wants_colour(terminal, "xterm", "1")
        assert not wants_colour(terminal, "dumb", None)
        assert not wants_colour(terminal, None, None)
        assert not wants_colour(pipe, "xterm", None)
    finally:
        for fd in (main, terminal, read_fd, pipe):
            os.close(fd)


def test_there_is_an_example_of_every_event() -> None:
    """Each new event must get an example here, and thereby be in the document."""
    assert [type(event) for event in EXAMPLES] == list(get_args(ev.AnyEvent))


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: str(event.__struct_config__.tag))
def test_the_document_is_true(event: ev.AnyEvent, tmp_path: Path) -> None:
    """docs/events.md has a section for the event, with exactly its fields and exactly the line that the log writes."""
    tag = event.__struct_config__.tag
    section = DOCUMENT.read_text(encoding="utf-8").split(f"\n### `{tag}`\n")[1].split("\n### ")[0].split("\n## ")[0]
    fields = [field.name for field in msgspec.structs.fields(event)]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == fields
    with Path("/dev/null").open("wb") as null:
        log = AuditLog.open(tmp_path, stdout_fd=null.fileno(), human=False, colour=False, on_problem=pytest.fail)
        log(ev.Record(42, TIME, event))
        log.close(1.0)
    line = (tmp_path / FILE_NAME).read_text(encoding="utf-8")
    assert f"```json\n{line}```" in section


def test_the_document_has_no_events_of_yesterday() -> None:
    """The document has no section about an event that no longer exists, which would mislead authors of queries."""
    tags = [event.__struct_config__.tag for event in EXAMPLES]
    assert re.findall(r"^### `([\w.]+)`$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE) == tags
