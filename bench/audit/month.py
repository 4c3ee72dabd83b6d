"""A month on a shared machine, as the log that the server would write: a team at work, and strangers at the door.

Every line is made of the server's own event types. What people do is a model: an editor that is connected all day and
forwards what a browser asks for, git and make as commands, terminals, now and then a copy of files. The proportions
are those that sessions of this server's own tests with VS Code, scp, rsync and git have.
"""

from collections.abc import Iterator
from random import Random
from typing import Literal

import msgspec

from pyssh_gateway import events as ev
from pyssh_gateway.core.timestamps import timestamp

DAY = 86400.0

MONDAY = 1_767_571_200.0
"""A Monday at midnight in UTC, in Unix time."""

COMMANDS = (
    "git fetch --prune origin",
    "git push origin HEAD",
    "git-receive-pack '/srv/git/example.git'",
    "git-upload-pack '/srv/git/example.git'",
    "make -j8 test",
    "rsync --server -vlogDtpre.iLsfxCIvu . src/",
    "python3 -m pytest -q",
    "docker compose up -d database",
    "tail -n 100 /var/log/example.log",
    "rm -rf build",
)
NAMES = ("root", "admin", "ubuntu", "test", "oracle", "postgres", "git", "user", "deploy", "minecraft")
CLIENTS = ("OpenSSH_9.9", "OpenSSH_9.6p1 Ubuntu-3ubuntu13.5", "OpenSSH_for_Windows_9.5")
CIPHER = "aes256-gcm@openssh.com"


At = tuple[float, ev.AnyEvent]
"""When, in seconds since the month began, and what."""


class Visit:
    """A connection of somebody: the events from its login to its end."""

    def __init__(self, random: Random, number: int, who: int, at: float) -> None:
        self.conn = f"c{number}"
        self.at = at
        self.events: list[At] = []
        self.person = ev.Identity(f"github:example-{who}", 583000 + who, f"SHA256:{who:043}")
        self.user = "dev" if who % 4 == 0 else f"example-{who}"
        self._peer = f"198.51.100.{who}"
        self._random = random
        self._login()

    def _login(self) -> None:
        self._add(0.0, ev.ConnectionOpened(conn=self.conn, peer=self._peer, peer_port=self._port()))
        asked = ev.AuthAttempt(
            conn=self.conn,
            peer=self._peer,
            user=self.user,
            method="publickey",
            result="offered",
            key_type="ssh-ed25519",
            fingerprint=self.person.fingerprint,
            source="github:example",
            identity=self.person,
        )
        self._add(0.05, asked)
        self._add(0.08, msgspec.structs.replace(asked, result="accepted"))
        login = ev.ConnectionAuthenticated(
            conn=self.conn,
            peer=self._peer,
            user=self.user,
            fingerprint=self.person.fingerprint,
            source="github:example",
            client=self._random.choice(CLIENTS),
            cipher=CIPHER,
            seconds=0.09,
            identity=self.person,
        )
        self._add(0.09, login)

    def leave(self, seconds: float) -> list[At]:
        """The end of the connection; returns all of its events."""
        closed = ev.ConnectionClosed(
            conn=self.conn,
            peer=self._peer,
            user=self.user,
            reason="the client disconnected",
            seconds=seconds,
            bytes_in=self._random.randrange(100_000),
            bytes_out=self._random.randrange(10_000_000),
            goodbye=True,
            identity=self.person,
        )
        self._add(seconds, closed)
        return self.events

    def session(self, kind: Literal["shell", "exec", "subsystem"], command: str, seconds: float) -> None:
        """A session from just after the login, for so long."""
        name, tty = f"{self.conn}.1", "/dev/pts/3" if kind == "shell" else ""
        opened = ev.SessionOpened(
            conn=self.conn,
            session=name,
            user=self.user,
            kind=kind,
            command=command,
            tty=tty,
            term="xterm-256color" if tty else "",
            pid=self._random.randrange(1000, 60000),
            identity=self.person,
        )
        closed = ev.SessionClosed(
            conn=self.conn,
            session=name,
            user=self.user,
            reason="the process ended",
            exit_status=0,
            exit_signal=None,
            bytes_in=self._random.randrange(5_000),
            bytes_out=self._random.randrange(50_000),
            seconds=seconds,
            identity=self.person,
        )
        self._add(0.1, opened)
        self._add(0.1 + seconds, closed)

    def forward(self, seconds: float, port: int) -> None:
        """A forwarded connection, so many seconds after the login."""
        target = f"127.0.0.1:{port}"
        opened = ev.ForwardOpened(
            conn=self.conn, user=self.user, kind="direct-tcpip", target=target, identity=self.person
        )
        closed = ev.ForwardClosed(
            conn=self.conn,
            user=self.user,
            kind="direct-tcpip",
            target=target,
            bytes_in=self._random.randrange(10_000),
            bytes_out=self._random.randrange(1_000_000),
            seconds=2.5,
            identity=self.person,
        )
        self._add(seconds, opened)
        self._add(seconds + 2.5, closed)

    def read(self, seconds: float, path: str) -> None:
        """A file is read by SFTP."""
        operation = ev.FileOperation(
            conn=self.conn,
            session=f"{self.conn}.1",
            user=self.user,
            operation="file.closed",
            path=path,
            target="",
            detail="read",
            bytes_read=self._random.randrange(1_000_000),
            bytes_written=0,
            outcome="ok",
            identity=self.person,
        )
        self._add(seconds, operation)

    def use(self, hour: int) -> None:
        """The record of an hour of use."""
        begun = (hour - 1) * 3600
        spans = tuple((begun + minute * 225, begun + minute * 225 + 150) for minute in range(16))
        self._add(hour * 3600.0, ev.ClientUse(conn=self.conn, user=self.user, spans=spans, identity=self.person))

    def _add(self, seconds: float, event: ev.AnyEvent) -> None:
        self.events.append((self.at + seconds, event))

    def _port(self) -> int:
        return self._random.randrange(1024, 65536)


