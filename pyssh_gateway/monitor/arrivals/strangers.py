"""Connections on which nobody has authenticated yet: their places, their time limits, and penalties for their conduct.

`core.strangers.admission`, `core.strangers.penalties`, `core.strangers.familiar` and `core.strangers.tally` make the
decisions. This module has the clocks and the random numbers, and carries the decisions out. It knows nothing of SSH: it
learns of requests to log in from the bus.
"""

import asyncio
import resource
import secrets
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from pyssh_gateway.config.types import Limits
from pyssh_gateway.core.launch import Endpoints
from pyssh_gateway.core.strangers.admission import NEEDED, Admission, Moves, Places
from pyssh_gateway.core.strangers.familiar import MAX_STATE_BYTES, Familiar
from pyssh_gateway.core.strangers.penalties import (
    HASTE_LEAST,
    HASTE_MOST,
    SLOW_SECONDS,
    Conduct,
    Offence,
    Penalties,
    Rules,
    offence_of,
)
from pyssh_gateway.core.strangers.tally import RefusalTally
from pyssh_gateway.events import AnyEvent, AuthAttempt, ConnectionRefused, InternalError, Record
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("familiar.json")
"""In the working directory, which is the monitor's own."""

REFUSAL = b"Not allowed at this time\r\n"
"""What a refused client is told (drop_connection in sshd.c). RFC 4253 section 4.2 allows such a line before the
identification, and clients show it."""

STRANGERS_SHARE = 4
"""One in this many descriptors may be a stranger's connection that is served, and one a stranger's that waits, whatever
the configuration allows. At this limit connections give way to each other; at the reserve (`listener`) they do not."""

GRACE_OVER = "Login timeout expired"


class Arrival(msgspec.Struct, frozen=True):
    """A connection with its addresses, and the proxy that brought it: its address, and its name for the connection."""

    conn: str
    accepted: socket.socket
    endpoints: Endpoints
    proxy: str = ""
    proxy_id: str = ""


class Guest(Protocol):
    """A connection that is served, as far as it matters here."""

    def cut_off(self, reason: str) -> None:
        """End it at once."""


class _Stranger:
    """A connection that has arrived, and what it has done so far. `guest` is None while it waits, or is set up."""

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.guest: Guest | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.served_at = 0.0
        self.accepted = False
        self.conduct = Conduct()

    def has_done(self, **facts: bool) -> None:
        self.conduct = msgspec.structs.replace(self.conduct, **facts)


