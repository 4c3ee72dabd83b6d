"""core.idle.probation: how a client that was unused when the machine stopped is received when it comes back."""

import pytest

from pyssh_gateway.core.idle.probation import (
    ABSENT_SECONDS,
    ASLEEP,
    ASLEEP_IN_LOOP,
    CHAIN_SECONDS,
    LEASH_SECONDS,
    MAX_ABSENT,
    MAX_RETURNS,
    REFUSED_SECONDS,
    SHORTEST_LEASH_SECONDS,
    Probation,
    Return,
)
from pyssh_gateway.events import (
    AnyEvent,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    Identity,
    ServerStopping,
    SessionClosed,
    SessionOpened,
    StopStep,
)

NOW = 1_795_000_000.0
SOON = 5.0
"""Seconds after which an editor tries again."""


class House:
    """A machine with one account, over its stops, and one person's client, `conn` after `conn`."""

    def __init__(self) -> None:
        self.now = NOW
        self.longest = 1800.0
        self.probation = Probation()
        self._count = 0

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def happens(self, event: AnyEvent) -> None:
        """An event, now."""
        self.probation.observe(event, self.now)

    def comes(self, key: str = "x", *, in_use: bool = False) -> tuple[str, Return | None]:
        """The client logs in; its connection, and how it was received."""
        self._count += 1
        conn, who = f"c{self._count}", identity(key)
        received = self.probation.receive("amos", who, now=self.now, longest=self.longest, in_use=in_use)
        self.happens(
            ConnectionAuthenticated(
                conn=conn,
                peer="",
                user="amos",
                fingerprint="",
                source="",
                client="",
                cipher="",
                seconds=0,
                identity=who,
                probation=None if received is None else received.leash,
            )
        )
        return conn, received

    def goes(self, conn: str, *, goodbye: bool = True, key: str = "x") -> None:
        """The connection ends."""
        self.happens(
            ConnectionClosed(
                conn=conn,
                peer="",
                user="amos",
                reason="",
                seconds=0,
                bytes_in=0,
                bytes_out=0,
                goodbye=goodbye,
                identity=identity(key),
            )
        )

    def stops(self, *on: str, reason: str = "idle") -> None:
        """The machine stops, says goodbye to the connections that are on, and starts again when somebody connects."""
        self.happens(ServerStopping(reason=reason))
        for conn in on:
            self.goes(conn)
        self.probation = Probation(self.probation.absent)

    def runs(self, conn: str, exit_status: int | None = 0) -> None:
        """A command runs on the connection, and ends; None: it goes on when its session is closed."""
        self.begins(conn)
        self.happens(
            SessionClosed(
                conn=conn,
                session="s",
                user="amos",
                reason="",
                exit_status=exit_status,
                exit_signal=None,
                bytes_in=0,
                bytes_out=0,
                seconds=0,
            )
        )

    def begins(self, conn: str) -> None:
        """A command begins on the connection."""
        self.happens(
            SessionOpened(conn=conn, session="s", user="amos", kind="exec", command="", tty="", term="", pid=1)
        )

    def asleep(self) -> None:
        """A client came, was not used, and the machine has stopped under it."""
        conn, _ = self.comes()
        self.happens(ClientQuiet(conn=conn, user="amos", seconds=1))
        self.stops(conn)


def identity(key: str) -> Identity:
    """A person."""
    return Identity("github:example", 583231, f"SHA256:{key}")


@pytest.fixture
def house() -> House:
    """A machine at its first start."""
    return House()


def test_a_client_that_comes_back_at_once_is_refused_once(house: House) -> None:
    """Protects the bill and the person: an editor is told to give up, and the attempt after that is let in."""
    house.asleep()
    house.passes(SOON)
    conn, received = house.comes()
    assert received == Return(REFUSED_SECONDS, ASLEEP)
    house.stops(conn)
    house.passes(SOON)
    assert house.comes()[1] == Return(LEASH_SECONDS)