class Month:
    """Makes the lines in their order in time; `people` work, and `strangers` connections come each day.

    It begins at the Unix time `beginning`, a midnight in UTC.
    """

    def __init__(self, people: int, strangers: int, *, beginning: float = MONDAY, seed: int = 1) -> None:
        self._beginning = beginning
        self._people = people
        self._strangers = strangers
        self._random = Random(seed)
        self._connections = 0
        self._seq = 0

    def lines(self, days: int) -> Iterator[bytes]:
        """The lines of so many days, without newlines."""
        for day in range(days):
            events: list[At] = []
            for _ in range(self._strangers):
                events += self._stranger(day * DAY + self._random.random() * DAY)
            if (self._beginning // DAY + day + 3) % 7 < 5:  # Monday to Friday: 1970 began on a Thursday
                for number in range(self._people):
                    events += self.working_day(day * DAY, number)
            events += _server(day)
            for time, event in sorted(events, key=lambda one: one[0]):
                self._seq += 1
                yield encoded(self._beginning + time, self._seq, event)

    def working_day(self, midnight: float, who: int) -> list[At]:
        """A day of a busy developer: eight hours of an editor, 60 commands, three terminals, two copies of 40 files."""
        random = self._random
        begin = midnight + 8 * 3600 + random.random() * 3600
        editor = self._visit(who, begin)
        editor.session("exec", "bash", 8 * 3600.0)
        for _ in range(160):  # what a browser, the debugger and the editor's own server are asked for
            editor.forward(random.random() * 28000, random.choice((3000, 8080, 40123, 5432)))
        for hour in range(1, 9):
            editor.use(hour)
        found = editor.leave(8.2 * 3600)
        for _ in range(3):
            terminal = self._visit(who, begin + random.random() * 25000)
            terminal.session("shell", "", 1800.0)
            found += terminal.leave(1801.0)
        for _ in range(60):
            command = random.choice(COMMANDS)
            if random.random() < 0.3:
                command = f"grep -rn {random.randrange(10**9):x} /srv/project"
            visit = self._visit(who, begin + random.random() * 28000)
            visit.session("exec", command, 3.0)
            found += visit.leave(3.2)
        for _ in range(2):
            copy = self._visit(who, begin + random.random() * 28000)
            copy.session("subsystem", "sftp", 5.0)
            directory = f"/home/{copy.user}/project/results-{random.randrange(10**6)}"
            for number in range(40):
                copy.read(0.2 + number / 10, f"{directory}/part-{number:04}.csv")
            found += copy.leave(5.5)
        return found

    def _visit(self, who: int, at: float) -> Visit:
        self._connections += 1
        return Visit(self._random, self._connections, who, at)

    def _stranger(self, at: float) -> list[At]:
        self._connections += 1
        random, conn = self._random, f"c{self._connections}"
        peer = f"203.0.{random.randrange(256)}.{random.randrange(256)}"
        name = random.choice(NAMES) if random.random() < 0.7 else f"user{random.randrange(100_000)}"
        denied = ev.AuthAttempt(
            conn=conn,
            peer=peer,
            user=name,
            method="none",
            result="denied",
            reason="the client offered no key",
            code="no-key",
        )
        closed = ev.ConnectionClosed(
            conn=conn, peer=peer, user="", reason="the client disconnected", seconds=1.2, bytes_in=2000, bytes_out=2500
        )
        opened = ev.ConnectionOpened(conn=conn, peer=peer, peer_port=random.randrange(1024, 65536))
        return [(at, opened), (at + 1, denied), (at + 1.2, closed)]


def _server(day: int) -> list[At]:
    """A start in the morning, keys every ten minutes, the idle time in the evening, and a stop."""
    morning, evening = day * DAY + 7 * 3600, day * DAY + 19 * 3600
    started = ev.ServerStarted(
        version="0.1.0",
        address="0.0.0.0",
        port=2222,
        pid=7,
        generation=1,
        host_keys=("SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8",),
        users=("dev",),
        idle_timeout=60.0,
    )
    loaded = ev.KeysLoaded(source="github:example", origin="fetched", accepted=2, refused=0, changed=False)
    found: list[At] = [(morning, started)]
    found += [(morning + 600 * number, loaded) for number in range(72)]
    found += [
        (evening + 5 * number, ev.IdleTick(idle=5 * number, remaining=60 - 5 * number, message="Idle"))
        for number in range(12)
    ]
    found.append((evening + 61, ev.ServerStopping(reason="idle", action="exit")))
    found.append((evening + 62, ev.ServerStopped(reason="idle", exit_code=0, message="Stopping machine. Goodbye!")))
    return found


def encoded(time: float, seq: int, event: ev.AnyEvent) -> bytes:
    """The line of an event, without its newline."""
    fields = {"ts": timestamp(time), "seq": seq, "event": event.__struct_config__.tag}
    return msgspec.json.encode(fields | msgspec.structs.asdict(event))
