"""core.idle.holds and monitor.lifetime.holds: what may be held, who may release it, and that every hold ends."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.control import HoldUp, Release
from pyssh_gateway.core.idle import holds
from pyssh_gateway.core.idle.holds import Hold, NotGranted, Wish
from pyssh_gateway.core.idle.stopping import Clocks
from pyssh_gateway.core.idle.tracker import IdlePolicy, IdleTracker, Stay, Stop
from pyssh_gateway.core.idle.wake import Wake
from pyssh_gateway.events import AnyEvent, HoldEnded, HoldStarted, MachineResumed, Record
from pyssh_gateway.monitor.lifetime.holds import Holds, start_of
from pyssh_gateway.monitor.reporting.control import Asker, Unanswerable
from pyssh_gateway.monitor.state_file import write_state
from tests.support import leaks

SECONDS = 10.0
LIMIT = 12 * 3600.0
NOW = 1_000_000.0
AMOS, DORA = 1000, 1001


def wish(seconds: float | None = 60.0, *, uid: int = AMOS, reason: str = "training run") -> Wish:
    """A request for a hold."""
    return Wish(uid, "amos" if uid == AMOS else "dora", reason, seconds)


def held(name: str, *, uid: int = AMOS, until: float = NOW + 60, pid: int = 0, started: int = 0) -> Hold:
    """A stored hold."""
    return Hold(name, uid, "amos" if uid == AMOS else "dora", "training run", NOW, until, pid, started)


def granted(one: Wish, there: tuple[Hold, ...] = ()) -> Hold:
    """The hold that is granted for a request."""
    return holds.grant(one, there, limit=LIMIT, now=NOW, id_="new")


# -- what may be held ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "until"), [(60.0, NOW + 60), (LIMIT, NOW + LIMIT), (None, NOW + LIMIT)])
def test_a_hold_ends_within_the_limit(seconds: float | None, until: float) -> None:
    """Protects the bill: every hold has an end, which by default is the latest that is allowed."""
    assert granted(wish(seconds)) == Hold("new", AMOS, "amos", "training run", NOW, until)


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        (LIMIT + 1, "12h at most on this machine (idle.hold_max): ask for less"),
        (float("inf"), "12h at most on this machine"),
        (0.0, "has to last for a time"),
        (-1.0, "has to last for a time"),
        (float("nan"), "has to last for a time"),
    ],
)
def test_a_longer_one_is_refused(seconds: float, reason: str) -> None:
    """Protects people from a hold that ends too early: a request beyond the limit is refused, not shortened."""
    with pytest.raises(NotGranted) as refused:
        granted(wish(seconds))
    assert reason in str(refused.value)


def test_the_number_of_holds_is_bounded() -> None:
    """Protects memory and descriptors: holds are limited for each account and in all."""
    own = tuple(held(str(number)) for number in range(holds.MAX_PER_ACCOUNT))
    with pytest.raises(NotGranted, match="amos has 32 holds already"):
        granted(wish(), own)
    assert granted(wish(), own[1:])
    assert granted(wish(uid=DORA), own)
    everybodys = tuple(held(str(number), uid=2000 + number) for number in range(holds.MAX_HOLDS))
    with pytest.raises(NotGranted, match="there are 128 holds already"):
        granted(wish(), everybodys)


@given(st.text())
def test_a_reason_is_one_short_visible_line(text: str) -> None:
    """Protects readers of the reason: it cannot move their cursor or fill their screen."""
    kept = holds.clean_reason(text)
    assert kept.isprintable()
    assert 0 < len(kept) <= holds.MAX_REASON
    assert holds.clean_reason(kept) == kept


def test_reasons_are_cut_and_named() -> None:
    """A long reason keeps its beginning, and a missing one has a text that says so."""
    assert holds.clean_reason(" \n ") == holds.NO_REASON
    assert holds.clean_reason("a\x1b[2J\n b") == "a?[2J b"
    assert holds.clean_reason("x" * 1000) == "x" * 199 + "…"


# -- who may release it --------------------------------------------------------------------------------------------


def chosen(uid: int, hold: str = "", *, any_account: bool = False, every: bool = False) -> list[str]:
    """The names of the holds that are released, of two holds of Amos's and one of Dora's."""
    there = (held("a"), held("b"), held("c", uid=DORA))
    return [one.id for one in holds.to_release(there, uid=uid, any_account=any_account, hold=hold, every=every)]


def test_own_holds_are_released() -> None:
    """Protects `release`: it ends a hold by name, the only one, or all of the caller's."""
    assert chosen(AMOS, "b") == ["b"]
    assert chosen(DORA) == ["c"]
    assert chosen(AMOS, every=True) == ["a", "b"]
    assert chosen(DORA, every=True) == ["c"]
    assert chosen(1002, every=True) == []


