"""The login banner, and where it is shown: logins are remembered, and the banner follows the motd."""

import os
import pwd
import select
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.config.types import Config, Session
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionOpened,
    Identity,
    Record,
)
from pyssh_gateway.monitor.lifetime.awake import Awake
from pyssh_gateway.monitor.reporting import login_banner
from pyssh_gateway.monitor.reporting.login_banner import LoginBanner
from pyssh_gateway.spawner.processes import process, program
from tests.support.spawning import ready, session_children

NOW = 1_795_000_000.0
AMOS = Identity("github:example", 583231, "SHA256:x")
JORG, JURG = (Identity(name, None, f"SHA256:{name}") for name in ("file:jörg", "file:jürg"))
DORA = Identity("file:dora@laptop", None, "SHA256:y")


class Life:
    """Gateways with one state file, and their events."""

    def __init__(self, state: Path, *, banner: bool = True) -> None:
        self.state = state
        self.now = NOW
        self.config = Config(session=Session(banner=banner))
        self.start()

    def start(self) -> None:
        """Start the machine, and a gateway with it."""
        self.awake = Awake(self.now, lambda: Clocks(self.now, self.now), self.state.with_name("awake.json"))
        self.gateway = LoginBanner(self.config, self.awake, clock=lambda: self.now, state=self.state)

    def happens(self, event: AnyEvent) -> None:
        """Report an event that happens now."""
        self.awake.observe(Record(1, self.now, event))
        self.gateway.observe(Record(1, self.now, event))

    def log_in(self, conn: str, identity: Identity, peer: str) -> list[str]:
        """Log a person in; returns the lines of their banner."""
        self.happens(ConnectionOpened(conn=conn, peer=peer, peer_port=1))
        banner = self.gateway.text(identity).decode().splitlines()
        self.happens(
            ConnectionAuthenticated(
                conn=conn,
                peer=peer,
                user="amos",
                fingerprint=identity.fingerprint,
                source="",
                client="",
                cipher="",
                seconds=0.1,
                identity=identity,
            )
        )
        return banner


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """A machine that has just been started."""
    return Life(tmp_path / "logins.json")


def test_a_person_learns_of_their_last_login(life: Life) -> None:
    """Protects against an unnoticed theft of a key: each person reads when and from where their key was used last."""
    first = life.log_in("a", AMOS, "203.0.113.9")
    assert first == [
        "Just started, woken by 203.0.113.9.",
        (
            "It stops 2m after the last client has gone, or has not been used for 20m. "
            "What sessions leave running keeps it up while it works, for 12h at most."
        ),
        "This is the first login of github:example that is known.",
    ]
    life.now += 3600
    assert life.log_in("b", DORA, "::1")[2] == "This is the first login of file:dora@laptop that is known."
    awake, _, last = life.log_in("c", AMOS, "198.51.100.7")
    assert awake.startswith("Awake for 1h, woken by 203.0.113.9.")
    assert last.startswith("Last login of github:example: ")
    assert last.endswith(" from 203.0.113.9")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (JORG, JURG),
        (Identity("file:key", None, "SHA256:a"), Identity("file:key", None, "SHA256:b")),
    ],
)
def test_two_keys_of_a_file_are_two_people(life: Life, one: Identity, other: Identity) -> None:
    """Protects one person's last login from another: two keys are two people, even with the same comment."""
    life.log_in("a", one, "203.0.113.9")
    assert life.log_in("b", other, "::1")[2] == f"This is the first login of {other.person} that is known."
    assert life.log_in("c", one, "::1")[2].endswith(" from 203.0.113.9")


def test_it_is_remembered_over_stops(life: Life) -> None:
    """Protects the same across a stop of the machine."""
    life.log_in("a", AMOS, "203.0.113.9")
    life.now += 3600
    life.start()
    banner = life.log_in("b", AMOS, "::1")
    assert (banner[0], banner[2][-17:]) == ("Just started, woken by ::1.", " from 203.0.113.9")


def test_what_an_older_server_remembers_is_read(life: Life) -> None:
    """Protects an upgrade: logins that an older server remembered are read."""
    last = {"time": NOW - 60, "peer": "203.0.113.9"}
    life.state.write_bytes(msgspec.json.encode({"since": 1.0, "woken_by": "::2", "people": {AMOS.known_by: last}}))
    life.start()
    assert life.log_in("a", AMOS, "::1")[2].endswith(" from 203.0.113.9")


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    """Protects the setting `session.banner`; logins are remembered even if it is off."""
    life = Life(tmp_path / "logins.json", banner=False)
    assert life.log_in("a", AMOS, "203.0.113.9") == []
    life.config = Config()
    life.start()
    assert life.log_in("b", AMOS, "::1")[2].endswith(" from 203.0.113.9")


def test_the_number_of_people_is_bounded(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the disk from an authority that signs ever new people: only the latest logins are kept."""
    monkeypatch.setattr(login_banner, "MAX_PEOPLE", 3)
    people = [Identity(f"ca:{number}{'x' * 1000}", None, "SHA256:x") for number in range(5)]
    for number, one in enumerate(people):
        life.log_in(str(number), one, "::1")
    life.log_in("again", people[2], "::2")
    kept = msgspec.json.decode(life.state.read_bytes())["people"]
    assert [name[3] for name in kept] == ["3", "4", "2"]
    assert all(len(name) == login_banner.MAX_NAME for name in kept)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"since":1}', b"\xff", b"[" * 100_000])
def test_a_damaged_file_is_an_empty_one(life: Life, data: bytes) -> None:
    """Protects the start: a damaged file counts as empty."""
    life.state.write_bytes(data)
    life.start()
    assert life.log_in("a", AMOS, "::1")[2].startswith("This is the first login")


def test_a_disk_that_is_full_keeps_nobody_out(tmp_path: Path) -> None:
    """Protects logins from a full disk: a file that can't be written keeps nobody out."""
    life = Life(tmp_path / "no such directory" / "logins.json")
    assert len(life.log_in("a", AMOS, "::1")) == 3


# -- on the screen -------------------------------------------------------------------------------------------------

BANNER = b"Awake for 3h12m.\nLast login of github:example\n"
USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def shown(*, greet: bool) -> bytes:
    """The output that a shell's user sees, up to the shell's own first word."""
    plan = LaunchPlan(
        user=USER.pw_name,
        executable=b"/bin/sh",
        argv=(b"sh", b"-c", b"echo shell"),
        env={b"PATH": b"/usr/bin:/bin"},
        cwd=b"/",
        terminal=Terminal("xterm", 80, 24, 0, 0, ()),
        greet=greet,
        banner=BANNER,
    )
    child = ready(process.start(plan, process.find_account(plan.user), session_children().begin))
    data = b""
    try:
        while b"shell" not in data:
            assert select.select([child.descriptors[0]], [], [], 10)[0], data
            data += os.read(child.descriptors[0], 65536)
    finally:
        os.waitpid(child.pid, 0)
        os.close(child.descriptors[0])
    return data


def test_it_is_shown_after_the_motd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the banner's place: after the message of the day and before the shell, with a terminal's line ends."""
    monkeypatch.setattr(program, "MOTD_FILES", ())
    assert shown(greet=True) == BANNER.replace(b"\n", b"\r\n") + b"shell\r\n"
    assert shown(greet=False) == b"shell\r\n"
