"""monitor.lifetime.work_watch: work beside clients that nobody uses is seen, rarely, and written down."""

import asyncio
from collections.abc import Callable

from pyssh_gateway.config import parser as config
from pyssh_gateway.core.idle.background import Process, Sample
from pyssh_gateway.core.idle.usage import Counters, Usage
from pyssh_gateway.events import AnyEvent, BackgroundSeen, ConnectionClosed, Record, ServerStopping
from pyssh_gateway.ipc.spawner_client import SpawnRefused
from pyssh_gateway.monitor.lifetime.work_watch import SPANS, WORK_SECONDS, WorkWatch

WINDOW = 15.0
LOGOUT = ConnectionClosed(conn="c1", peer="", user="dev", reason="", seconds=0, bytes_in=0, bytes_out=0)


class Watched:
    """A watch of a machine with one client and one process, on a clock that is set."""

    def __init__(self) -> None:
        self.time = 0.0
        self.cpu = 0.0
        self.typed = 0
        self.held = True
        self.samples = 0
        self.fails = False
        self._looking = False
        self.at_sample: Callable[[], None] = lambda: None
        self.published: list[BackgroundSeen] = []
        self._soon: list[Callable[[], None]] = []
        self._usage = Usage(24 * 3600.0)
        self.watch = WorkWatch(
            config.Idle(),
            held=lambda: self.held,
            sample=self._sample,
            publish=self._publish,
            soon=self._soon.append,
            clock=lambda: self.time,
        )

    def go_on(self, seconds: float, *, cpu: float = 0.0) -> None:
        """Time passes, with looks, in which the process uses so much of a processor."""
        end = self.time + seconds
        while self.time < end:
            self.time += WINDOW
            self.cpu += cpu * WINDOW
            self._usage.look({"c1": Counters(typed=self.typed)}, self.time)
            self.watch.looked(self._usage)
            if self.watch.due and not self._looking:
                self._looking = True
                asyncio.run(self.watch.look())
                self._looking = False

    def use(self) -> None:
        """Somebody types."""
        self.typed += 1
        self.go_on(WINDOW)

    def happens(self, event: AnyEvent) -> None:
        """Hand an event on, and run the next turn of the loop."""
        self.watch.observe(Record(1, self.time, event))
        for call in self._soon:
            call()
        self._soon.clear()

    async def _sample(self) -> Sample:
        self.samples += 1
        self.at_sample()
        if self.fails:
            raise SpawnRefused("busy")
        return Sample(self.time, (Process(7, 1, 0.0, 1000, "make", self.cpu, 0),))

    def _publish(self, event: AnyEvent) -> None:
        assert isinstance(event, BackgroundSeen)
        self.published.append(event)


def test_work_beside_an_unused_client_is_written_when_it_is_used_again() -> None:
    """A build that began before the person paused counts from their last use, to within five minutes of its end."""
    watched = Watched()
    watched.use()
    watched.go_on(1800, cpu=1.0)
    watched.go_on(900)
    watched.use()
    (seen,) = watched.published
    assert seen.spans == ((2700 + 15, 900 + 15),)


def test_nothing_is_sampled_while_clients_are_used() -> None:
    """Protects the processor: work at a computer has no pauses of five minutes, and then no look is made."""
    watched = Watched()
    for _ in range(20):
        watched.use()
        watched.go_on(WORK_SECONDS - 2 * WINDOW, cpu=1.0)
    assert watched.samples == 0


def test_samples_are_rare() -> None:
    """An hour without use costs a dozen looks."""
    watched = Watched()
    watched.use()
    watched.go_on(3600)
    assert watched.samples == 12
    assert watched.published == []


def test_nothing_is_sampled_while_no_client_keeps_the_machine_up() -> None:
    """Then the watch for background work looks by itself; what was seen before is written down."""
    watched = Watched()
    watched.use()
    watched.go_on(900, cpu=1.0)
    watched.held = False
    watched.go_on(900, cpu=1.0)
    assert watched.samples == 3
    assert [seen.spans for seen in watched.published] == [((915, 15),)]


def test_the_end_of_the_last_connection_and_a_stop_write_it() -> None:
    """The log has it before the machine stops, and once."""
    watched = Watched()
    watched.use()
    watched.go_on(900, cpu=1.0)
    watched.happens(LOGOUT)
    assert watched.published == []
    watched.held = False
    watched.happens(LOGOUT)
    watched.happens(ServerStopping(reason="idle"))
    assert len(watched.published) == 1


def test_many_spans_are_written_at_times() -> None:
    """The list stays bounded."""
    watched = Watched()
    watched.use()
    for _ in range(SPANS + 3):
        watched.go_on(WORK_SECONDS, cpu=1.0)
        watched.go_on(WORK_SECONDS)
    watched.go_on(WORK_SECONDS)
    assert max(len(seen.spans) for seen in watched.published) <= SPANS
    assert watched.published


def test_a_sample_during_which_somebody_comes_back_does_not_count() -> None:
    """A look that has begun before the use, and ends after it, says nothing about the time after it."""
    watched = Watched()
    watched.use()
    watched.go_on(WORK_SECONDS, cpu=1.0)
    watched.at_sample = watched.use
    watched.go_on(WORK_SECONDS, cpu=1.0)
    watched.at_sample = lambda: None
    watched.go_on(WORK_SECONDS, cpu=1.0)
    watched.use()
    assert watched.samples == 3
    assert watched.published == []


def test_a_sample_that_fails_is_no_work() -> None:
    """Without a sample nothing is known, and nothing is claimed; a later one counts again."""
    watched = Watched()
    watched.use()
    watched.fails = True
    watched.go_on(3600, cpu=1.0)
    watched.fails = False
    watched.go_on(900, cpu=1.0)
    watched.use()
    (seen,) = watched.published
    assert seen.spans[0][0] - seen.spans[0][1] == 2 * WORK_SECONDS
