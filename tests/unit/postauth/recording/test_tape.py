"""What postauth sends the recorder of a session, with a real socket, and what becomes of it if nobody takes it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from pyssh_gateway.core.recordings.rules import Recorded
from pyssh_gateway.events import RecordingEnded, RecordingStarted
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.postauth import Told
from pyssh_gateway.ipc.recorder import Closed, Opened
from pyssh_gateway.ipc.spawner import Exited, socket_pair
from pyssh_gateway.postauth.recording import tape as tapes_module
from pyssh_gateway.postauth.recording.feed import BATCH_CHUNKS, MAX_WAITING
from pyssh_gateway.postauth.recording.tape import Subject, Tape, Tapes

SUBJECT = Subject("c1", "c1.1", "amos", "shell", b"ls", b"xterm", (80, 24))
EXIT = Exited(1, 3, None, core_dumped=False)
KILLED = Exited(1, None, 9, core_dumped=False)


class Rig:
    """The recordings of a postauth process, and the recorder's end of the socket. The clock is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[Told] = []
        self.tapes = Tapes(asyncio.get_running_loop(), self.told.append, lambda: self.now)
        self.connect()

    def connect(self) -> None:
        """Another recorder."""
        ours, self.recorder = socket_pair()
        self.recorder.setblocking(False)
        self.tapes.feed.connect(ours)

    def begin(self, *, with_input: bool = False) -> Tape:
        """Record a session."""
        return self.tapes.begin(SUBJECT, Recorded("pty", input=with_input))

    def heard(self) -> list[tuple[str, bytes]]:
        """What the recorder has been sent so far: what it is, and the data."""
        self.tapes.feed.send()
        entries: list[tuple[str, bytes]] = []
        while True:
            try:
                packet = self.recorder.recv(1 << 20)
            except BlockingIOError:
                return entries
            entries += [(entry.what, data) for entry, data in messages.unpack(packet)]

    async def answer(self, *answers: messages.FromRecorder) -> None:
        """Have the recorder answer."""
        for answer in answers:
            self.recorder.send(messages.encode(answer))
        await self.until(lambda: self.recorder.fileno() < 0 or self._is_read())

    def _is_read(self) -> bool:
        return len(self.told) > 0

    async def until(self, done: Callable[[], bool]) -> None:
        """Let the loop work until `done()`."""
        async with asyncio.timeout(10):
            while not done():  # noqa: ASYNC110 - what is waited for is on the other side of a socket
                await asyncio.sleep(0)


def with_a_rig(scenario: Callable[[Rig], Coroutine[Any, Any, None]]) -> None:
    """Run the scenario."""

    async def run() -> None:
        rig = Rig()
        try:
            await scenario(rig)
        finally:
            rig.tapes.feed.close()
            rig.recorder.close()

    asyncio.run(run())


