"""arrivals.strangers: the conduct for which a source gets a penalty, and connections that end while they wait."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.strangers.admission import NEEDED
from pyssh_gateway.events import AnyEvent, AuthAttempt, ConnectionRefused, InternalError, Record
from pyssh_gateway.monitor.arrivals.strangers import Arrival, Strangers

PEER = "203.0.113.9"


class Guest:
    """A connection with a process, and the reason why it was cut off."""

    def __init__(self) -> None:
        self.reason = ""

    def cut_off(self, reason: str) -> None:
        """Record the reason."""
        self.reason = reason


class House:
    """Strangers without a network: connections are ends of socket pairs."""

    def __init__(self, state: Path) -> None:
        self.events: list[AnyEvent] = []
        self.served: list[str] = []
        self.clients: dict[str, socket.socket] = {}
        self._ends: list[socket.socket] = []
        self.strangers = Strangers(
            Limits(),
            loop=asyncio.get_running_loop(),
            publish=self.events.append,
            serve=lambda arrival: self.served.append(arrival.conn),
            state=state,
        )

    def come(self, conn: str, peer: str = PEER) -> None:
        """Let a connection arrive."""
        ours, theirs = socket.socketpair()
        self._ends += [ours, theirs]
        self.clients[conn] = theirs
        self.strangers.arrive(Arrival(conn, ours, Endpoints(peer, 1, "192.0.2.1", 22)))

    def happens(self, *events: AnyEvent) -> None:
        """Report events, as the bus does."""
        for event in events:
            self.strangers.observe(Record(1, 0.0, event))

    def visit(self, conn: str, *events: AnyEvent, spoke: bool = True) -> None:
        """Serve a connection on which these events happen, and end it."""
        self.come(conn)
        self.strangers.served(conn, Guest())
        if spoke:
            self.strangers.spoke(conn)
        self.happens(*events)
        self.strangers.released(conn)

    @property
    def refusals(self) -> list[str]:
        """The reasons of refused connections."""
        return [event.reason for event in self.events if isinstance(event, ConnectionRefused)]

    def close(self) -> None:
        """Close all sockets."""
        self.strangers.stop()
        for end in self._ends:
            end.close()


Play = Callable[[Callable[[House], None]], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs a story with a house."""

    def run(story: Callable[[House], None]) -> None:
        async def whole() -> None:
            with closing(House(tmp_path / "familiar.json")) as house:
                story(house)

        asyncio.run(whole())

    return run


def attempt(conn: str, *, method: str = "publickey", accepted: bool = False) -> AuthAttempt:
    """A login request."""
    return AuthAttempt(
        conn=conn, peer=PEER, user="root", method=method, result="accepted" if accepted else "denied", reason="no"
    )


def test_an_error_of_ours_is_penalised_at_once(play: Play) -> None:
    """A client that causes an internal error of the server is kept out for a while, as with sshd."""

    def story(house: House) -> None:
        house.visit("a", InternalError(where="connection", error="", conn="a"))
        house.come("b")
        assert house.refusals == ["penalty: caused an error of the server"]

    play(story)


def test_asking_for_the_methods_is_no_attempt(play: Play) -> None:
    """A connection with only `none` costs a penalty of 1 s, not 5 s; requests of unknown connections cost nothing."""

    def story(house: House) -> None:
        for number in range(15):
            house.visit(str(number), attempt(str(number), method="none"), attempt("nobody's"))
        assert not house.refusals
        for number in range(15, 20):
            house.visit(str(number), attempt(str(number), method="none"))
        house.come("b")
        assert set(house.refusals) == {"penalty: connections without attempting authentication"}

    play(story)


def test_a_key_that_is_accepted_in_the_end_is_a_login(play: Play) -> None:
    """A client that tries five wrong keys before the right one gets no penalty."""

    def story(house: House) -> None:
        for number in range(20):
            house.visit(str(number), *[attempt(str(number))] * 5, attempt(str(number), accepted=True))
        assert len(house.served) == 20

    play(story)


def test_a_stop_is_nobodys_fault(play: Play) -> None:
    """A connection that ends because the server stops gets no penalty."""

    def story(house: House) -> None:
        for number in range(10):
            house.come(str(number))
            house.strangers.spoke(str(number))
            house.happens(attempt(str(number)))
        house.strangers.stop()
        for number in range(10):
            house.strangers.released(str(number))
        house.strangers.open()
        house.come("b")
        assert not house.refusals

    play(story)


def test_one_that_gives_way_while_it_is_set_up_is_cut_off(play: Play) -> None:
    """A connection whose slot was given away before it was set up is cut off as soon as it is set up."""

    def story(house: House) -> None:
        house.come("a")
        house.come("b")
        house.strangers.released("a")  # as the listener does when the set-up has failed
        guest = Guest()
        house.strangers.served("a", guest)
        assert guest.reason == NEEDED
        house.strangers.served("b", other := Guest())
        assert not other.reason

    play(story)


def test_what_waits_is_told_of_a_stop_and_counted(play: Play) -> None:
    """At a stop waiting clients are told, and the log has their number."""

    def story(house: House) -> None:
        for number in range(30):
            house.come(str(number))
        assert len(house.served) == 10
        house.strangers.stop()
        refused = [event for event in house.events if isinstance(event, ConnectionRefused)]
        assert sum(event.count for event in refused) == 20
        assert {event.reason for event in refused} == {"the server is stopping"}
        assert house.clients["29"].recv(100) == b"Not allowed at this time\r\n"
        assert house.clients["29"].recv(100) == b""
        assert house.strangers.total == 10

    play(story)


def test_what_has_gone_while_it_waited_is_not_served(play: Play) -> None:
    """A client that left while it waited is not served; the next one that is still there gets its turn."""

    def story(house: House) -> None:
        for number in range(13):
            house.come(str(number))
        house.clients["10"].close()
        house.clients["11"].sendall(b"SSH-2.0-x\r\n")
        house.clients["11"].close()
        house.strangers.released("0")
        assert house.served[-1] == "11", "it has said something, which may be worth reading"
        house.strangers.released("1")
        assert house.refusals == ["it has gone before its turn"]
        assert house.served[-1] == "11"

    play(story)
