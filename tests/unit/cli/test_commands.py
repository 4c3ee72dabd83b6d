"""cli: the commands that ask a running server, here one with fixed answers, and their exit codes."""

import getpass
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.cli import main
from pyssh_gateway.cli import request as asking
from pyssh_gateway.core import control
from pyssh_gateway.core.control import (
    AcceptedReply,
    ConnectionReport,
    ForNobodyReport,
    HeldReply,
    HoldReport,
    HostKeyReport,
    IdleReport,
    KeyReport,
    KeysReply,
    LoginReport,
    ReasonReport,
    ReleasedReply,
    SessionReport,
    SessionsReply,
    SourceOfWakesReport,
    SourceReport,
    StatusReply,
    StopReport,
    Verdict,
    VerdictsReply,
    WhyReply,
)
from pyssh_gateway.events import Identity
from pyssh_gateway.monitor.reporting.control import Asker, Handlers, Unanswerable
from tests.support.control import AnsweringServer, one_answer
from tests.support.key_lines import ed25519

SHA = "SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8"
AMOS = Identity("github:example", 583231, SHA)
LAPTOP = KeyReport(SHA, "ssh-ed25519", 256, "", "github:example", 583231, "github:example", "", False, False)
GITHUB = SourceReport(
    "github:example", ("amos",), 1, 0, "fetched", 61.0, "", None, 583231, stale=False, next_look=539.0
)
DOWN = SourceReport(
    "url:https://keys.example.com", ("amos",), 0, 0, "none", None, "timed out", None, None, stale=False, next_look=5.0
)
STATUS = StatusReply(
    version="0.1.0",
    pid=7,
    since=0.0,
    address="0.0.0.0",
    port=2222,
    host_keys=(HostKeyReport("ssh-ed25519", SHA, next=False), HostKeyReport("ssh-rsa", SHA, next=True)),
    connections=(
        ConnectionReport(
            "908994b924",
            "amos",
            AMOS,
            "203.0.113.9",
            0.0,
            (
                SessionReport("908994b924.1", "shell", "", "/dev/pts/3", 12, 2048, 4711, 61.0),
                SessionReport("908994b924.2", "exec", "printf \x1b[2J", "", 0, 0),
            ),
            4096,
            12,
        ),
    ),
    authenticating=2,
    idle=IdleReport(60.0, in_use=True, stops_in=None, reasons=(ReasonReport("connection", "amos is on", None),)),
    sources=(DOWN,),
)
KEYS = KeysReply((LoginReport("amos", (LAPTOP,)),), (GITHUB,))
HOLD = HoldReport("2e1068", "amos", "training \x1b[2J run", 0.0, 4e9, 4711)
WHY = WhyReply(
    since=0.0,
    woken_by="203.0.113.9",
    policy="It stops 1m after the last client has gone.",
    idle=IdleReport(
        60.0,
        in_use=True,
        stops_in=3700.0,
        reasons=(
            ReasonReport("hold", "amos holds it: training run", 3600.0),
            ReasonReport("schedule", "mon-fri 08:00-18:00", 1800.0),
        ),
    ),
    holds=(HOLD,),
    stops=(StopReport(0.0, "idle for 60 s", 3725.0),),
)

Run = Callable[..., "tuple[int, str, str]"]


class Answers(AnsweringServer):
    """A server with the answers above; `failing` are further sources in the answer to a refresh."""

    def __init__(self, path: Path) -> None:
        self.failing: tuple[SourceReport, ...] = ()
        self.why = WHY
        self.status = STATUS
        self.on = STATUS.connections
        self.tried: list[control.TryKey] = []
        handlers = Handlers(
            configuration=lambda: control.ConfigReply(b"{}", "", 7),
            status=self._status,
            keys=lambda: KEYS,
            refresh_keys=self._refresh,
            try_key=self._try_key,
            accept_account=self._accept,
            sessions=self._sessions,
            why=lambda: self.why,
            hold=lambda _request, _asker: HeldReply(HOLD),
            release=lambda _request, _asker: ReleasedReply((HOLD,)),
        )
        super().__init__(path, handlers)

    async def _status(self, _asker: Asker) -> StatusReply:
        return self.status

    async def _sessions(self, _asker: Asker) -> SessionsReply:
        return SessionsReply(self.on)

    async def _refresh(self) -> KeysReply:
        return KeysReply(KEYS.logins, (*KEYS.sources, *self.failing))

    async def _try_key(self, request: control.TryKey) -> VerdictsReply:
        self.tried.append(request)
        no = Verdict("build", accepted=False, reason="key is not known")
        yes = Verdict("amos", accepted=True, source="github:example", options="no-pty", identity=AMOS)
        return VerdictsReply((no,) if request.user == "build" else (yes, no))

    async def _accept(self, source: str) -> AcceptedReply:
        if source != "github:example":
            raise Unanswerable(f"no login has {source} among its keys")
        return AcceptedReply("accepted")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short path, as sockets need one, and with a configuration that points into it."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "config.toml").write_text(f'control = "{place}/control.sock"\nkeys_dir = "{place}/keys"\n')
        yield place