def test_everything_is_sent_in_order_and_together() -> None:
    """Protects the recording and the byte's way: output within an instant is one event, and one packet has it all."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin(with_input=True)
        tape.output(b"a")
        tape.output(b"b")
        rig.now += 1
        tape.output(b"c")
        tape.output(b"e", errors=True)
        tape.input(b"i")
        tape.resized(100, 30)
        tape.ends(EXIT)
        (first, begin), *rest = rig.heard()
        assert (first, messages.beginning_in(begin).session) == ("begin", "c1.1")
        assert rest == [
            *[("output", b"ab"), ("output", b"c"), ("errors", b"e"), ("input", b"i")],
            *[("resize", messages.terminal_size(100, 30)), ("exit", messages.count(3)), ("end", b"")],
        ]

    with_a_rig(scenario)


@pytest.mark.parametrize(("exit_", "status"), [(EXIT, [3]), (KILLED, [137]), (None, [])])
def test_the_exit_is_as_a_shell_reports_it(exit_: Exited | None, status: list[int]) -> None:
    """Protects the reader: the status, 128 and the signal, or nothing while the process goes on."""

    async def scenario(rig: Rig) -> None:
        rig.begin().ends(exit_)
        assert [messages.count_in(data) for what, data in rig.heard() if what == "exit"] == status

    with_a_rig(scenario)


def test_input_is_only_recorded_if_it_is_wanted() -> None:
    """Protects passwords and everything else that is typed."""

    async def scenario(rig: Rig) -> None:
        rig.begin().input(b"secret")
        assert [what for what, _ in rig.heard()] == ["begin"]

    with_a_rig(scenario)


def test_the_log_is_told_of_beginning_and_end() -> None:
    """Protects the auditor: the log has the file, how much is in it, and whether that is all."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin(with_input=True)
        await rig.answer(Opened(1, "amos/c1.1.cast.zst"))
        assert rig.told == [
            RecordingStarted(conn="c1", session="c1.1", user="amos", file="amos/c1.1.cast.zst", input=True)
        ]
        rig.now += 2
        tape.ends(EXIT)
        assert len(rig.tapes) == 1
        rig.told.clear()
        await rig.answer(Closed(1, "session ended", 7))
        (ended,) = rig.told
        assert isinstance(ended, RecordingEnded)
        assert (ended.file, ended.reason, ended.bytes, ended.missing, ended.seconds) == (
            *("amos/c1.1.cast.zst", "session ended", 7, 0, 2.0),
        )
        assert ended.is_whole
        assert len(rig.tapes) == 0

    with_a_rig(scenario)


def test_nothing_is_sent_after_the_recorder_has_had_enough() -> None:
    """Protects the processor: a recording that has reached a bound costs nothing any more."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin()
        rig.heard()
        await rig.answer(Opened(1, "amos/c1.1.cast.zst"))
        rig.told.clear()
        await rig.answer(Closed(1, "audit.record_session_size is reached", 7))
        tape.output(b"x")
        tape.resized(1, 1)
        tape.ends(EXIT)
        assert rig.heard() == []
        assert len(rig.told) == 1

    with_a_rig(scenario)


def test_what_the_recorder_does_not_take_is_dropped_and_counted() -> None:
    """Protects the user's bytes: nobody waits for the recorder; its recording says where how much is missing."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin()
        chunk = b"x" * 32768
        sent = 0
        while not rig.tapes.feed.is_full:
            tape.output(chunk)
            sent += len(chunk)
        assert MAX_WAITING <= sent < 2 * MAX_WAITING
        tape.output(b"dropped")
        tape.resized(50, 20)
        tape.output(b"too")
        heard: list[tuple[str, bytes]] = []

        def is_taken() -> bool:
            heard.extend(rig.heard())
            return sum(len(data) for what, data in heard if what == "output") == sent

        await rig.until(is_taken)
        heard.clear()
        tape.output(b"again")
        assert rig.heard() == [
            *[("missing", messages.count(10)), ("resize", messages.terminal_size(50, 20)), ("output", b"again")]
        ]
        await rig.answer(Closed(1, "session ended", sent))
        (ended,) = rig.told
        assert isinstance(ended, RecordingEnded)
        assert (ended.missing, ended.is_whole) == (10, False)

    with_a_rig(scenario)


