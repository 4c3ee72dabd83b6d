"""The engine of replays: it leaves out the looks that can't change anything, and nothing else."""

import math
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyssh_gateway.config.types import Idle
from pyssh_gateway.core.idle.background import Hold, Over, Vigil, interval, work_between
from pyssh_gateway.core.idle.replay.clock import Clock
from pyssh_gateway.core.idle.replay.job import Job, Phase, sample
from pyssh_gateway.core.idle.replay.machine import Connection, Hardware, Login, Machine
from pyssh_gateway.core.idle.replay.recorded import Recorded, Visit
from pyssh_gateway.core.idle.replay.server import OTHERS, IdleServer, Rules, rules_of
from pyssh_gateway.core.idle.replay.traffic import Traffic, Use
from pyssh_gateway.core.idle.schedule import parse_hours
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker, Stay, Stop, Tick
from pyssh_gateway.core.idle.usage import Usage
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import (
    AnyEvent,
    BackgroundWork,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    ConnectionOpened,
    Identity,
)
from pyssh_gateway.monitor.lifetime.watches import background

HORIZON = 1500
"""Seconds that are simulated with a look each second."""

PERSON = Login("github:example", "SHA256:x")


def plain(  # noqa: C901, PLR0912 - the rules of three watches in one loop, so that nothing is left out
    rules: Rules, visits: list[Visit], jobs: list[tuple[float, list[Phase]]]
) -> float | None:
    """When the machine stops, by a loop that wakes up each second, and looks in all windows; None: not yet.

    The visits begin with the start of the machine, at 0.
    """
    wake = Wake(0.0, Clocks(0.0, 0.0))
    tracker = IdleTracker(rules.policy, wake, 0.0)
    usage = Usage(rules.client_idle) if rules.client_idle is not None else None
    every = interval(rules.policy.timeout or 0.0)
    vigil = Vigil(every, rules.background_max) if rules.background else None
    on: dict[str, Traffic] = {}
    running: dict[int, Job] = {}
    ends: dict[int, float] = {}
    vigil_since = math.inf
    came = False

    def publish(event: AnyEvent, now: float) -> None:
        nonlocal came
        wake.observe(event, Clocks(now, now))
        tracker.observe(event, now)
        came = came or others(now)

    def others(now: float) -> bool:
        return any(reason.kind in OTHERS for reason in tracker.reasons(now))

    def look(now: float) -> None:
        if usage is None:
            return
        counters = {conn: traffic.counters(now, heartbeats=True) for conn, traffic in on.items()}
        quiet, used = usage.look(counters, now, usage.shows(counters))
        for conn, seconds in quiet:
            publish(ClientQuiet(conn=conn, user="", seconds=seconds), now)
        for conn in used:
            publish(ClientUsed(conn=conn, user=""), now)

    happens: list[tuple[float, int, int]] = []
    for number, visit in enumerate(visits):
        happens += [(visit.begin, 0, number), (visit.end, 2, number)]
    happens += [(at, 1, number) for number, (at, _) in enumerate(jobs)]
    now = 0.0
    windows = 0
    samples = 0
    spent = False
    while now < HORIZON - 1:
        for at, what, number in sorted(happens):
            if at != now:
                continue
            if what == 0:
                traffic = on[f"c{number}"] = Traffic()
                traffic.open_session(now, terminal=False)
                publish(ConnectionOpened(conn=f"c{number}", peer="", peer_port=0), now)
                publish(authenticated(f"c{number}"), now)
                for use in visits[number].uses:
                    traffic.add(use)
            elif what == 1:
                running[number] = Job("make", jobs[number][1])
                ends[number] = running[number].proceed(now)
            else:
                del on[f"c{number}"]
                publish(closed(f"c{number}"), now)
        running = {number: job for number, job in running.items() if ends[number] > now}
        if usage is not None and now == (windows + 1) * usage.window:
            windows += 1
            look(now)
        if vigil is not None:
            if others(now) or came:
                vigil_since, spent = math.inf, False
            came = False
            if not others(now) and vigil_since == math.inf and not spent:
                vigil_since, samples = now, 0
                vigil.begin(now)
            elif now == vigil_since + (samples + 1) * every:
                samples += 1
                before, after = sample(running, now - every), sample(running, now)
                worked = work_between(before, after, rules.background_cpu) is not None
                match vigil.see(worked=worked, now=now):
                    case Hold(seconds=seconds):
                        publish(BackgroundWork(seconds=seconds, what=""), now)
                    case Over():
                        publish(BackgroundWork(seconds=0, what=""), now)
                if vigil.is_spent(now):
                    vigil_since, spent = math.inf, True
        while not isinstance(step := tracker.poll(now), Stay):
            if not isinstance(step, Tick):
                look(now)
            if isinstance(step, Stop) and not tracker.in_use:
                return now
        later = [at for at, _, _ in happens if at > now] + [math.floor(now) + 1.0]
        later += [(windows + 1) * usage.window] if usage is not None else []
        later += [vigil_since + (samples + 1) * every] if vigil_since < math.inf else []
        now = min([*later, *([step.until] if step.until is not None else [])])
    return None


