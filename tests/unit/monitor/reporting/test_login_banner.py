"""The login banner and its way to the screen: who was here when is remembered, and shown where the motd is."""

import os
import pwd
import select
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.config.types import Config, Session
from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.events import (
    AnyEvent,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    MachineResumed,
    Record,
    ServerStopping,
    StopStep,
)
from pyssh_gateway.monitor.reporting import login_banner
from pyssh_gateway.monitor.reporting.login_banner import LoginBanner
from pyssh_gateway.spawner.processes import process, program
from tests.support.spawning import INHERITED, ready

NOW = 1_795_000_000.0
AMOS = Identity("github:example", 583231, "SHA256:x")
JORG, JURG = (Identity(name, None, f"SHA256:{name}") for name in ("file:jörg", "file:jürg"))
DORA = Identity("file:dora@laptop", None, "SHA256:y")


class Life:
    """Gateways over one file, and what happens to them."""

    def __init__(self, state: Path, *, banner: bool = True) -> None:
        self.state = state
        self.now = NOW
        self.config = Config(session=Session(banner=banner))
        self.gateway = self.start(fresh=True)

    def start(self, *, fresh: bool) -> LoginBanner:
        """A gateway begins; `fresh`: with the machine."""
        self.gateway = LoginBanner(self.config, fresh=fresh, since=self.now, clock=lambda: self.now, state=self.state)
        return self.gateway

    def happens(self, event: AnyEvent) -> None:
        """Something happens now."""
        self.gateway.observe(Record(1, self.now, event))

    def log_in(self, conn: str, identity: Identity, peer: str) -> list[str]:
        """Somebody comes, and the lines that they read."""
        self.happens(ConnectionOpened(conn=conn, peer=peer, peer_port=1))
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
        return self.gateway.text(conn).decode().splitlines()

    def close(self, conn: str) -> None:
        """Somebody goes."""
        self.happens(
            ConnectionClosed(conn=conn, peer="::1", user="amos", reason="", seconds=1, bytes_in=0, bytes_out=0)
        )


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """A machine that has just been started."""
    return Life(tmp_path / "logins.json")


def test_a_person_learns_of_their_last_login(life: Life) -> None:
    """Protects against a stolen key that nobody notices: each person reads when and from where theirs was used last."""
    first = life.log_in("a", AMOS, "203.0.113.9")
    assert first == [
        "Just started, woken by 203.0.113.9.",
        "It stops 1m after the last client has gone.",
        "This is the first login of github:example that is known.",
    ]
    life.now += 3600
    assert life.log_in("b", DORA, "::1")[2] == "This is the first login of file:dora@laptop that is known."
    awake, _, last = life.log_in("c", AMOS, "198.51.100.7")
    assert awake.startswith("Awake for 1h, woken by 203.0.113.9.")
    assert last.startswith("Last login of github:example: ")
    assert last.endswith(" from 203.0.113.9")
    assert life.gateway.text("a").decode().splitlines()[2] == first[2]  # a second shell reads the same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (JORG, JURG),
        (Identity("file:key", None, "SHA256:a"), Identity("file:key", None, "SHA256:b")),
    ],
)
def test_two_keys_of_a_file_are_two_people(life: Life, one: Identity, other: Identity) -> None:
    """Protects one person's last login from another's eyes: a comment, whatever it says, makes nobody the same."""
    life.log_in("a", one, "203.0.113.9")
    assert life.log_in("b", other, "::1")[2] == f"This is the first login of {other.person} that is known."
    assert life.log_in("c", one, "::1")[2].endswith(" from 203.0.113.9")


def test_it_is_remembered_over_stops(life: Life) -> None:
    """Protects the same after the machine has slept, and what a crash must not change: since when it is awake."""
    life.log_in("a", AMOS, "203.0.113.9")
    life.now += 3600
    life.start(fresh=False)
    assert (life.gateway.since, life.gateway.woken_by) == (NOW, "203.0.113.9")
    assert life.log_in("b", AMOS, "::1")[2].endswith(" from 203.0.113.9")
    life.start(fresh=True)
    assert (life.gateway.since, life.gateway.woken_by) == (life.now, "")
    assert life.log_in("c", AMOS, "::2")[2].endswith(" from ::1")