@pytest.mark.parametrize(
    ("uid", "hold", "reason"),
    [
        (AMOS, "", r"you have 2 holds \(a, b\): name one, or --all"),
        (1002, "", "you have no hold"),
        (AMOS, "c", "you have no hold c"),
        (AMOS, "d", "you have no hold d"),
    ],
)
def test_others_holds_are_not(uid: int, hold: str, reason: str) -> None:
    """Protects a hold from other accounts, and from a release that does not name which of several."""
    with pytest.raises(NotGranted, match=reason):
        chosen(uid, hold)


def test_root_releases_any() -> None:
    """Protects the owner of the machine: root may end any hold."""
    assert chosen(0, "c", any_account=True) == ["c"]
    assert chosen(0, any_account=True, every=True) == ["a", "b", "c"]


# -- holds after a crash -------------------------------------------------------------------------------------------


def test_what_is_written_down_comes_back() -> None:
    """Holds survive a crash: the next gateway knows them."""
    there = (held("a"), held("b", uid=DORA, pid=7, started=8))
    assert holds.decode(holds.encode(there), limit=LIMIT, now=NOW) == there


def test_ends_stay_within_the_limit() -> None:
    """Protects the bill if the clock was set back meanwhile: no hold outlasts the limit."""
    (one,) = holds.decode(holds.encode((held("a", until=NOW + 10 * LIMIT),)), limit=LIMIT, now=NOW)
    assert one.until == NOW + LIMIT


@given(st.binary() | st.text().map(str.encode))
def test_anything_else_is_no_hold(data: bytes) -> None:
    """Protects the start: a damaged file holds nothing, and is no error."""
    holds.decode(data, limit=LIMIT, now=NOW)


@pytest.mark.parametrize("data", [b"", b"{}", b'[{"id":"a"}]', b"\xff", b"[" * 100_000])
def test_a_damaged_file_holds_nothing(data: bytes) -> None:
    """Protects the start in known cases of damage."""
    assert holds.decode(data, limit=LIMIT, now=NOW) == ()


def test_a_process_is_known_by_its_start() -> None:
    """Protects the bill from a reused pid: a process counts only with the same, known start time."""
    assert holds.is_same_process(held("a", pid=7, started=8), 8)
    assert not holds.is_same_process(held("a", pid=7, started=8), 9)
    assert not holds.is_same_process(held("a", pid=7, started=8), None)
    assert not holds.is_same_process(held("a", pid=7), 0)


# -- a hold's life -------------------------------------------------------------------------------------------------


class Keeping:
    """Holds in an event loop, with a wall clock that the test sets, and the published events."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.events: list[AnyEvent] = []
        self.now = NOW
        self.changed = asyncio.Event()
        self._running: list[Holds] = []

    def publish(self, event: AnyEvent) -> None:
        """Record an event."""
        self.events.append(event)
        self.changed.set()

    def gateway(self, *, fresh: bool = False) -> Holds:
        """A new gateway; the one before is gone as after a crash."""
        self.end()
        made = Holds(
            limit=LIMIT,
            fresh=fresh,
            publish=self.publish,
            clock=lambda: self.now,
            loop=asyncio.get_running_loop(),
            state=self.state,
        )
        self._running.append(made)
        made.open()
        return made

    def end(self) -> None:
        """Close everything, as the end of the process would."""
        while self._running:
            self._running.pop().close()

    async def ended(self, hold: str) -> str:
        """Wait for the hold's end; returns its reason."""
        while True:
            for event in self.events:
                if isinstance(event, HoldEnded) and event.hold == hold:
                    return event.why
            self.changed.clear()
            await self.changed.wait()