def authenticated(conn: str) -> ConnectionAuthenticated:
    """The person logs in."""
    identity = Identity(PERSON.person, None, PERSON.fingerprint)
    return ConnectionAuthenticated(
        conn=conn, peer="", user="dev", fingerprint="", source="", client="", cipher="", seconds=0, identity=identity
    )


def closed(conn: str) -> ConnectionClosed:
    """The person leaves."""
    identity = Identity(PERSON.person, None, PERSON.fingerprint)
    return ConnectionClosed(
        conn=conn, peer="", user="dev", reason="", seconds=0, bytes_in=0, bytes_out=0, goodbye=True, identity=identity
    )


@st.composite
def visits(draw: st.DrawFn) -> list[Visit]:
    """Connections with use; the first one begins at 0. Use begins between two seconds, when nothing else happens."""
    result = []
    for number in range(draw(st.integers(1, 3))):
        # A login at the moment of a stop may come before it or after it, so there is none.
        begin = 0 if number == 0 else draw(st.integers(1, 600)) + 0.125
        end = math.floor(begin) + draw(st.integers(2, 900))
        uses = []
        moment = math.floor(begin) + 0.25
        for _ in range(draw(st.integers(0, 4))):
            moment += draw(st.integers(0, 200))
            until = moment + draw(st.integers(1, 100))
            if until < end:
                uses.append(Use(moment, until, draw(st.sampled_from(("typed", "asked", "worked", "shown")))))
            moment = until
        result.append(Visit(PERSON, "", float(begin), float(end), tuple(uses)))
    return result


work = st.lists(
    st.tuples(
        st.integers(0, 600).map(lambda second: second + 0.5),
        st.lists(
            st.builds(
                Phase,
                seconds=st.integers(1, 200).map(float),
                cpu=st.sampled_from([0.0, 0.05, 0.2, 1.0]),
                io=st.sampled_from([0.0, 3e6]),
            ),
            min_size=1,
            max_size=3,
        ),
    ),
    max_size=2,
)

rules = st.builds(
    Rules,
    # No multiple of an interval between samples: a sample at the moment of a stop may come before it or after it.
    policy=st.builds(IdlePolicy, timeout=st.sampled_from([50.0, 100.0]), boot_grace=st.sampled_from([None, 10.0])),
    # Windows that never end with an interval between samples, for the same reason, and whose sums are exact.
    client_idle=st.sampled_from([None, 54.78125, 56.53125]),
    background=st.booleans(),
    background_max=st.sampled_from([200.0, 3600.0]),
)


@settings(deadline=None, max_examples=60)
@given(rules, visits(), work)
def test_it_stops_when_a_loop_that_always_looks_would_stop(
    rules: Rules, visits: list[Visit], work: list[tuple[float, list[Phase]]]
) -> None:
    """What is left out between two looks can't change when the machine stops."""
    clock = Clock()
    machine = Machine(clock, rules, Hardware(start=0.0))
    for visit in visits:
        Recorded(machine, visit)
    for at, phases in work:
        clock.at(at, lambda phases=phases: machine.run_job(Job("make", phases)))  # type: ignore[misc]  # see mypy 12557
    clock.run(HORIZON - 1)
    stops = [stop.at for stop in machine.outcome.stops]
    assert (stops[0] if stops else None) == pytest.approx(plain(rules, visits, work))