@pytest.fixture
def answers(place: Path) -> Iterator[Answers]:
    """A running server with fixed answers."""
    with Answers(place / "control.sock") as running:
        yield running


@pytest.fixture
def run(place: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command; returns its exit code, output and error messages."""

    def command(*arguments: str) -> tuple[int, str, str]:
        code = main.run([*arguments, "--config", str(place / "config.toml")], {})
        captured = capsys.readouterr()
        assert (captured.out + captured.err).replace("\n", "").isprintable()
        return code, captured.out, captured.err

    return command


def test_status_tells_who_is_on(answers: Answers, run: Run, place: Path) -> None:
    """Protects `status`: the server, its keys, connected users with what they run, and when it stops."""
    code, out, err = run("status")
    assert (code, err) == (0, "")
    first, *lines = out.splitlines()
    assert re.fullmatch(rf"pyssh-gateway 0\.1\.0 of {getpass.getuser()}, pid 7, for \S+", first)
    assert lines[:5] == [
        "  listens on 0.0.0.0:2222",
        f"  answers at {place}/control.sock",
        f"  host key {SHA}  ED25519",
        f"  host key {SHA}  RSA",
        "    announced, not in use yet",
    ]
    awake = lines[7].split()[4]
    assert lines[6:8] == [
        f"CONNECTION  ACCOUNT  WHO             FROM         {'FOR':>{len(awake)}}       IN   OUT",
        f"908994b924  amos     github:example  203.0.113.9  {awake}  4.0 KiB  12 B",
    ]
    assert lines[9:12] == [
        "SESSION       ACCOUNT  WHO             TTY    FOR    IN      OUT  RUNS",
        "908994b924.1  amos     github:example  pts/3   1m  12 B  2.0 KiB  (shell)",
        "908994b924.2  amos     github:example  -       0s   0 B      0 B  printf \\x1b[2J",
    ]
    assert lines[13:16] == [
        "1 connection, 2 not logged in yet; stops 1m after what keeps it up has ended",
        "kept up by",
        "  amos is on",
    ]
    assert lines[-4:] == [
        "  SOURCE                        KEYS  CONFIRMED  NEXT LOOK",
        "! url:https://keys.example.com     0  never      in 5s",
        "    nothing is known of it yet, nobody gets in by it",
        "    problem: timed out",
    ]


@pytest.mark.parametrize(
    ("log", "lines"),
    [
        (control.LogReport(None, False, 0, 1), ["", "lost for the log since the start: 1 event"]),
        (
            control.LogReport("/audit: full", False, 7, 0),
            ["", "the log can't be written: /audit: full", "  nobody is kept out; 7 events in memory"],
        ),
        (
            control.LogReport("/audit: full", True, 1, 2),
            [
                "",
                "the log can't be written: /audit: full",
                "  nobody gets in, but by break_glass; 1 event in memory",
                "  lost for the log since the start: 2 events",
            ],
        ),
    ],
)
def test_status_tells_what_is_wrong_with_the_log(
    answers: Answers, run: Run, log: control.LogReport, lines: list[str]
) -> None:
    """Protects the record: a log that can't be written, or has lost events, is said, and whom that keeps out."""
    answers.status = msgspec.structs.replace(STATUS, log=log)
    shown = run("status")[1].splitlines()
    assert any(shown[begin : begin + len(lines)] == lines for begin in range(len(shown)))


def test_status_for_programs(answers: Answers, run: Run) -> None:
    """Protects scripts: `--json` gives one line of JSON with everything that people see."""
    code, out, _ = run("status", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["reply"], report["pid"], report["connections"][0]["identity"]["person"]) == (
        "status",
        7,
        "github:example",
    )
    assert report["connections"][0]["sessions"][1]["command"] == "printf \\x1b[2J"


def test_why_tells_what_keeps_it_up(answers: Answers, run: Run) -> None:
    """Protects `why`: every reason with its end, holds with their names, the next stop, and earlier stops."""
    code, out, err = run("why")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("awake for ")
    assert lines[0].endswith(", woken by 203.0.113.9")
    assert lines[1:3] == ["kept up by", "  mon-fri 08:00-18:00, for 30m more"]
    assert lines[3].startswith("  hold 2e1068 of amos, for ")
    assert lines[3].endswith(" more, while process 4711 runs: training \\x1b[2J run")
    assert lines[4:8] == [
        "stops in 1h1m if nothing else comes up",
        "It stops 1m after the last client has gone.",
        "",
        "stopped before",
    ]
    assert lines[8].startswith("  Thu Jan 01 ")
    assert lines[8].endswith("  after 1h2m: idle for 60 s")
    assert json.loads(run("why", "--json")[1])["holds"][0]["hold"] == "2e1068"


@pytest.mark.parametrize(
    ("idle", "lines"),
    [
        (
            IdleReport(60.0, in_use=False, stops_in=42.0),
            ["nothing keeps it up", "stops in 42s unless somebody logs in"],
        ),
        (
            IdleReport(60.0, False, 42.0, (ReasonReport("boot", "just started, nobody has logged in yet", 42.0),)),
            [
                "waits, because",
                "  just started, nobody has logged in yet, for 42s more",
                "stops in 42s unless somebody logs in",
            ],
        ),
        (IdleReport(None, in_use=False, stops_in=None), ["does not stop by itself"]),
        (
            IdleReport(70.0, True, None, (ReasonReport("client", "amos is on", None),)),
            ["kept up by", "  amos is on", "stops 1m10s after what keeps it up has ended"],
        ),
        (
            IdleReport(70.0, False, 70.0, (ReasonReport("boot", "just started, nobody has logged in yet", 70.0),)),
            [
                "waits, because",
                "  just started, nobody has logged in yet, for 1m10s more",
                "stops in 1m10s unless somebody logs in",
            ],
        ),
        (
            IdleReport(60.0, in_use=False, stops_in=42.0, quiet=("amos is on", "eve \x1b[2J is on")),
            [
                "nothing keeps it up",
                "not kept up by, for want of use",
                "  amos is on",
                "  eve \\x1b[2J is on",
                "stops in 42s unless somebody logs in or uses what is open",
            ],
        ),
    ],
)
def test_why_tells_when_it_stops(answers: Answers, run: Run, idle: IdleReport, lines: list[str]) -> None:
    """Protects people who ask on an idle machine, and on one that never stops."""
    answers.why = WhyReply(0.0, "", "It stops.", idle, (), ())
    out = run("why")[1].splitlines()
    assert "woken" not in out[0]
    assert out[1:] == [*lines, "It stops."]


def wakes(kind: str, source: str, count: int, seconds: float) -> SourceOfWakesReport:
    """What a source did, first at the beginning of 1970."""
    return SourceOfWakesReport(kind, source, count, seconds, 0.0, 60.0)


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        (None, []),
        (ForNobodyReport(7), []),
        (
            ForNobodyReport(7, 41, 360.0, (wakes("address", "198.51.100.7", 12, 120.0), wakes("start", "", 29, 99.0))),
            ["awake for nobody in the last 7 days: 41 times, 6m in all; most by 198.51.100.7 (12 times, 2m)"],
        ),
        (
            ForNobodyReport(7, 1, 8.0, (wakes("address", "2001:db8::/64", 1, 8.0),)),
            ["awake for nobody in the last 7 days: 1 time, 8s in all; all by 2001:db8::/64"],
        ),
        (
            ForNobodyReport(7, 3, 8.0, (wakes("start", "", 1, 8.0),), others=2),
            [
                (
                    "awake for nobody in the last 7 days: 3 times, 8s in all; "
                    "most after a start by hand or by a deploy (1 time, 8s)"
                )
            ],
        ),
        (
            ForNobodyReport(7, 3, 8.0, (wakes("person", "eve \x1b[2J", 3, 8.0),)),
            [
                (
                    "awake for nobody in the last 7 days: 3 times, 8s in all; "
                    "all by a client of eve \\x1b[2J that came back by itself"
                )
            ],
        ),
        (ForNobodyReport(7, 3, 8.0), ["awake for nobody in the last 7 days: 3 times, 8s in all"]),
    ],
)
def test_why_and_status_tell_what_it_was_awake_for_nobody(
    answers: Answers, run: Run, report: ForNobodyReport | None, lines: list[str]
) -> None:
    """Protects the person who pays for scanners: they learn what it costs, and which source costs most."""
    idle = IdleReport(60.0, in_use=False, stops_in=42.0)
    answers.why = WhyReply(0.0, "", "It stops.", idle, (), (), report)
    assert run("why")[1].splitlines()[4:] == lines
    answers.status = msgspec.structs.replace(STATUS, for_nobody=report)
    assert [line for line in run("status")[1].splitlines() if "for nobody" in line] == lines