@contextlib.contextmanager
def sleeping(program: str = "sleep") -> Iterator["subprocess.Popen[bytes]"]:
    """A process that runs until it is killed."""
    with subprocess.Popen([program, "1000"]) as process:
        try:
            yield process
        finally:
            process.kill()


def asker(pid: int = 0, *, uid: int = AMOS, root: bool = False) -> Asker:
    """A client of the control socket."""
    return Asker(pid, uid, "root" if root else "amos", root)


def play(tmp_path: Path, scenario: Callable[[Keeping], Awaitable[None]]) -> None:
    """Run a scenario with a time limit."""

    async def whole() -> None:
        kept = Keeping(tmp_path / "holds.json")
        try:
            async with asyncio.timeout(SECONDS):
                await scenario(kept)
        finally:
            kept.end()

    with leaks.nothing_left_open():
        asyncio.run(whole())


def test_a_hold_is_told_and_released(tmp_path: Path) -> None:
    """Protects the idle tracker and the log: they get one event of the beginning and one of the end."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        reply = gateway.hold(HoldUp(60.0, "training run"), asker())
        assert (reply.hold.user, reply.hold.until, reply.remark) == ("amos", NOW + 60, "")
        assert kept.events == [
            HoldStarted(hold=reply.hold.hold, user="amos", seconds=60.0, reason="training run", pid=0)
        ]
        assert gateway.reports() == (reply.hold,)
        assert gateway.release(Release(), asker()).holds == (reply.hold,)
        assert kept.events[1:] == [HoldEnded(hold=reply.hold.hold, user="amos", why="released")]
        assert gateway.reports() == ()

    play(tmp_path, scenario)


def test_a_refusal_is_told_to_whoever_asked(tmp_path: Path) -> None:
    """A hold or release that is refused gives the reason, and leaves nothing behind."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        with leaks.nothing_left_open(), pytest.raises(Unanswerable, match="12h at most"):
            gateway.hold(HoldUp(LIMIT + 1, process=True), asker(os.getpid()))
        with pytest.raises(Unanswerable, match="you have no hold"):
            gateway.release(Release(), asker())
        with pytest.raises(Unanswerable, match="can't be watched"):
            gateway.hold(HoldUp(process=True), asker(0))
        assert kept.events == []

    play(tmp_path, scenario)


def test_root_ends_anybodys_and_it_is_said(tmp_path: Path) -> None:
    """Protects the owner of a hold that root released: the log says so."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        name = gateway.hold(HoldUp(60.0), asker()).hold.hold
        gateway.release(Release(name), asker(uid=0, root=True))
        assert await kept.ended(name) == "released by root"

    play(tmp_path, scenario)


def test_a_hold_expires(tmp_path: Path) -> None:
    """Protects the bill: a hold ends by itself when its time is over."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        name = gateway.hold(HoldUp(0.02), asker()).hold.hold
        assert await kept.ended(name) == "expired"
        assert gateway.reports() == ()

    play(tmp_path, scenario)


def test_a_hold_ends_with_its_process(tmp_path: Path) -> None:
    """Protects the bill: a hold ends with its command, however that ends."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        with sleeping() as process:
            reply = gateway.hold(HoldUp(None, "make -j8", process=True), asker(process.pid))
            assert (reply.hold.pid, reply.hold.until) == (process.pid, NOW + LIMIT)
            process.kill()
            assert await kept.ended(reply.hold.hold) == "the command has ended"
            process.wait()
            with pytest.raises(Unanswerable, match="has ended already"):
                gateway.hold(HoldUp(process=True), asker(process.pid))

    play(tmp_path, scenario)


def test_a_process_that_runs_already_can_be_held(tmp_path: Path) -> None:
    """Protects the bill: it is held while it runs, and a later process with its number is never taken for it."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        with sleeping() as process:
            started = start_of(process.pid) or 0
            mine = asker(os.getpid(), uid=os.getuid())
            for pid, start in ((process.pid, started + 1), (process.pid, 0), (2**22, 7)):
                with leaks.nothing_left_open(), pytest.raises(Unanswerable, match=r"no process|has ended"):
                    gateway.hold(HoldUp(pid=pid, started=start), mine)
            reply = gateway.hold(HoldUp(reason="sleep", pid=process.pid, started=started), mine)
            assert (reply.hold.pid, reply.hold.until) == (process.pid, NOW + LIMIT)
            process.kill()
            assert await kept.ended(reply.hold.hold) == "the command has ended"

    play(tmp_path, scenario)