def test_a_large_chunk_fits_into_messages() -> None:
    """Protects the protocol: whatever comes at once, no packet is larger than a message may be."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin()
        tape.output(b"x" * 1_000_000)
        for _ in range(3 * BATCH_CHUNKS):
            tape.output(b"y")
        got = 0

        def is_all() -> bool:
            nonlocal got
            got += sum(len(data) for what, data in rig.heard() if what == "output")
            return got == 1_000_000 + 3 * BATCH_CHUNKS

        await rig.until(is_all)

    with_a_rig(scenario)


def test_a_recording_goes_on_with_the_next_recorder() -> None:
    """Protects the record over the recorder's death: a new part, which begins with what got lost on the way."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin()
        rig.heard()
        await rig.answer(Opened(1, "amos/c1.1.cast.zst"))
        tape.output(b"lost")
        rig.told.clear()
        rig.recorder.close()
        await rig.until(lambda: bool(rig.told))
        (ended,) = rig.told
        assert isinstance(ended, RecordingEnded)
        assert (ended.reason, ended.bytes, ended.missing) == ("the recorder ended", None, 4)
        tape.resized(50, 20)
        tape.output(b"kept")
        rig.connect()
        (_, begin), *rest = rig.heard()
        assert messages.beginning_in(begin).part == 2
        assert rest == [
            *[("missing", messages.count(4)), ("resize", messages.terminal_size(50, 20)), ("output", b"kept")]
        ]

    with_a_rig(scenario)


def test_a_recorder_that_never_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the log and the process's end: without an answer the log is told so, and nothing waits."""
    monkeypatch.setattr(tapes_module, "ANSWER_SECONDS", 0.01)

    async def scenario(rig: Rig) -> None:
        rig.begin().ends(EXIT)
        await rig.until(lambda: bool(rig.told))
        (ended,) = rig.told
        assert isinstance(ended, RecordingEnded)
        assert (ended.file, ended.reason) == ("", "the recorder did not answer")
        assert len(rig.tapes) == 0

    with_a_rig(scenario)


def test_sessions_without_a_recorder_take_bounded_memory() -> None:
    """Protects memory: thousands of short sessions while there is no recorder are not all kept for it."""

    async def scenario(rig: Rig) -> None:
        rig.recorder.close()
        await rig.until(lambda: not rig.tapes.feed.is_connected)
        long = msgspec.structs.replace(SUBJECT, command=b"x" * 8192)
        for _ in range(3000):
            tape = rig.tapes.begin(long, Recorded("all"))
            tape.output(b"x" * 8192)
        refused = [told for told in rig.told if isinstance(told, RecordingEnded)]
        assert refused
        assert {told.reason for told in refused} == {"the recorder did not keep up"}

    with_a_rig(scenario)


@pytest.mark.parametrize("more", range(4))
def test_a_recorder_that_dies_at_the_end_of_a_session_costs_nobody_a_thing(more: int) -> None:
    """Protects the account's process: the next recorder gets nothing that it would have the process killed for.

    The old recorder is found gone by whichever entry fills a packet: the exit, the end, or one of those before.
    """

    async def scenario(rig: Rig) -> None:
        tape = rig.begin()
        rig.heard()
        await rig.answer(Opened(1, "amos/c1.1.cast.zst"))
        for _ in range(BATCH_CHUNKS - more):
            tape.output(b"x")
        rig.told.clear()
        rig.recorder.close()  # the loop does not get to know before the session has ended
        tape.ends(EXIT)
        rig.connect()
        assert rig.heard() == []
        (ended,) = rig.told
        assert isinstance(ended, RecordingEnded)
        assert (ended.reason, ended.is_whole, len(rig.tapes)) == ("the recorder ended", False, 0)

    with_a_rig(scenario)


def test_a_recorder_that_dies_in_the_midst_of_a_chunk_gets_none_of_the_rest() -> None:
    """Protects the account's process and the count: what of a large chunk was on its way is missing, all of it."""

    async def scenario(rig: Rig) -> None:
        tape = rig.begin()
        rig.heard()
        await rig.answer(Opened(1, "amos/c1.1.cast.zst"))
        rig.told.clear()
        rig.recorder.close()
        tape.output(b"x" * 1_000_000)
        await rig.until(lambda: bool(rig.told))
        rig.connect()
        tape.output(b"kept")
        (_, begin), *rest = rig.heard()
        assert messages.beginning_in(begin).part == 2
        assert [what for what, _ in rest] == ["missing", "resize", "output"]
        assert messages.count_in(rest[0][1]) == 1_000_000

    with_a_rig(scenario)
