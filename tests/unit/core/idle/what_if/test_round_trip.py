"""core.idle.what_if: the log of a simulated machine, replayed under its own settings, gives its time awake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.machine import Hardware, Login, Machine
from pyssh_gateway.core.idle.replay.recorded import Recorded, Visit
from pyssh_gateway.core.idle.replay.server import IdleServer, Rules
from pyssh_gateway.core.idle.replay.traffic import Traffic, Use
from pyssh_gateway.core.idle.tracker import IdlePolicy
from pyssh_gateway.core.idle.what_if.reading import read
from pyssh_gateway.core.idle.what_if.replaying import recorded, replayed
from pyssh_gateway.events import AnyEvent, ConnectionAuthenticated, ConnectionClosed, IdleTick
from tests.support.written_log import MONDAY, WrittenLog

STEP = 600
"""Everything begins and ends at a multiple of ten minutes, and stops come at other times: so no rounding decides."""

DAY = 86400

RULES = (
    Rules(IdlePolicy(timeout=100.0)),
    Rules(IdlePolicy(timeout=100.0), client_idle=420.0),
    Rules(IdlePolicy(timeout=100.0, lost_grace=300.0), client_idle=420.0),
    Rules(IdlePolicy(timeout=None)),
)


class LoggedServer(IdleServer):
    """Our rules, and the log that our server would have written."""

    def __init__(self, rules: Rules, machine: Machine, log: WrittenLog) -> None:
        super().__init__(rules, machine)
        self._logged = machine
        self._log = log
        self._traffic: dict[str, tuple[float, str, Traffic]] = {}

    def begin(self) -> None:
        """It starts."""
        self._log.start(self._logged.clock.now - MONDAY)
        super().begin()

    def observe(self, event: AnyEvent) -> None:
        """Write the event, and when a connection has ended, its use."""
        now = self._logged.clock.now
        self._log.write(now - MONDAY, event)
        if isinstance(event, ConnectionAuthenticated):
            self._log.terminal(now - MONDAY, event.conn)
            self._traffic[event.conn] = now, event.identity.person, self._logged.traffic[event.conn]
        if isinstance(event, ConnectionClosed) and event.conn in self._traffic:
            opened, person, traffic = self._traffic.pop(event.conn)
            uses = [(round(use.begin - opened), round(min(use.end, now) - opened)) for use in traffic.uses]
            self._log.use(now - MONDAY, event.conn, (0, 0), *uses, person=person.removeprefix("file:"))
        super().observe(event)


visits = st.lists(
    st.tuples(st.integers(0, 100), st.integers(1, 12), st.lists(st.integers(0, 11), max_size=3, unique=True)),
    max_size=6,
)


@given(visits, st.sampled_from(RULES))
def test_the_log_of_a_machine_gives_its_time_awake(coming: list[tuple[int, int, list[int]]], rules: Rules) -> None:
    """Protects the answer as a whole: what is written, read and replayed agrees with what happened.

    Each visit is of another person, and has some spans of use of ten minutes.
    """
    clock, log = Clock(MONDAY), WrittenLog()
    machine = Machine(clock, rules, Hardware(start=1.0, stop=1.0), lambda machine: LoggedServer(rules, machine, log))
    for number, (begin, length, used) in enumerate(coming):
        start, end = MONDAY + begin * STEP, MONDAY + (begin + length) * STEP
        uses = tuple(
            Use(start + place * STEP, start + (place + 1) * STEP, "typed") for place in sorted(used) if place < length
        )
        login = Login(f"file:p{number}", f"SHA256:p{number}", wants="terminal")
        Recorded(machine, Visit(login, "203.0.113.9", start, end, uses))
    clock.run(MONDAY + 2 * DAY)
    machine.finish()
    if machine.state == "awake":
        log.write(2 * DAY, IdleTick(idle=5, remaining=0, message=""))
    history = read(log.lines, since=0.0, now=MONDAY + 3 * DAY)
    assert history.damaged == 0
    again = replayed(history, rules, suspends=False)
    slack = 20.0 * (1 + len(machine.outcome.stops))
    if log.lines:
        assert recorded(history).awake == pytest.approx(machine.outcome.seconds, abs=slack)
        assert again.awake == pytest.approx(machine.outcome.seconds, abs=slack)
        assert again.starts == machine.outcome.starts
