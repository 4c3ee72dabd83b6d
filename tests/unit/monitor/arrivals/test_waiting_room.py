"""monitor.arrivals.waiting_room: which connections get a process when there are too few processes."""

from pyssh_gateway.core.strangers.admission import NEEDED
from pyssh_gateway.monitor.arrivals.waiting_room import WaitingRoom


class Guest:
    """A connection, and what happened to it."""

    def __init__(self, room: WaitingRoom, conn: str, peer: str) -> None:
        self.conn = conn
        self.peer = peer
        self.fate = ""
        room.enter(self)

    def serve(self) -> None:
        """Record that it has a process."""
        self.fate = "served"

    def cut_off(self, reason: str) -> None:
        """Record why it was cut off."""
        self.fate = reason


def test_a_crowd_of_one_source_gives_way() -> None:
    """Protects a client from many connections of another source: it is served at once, and nobody gets a penalty."""
    spared: list[str] = []
    room = WaitingRoom(spared.append, places=2)
    crowd = [Guest(room, f"crowd {number}", "203.0.113.1") for number in range(4)]
    assert [guest.fate for guest in crowd] == ["served", "served", "", ""]
    alone = Guest(room, "alone", "198.51.100.1")
    assert alone.fate == "served"
    assert [guest.fate for guest in crowd] == [NEEDED, "served", "", ""]
    assert spared == ["crowd 0"]


def test_neighbours_are_one_source() -> None:
    """Protects the same from a source that uses many addresses of an IPv6 /64."""
    room = WaitingRoom(lambda _conn: None, places=2)
    crowd = [Guest(room, f"crowd {number}", f"2001:db8::{number}") for number in range(1, 3)]
    assert Guest(room, "alone", "2001:db8:1::1").fate == "served"
    assert crowd[0].fate == NEEDED


def test_one_that_logs_in_does_not_give_way() -> None:
    """Protects a client with a verified key from losing its connection to another client."""
    room = WaitingRoom(lambda _conn: None, places=2)
    first, second = (Guest(room, name, "203.0.113.1") for name in ("first", "second"))
    room.proved("first")
    room.proved("second")
    alone = Guest(room, "alone", "198.51.100.1")
    assert [guest.fate for guest in (first, second, alone)] == ["served", "served", ""]
    room.leave("second")
    assert alone.fate == "served"
    room.leave("nobody knows it")