def test_why_gives_programs_every_source(answers: Answers, run: Run) -> None:
    """Protects scripts: every source is in the JSON, with its first and last time as in the log."""
    report = ForNobodyReport(7, 1, 8.0, (wakes("address", "2001:db8::/64", 1, 8.0),))
    answers.why = msgspec.structs.replace(WHY, for_nobody=report)
    told = json.loads(run("why", "--json")[1])["for_nobody"]
    assert (told["days"], told["count"], told["seconds"], told["others"]) == (7, 1, 8.0, 0)
    (source,) = told["sources"]
    assert (source["source"], source["until"]) == ("2001:db8::/64", "1970-01-01T00:01:00.000000Z")


def test_sessions_tells_who_runs_what(answers: Answers, run: Run) -> None:
    """Protects `sessions`: every connection with what runs on it, or the words that nobody is on."""
    code, out, err = run("sessions")
    assert (code, err) == (0, "")
    assert out.splitlines() == run("status")[1].splitlines()[10:13]
    assert json.loads(run("sessions", "--json")[1])["connections"][0]["sessions"][0]["seconds"] == 61.0
    answers.on = ()
    assert run("sessions")[:2] == (0, "nobody is on\n")


def test_keys_tells_who_can_log_in(answers: Answers, run: Run) -> None:
    """Protects `keys`: the keys of each account with their persons, and how fresh each source is."""
    code, out, err = run("keys")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"  FINGERPRINT{' ' * 39}  TYPE     WHO",
        "amos",
        f"  {SHA}  ED25519  github:example#583231",
        "",
        "sources",
        "  SOURCE          KEYS  CONFIRMED  NEXT LOOK",
        "  github:example     1  1m ago     in 8m",
        "    account 583231, the one seen first",
    ]
    assert json.loads(run("keys", "--json")[1])["logins"][0]["keys"][0]["fingerprint"] == SHA