def test_a_machine_that_was_suspended_is_awake_since_then(life: Life) -> None:
    """Protects the figure: a suspended machine was not awake, and somebody else has woken it."""
    life.log_in("a", AMOS, "203.0.113.9")
    life.now += 7200
    life.happens(MachineResumed(seconds=7000.0))
    assert (life.gateway.since, life.gateway.woken_by) == (life.now, "")
    life.happens(MachineResumed(seconds=-3600.0))  # the clock was set back, nothing more
    assert life.log_in("b", AMOS, "::1")[0].startswith("Just started, woken by ::1.")


def test_who_wakes_a_suspended_machine_is_named(life: Life) -> None:
    """Protects the same where somebody is in before the resume has been noticed, and where the clocks don't show it."""
    life.log_in("a", AMOS, "203.0.113.9")
    for seconds in (7000.0, 0.0):
        life.now += 7200
        life.happens(ServerStopping(reason="idle"))
        life.happens(StopStep(step="suspend", outcome="ok", seconds=0.1))
        life.happens(ConnectionOpened(conn="b", peer="198.51.100.7", peer_port=1))
        life.happens(ConnectionOpened(conn="c", peer="::1", peer_port=1))
        life.happens(MachineResumed(seconds=seconds))
        assert (life.gateway.since, life.gateway.woken_by) == (life.now, "198.51.100.7")
    back = life.now
    life.now += 60
    life.start(fresh=False)  # a crash
    assert (life.gateway.since, life.gateway.woken_by) == (back, "198.51.100.7")


def test_a_stop_that_was_called_off_changes_nothing(life: Life) -> None:
    """Protects the figure: a machine that was needed after all has been awake all the time."""
    life.log_in("a", AMOS, "203.0.113.9")
    life.now += 60
    life.happens(ServerStopping(reason="idle"))
    life.happens(StopStep(step="suspend", outcome="not asked for: the machine is needed again", seconds=0))
    life.happens(ConnectionOpened(conn="b", peer="198.51.100.7", peer_port=1))
    life.happens(MachineResumed(seconds=-3600.0))
    assert (life.gateway.since, life.gateway.woken_by) == (NOW, "203.0.113.9")


def test_who_has_gone_is_forgotten(life: Life) -> None:
    """Protects memory: what is kept for a connection goes with it; without a login there is nothing to say."""
    life.log_in("a", AMOS, "203.0.113.9")
    life.close("a")
    life.close("never seen")
    assert life.gateway.text("a") == b""


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    """Protects the setting `session.banner`; logins are remembered all the same."""
    life = Life(tmp_path / "logins.json", banner=False)
    assert life.log_in("a", AMOS, "203.0.113.9") == []
    life.config = Config()
    life.start(fresh=True)
    assert life.log_in("b", AMOS, "::1")[2].endswith(" from 203.0.113.9")


def test_the_number_of_people_is_bounded(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the disk from an authority that signs for ever new people: who was here last is kept."""
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
    """Protects the start: nobody is kept out by a file that only tells."""
    life.state.write_bytes(data)
    life.start(fresh=False)
    assert life.log_in("a", AMOS, "::1")[2].startswith("This is the first login")


def test_a_disk_that_is_full_keeps_nobody_out(tmp_path: Path) -> None:
    """Protects logins from the memory of logins."""
    life = Life(tmp_path / "no such directory" / "logins.json")
    assert len(life.log_in("a", AMOS, "::1")) == 3


# -- on the screen -------------------------------------------------------------------------------------------------

BANNER = b"Awake for 3h12m.\nLast login of github:example\n"
USER = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def shown(*, greet: bool) -> bytes:
    """What a shell's user sees up to the shell's own first word."""
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
    child = ready(process.start(plan, inherited=INHERITED))
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
    """Protects its place: before the shell, after the message of the day, with line ends for a terminal."""
    monkeypatch.setattr(program, "MOTD_FILES", ())
    assert shown(greet=True) == BANNER.replace(b"\n", b"\r\n") + b"shell\r\n"
    assert shown(greet=False) == b"shell\r\n"