def test_a_client_that_comes_back_later_is_let_in_on_probation(house: House) -> None:
    """Protects a person in the morning from a refusal, and the bill if it was only the computer that woke up."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    conn, received = house.comes()
    assert received == Return(LEASH_SECONDS)
    assert house.probation.on == {conn}
    assert house.probation.accounts == {conn: "amos"}
    assert house.probation.is_absent("amos", identity("x"))


def test_all_connections_of_one_return_are_received_alike(house: House) -> None:
    """Protects an editor with two connections: the second is not refused once the first was let in."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    assert [house.comes()[1] for _ in range(3)] == [Return(LEASH_SECONDS)] * 3


def test_returns_in_vain_shorten_the_leash_and_end_in_refusals(house: House) -> None:
    """Protects the bill from a loop that never gives up, without a limit for a client that makes a pause."""
    house.asleep()
    leashes = []
    for _ in range(MAX_RETURNS):
        house.passes(SOON)
        refused, received = house.comes()
        assert received is not None
        assert received.asleep == ASLEEP
        house.stops(refused)
        house.passes(SOON)
        let_in, received = house.comes()
        assert received is not None
        assert not received.asleep
        leashes.append(received.leash)
        house.passes(received.leash)
        house.stops(let_in)
    assert leashes == [LEASH_SECONDS, LEASH_SECONDS / 2, SHORTEST_LEASH_SECONDS]
    for _ in range(400):
        house.passes(30)
        conn, received = house.comes()
        assert received == Return(REFUSED_SECONDS, ASLEEP_IN_LOOP)
        house.stops(conn)
    house.passes(CHAIN_SECONDS + 1)
    assert house.comes()[1] == Return(SHORTEST_LEASH_SECONDS)


def test_returns_with_pauses_between_are_no_loop(house: House) -> None:
    """Protects a person who is back right after a stop, although their computer has woken it in vain before."""
    house.asleep()
    for _ in range(MAX_RETURNS):
        house.passes(CHAIN_SECONDS + 1)
        conn, received = house.comes()
        assert received is not None
        assert not received.asleep
        house.passes(received.leash)
        house.stops(conn)
    house.passes(SOON)
    conn, received = house.comes()
    assert received == Return(REFUSED_SECONDS, ASLEEP)
    house.stops(conn)
    house.passes(SOON)
    assert house.comes()[1] == Return(SHORTEST_LEASH_SECONDS)


def test_an_attempt_that_breaks_the_pace_of_a_loop_is_let_in(house: House) -> None:
    """Protects a person whose window goes on connecting: what they do in between is a loop's no more."""
    house.asleep()
    for _ in range(MAX_RETURNS):
        for _ in range(2):
            house.passes(SOON)
            house.stops(house.comes()[0])
    for pause in (SOON, SOON, 2 * SOON, 30, 31, 29, 30):
        house.passes(pause)
        conn, received = house.comes()
        assert received == Return(REFUSED_SECONDS, ASLEEP_IN_LOOP)
        house.stops(conn)
    house.passes(11)
    assert house.comes()[1] == Return(SHORTEST_LEASH_SECONDS)


def test_use_ends_the_probation_of_all_its_connections(house: House) -> None:
    """Protects a person who is there: one sign is enough, also for connections that come later."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    first, second = house.comes()[0], house.comes()[0]
    house.happens(ClientUsed(conn=first, user="amos"))
    assert not house.probation.on
    assert house.comes()[1] is None
    house.stops(first, second)
    house.passes(SOON)
    assert house.comes()[1] == Return(REFUSED_SECONDS, ASLEEP), "they were unused again at this stop"


def test_a_command_that_ends_is_use(house: House) -> None:
    """Protects people who work by commands: `ssh host make`, git and rsync are refused once at most."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    conn, _ = house.comes()
    house.runs(conn)
    house.goes(conn)
    house.stops()
    house.passes(SOON)
    assert house.comes()[1] is None


def test_the_goodbye_of_a_stop_is_no_end_of_a_command(house: House) -> None:
    """Protects the bill: a window whose set-up command has ended, and which we disconnect, does not count as used."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    conn, _ = house.comes()
    house.runs(conn)
    house.stops(conn)
    house.passes(SOON)
    received = house.comes()[1]
    assert received is not None
    assert received.asleep == ASLEEP


@pytest.mark.parametrize("how", ["lost", "running", "killed", "nothing"])
def test_a_window_that_waits_is_none(house: House, how: str) -> None:
    """Protects the bill: an editor keeps its connection, or what runs on it, until it is cut off."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    conn, _ = house.comes()
    if how != "nothing":
        house.runs(conn, None if how == "killed" else 0)
    if how == "running":
        house.begins(conn)
    house.goes(conn, goodbye=how != "lost")
    house.stops()
    house.passes(SOON)
    assert house.comes()[1] == Return(REFUSED_SECONDS, ASLEEP)