class Strangers:
    """All strangers' connections. `serve` begins to serve one, and `heard` is told of the first bytes of each.

    `clock` is Unix time.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        loop: asyncio.AbstractEventLoop,
        publish: Callable[[AnyEvent], None],
        serve: Callable[[Arrival], None],
        heard: Callable[[str], None] = lambda _conn: None,
        clock: Callable[[], float] = time.time,
        state: Path = STATE_FILE,
    ) -> None:
        self._loop = loop
        self._publish = publish
        self._serve = serve
        self._heard = heard
        self._clock = clock
        self._state = state
        self._limits = limits
        self._admission = Admission(_places(limits))
        self._penalties = Penalties(_rules(limits))
        self._haste = Penalties(_rules_of_haste(limits))
        self._familiar = Familiar(read_state(state, MAX_STATE_BYTES))
        self._tally = RefusalTally()
        self._strangers: dict[str, _Stranger] = {}
        self._look: asyncio.TimerHandle | None = None
        self._count: asyncio.TimerHandle | None = None
        self._is_open = True

    def reconfigure(self, limits: Limits) -> None:
        """Apply other limits from now on; connections that are there keep their places."""
        self._limits = limits
        self._admission.resize(_places(limits))
        self._penalties.reconfigure(_rules(limits))
        self._haste.reconfigure(_rules_of_haste(limits))

    @property
    def total(self) -> int:
        """How many connections there are on which nobody has authenticated yet, those that wait among them."""
        return self._admission.total

    # -- coming -------------------------------------------------------------------------------------------------

    def arrive(self, arrival: Arrival) -> None:
        """Serve a new connection, have it wait, or refuse it; or have another one give way to it."""
        peer, now = arrival.endpoints.peer, self._loop.time()
        penalty = self._penalties.check(peer, now)
        known = self._familiar.knows(peer, self._clock())
        if penalty is not None and not known:
            self.refuse(arrival, penalty)
            return
        self._strangers[arrival.conn] = _Stranger(arrival)
        slowed = penalty is not None or self._haste.check(peer, now) is not None
        moves = self._admission.arrive(
            arrival.conn,
            peer,
            now,
            roll=secrets.randbelow(100),
            spoken=self._has_spoken,
            known=known and not slowed,
            delay=SLOW_SECONDS if slowed else 0.0,
        )
        self._make(moves)

    def refuse(self, arrival: Arrival, reason: str, words: bytes = REFUSAL) -> None:
        """Send `words` to a connection that is not served, close it, and count that for the log."""
        with suppress(OSError):  # the client is gone; otherwise the empty buffer takes the words
            arrival.accepted.send(words, socket.MSG_DONTWAIT)
        arrival.accepted.close()
        endpoints, now = arrival.endpoints, self._loop.time()
        event = ConnectionRefused(peer=endpoints.peer, peer_port=endpoints.peer_port, reason=reason)
        told = self._tally.refused(event, now) if self._is_open else event
        if told is not None:
            self._publish(told)
        if self._count is None and (due := self._tally.next_due()) is not None:
            self._count = self._loop.call_at(due, self._tell)

    # -- being served -------------------------------------------------------------------------------------------

    def served(self, conn: str, guest: Guest) -> None:
        """The connection has been set up as `guest`; its grace time begins."""
        stranger = self._strangers.get(conn)
        if stranger is None:  # it had to give way meanwhile, or it is gone already
            guest.cut_off(NEEDED)
            return
        stranger.guest, stranger.served_at = guest, self._loop.time()
        self._set_grace(stranger, self._limits.login_grace)

    def spoke(self, conn: str) -> None:
        """The first bytes have come."""
        if conn in self._strangers:
            self._heard(conn)
            self._strangers[conn].has_done(spoke=True)
            self._admission.spoke(conn)

    def observe(self, record: Record) -> None:
        """An event: it may be about a stranger."""
        match record.event:
            case AuthAttempt(conn=conn, result=result, method=method) if conn in self._strangers and method != "none":
                stranger = self._strangers[conn]
                stranger.has_done(attempted=True)
                stranger.accepted = result == "accepted"
                if result == "offered":
                    self._admission.proving(conn)
                    self._set_grace(stranger, max(self._limits.login_grace, self._limits.signature_grace))
            case InternalError(conn=conn) if conn in self._strangers:
                self._strangers[conn].has_done(crashed=True)
            case _:
                pass

    def released(self, conn: str) -> None:
        """A connection that was served has authenticated or is gone. One that gave way is not known here any more."""
        stranger = self._strangers.pop(conn, None)
        if stranger is None:
            return
        if stranger.timer is not None:
            stranger.timer.cancel()
        peer, now = stranger.arrival.endpoints.peer, self._loop.time()
        if stranger.accepted:
            self._penalties.forgive(peer)
            if self._familiar.logged_in(peer, self._clock()):
                with suppress(OSError):  # a full disk: it is remembered for as long as this process lives
                    write_state(self._state, self._familiar.encode())
        elif self._is_open:
            offence = offence_of(stranger.conduct)
            (self._haste if offence is Offence.SILENCE else self._penalties).penalise(peer, offence, now)
        self._admission.leave(conn)
        self._make(self._admission.look(now, self._has_spoken))

    def gave_way(self, conn: str) -> None:
        """A connection that is served is ended to make room for another one. That is no offence of its client."""
        stranger = self._strangers.pop(conn, None)
        if stranger is not None:
            if stranger.timer is not None:
                stranger.timer.cancel()
            self._admission.leave(conn)
            self._loop.call_soon(self._look_again)

    # -- the end ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Connections are let in again."""
        self._is_open = True

    def stop(self) -> None:
        """Let nobody in any more: refuse the connections that wait, and log the refusals that have been counted."""
        for conn in self._admission.waiting:
            self._admission.leave(conn)
            self._give_up(conn, "the server is stopping")
        self._is_open = False
        for event in self._tally.rest(self._loop.time()):
            self._publish(event)

    # -- doing --------------------------------------------------------------------------------------------------

    def _make(self, moves: Moves) -> None:
        for conn in moves.cut_off:
            stranger = self._strangers.pop(conn)
            if stranger.timer is not None:
                stranger.timer.cancel()
            if stranger.guest is not None:
                stranger.guest.cut_off(NEEDED)
        for conn, reason in moves.refuse:
            self._give_up(conn, reason)
        now = self._loop.time()
        gone = [conn for conn in moves.serve if self._has_gone(conn)]
        for conn in gone:
            self._admission.leave(conn)
            self._give_up(conn, "it has gone before its turn")
        for conn in moves.serve:
            if conn not in gone:
                self._serve(self._strangers[conn].arrival)
        if self._look is not None:
            self._look.cancel()
        at = now if gone else self._admission.next_look(now)
        self._look = None if at is None else self._loop.call_at(at, self._look_again)

    def _look_again(self) -> None:
        self._make(self._admission.look(self._loop.time(), self._has_spoken))

    def _give_up(self, conn: str, reason: str) -> None:
        self.refuse(self._strangers.pop(conn).arrival, reason)

    def _has_spoken(self, conn: str) -> bool:
        """Whether a connection that waits has sent something, which stays in its socket."""
        return bool(self._peek(conn))

    def _has_gone(self, conn: str) -> bool:
        """Whether a connection was closed without having sent anything."""
        return self._peek(conn) == b""

    def _peek(self, conn: str) -> bytes | None:
        """The first byte of a connection, left in its socket; empty: the connection is closed; None: nothing so far."""
        try:
            return self._strangers[conn].arrival.accepted.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _set_grace(self, stranger: _Stranger, seconds: float) -> None:
        if stranger.timer is not None:
            stranger.timer.cancel()
        stranger.timer = self._loop.call_at(stranger.served_at + seconds, self._grace_over, stranger)

    def _grace_over(self, stranger: _Stranger) -> None:
        stranger.has_done(grace_exceeded=True)
        if stranger.guest is not None:
            stranger.guest.cut_off(GRACE_OVER)

    def _tell(self) -> None:
        """Log what has been counted in the periods that are over."""
        for event in self._tally.due(self._loop.time()):
            self._publish(event)
        due = self._tally.next_due()
        self._count = None if due is None else self._loop.call_at(due, self._tell)


def _places(limits: Limits) -> Places:
    return Places(
        full=min(limits.unauthenticated, descriptor_limit() // STRANGERS_SHARE),
        per_source=limits.unauthenticated_per_source,
        start=limits.early_drop_start,
        rate=limits.early_drop_rate,
    )


def _rules(limits: Limits) -> Rules:
    return Rules(limits.penalties, limits.penalty_min, limits.penalty_max, limits.penalty_exempt)


def _rules_of_haste(limits: Limits) -> Rules:
    return Rules(limits.penalties, HASTE_LEAST, HASTE_MOST, limits.penalty_exempt)


def descriptor_limit() -> int:
    """How many descriptors this process may have."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
