"""core.idle.probation with the tracker, the wake and the usage: no sequence of events breaks the promises to a person.

A machine that stops when the tracker says so; a client of one account and key, which comes back by itself or with its
person; and a colleague with another key. The model knows only what can be seen from outside.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyssh_gateway.core.idle.probation import (
    CHAIN_SECONDS,
    LEASH_SECONDS,
    MAX_RETURNS,
    PACE,
    PROMPT_SECONDS,
    REFUSED_SECONDS,
    SHORTEST_LEASH_SECONDS,
    SHORTEST_PACE_SECONDS,
    Probation,
    Return,
)
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker, Stop
from pyssh_gateway.core.idle.usage import PROOF_WINDOWS, SETTLING_SECONDS, TRICKLE_BYTES, Counters, Usage
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
    ServerStopping,
    StopStep,
)

NOW = 1_795_000_000.0
WHO, OTHER = (Identity("github:example", 583231, f"SHA256:{key}") for key in "xy")
CLIENT_IDLE = 900.0
POLICY = IdlePolicy(timeout=60.0, boot_grace=60.0, lost_grace=0.0, wake_grace=5.0)
WINDOW = 5.0
"""Seconds between two looks at the use of clients on probation."""

EDITOR = st.sampled_from([0.0, 1.0, 5.0, 10.0, 30.0])
"""Seconds after which an editor tries again (VS Code's `remoteAgentConnection.ts`), or a person at once."""

BREAK = st.sampled_from([CHAIN_SECONDS + 1, 1000.0, 3600.0, 40_000.0])
"""Seconds that somebody is away, or a computer asleep."""


class Machine(RuleBasedStateMachine):
    """The machine with everything that decides about it, in the order in which the monitor passes events on."""

    @initialize()
    def begin(self) -> None:
        """The first start: the client's person has woken it."""
        self.now = NOW
        self.probation = Probation()
        self.counters: dict[str, Counters] = {}
        self.on: dict[str, Identity] = {}
        self.names = 0
        self.is_up = False
        # What the person can know: the last sign of their client, and what has happened since a sign of themselves.
        self.last_sign = self.now
        self.refused_before = False
        self.in_vain = 0
        self.is_let_in = False
        self.leash = LEASH_SECONDS
        self.proven_at: float | None = None
        self.proven_on = ""
        self.come(WHO)

    # -- the machine --------------------------------------------------------------------------------------------

    @property
    def clocks(self) -> Clocks:
        """Both clocks."""
        return Clocks(self.now - NOW, self.now)

    def happens(self, event: AnyEvent) -> None:
        """An event, now."""
        self.wake.observe(event, self.clocks)
        self.probation.observe(event, self.now)
        self.tracker.observe(event, self.clocks.steady)

    def start(self) -> None:
        """Start it, if it is stopped."""
        if not self.is_up:
            self.is_up = True
            self.wake = Wake(self.now, self.clocks)
            self.tracker = IdleTracker(POLICY, self.wake, self.clocks.steady)
            self.usage = Usage(CLIENT_IDLE)
            self.probation = Probation(self.probation.absent)

    def look(self) -> None:
        """Look at the use of clients."""
        quiet, used = self.usage.look(self.counters, self.clocks.steady, on_probation=self.probation.on)
        for conn, seconds in quiet:
            self.happens(ClientQuiet(conn=conn, user="amos", seconds=seconds))
        for conn in used:
            self.happens(ClientUsed(conn=conn, user="amos"))

    def pass_time(self, seconds: float, busy: str = "") -> None:
        """Time passes. The client of the connection `busy` works all the while. The machine may stop."""
        end = self.now + seconds
        window = WINDOW if self.probation.on or busy else self.usage.window
        while self.now < end and self.is_up:
            self.now = min(self.now + window, end)
            if busy:
                self.does(busy, worked=self.counters[busy].worked + TRICKLE_BYTES + 1)
            self.look()
            if isinstance(self.tracker.poll(self.clocks.steady), Stop):
                self.stop("idle")
        self.now = end

    def stop(self, reason: str, *, is_called_off: bool = False) -> None:
        """It stops, or it is found at the last moment that it must not. In both cases its clients are disconnected."""
        self.happens(ServerStopping(reason=reason))
        if reason == "idle" and self.is_let_in:
            self.in_vain += 1
            self.is_let_in = False
        if reason == "idle" and WHO in self.on.values():
            self.proven_at = None
        for conn in tuple(self.on):
            self.leave(conn, goodbye=False)
        if is_called_off:
            self.happens(StopStep(step="suspend", outcome="needed", result="called_off", seconds=0))
        self.is_up = is_called_off

    # -- clients ------------------------------------------------------------------------------------------------

    def come(self, identity: Identity) -> tuple[str, Return | None]:
        """A client logs in: its connection, and how it is received."""
        self.start()
        self.names += 1
        conn = f"c{self.names}"
        self.happens(ConnectionOpened(conn=conn, peer="192.0.2.1", peer_port=1))
        received = self.probation.receive(
            "amos", identity, now=self.now, longest=CLIENT_IDLE, in_use=self.tracker.in_use
        )
        self.on[conn], self.counters[conn] = identity, Counters()
        self.happens(
            ConnectionAuthenticated(
                conn=conn,
                peer="192.0.2.1",
                user="amos",
                fingerprint=identity.fingerprint,
                source="",
                client="",
                cipher="",
                seconds=0,
                identity=identity,
                probation=None if received is None else received.leash,
            )
        )
        self.look()
        return conn, received

    def leave(self, conn: str, *, goodbye: bool) -> None:
        """A connection ends."""
        identity = self.on.pop(conn)
        del self.counters[conn]
        self.happens(
            ConnectionClosed(
                conn=conn,
                peer="192.0.2.1",
                user="amos",
                reason="",
                seconds=0,
                bytes_in=0,
                bytes_out=0,
                goodbye=goodbye,
                identity=identity,
            )
        )
        if identity == WHO:
            self.last_sign = self.now
            if not goodbye and conn != self.proven_on and self.proven_on not in self.on:
                self.proven_at = None  # it may have been unused, and nothing shows any more that its person was there

    def does(self, conn: str, **counted: int) -> None:
        """The client has done something."""
        before = self.counters[conn]
        self.counters[conn] = Counters(
            typed=counted.get("typed", before.typed),
            worked=counted.get("worked", before.worked),
            asked=counted.get("asked", before.asked),
            terminals=counted.get("terminals", before.terminals),
        )

    def attempt(self) -> tuple[str, Return | None]:
        """The client comes; everything is checked that its person was promised about that."""
        was_needed = self.is_up and self.tracker.in_use
        has_paused = self.now - self.last_sign > CHAIN_SECONDS
        is_prompt = PROMPT_SECONDS <= self.now - self.last_sign < PACE * SHORTEST_PACE_SECONDS
        if has_paused:
            self.in_vain = 0
        conn, received = self.come(WHO)
        self.last_sign = self.now
        if received is None:
            self.forget()
        elif received.asleep:
            assert not was_needed, "a refusal saves nothing while the machine is needed"
            assert not has_paused, "after a pause it may be a person"
            assert not self.is_let_in, "it was let in, and the machine has not stopped since"
            assert not self.refused_before or self.in_vain >= MAX_RETURNS, "locked out twice in a row"
            assert not self.refused_before or not is_prompt, "a person who tries again at once was locked out"
            assert received.leash == REFUSED_SECONDS
            self.refused_before = True
        else:
            is_recent = self.proven_at is not None and self.now - self.proven_at < CLIENT_IDLE
            assert not is_recent, "a person was just there, and the machine has not stopped under them since"
            assert SHORTEST_LEASH_SECONDS <= received.leash <= self.leash, "the leash never grows"
            self.leash, self.refused_before, self.is_let_in = received.leash, False, True
        return conn, received

    def forget(self) -> None:
        """The client counts like any other again."""
        self.refused_before = self.is_let_in = False
        self.in_vain, self.leash = 0, LEASH_SECONDS

    def prove(self, conn: str) -> None:
        """A person was there: at once a full reason."""
        assert conn in self.on, "the machine has stopped under a person"
        assert self.tracker.in_use
        assert self.tracker.stops_in(self.clocks.steady) is None
        assert self.wake.logged_in
        assert not {one for one in self.probation.on if self.on[one] == WHO}
        self.forget()
        self.proven_at, self.proven_on = self.now, conn

    # -- what happens -------------------------------------------------------------------------------------------

    @rule(pause=EDITOR)
    def editor_tries_again(self, pause: float) -> None:
        """An editor connects by itself, and keeps the connection."""
        self.pass_time(pause)
        self.attempt()

    @rule(pause=EDITOR, goodbye=st.booleans())
    def editor_gives_up(self, pause: float, *, goodbye: bool) -> None:
        """A client that connects by itself and goes again after a second."""
        self.pass_time(pause)
        conn, _ = self.attempt()
        self.pass_time(1.0)
        if conn in self.on:
            self.leave(conn, goodbye=goodbye)

    @rule()
    def editor_loops(self) -> None:
        """A window that is left open: it comes back after each stop, also after refusals, for a quarter of an hour."""
        end = self.now + CLIENT_IDLE
        while self.now < end:
            if WHO not in self.on.values():
                self.attempt()
            self.pass_time(30.0)

    @rule(pause=st.one_of(EDITOR, BREAK), how=st.sampled_from(["terminals", "typed", "asked"]))
    def person_comes_with_a_terminal(self, pause: float, how: str) -> None:
        """A person opens a terminal or transfers a file: it counts at once, also on a connection that was refused."""
        self.pass_time(pause)
        conn, _ = self.attempt()
        self.does(conn, **{how: 10_000})
        self.look()
        self.prove(conn)

    @rule(pause=st.one_of(EDITOR, BREAK))
    def person_comes_to_the_editor(self, pause: float) -> None:
        """A person who works in an editor, and tries again at once when they are refused."""
        self.pass_time(pause)
        conn, received = self.attempt()
        if received is not None and received.asleep:
            self.leave(conn, goodbye=True)
            self.pass_time(PROMPT_SECONDS)
            conn, received = self.attempt()
            assert received is None or not received.asleep, "locked out twice in a row"
        self.pass_time(SETTLING_SECONDS + (PROOF_WINDOWS + 1) * WINDOW - 1, busy=conn)
        self.prove(conn)

    @precondition(lambda self: self.on)
    @rule(data=st.data(), goodbye=st.booleans())
    def connection_ends(self, data: st.DataObject, *, goodbye: bool) -> None:
        """A connection ends, or is lost."""
        self.leave(data.draw(st.sampled_from(sorted(self.on))), goodbye=goodbye)

    @rule(seconds=st.one_of(EDITOR, BREAK, st.just(CLIENT_IDLE + 100)))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens."""
        self.pass_time(seconds)

    @rule()
    def colleague_comes(self) -> None:
        """A colleague logs in, who uses another key."""
        conn, _ = self.come(OTHER)
        self.does(conn, terminals=1)
        self.look()
        assert self.tracker.in_use

    @precondition(lambda self: self.is_up)
    @rule()
    def deploy(self) -> None:
        """The machine stops by a signal, whoever is on."""
        self.stop("signal")

    @precondition(lambda self: self.is_up and not self.tracker.in_use)
    @rule()
    def stop_is_called_off(self) -> None:
        """A suspend is called off after the clients were disconnected."""
        self.stop("idle", is_called_off=True)

    # -- always -------------------------------------------------------------------------------------------------

    @invariant()
    def a_client_on_probation_costs_no_more_than_its_leash(self) -> None:
        """Whatever is on probation holds the machine for its leash, and then it stops, if nobody else needs it."""
        if not getattr(self, "is_up", False) or self.tracker.in_use:
            return
        left = self.tracker.stops_in(self.clocks.steady)
        assert left is not None
        assert left <= LEASH_SECONDS

    @invariant()
    def everything_is_bounded(self) -> None:
        """One client is remembered once."""
        if hasattr(self, "probation"):
            assert len(self.probation.absent) <= 2


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=30)