def test_only_what_was_connected_at_the_stop_is_on_probation(house: House) -> None:
    """Protects everybody else: other keys, and clients that had said goodbye before the stop."""
    conn, _ = house.comes()
    house.goes(conn)
    other, _ = house.comes("y")
    house.stops(other)
    assert house.comes()[1] is None
    assert house.comes("y")[1] is not None


def test_a_client_lost_while_unused_is_on_probation_and_never_refused(house: House) -> None:
    """Protects the bill from a window whose Wi-Fi drops at night; the machine is awake, so no refusal is needed."""
    conn, _ = house.comes()
    house.happens(ClientQuiet(conn=conn, user="amos", seconds=1))
    house.goes(conn, goodbye=False)
    house.passes(SOON)
    assert house.comes()[1] == Return(LEASH_SECONDS)


def test_a_quiet_connection_of_a_client_in_use_is_not(house: House) -> None:
    """Protects a person at a terminal whose editor is unused: its lost line and a deploy are no cause for probation."""
    editor, _ = house.comes()
    terminal, _ = house.comes()
    house.happens(ClientQuiet(conn=editor, user="amos", seconds=1))
    house.goes(editor, goodbye=False)
    editor, received = house.comes()
    assert received is None
    house.happens(ClientQuiet(conn=editor, user="amos", seconds=1))
    house.stops(editor, terminal, reason="signal")
    assert house.comes()[1] is None


def test_a_client_lost_while_used_is_not(house: House) -> None:
    """Protects a person whose line broke: their client is a full reason when it comes back."""
    conn, _ = house.comes()
    house.goes(conn, goodbye=False)
    assert house.comes()[1] is None


def test_a_leash_is_no_longer_than_a_client_may_be_unused(house: House) -> None:
    """Protects the bill under a short `client_idle`: a client on probation has no more time than any other."""
    house.asleep()
    house.passes(CHAIN_SECONDS + 1)
    house.longest = 7.0
    assert house.comes()[1] == Return(7.0)


def test_nobody_is_refused_while_the_machine_is_needed(house: House) -> None:
    """Protects a person from a refusal that would save nothing."""
    house.asleep()
    house.passes(SOON)
    assert house.comes(in_use=True)[1] == Return(LEASH_SECONDS)


def test_a_deploy_refuses_nobody(house: House) -> None:
    """Protects people after a stop by a signal: clients in use are like new, unused ones are let in on probation."""
    used, _ = house.comes()
    unused, _ = house.comes("y")
    house.happens(ClientQuiet(conn=unused, user="amos", seconds=1))
    house.stops(used, reason="signal")
    assert house.comes()[1] is None
    assert house.comes("y")[1] == Return(LEASH_SECONDS)


def test_a_stop_that_was_called_off_refuses_nobody(house: House) -> None:
    """Protects people who come in while a suspend is called off: the machine is awake."""
    conn, _ = house.comes()
    house.happens(ServerStopping(reason="idle"))
    house.goes(conn, goodbye=False)
    house.happens(StopStep(step="suspend", outcome="needed", result="called_off", seconds=0))
    assert house.comes()[1] == Return(LEASH_SECONDS)


@pytest.mark.parametrize("seconds", [ABSENT_SECONDS + 1, -1])
def test_a_client_is_forgotten(house: House, seconds: float) -> None:
    """Protects a person who was away for long, or whose machine's clock was wrong, from old suspicions."""
    house.asleep()
    house.passes(seconds)
    assert house.comes()[1] is None


def test_the_memory_is_bounded(house: House) -> None:
    """Protects the disk from an account with thousands of keys: the latest are kept."""
    conns = [house.comes(str(number))[0] for number in range(MAX_ABSENT + 9)]
    house.stops(*conns)
    assert len(house.probation.absent) == MAX_ABSENT
    assert house.comes(str(MAX_ABSENT + 8))[1] is not None
    assert house.comes("0")[1] is None
