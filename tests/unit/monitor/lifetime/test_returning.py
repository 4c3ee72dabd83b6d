"""monitor.lifetime.returning: who is on probation outlives a stop, and what ends a probation at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pyssh_gateway.core.idle.probation import CHAIN_SECONDS, MAX_ABSENT
from pyssh_gateway.events import AnyEvent, ClientUsed, Identity, Record, ServerStopping, SessionClosed, SessionOpened
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.connected.registry_file import RegistryFile
from pyssh_gateway.monitor.lifetime.returning import MAX_STATE_BYTES, Returning
from tests.unit.core.idle.test_tracker import authenticated, closed, who

NOW = 1_795_000_000.0


class Machine:
    """One start of the machine: its events, and what is published in the next turn of the loop."""

    def __init__(self, state: Path, now: float = NOW) -> None:
        self.now = now
        self.client_idle: float | None = 1800.0
        self.published: list[AnyEvent] = []
        self.later: list[Callable[[], None]] = []
        self.returning = Returning(
            Registry(RegistryFile(-1)),  # nobody is in it, so it is not written
            in_use=lambda: False,
            client_idle=lambda: self.client_idle,
            publish=self.publish,
            soon=self.later.append,
            clock=lambda: self.now,
            state=state,
        )

    def publish(self, event: AnyEvent) -> None:
        """As the bus does."""
        self.published.append(event)
        self.happens(event)

    def happens(self, *events: AnyEvent) -> None:
        """Observe events now, and end the turn of the loop."""
        for event in events:
            self.returning.observe(Record(1, self.now, event))
        while self.later:
            self.later.pop(0)()

    def receives(self, conn: str) -> float | None:
        """A login; returns the seconds of its leash, None: it counts as use at once."""
        received = self.returning.receive("amos", who())
        leash = None if received is None else received.leash
        self.happens(authenticated(conn, probation=leash))
        return leash


def opened(conn: str, tty: str = "", kind: str = "exec") -> AnyEvent:
    """A session begins."""
    return SessionOpened(conn=conn, session="s", user="amos", kind=kind, command="", tty=tty, term="", pid=1)  # type: ignore[arg-type]  # a parameter


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The file that outlives a stop."""
    return tmp_path / "absent.json"


def asleep(state: Path) -> None:
    """A start of the machine that ends while a client is connected."""
    machine = Machine(state, NOW - CHAIN_SECONDS - 1)
    assert machine.receives("c1") is None
    machine.happens(ServerStopping(reason="idle"), closed("c1", goodbye=False))


def test_a_client_is_known_after_a_stop(state: Path) -> None:
    """Protects the bill: the next process knows which client was there and not used."""
    asleep(state)
    machine = Machine(state)
    assert machine.receives("c2") is not None
    assert machine.returning.on_probation == {"c2"}


@pytest.mark.parametrize("sign", [opened("c2", tty="/dev/pts/1"), opened("c2", kind="subsystem")])
def test_a_terminal_or_sftp_ends_a_probation_at_once(state: Path, sign: AnyEvent) -> None:
    """Protects a person: nobody waits for the next look at the counters."""
    asleep(state)
    machine = Machine(state)
    machine.receives("c2")
    machine.happens(sign)
    assert machine.published == [ClientUsed(conn="c2", user="amos")]
    assert not machine.returning.on_probation
    assert Machine(state).receives("c3") is None


def test_a_command_ends_none(state: Path) -> None:
    """Protects the bill: an editor that comes back by itself runs commands."""
    asleep(state)
    machine = Machine(state)
    machine.receives("c2")
    machine.happens(opened("c2"), opened("c1", tty="/dev/pts/1"))
    assert not machine.published
    assert machine.returning.on_probation == {"c2"}


def test_a_command_that_ends_with_its_client_is_use(state: Path) -> None:
    """Protects people who work by commands: the machine waits for the next one as it always does."""
    asleep(state)
    machine = Machine(state)
    machine.receives("c2")
    ended = SessionClosed(
        conn="c2",
        session="s",
        user="amos",
        reason="",
        exit_status=0,
        exit_signal=None,
        bytes_in=0,
        bytes_out=0,
        seconds=0,
    )
    machine.happens(opened("c2"), ended, closed("c2"))
    assert machine.published == [ClientUsed(conn="c2", user="amos", identity=who())]
    assert Machine(state).receives("c3") is None


def test_without_a_rule_for_unused_clients_nobody_is_on_probation(state: Path) -> None:
    """Protects people under `client_idle = "off"`: every connection is a reason to stay up."""
    asleep(state)
    machine = Machine(state)
    machine.client_idle = None
    assert machine.receives("c2") is None


def test_another_rule_for_unused_clients_ends_all_probations(state: Path) -> None:
    """Protects people after a reload: the new rule judges every client anew, and with none nobody is on probation."""
    asleep(state)
    machine = Machine(state)
    machine.receives("c2")
    machine.returning.reconfigured()
    assert machine.returning.on_probation == {"c2"}
    machine.client_idle = None
    machine.returning.reconfigured()
    assert machine.published == [ClientUsed(conn="c2", user="amos")]
    assert not machine.returning.on_probation


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff", b"[" * 10_000, b"null"])
def test_a_damaged_file_is_no_memory(state: Path, damage: bytes) -> None:
    """Protects the start: nothing in the file keeps anybody out."""
    asleep(state)
    state.write_bytes(damage)
    assert Machine(state).receives("c2") is None


def test_the_file_has_room_for_all(state: Path) -> None:
    """Protects the memory: the longest entries are read again."""
    machine = Machine(state, NOW - CHAIN_SECONDS - 1)
    for number in range(MAX_ABSENT):
        identity = Identity("\x01" * 300, None, f"SHA256:{number:043}")
        machine.returning.receive("\x01" * 300, identity)
        machine.happens(authenticated(f"c{number}", key=f"{number:043}"))
    machine.happens(ServerStopping(reason="idle"))
    assert state.stat().st_size < MAX_STATE_BYTES
    assert len(Machine(state).returning._probation.absent) == MAX_ABSENT  # noqa: SLF001 - not shown to anybody


def test_a_full_disk_keeps_nobody_out(tmp_path: Path) -> None:
    """Protects logins: a place that can't be written to is passed over."""
    machine = Machine(tmp_path / "missing" / "absent.json")
    assert machine.receives("c1") is None
    machine.happens(ServerStopping(reason="idle"))