def test_only_own_processes_can_be_held(tmp_path: Path) -> None:
    """Protects accounts from each other: only those who may ask everything name others' processes."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        with sleeping() as process:
            wanted = HoldUp(pid=process.pid, started=start_of(process.pid) or 0)
            with leaks.nothing_left_open(), pytest.raises(Unanswerable, match="is not one of amos's"):
                gateway.hold(wanted, asker(7, uid=os.getuid() + 1))
            assert gateway.hold(wanted, asker(7, uid=os.getuid() + 1, root=True)).hold.pid == process.pid

    play(tmp_path, scenario)


def test_a_process_that_asks_by_its_environment_is_held_once(tmp_path: Path) -> None:
    """One process is one hold, and one that can't be held is no error: nobody is there to be told."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        with sleeping() as process:
            asked = Wish(AMOS, "amos", "sleep (PYSSH_HOLD)", 60.0, process.pid, start_of(process.pid) or 0)
            name = gateway.hold_process(asked)
            assert name is not None
            assert gateway.hold_process(asked) == name
            assert [(one.hold, one.reason, one.pid) for one in gateway.reports()] == [
                (name, "sleep (PYSSH_HOLD)", process.pid)
            ]
            with leaks.nothing_left_open():
                assert gateway.hold_process(msgspec.structs.replace(asked, started=7)) is None
                assert gateway.hold_process(msgspec.structs.replace(asked, pid=2**22)) is None
                assert gateway.hold_process(msgspec.structs.replace(asked, pid=os.getpid(), started=0)) is None
            process.kill()
            assert await kept.ended(name) == "the command has ended"

    play(tmp_path, scenario)


def test_holds_survive_a_crash(tmp_path: Path) -> None:
    """Protects a build from a crash of ours: the next gateway knows the holds, their ends and their processes."""

    async def scenario(kept: Keeping) -> None:
        first = kept.gateway(fresh=True)
        with sleeping() as process:
            plain = first.hold(HoldUp(60.0, "training run"), asker()).hold
            command = first.hold(HoldUp(process=True), asker(process.pid)).hold
            kept.now += 20
            kept.events.clear()
            second = kept.gateway()
            assert second.reports() == (plain, command)
            assert [(event.hold, event.seconds) for event in kept.events if isinstance(event, HoldStarted)] == [
                (plain.hold, 40.0),
                (command.hold, LIMIT - 20),
            ]
            process.kill()
            assert await kept.ended(command.hold) == "the command has ended"
            third = kept.gateway()
            assert third.reports() == (plain,)

    play(tmp_path, scenario)


def test_what_ended_during_a_crash_is_told(tmp_path: Path) -> None:
    """Protects bill and log: holds that expired, or whose process ended, during a crash are ended."""

    async def scenario(kept: Keeping) -> None:
        with sleeping() as process:
            started = start_of(process.pid)
            assert started is not None
            there = (
                held("over", until=NOW - 1),
                held("gone", pid=process.pid, started=started + 1),
                held("none", pid=2**22 + 1, started=1),
            )
            write_state(kept.state, holds.encode(there))
            gateway = kept.gateway()
            assert gateway.reports() == ()
            assert [(event.hold, event.why) for event in kept.events if isinstance(event, HoldEnded)] == [
                ("over", "expired"),
                ("gone", "the command has ended"),
                ("none", "the command has ended"),
            ]
            assert not any(isinstance(event, HoldStarted) for event in kept.events)

    play(tmp_path, scenario)


