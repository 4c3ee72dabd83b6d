"""A believable month of a small team's machine, as the lines that the server would write: for reports and screenshots.

Three people share it: one writes code, one trains models, one comes in by a shared account. Scanners come, too.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from pyssh_gateway import events as ev
from pyssh_gateway.audit.zstd import ZstdCompressor
from pyssh_gateway.core.recordings.asciicast import Encoder, Header
from pyssh_gateway.core.timestamps import timestamp

Fields = dict[str, Any]
"""Fields of several events."""

DAY = 86400.0
HOUR = 3600.0

EXAMPLE = ev.Identity("github:example", 583231, "SHA256:9WQv8PMyBqNgWTcv6G+xhtB6u3e3AVdUaCjcmhEa7FM")
AMOS = ev.Identity("github:amos", 9000001, "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8")
DEV = ev.Identity("file:dev@laptop", None, "SHA256:ympeCsYtZ0s8aVxYl6mJkT2u4bQnE1dRw3oPfGhKi5M")

PEERS = {EXAMPLE: "203.0.113.9", AMOS: "198.51.100.7", DEV: "2001:db8:12::5"}
USERS = {EXAMPLE: "example", AMOS: "amos", DEV: "dev"}
HOST_KEY = "SHA256:HJv2lkBtP08kfVXVho/5uYRk/EwhCwZSTHiin5FqqdM"

COMMANDS = (
    "make -j8",
    "git pull --rebase",
    "pytest -x tests/unit",
    "docker compose up -d",
    "tail -n 200 /var/log/app.log",
    "systemctl --user restart api",
    "npm ci && npm run build",
    "rsync --server -logDtpre.iLsfxCIvu . /home/example/site",
    "git-receive-pack 'api.git'",
    "df -h",
)


class ExampleLog:
    """The events of `days` before `now`, with the time of each."""

    def __init__(self, now: float, *, days: int = 30, seed: int = 7) -> None:
        self._random = random.Random(seed)
        self._now = now
        self._events: list[tuple[float, ev.AnyEvent]] = []
        self._needed: list[tuple[float, float]] = []
        self._scans: list[tuple[float, float]] = []
        self._conns = self._works = 0
        self.recorded: list[tuple[str, str, Callable[[Encoder, str], bytes]]] = []
        first = now // DAY * DAY - (days - 1) * DAY
        for number in range(days):
            self._day(first + number * DAY, number)
        self._server()
        self._events = sorted(((at, event) for at, event in self._events if at < now), key=lambda one: one[0])

    def lines(self) -> list[bytes]:
        """The lines of the log. One is missing, as after a full disk."""
        written = []
        for seq, (at, event) in enumerate(self._events, start=1):
            fields = {"ts": timestamp(at), "seq": seq, "event": event.__struct_config__.tag}
            if seq != len(self._events) * 2 // 3:
                written.append(msgspec.json.encode(fields | msgspec.structs.asdict(event)))
        return written

    def write(self, directory: Path) -> None:
        """Write log and recordings as the server keeps them."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "events.jsonl").write_bytes(b"".join(line + b"\n" for line in self.lines()))
        for user, session, make in self.recorded:
            write_recording(directory, user, session, make(Encoder(), user))

    # -- what people do -----------------------------------------------------------------------------------------

    def _tell(self, at: float, event: ev.AnyEvent) -> None:
        self._events.append((at, event))

    def _day(self, midnight: float, number: int) -> None:
        weekday = int(midnight // DAY + 3) % 7
        uniform = self._random.uniform
        if weekday < 5:
            self._work(EXAMPLE, midnight + uniform(7.9, 8.6) * HOUR, uniform(3.2, 4.0) * HOUR, quiet=number % 3 == 0)
            self._work(EXAMPLE, midnight + uniform(13.0, 13.4) * HOUR, uniform(3.0, 4.8) * HOUR, quiet=number % 4 == 1)
            if weekday in (0, 2, 3):
                self._work(AMOS, midnight + uniform(9.5, 11.0) * HOUR, uniform(2.0, 5.5) * HOUR, quiet=False)
            if weekday in (1, 3):
                self._hold(midnight + uniform(18.2, 18.8) * HOUR, uniform(2.0, 4.5) * HOUR)
            if weekday in (2, 4):
                self._left_behind(midnight + uniform(17.8, 18.4) * HOUR, uniform(0.5, 2.2) * HOUR)
        if weekday in (1, 4, 5):
            self._work(DEV, midnight + uniform(19.5, 21.0) * HOUR, uniform(0.4, 1.6) * HOUR, quiet=False)
        for _ in range(self._random.randint(3, 9)):
            self._scan(midnight + uniform(0, 24) * HOUR)
        if number == 19:
            self._revoke(midnight + 20.2 * HOUR)

    def _work(self, who: ev.Identity, at: float, seconds: float, *, quiet: bool) -> None:
        """A day's half: an editor's connection with its forwards, and shells and commands beside it."""
        self._works += 1
        if self._works == 20:
            self._tell(at + 600, ev.GatewayCrashed(pid=7, cause="killed by SIGSEGV", sessions=0))
        if self._works == 33:
            changed = ("idle.timeout", "login")
            self._tell(at + 900, ev.ConfigReloaded(changed=changed, restart=(), users=("example",)))
        conn, user = self._connect(who, at), USERS[who]
        closed = at + seconds + (1200 if quiet else 0)
        uses = self._uses(seconds)
        self._needed.append((at, closed if not quiet else at + seconds + 1190))
        for port in (3000, 5432)[: self._random.randint(1, 2)]:
            target = f"127.0.0.1:{port}"
            opened = at + self._random.uniform(60, 600)
            lasted = self._random.uniform(60, seconds - 700)
            forward: Fields = {"conn": conn, "user": user, "kind": "direct-tcpip", "target": target, "identity": who}
            self._tell(opened, ev.ForwardOpened(**forward))
            size: Fields = {
                "bytes_in": self._random.randint(10**4, 10**6),
                "bytes_out": self._random.randint(10**5, 10**8),
            }
            self._tell(opened + lasted, ev.ForwardClosed(**forward, **size, seconds=lasted))
        self._session(conn, who, at + 2, seconds - 10, "", kind="shell")
        for place in range(self._random.randint(2, 6)):
            begun, lasted = at + self._random.uniform(100, seconds - 400), self._random.uniform(0.2, 90)
            self._session(conn, who, begun, lasted, self._random.choice(COMMANDS), number=place + 2)
        if self._random.random() < 0.5:
            self._copy(conn, who, at + self._random.uniform(100, seconds - 400), 9)
        if quiet:
            self._tell(at + seconds + 1190, ev.ClientQuiet(conn=conn, user=user, seconds=1190.0, identity=who))
        self._disconnect(conn, who, at, closed)
        self._tell(closed + 0.1, ev.ClientUse(conn=conn, user=user, spans=uses, identity=who))

    def _uses(self, seconds: float) -> tuple[tuple[int, int], ...]:
        spans, at = [], 0.0
        while at < seconds:
            end = min(seconds, at + self._random.uniform(400, 3000))
            spans.append((int(at), int(end)))
            at = end + self._random.uniform(70, 900)
        return tuple(spans[:16])

    def _connect(self, who: ev.Identity, at: float) -> str:
        self._conns += 1
        conn, peer, user = f"c{self._conns}", PEERS[who], USERS[who]
        self._tell(at, ev.ConnectionOpened(conn=conn, peer=peer, peer_port=50022))
        login: Fields = {"conn": conn, "peer": peer, "user": user, "fingerprint": who.fingerprint, "source": who.person}
        client, cipher = "SSH-2.0-OpenSSH_9.9", "aes256-gcm@openssh.com"
        self._tell(
            at + 0.07,
            ev.ConnectionAuthenticated(**login, client=client, cipher=cipher, seconds=0.07, identity=who),
        )
        return conn

    def _disconnect(self, conn: str, who: ev.Identity, at: float, closed: float) -> None:
        size: Fields = {"bytes_in": self._random.randint(10**4, 10**7), "bytes_out": self._random.randint(10**5, 10**8)}
        reason = "the client disconnected"
        end: Fields = {"conn": conn, "peer": PEERS[who], "user": USERS[who], "reason": reason, "goodbye": True}
        self._tell(closed, ev.ConnectionClosed(**end, **size, seconds=closed - at, identity=who))

    def _session(
        self,
        conn: str,
        who: ev.Identity,
        at: float,
        seconds: float,
        command: str,
        *,
        kind: Literal["shell", "exec", "subsystem"] = "exec",
        number: int = 1,
    ) -> str:
        tty = "/dev/pts/0" if kind == "shell" else ""
        session, user = f"{conn}.{number}", USERS[who]
        same: Fields = {"conn": conn, "session": session, "user": user, "identity": who}
        term = "xterm-256color" if tty else ""
        self._tell(at, ev.SessionOpened(**same, kind=kind, command=command, tty=tty, term=term, pid=4242))
        status = self._random.choice((0, 0, 0, 0, 0, 1, 2)) if kind == "exec" else 0
        size: Fields = {"bytes_in": self._random.randint(10, 10**5), "bytes_out": self._random.randint(100, 10**7)}
        self._tell(
            at + seconds,
            ev.SessionClosed(
                **same, reason="the process ended", exit_status=status, exit_signal=None, **size, seconds=seconds
            ),
        )
        if tty and self._random.random() < 0.2:
            self.recorded.append((user, session, self._random.choice((build_recording, editor_recording))))
        return session

    def _copy(self, conn: str, who: ev.Identity, at: float, number: int) -> None:
        user = USERS[who]
        session = self._session(conn, who, at, 30, "sftp", kind="subsystem", number=number)
        names = ("model.onnx", "notes.md", "train.csv", "app.tar.zst", "screenshot.png", "db.dump")
        for place in range(self._random.randint(1, 5)):
            size = int(self._random.lognormvariate(14, 3))
            is_upload = self._random.random() < 0.6
            self._tell(
                at + 2 + place,
                ev.FileOperation(
                    conn=conn,
                    session=session,
                    user=user,
                    operation="file.closed",
                    path=f"/home/{user}/data/{self._random.choice(names)}",
                    target="",
                    detail="write create truncate" if is_upload else "read",
                    bytes_read=0 if is_upload else size,
                    bytes_written=size if is_upload else 0,
                    outcome="ok",
                    identity=who,
                ),
            )

    def _hold(self, at: float, seconds: float) -> None:
        name = f"h{int(at) % 9999}"
        hold: Fields = {"hold": name, "user": "amos"}
        self._tell(at, ev.HoldStarted(**hold, seconds=seconds + 900, reason="training run", pid=0))
        self._tell(at + seconds, ev.HoldEnded(**hold, why="released"))
        self._needed.append((at, at + seconds))

    def _left_behind(self, at: float, seconds: float) -> None:
        self._tell(at, ev.BackgroundWork(seconds=45.0, what="make, cc1plus of example"))
        for place in range(int(seconds // 30)):
            self._tell(at + 30 * place, ev.BackgroundWork(seconds=45.0, what="make, cc1plus of example"))
        self._tell(at + seconds, ev.BackgroundWork(seconds=0.0, what=""))
        self._needed.append((at - 15, at + seconds))

    def _scan(self, at: float) -> None:
        self._conns += 1
        conn = f"c{self._conns}"
        peer = self._random.choice(("192.0.2.77", "192.0.2.14", "192.0.2.201", "2001:db8:bad::1"))
        user = self._random.choice(("root", "admin", "ubuntu", "oracle", "pi", "postgres"))
        self._tell(at, ev.ConnectionOpened(conn=conn, peer=peer, peer_port=40000))
        attempt: Fields = {"conn": conn, "peer": peer, "user": user, "result": "denied"}
        why: Fields = {"method": "none", "reason": "the client has offered no key", "code": "no-key"}
        if self._random.random() > 0.8:
            why = {"method": "publickey", "reason": "unknown account", "code": "unknown-account"}
        self._tell(at + 0.4, ev.AuthAttempt(**attempt, **why))
        closed: Fields = {"conn": conn, "peer": peer, "user": "", "reason": "the client disconnected"}
        self._tell(at + 1, ev.ConnectionClosed(**closed, seconds=1.0, bytes_in=800, bytes_out=1200))
        if self._random.random() < 0.15:
            reason = "penalised: too many failed logins"
            self._tell(at + 3, ev.ConnectionRefused(peer=peer, peer_port=40001, reason=reason, count=40))
        self._scans.append((at, at + 8))

    def _revoke(self, at: float) -> None:
        conn = self._connect(DEV, at - 1800)
        self._session(conn, DEV, at - 1799, 1809, "", kind="shell")
        self._needed.append((at - 1800, at + 10))
        source: Fields = {"source": "file:/etc/keys", "origin": "fetched", "accepted": 1, "refused": 0}
        self._tell(at - 1, ev.KeysLoaded(**source, changed=True, refusals=(), added=(), removed=(DEV.fingerprint,)))
        reason = f"the key {DEV.fingerprint} of file:/etc/keys has been revoked"
        revoked: Fields = {"conn": conn, "peer": PEERS[DEV], "user": "dev", "reason": reason}
        self._tell(at, ev.ConnectionRevoked(**revoked, seconds=10.0, identity=DEV))
        self._disconnect(conn, DEV, at - 1800, at + 10)

    # -- the machine --------------------------------------------------------------------------------------------

    def _server(self) -> None:
        """The server's starts and stops around what it is needed for, and around the scans."""
        spans = [(begin, end + 120, "idle") for begin, end in self._needed] + [
            (begin, end, "idle") for begin, end in self._scans
        ]
        joined: list[tuple[float, float]] = []
        for begin, end, _ in sorted(spans):
            if joined and begin <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(joined[-1][1], end))
            else:
                joined.append((begin, end))
        for place, (begin, end) in enumerate(joined):
            self._tell(
                begin - 0.5,
                ev.ServerStarted(
                    version="0.1.0",
                    address="0.0.0.0",
                    port=2222,
                    pid=7,
                    generation=1,
                    host_keys=(HOST_KEY,),
                    users=("example", "amos", "dev"),
                    idle_timeout=120.0,
                ),
            )
            reason, detail = ("signal", "SIGTERM") if place % 60 == 40 else ("idle", "")
            self._tell(end + 0.2, ev.ServerStopping(reason=reason, detail=detail, action="exit"))
            self._tell(end + 0.3, ev.ServerStopped(reason=reason, exit_code=0, message="Stopping machine. Goodbye!"))


def write_recording(directory: Path, user: str, session: str, cast: bytes) -> Path:
    """Write a recording where the server keeps them."""
    path = directory / "recordings" / user / f"{session}.cast.zst"
    path.parent.mkdir(parents=True, exist_ok=True)
    compressor = ZstdCompressor()
    path.write_bytes(compressor.compress(cast) + compressor.flush())
    return path


PROMPT = "\x1b[1;32mUSER@my-box\x1b[0m:\x1b[1;34m~/api\x1b[0m$ "


def build_recording(encoder: Encoder, user: str = "example") -> bytes:
    """A shell in which somebody builds and tests something."""
    at, prompt = 0.0, PROMPT.replace("USER", user)
    parts = [encoder.header(Header(cols=80, rows=24, term="xterm-256color", timestamp=1_767_571_200))]

    def out(pause: float, text: str) -> None:
        nonlocal at
        at += pause
        parts.append(encoder.output(at, text.encode()))

    def typed(command: str) -> None:
        out(0.6, f"\x1b]133;D;0\x07\x1b]133;A\x07{prompt}\x1b]133;B\x07")
        for letter in command:
            out(0.07, letter)
        out(0.2, "\r\n\x1b]133;C\x07")

    typed("git pull --rebase && make -j8")
    out(
        0.8,
        "Updating 908994b..cdd9b27\r\nFast-forward\r\n src/api/routes.c | 14 \x1b[32m++++++++\x1b[31m------\x1b[0m\r\n",
    )
    for name in ("routes", "session", "store", "worker", "main"):
        out(0.5, f"  CC   src/api/{name}.c\r\n")
    out(0.9, "  \x1b[1mLD\x1b[0m   build/api\r\n")
    typed("make test")
    for number, name in enumerate(("routes", "session", "store", "worker"), start=1):
        out(0.6, f"\x1b[32mok\x1b[0m {number} - {name} \x1b[2m({number * 13} checks)\x1b[0m\r\n")
    out(0.3, "\x1b[31mnot ok\x1b[0m 5 - unicode: naïve, Ωμέγα\r\n")
    typed("rm -rf build/cache")
    out(0.3, prompt)
    at += 0.5
    return b"".join([*parts, encoder.exit(at, 0)])


def editor_recording(encoder: Encoder, user: str = "example") -> bytes:
    """A full-screen program, and its terminal made larger."""
    prompt = PROMPT.replace("USER", user).encode()
    parts = [
        encoder.header(Header(cols=80, rows=24, term="xterm-256color", timestamp=1_767_571_200)),
        encoder.output(0.5, prompt + b"vim notes.md\r\n"),
        encoder.output(
            0.9, b"\x1b[?1049h\x1b[2J\x1b[H# Release notes\r\n\r\n- faster logins\r\n" + b"\x1b[34m~\x1b[0m\r\n" * 18
        ),
        encoder.resize(2.0, 100, 30),
        encoder.output(2.1, b"\x1b[3;16H, and smaller windows\x1b[30;1H\x1b[7m notes.md [+] \x1b[0m"),
        encoder.output(4.0, b"\x1b[?1049l" + prompt + b"exit\r\n"),
    ]
    return b"".join([*parts, encoder.exit(4.4, 0)])