def test_rounding_moves_no_look() -> None:
    """A client that is quiet but for a rounding error at the end of a window is looked at again at the next one's."""
    rules = Rules(IdlePolicy(100.0), client_idle=54.8)
    uses = tuple(Use(begin, end, "typed") for begin, end in ((0.25, 16.25), (17.25, 107.25), (167.25, 168.25)))
    visits = [Visit(PERSON, "", 0.0, 332.0, uses), Visit(PERSON, "", 3.0, 190.0)]
    machine = Machine(Clock(), rules, Hardware(start=0.0))
    for visit in visits:
        Recorded(machine, visit)
    machine.clock.run(HORIZON - 1)
    assert [stop.at for stop in machine.outcome.stops] == [plain(rules, visits, [])]


def test_other_reasons_are_those_of_the_server() -> None:
    """Background work is looked at in the simulation when it is in the server."""
    assert OTHERS == background.OTHERS


def test_the_schedule_keeps_it_up() -> None:
    """A replay with `idle.schedule` stops only after the hours are over, also if they begin while it is awake."""
    hours = parse_hours("00:01-00:10")
    assert hours is not None
    clock = Clock()
    machine = Machine(clock, Rules(IdlePolicy(90.0), hours=(hours,), zone=UTC), Hardware(start=0.0))
    machine.start()
    clock.run(3600)
    assert [stop.at for stop in machine.outcome.stops] == [690.0]


def test_it_sleeps_without_hours_to_come() -> None:
    """A replay whose schedule is empty goes by the other rules."""
    clock = Clock()
    machine = Machine(clock, Rules(IdlePolicy(90.0), hours=(), zone=UTC), Hardware(start=0.0))
    machine.start()
    clock.run(3600)
    assert [stop.at for stop in machine.outcome.stops] == [90.0]


def test_it_never_stops_without_a_timeout() -> None:
    """A machine whose `idle.timeout` is off stays up in a replay, too."""
    clock = Clock()
    machine = Machine(clock, Rules(IdlePolicy(None), background=True))
    machine.start()
    machine.start()
    clock.run(3600)
    machine.finish()
    assert machine.outcome.seconds == 3600


class Looping:
    """A client that connects again a while after each end of its connection."""

    def __init__(self, machine: Machine, login: Login, pause: float) -> None:
        self.machine = machine
        self.login = login
        self.pause = pause
        self.happened: list[str] = []
        self.connection: Connection | None = None

    def connect(self) -> None:
        """Connect."""
        self.connection = self.machine.connect("198.51.100.7", self.login, self)

    def logged_in(self, connection: Connection) -> None:
        """It is let in."""
        self.happened.append("in")

    def refused(self, connection: Connection) -> None:
        """It is refused."""
        self.happened.append("refused")
        self.machine.clock.after(self.pause, self.connect)

    def closed(self, connection: Connection) -> None:
        """The machine stops."""
        self.happened.append("closed")
        self.machine.clock.after(self.pause, self.connect)


RULES = Rules(IdlePolicy(60.0, wake_grace=5.0), client_idle=120.0)


@pytest.mark.parametrize(("action", "wants"), [("exit", "command"), ("suspend", "command"), ("suspend", "nothing")])
def test_a_client_that_comes_back_by_itself_is_refused_in_turns_and_then_always(action: str, wants: str) -> None:
    """A loop gets what `Probation` says, across stops of both kinds, and costs next to nothing in the end."""
    clock = Clock()
    machine = Machine(clock, RULES, Hardware("exit" if action == "exit" else "suspend"))
    client = Looping(
        machine, Login("github:example", "SHA256:x", wants="nothing" if wants == "nothing" else "command"), 10
    )
    client.connect()
    clock.run(4000)
    assert client.happened[:8] == ["in", "closed", "refused", "in", "closed", "refused", "in", "closed"]
    assert client.happened[8:13] == ["refused", "in", "closed", "refused", "refused"]
    assert set(client.happened[13:]) == {"refused"}