def test_keys_shows_pictures_on_request(answers: Answers, run: Run) -> None:
    """Protects people who compare keys by their pictures."""
    out = run("keys", "--randomart")[1].splitlines()
    assert out[3] == "    +--[ED25519 256]--+"
    assert out[13] == "    +----[SHA256]-----+"


def test_refresh_says_no_when_a_source_fails(answers: Answers, run: Run) -> None:
    """Protects scripts that wait for a key: the exit code says whether every source has answered."""
    assert run("keys", "refresh")[0] == 0
    answers.failing = (DOWN,)
    code, out, _ = run("keys", "refresh")
    assert code == 1
    assert "    problem: timed out" in out.splitlines()


def test_a_key_is_tested(answers: Answers, run: Run, place: Path) -> None:
    """Protects `keys test`: yes or no for each account with the reason, and the exit code says the same."""
    (place / "id.pub").write_bytes(b"# mine\n\n" + ed25519() + b" amos@laptop\n")
    code, out, _ = run("keys", "test", str(place / "id.pub"), "--from", "198.51.100.7")
    assert code == 0
    first, *rest = out.splitlines()
    assert first.startswith("SHA256:")
    assert first.endswith("  ssh-ed25519  from 198.51.100.7")
    assert rest == [
        "  amos: yes, as github:example#583231",
        "    options: no-pty",
        "  build: no, key is not known",
    ]
    assert run("keys", "test", str(place / "id.pub"), "--user", "build")[0] == 1
    assert [(request.user, request.peer) for request in answers.tried] == [("", "198.51.100.7"), ("build", "")]
    assert json.loads(run("keys", "test", "--json", str(place / "id.pub"))[1])["verdicts"][0]["accepted"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a private key, which stays where it is"),
        (b"hello\nssh-ed25519 ????\nssh-rsa " + ed25519().split()[1], "has no public key"),
        (b"", "has no public key"),
        (None, "can't be read: No such file or directory"),
    ],
)
def test_what_is_no_public_key_is_not_sent(
    answers: Answers, run: Run, place: Path, content: bytes | None, reason: str
) -> None:
    """Protects private keys from being sent, and people from an answer about another key than they meant."""
    if content is not None:
        (place / "id.pub").write_bytes(content)
    code, out, err = run("keys", "test", str(place / "id.pub"))
    assert (code, out) == (1, "")
    assert reason in err
    assert not answers.tried