def test_a_fresh_start_knows_no_holds(tmp_path: Path) -> None:
    """Protects the bill: holds from before the machine was stopped do not come back."""

    async def scenario(kept: Keeping) -> None:
        kept.gateway(fresh=True).hold(HoldUp(60.0), asker())
        kept.events.clear()
        assert kept.gateway(fresh=True).reports() == ()
        assert kept.gateway().reports() == ()
        assert kept.events == []

    play(tmp_path, scenario)


def test_a_file_that_others_could_have_written_holds_nothing(tmp_path: Path) -> None:
    """Protects the bill: a state file that others could have written is ignored."""

    async def scenario(kept: Keeping) -> None:
        kept.state.write_bytes(holds.encode((held("a", until=NOW + 60),)))
        kept.state.chmod(0o666)
        assert kept.gateway().reports() == ()

    play(tmp_path, scenario)


def test_a_hold_that_cannot_be_written_down_holds_and_says_so(tmp_path: Path) -> None:
    """Protects people on a full disk: they get their hold, and read that it would not survive a crash."""

    async def scenario(kept: Keeping) -> None:
        kept.state = tmp_path / "no such directory" / "holds.json"
        gateway = kept.gateway(fresh=True)
        reply = gateway.hold(HoldUp(60.0), asker())
        assert reply.remark.startswith("the hold could not be written down (No such file or directory)")
        assert gateway.reports() == (reply.hold,)

    play(tmp_path, scenario)


def test_time_away_counts(tmp_path: Path) -> None:
    """Protects the bill of a suspended machine: a hold ends at its time of day, also if the machine was away."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        name = gateway.hold(HoldUp(3600.0), asker()).hold.hold
        kept.now += 7200
        gateway.observe(Record(1, kept.now, MachineResumed(seconds=7200.0)))
        assert await kept.ended(name) == "expired"

    play(tmp_path, scenario)


def test_names_are_not_taken_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a hold from another one's release: a name in use is not given again."""

    async def scenario(kept: Keeping) -> None:
        gateway = kept.gateway(fresh=True)
        tokens = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
        monkeypatch.setattr("pyssh_gateway.monitor.lifetime.holds.secrets.token_hex", lambda _bytes: next(tokens))
        names = [gateway.hold(HoldUp(60.0), asker()).hold.hold for _ in range(2)]
        assert names == ["aaaaaa", "bbbbbb"]

    play(tmp_path, scenario)


def test_a_hold_keeps_the_tracker_from_stopping(tmp_path: Path) -> None:
    """While a hold lasts the machine stays up, and after it the idle time begins."""

    async def scenario(kept: Keeping) -> None:
        tracker = IdleTracker(IdlePolicy(timeout=5.0), Wake(NOW, Clocks(NOW, NOW)), NOW)
        gateway = kept.gateway(fresh=True)
        name = gateway.hold(HoldUp(60.0, "training run"), asker()).hold.hold
        tracker.observe(kept.events[-1], NOW)
        assert tracker.poll(NOW + 30) == Stay(NOW + 60)
        assert [(reason.kind, reason.text) for reason in tracker.reasons(NOW + 30)] == [
            ("hold", "amos holds it: training run")
        ]
        gateway.release(Release(name), asker())
        tracker.observe(kept.events[-1], NOW + 40)
        assert isinstance(tracker.poll(NOW + 45), Stop)

    play(tmp_path, scenario)


def test_the_start_of_a_process_is_read(tmp_path: Path) -> None:
    """Protects the check after a crash: a process has one start time, whatever its name; one that is gone has none."""
    own = start_of(os.getpid())
    assert own is not None
    assert own == start_of(os.getpid())
    assert start_of(2**22 + 1) is None
    disguised = tmp_path / ") S 1 1"
    disguised.symlink_to(shutil.which("sleep") or "/bin/sleep")
    with sleeping(str(disguised)) as process:
        later = start_of(process.pid)
        process.kill()
    assert later is not None
    assert later > own


def test_states_are_strict() -> None:
    """Protects the next version: a state with an unknown field is not read in part."""
    more = b'[{"id":"a","uid":1,"user":"a","reason":"b","since":1.0,"until":2.0,"more":1}]'
    assert holds.decode(more, limit=LIMIT, now=NOW) == ()
    assert msgspec.json.decode(holds.encode((held("a"),)), type=list[Hold]) == [held("a")]