def test_a_terminal_ends_the_probation() -> None:
    """A person who opens a terminal, at once or on a connection that is open, is waited for as at first."""
    clock = Clock()
    machine = Machine(clock, RULES, Hardware("suspend"))
    client = Looping(machine, Login("github:example", "SHA256:x", wants="terminal"), 10)
    client.connect()
    clock.run(300)
    assert client.happened == ["in", "closed", "in"]
    assert machine.outcome.stops[0].why.startswith("idle")
    clock.run(4000)
    assert len(machine.outcome.stops) < 4000 / 180  # each time it is waited for as long as at first
    assert "refused" not in client.happened


def test_use_in_a_probation_is_noticed_and_counts_until_it_ends() -> None:
    """The short windows of a probation see the use that begins in one, and the usual ones take over."""
    clock = Clock()
    machine = Machine(clock, RULES, Hardware("suspend", start=0.0))
    client = Looping(machine, Login("github:example", "SHA256:x"), 200)
    client.connect()

    def work() -> None:
        assert client.connection is not None
        client.connection.use(600, "worked")

    clock.run(180)
    assert machine.state == "awake"
    clock.run(400)
    assert client.happened == ["in", "closed", "in"]
    clock.at(405, work)
    clock.run(1100)
    assert len(machine.outcome.stops) == 1
    clock.run(1300)
    assert [stop.why for stop in machine.outcome.stops][1:] == ["idle for 60 s"]


def test_a_session_on_an_open_connection_is_use() -> None:
    """A shared connection on which a command is run once more keeps the machine up, and a terminal ends a probation."""
    clock = Clock()
    machine = Machine(clock, RULES, Hardware("suspend", start=0.0))
    client = Looping(machine, Login("github:example", "SHA256:x"), 200)
    client.connect()
    clock.run(100)
    assert client.connection is not None
    client.connection.open_session()
    clock.run(500)
    assert [stop.at for stop in machine.outcome.stops] == [285.0]
    assert client.happened == ["in", "closed", "in"]
    client.connection.open_session(terminal=True)
    clock.run(600)
    client.connection.close()
    client.connection.open_session(terminal=True)
    client.connection.use(10, "typed")
    clock.run(800)
    assert [stop.at for stop in machine.outcome.stops] == [285.0, 660.0]


def test_clients_without_use_are_warned() -> None:
    """The count of warnings has those that clients would have got."""
    clock = Clock()
    servers: list[IdleServer] = []

    def new_server(machine: Machine) -> IdleServer:
        servers.append(IdleServer(RULES, machine))
        return servers[-1]

    machine = Machine(clock, RULES, Hardware(start=0.0), new_server)
    client = Looping(machine, Login("github:example", "SHA256:x"), 1e9)
    client.connect()
    clock.run(1000)
    assert servers[0].warnings == 2


def test_the_last_look_sees_use_in_the_window_that_is_not_over() -> None:
    """A client that is used seconds before a stop keeps the machine up, as in the server."""
    clock = Clock()
    machine = Machine(clock, Rules(IdlePolicy(70.0), client_idle=120.0), Hardware(start=0.0))
    client = Looping(machine, Login("github:example", "SHA256:x"), 1e9)
    client.connect()
    clock.run(201)  # it is quiet from 135 on, and the next window is over at 210
    assert client.connection is not None
    client.connection.use(1, "typed")
    clock.run(1000)
    assert [stop.at for stop in machine.outcome.stops] == [205 + 120 + 5 + 70]


def test_the_rules_are_those_of_the_settings() -> None:
    """Protects what-if and the simulation: both replay what was configured, the hours and their zone, too."""
    idle = Idle(background="ignore", schedule=("mon-fri 08:00-18:00",), timezone="Europe/Berlin")
    rules = rules_of(idle)
    assert (rules.client_idle, rules.background, rules.policy.timeout) == (1200.0, False, 120.0)
    assert len(rules.hours) == 1
    assert str(rules.zone) == "Europe/Berlin"