def test_an_address_is_an_address(answers: Answers, run: Run, place: Path) -> None:
    """Protects from a meaningless yes: `--from` takes an IP address only, and refuses host names and typing errors."""
    (place / "id.pub").write_bytes(ed25519())
    code, out, err = run("keys", "test", str(place / "id.pub"), "--from", "laptop")
    assert (code, out, err.splitlines()[0]) == (2, "", 'pyssh-gateway: --from takes an IP address, not "laptop"')
    assert not answers.tried


def test_a_change_of_account_is_accepted(answers: Answers, run: Run) -> None:
    """Protects `keys accept`: the server's answer is printed, and its refusal is an error."""
    assert run("keys", "accept", "github:example") == (0, "accepted\n", "")
    assert run("keys", "accept", "github:other") == (
        1,
        "",
        "pyssh-gateway: no login has github:other among its keys\n",
    )
    assert run("keys", "accept", "github:\udcff")[0] == 1


@pytest.mark.parametrize("command", [("status",), ("keys", "refresh"), ("keys", "accept", "github:example")])
def test_without_a_server_there_is_nobody_to_ask(run: Run, place: Path, command: tuple[str, ...]) -> None:
    """Protects against silence: without a server the exit code is 3, and the message says where one was looked for."""
    code, out, err = run(*command)
    assert (code, out) == (3, "")
    assert err == f"pyssh-gateway: no server could be asked: nobody listens at {place}/control.sock\n"


def test_a_control_socket_that_is_off_is_named(run: Run, place: Path) -> None:
    """Protects people who have switched the control socket off: the message says that, and not that no server runs."""
    (place / "config.toml").write_text('control = "off"\n')
    assert run("status")[2] == 'pyssh-gateway: no server could be asked: control is "off" in the configuration\n'


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection without an answer"),
        (b"no json\n", "does not understand"),
        (b'{"reply":"accepted","message":"?"}\n', "not what it was asked for"),
        (b"x" * 100_000, "longer than 65536 bytes"),
        (None, "did not answer within 0 s"),
    ],
)
def test_a_strange_server_is_an_error(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, reason: str
) -> None:
    """Protects the caller's terminal and memory: any unexpected answer becomes one line of error."""
    monkeypatch.setattr(control, "MAX_REPLY_BYTES", 65536)
    if answer is None:
        monkeypatch.setattr(asking, "QUICK_SECONDS", 0.05)
    with one_answer(place / "control.sock", answer):
        code, out, err = run("status")
    assert (code, out) == (1, "")
    assert reason in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("keys", "frobnicate"), 2), (("status", "--port"), 2), (("keys", "test"), 2), (("keys", "--help"), 0)],
)
def test_usage_is_checked(arguments: tuple[str, ...], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Protects scripts: a wrong command line has exit code 2, and help has 0."""
    assert main.run(arguments, {}) == code
    captured = capsys.readouterr()
    assert "usage:" in (captured.err if code else captured.out)


def test_a_wrong_configuration_is_a_wrong_usage(run: Run, place: Path) -> None:
    """Protects scripts: a configuration that can't be read has exit code 2, with each mistake on its line."""
    (place / "config.toml").write_text("listen.port = 0.5\nidle.timout = 1\n")
    code, out, err = run("keys")
    assert (code, out) == (2, "")
    assert [line.split(": ")[1] for line in err.splitlines()] == ["listen.port", "idle.timout"]
