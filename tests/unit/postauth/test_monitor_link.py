"""The link to the monitor, with real socket pairs whose other ends the tests hold."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from pyssh_gateway.events import FileOperation, Identity, RequestDenied, SessionClosed
from pyssh_gateway.ipc import postauth as messages
from pyssh_gateway.ipc.postauth import FromMonitor, Happened, Logged, Lost
from pyssh_gateway.ipc.spawner import MAX_MESSAGE, ProtocolError, socket_pair
from pyssh_gateway.postauth import monitor_link
from pyssh_gateway.postauth.monitor_link import MonitorLink, Unanswered
from pyssh_gateway.postauth.outgoing import KEPT, MAX_WAITING, MAX_WAITING_BYTES, MORE_ENDS
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks
from tests.support.waiting import PATIENCE

HASH = bytes(32)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a descriptor open."""
    with leaks.nothing_left_open():
        yield


class Monitor:
    """A link, the monitor's end of it, and what the link reported."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[tuple[FromMonitor, list[int]]] = asyncio.Queue()
        self.nonsense: asyncio.Queue[str] = asyncio.Queue()
        self.ended = asyncio.Event()
        self.is_order = True
        self.heard = 0
        self.link = MonitorLink(
            asyncio.get_running_loop(),
            on_order=self._order,
            on_end=self.ended.set,
            on_nonsense=self.nonsense.put_nowait,
        )
        self.end: socket.socket
        self._has_begun = False
        self.begin()

    def _order(self, order: FromMonitor, descriptors: list[int]) -> None:
        if not self.is_order:
            raise ProtocolError("no monitor says this")
        self.orders.put_nowait((order, descriptors))

    def begin(self) -> None:
        """Connect as a monitor, the first or a later one."""
        if self._has_begun:
            self.end.close()
        self._has_begun = True
        self.end, theirs = socket_pair()
        self.end.setblocking(False)
        self.link.connect(theirs)

    def say(self, order: FromMonitor, *descriptors: int) -> None:
        """Send an order."""
        socket.send_fds(self.end, [messages.encode(order)], descriptors)

    async def hear(self) -> messages.FromPostauth:
        """The next message."""
        packet = await asyncio.get_running_loop().sock_recv(self.end, MAX_MESSAGE)
        return messages.decode_from_postauth(packet)

    async def hear_events(self, count: int) -> tuple[list[str], list[tuple[int, int]]]:
        """The requests in the next `count` events, lost ones included; and (received before, lost) for each loss."""
        heard: list[str] = []
        losses: list[tuple[int, int]] = []
        while len(heard) + sum(lost for _, lost in losses) < count:
            message = await self.hear()
            if isinstance(message, Lost):
                losses.append((len(heard), message.count))
                self.heard = message.number
                continue
            assert isinstance(message, Happened)
            for number, packed in enumerate(message.events, message.first):
                event = messages.unpack(packed)
                assert isinstance(event, RequestDenied)
                heard.append(event.request)
                self.heard = number
        return heard, losses

    async def log(self, number: int | None = None) -> None:
        """Say that all events that were heard are in the log, or those up to `number`."""
        self.say(Logged(self.heard if number is None else number))
        self.say(messages.Leave())
        assert (await self.orders.get())[0] == messages.Leave()  # it has read both


@asynccontextmanager
async def monitor() -> AsyncIterator[Monitor]:
    """A link and a monitor, closed at the end."""
    one = Monitor()
    try:
        async with asyncio.timeout(PATIENCE):
            yield one
    finally:
        one.link.close()
        one.end.close()


def denied(request: str, reason: str = "no") -> RequestDenied:
    """An event."""
    return RequestDenied(conn="c1", user="amos", request=request, reason=reason)


def ended() -> SessionClosed:
    """The end of a session."""
    return SessionClosed(
        conn="c1",
        session="c1.1",
        user="",
        reason="exited",
        exit_status=7,
        exit_signal=None,
        bytes_in=1,
        bytes_out=2,
        seconds=0.5,
    )


def test_events_arrive_in_their_order_and_nobody_is_named() -> None:
    """Protects the log: each event arrives once, in order, with others of its turn, and without user and identity."""

    async def go() -> None:
        async with monitor() as one:
            identity = Identity("file:amos", None, "SHA256:x")
            one.link.happened(RequestDenied(conn="c1", user="amos", request="a", reason="no", identity=identity))
            one.link.happened(denied("\udcff"))
            one.link.tell(messages.Busy())
            one.link.happened(denied("c"))
            first = await one.hear()
            assert isinstance(first, Happened)
            events = [messages.unpack(packed) for packed in first.events]
            assert events == [
                RequestDenied(conn="c1", user="", request=request, reason="no") for request in ("a", "\udcff")
            ]
            assert await one.hear() == messages.Busy()
            assert await one.hear_events(1) == (["c"], [])
            assert not one.link.has_told_all
            await one.log()
            assert one.link.has_told_all

    asyncio.run(go())


def test_a_monitor_that_does_not_read_costs_events_and_no_memory() -> None:
    """Protects the process from a monitor that is stopped: a limited number of events waits, others are counted."""

    async def go() -> None:
        async with monitor() as one:
            count = 3 * MAX_WAITING
            for number in range(count):
                one.link.happened(denied(f"{number}", "x" * 200))
                if number % 100 == 0:
                    await asyncio.sleep(0)  # let some of it be sent
            assert not one.link.has_told_all
            heard, losses = await one.hear_events(count)
            assert MAX_WAITING <= len(heard) < count
            assert sum(lost for _, lost in losses) == count - len(heard)
            # The loss is reported in the right place: after the events before it.
            place, lost = 0, 0
            for at, more in losses:
                assert heard[place:at] == [f"{number + lost}" for number in range(place, at)]
                place, lost = at, lost + more
            await one.log()
            one.link.happened(denied("again"))
            assert await one.hear_events(1) == (["again"], [])

    asyncio.run(go())


def test_a_monitor_that_writes_nothing_down_costs_events_and_no_memory() -> None:
    """Protects the process from a monitor that reads, but whose log is stuck: what was sent counts, too."""

    async def go() -> None:
        async with monitor() as one:
            for number in range(MAX_WAITING):
                one.link.happened(denied(f"{number}"))
            await one.hear_events(MAX_WAITING)
            one.link.happened(denied("one more"))
            assert await one.hear_events(1) == ([], [(0, 1)])
            one.link.happened(ended())  # a client waits for this one
            message = await one.hear()
            assert isinstance(message, Happened)
            assert messages.unpack(message.events[0]) == ended()
            one.begin()  # the next one gets all of it
            heard, losses = await one.hear_events(MAX_WAITING + 1)
            assert (len(heard), losses) == (MAX_WAITING, [(MAX_WAITING, 1)])

    asyncio.run(go())


def test_long_events_are_bounded_by_their_bytes() -> None:
    """Protects memory from a few long events, and a message from an event that is too long: it is cut."""

    async def go() -> None:
        async with monitor() as one:
            one.end.close()
            await one.ended.wait()
            for _ in range(2 * MAX_WAITING_BYTES // 100_000):
                one.link.happened(denied("x" * 100_000))
            one.begin()
            heard, losses = await one.hear_events(2 * MAX_WAITING_BYTES // 100_000)
            assert len(heard) * 100_000 <= MAX_WAITING_BYTES
            assert [lost for _, lost in losses] == [2 * MAX_WAITING_BYTES // 100_000 - len(heard)]
            await one.log()
            one.link.happened(denied("x" * MAX_MESSAGE + "end"))
            (text,), losses = await one.hear_events(1)
            assert (len(text), text[-4:], losses) == (2 * KEPT, "xend", [])

    asyncio.run(go())


def test_long_events_do_not_keep_an_end_from_the_log() -> None:
    """Protects what a client is told: there is room for ends of sessions after events that have filled all bytes."""

    async def go() -> None:
        async with monitor() as one:
            one.end.close()
            await one.ended.wait()
            for _ in range(2 * MAX_WAITING_BYTES // 100_000):
                one.link.happened(denied("x" * 100_000))
            one.link.happened(denied("x" * (MAX_WAITING_BYTES % 100_000 - 1000)))
            one.link.happened(denied("x" * 500))
            for _ in range(MORE_ENDS):
                one.link.happened(ended())
            one.begin()
            ends = 0
            while ends < MORE_ENDS:
                message = await one.hear()
                if isinstance(message, Happened):
                    ends += sum(messages.unpack(event) == ended() for event in message.events)
                else:
                    assert isinstance(message, Lost)
                    assert not ends

    asyncio.run(go())


def test_messages_other_than_events_are_bounded_as_well() -> None:
    """Protects memory from a monitor that sends requests and never reads an answer."""

    async def go() -> None:
        async with monitor() as one:
            one.end.close()
            await one.ended.wait()
            for _ in range(MAX_WAITING + 3):
                one.link.tell(messages.Busy())
            one.begin()
            for _ in range(MAX_WAITING):
                assert await one.hear() == messages.Busy()
            assert await one.hear() == Lost(1, 3)

    asyncio.run(go())


def test_events_wait_for_the_next_monitor() -> None:
    """Protects the log from a monitor's death: the next monitor gets the events of that time, in order."""

    async def go() -> None:
        async with monitor() as one:
            one.link.happened(denied("before"))
            assert await one.hear_events(1) == (["before"], [])
            await one.log()
            one.end.close()
            await one.ended.wait()
            assert not one.link.is_connected
            one.link.happened(denied("meanwhile"))
            await asyncio.sleep(0)
            one.link.happened(denied("and more"))
            one.begin()
            assert one.link.is_connected
            assert await one.hear_events(2) == (["meanwhile", "and more"], [])

    asyncio.run(go())


def test_what_is_not_in_the_log_is_sent_again() -> None:
    """Protects the log: the next monitor gets what the one before has read and not written, with the same numbers."""

    async def go() -> None:
        async with monitor() as one:
            one.link.took("c1", "SSH-2.0-Test", messages.Negotiated(cipher_out="aes128-gcm@openssh.com"))
            for request in ("written", "read", "also read"):
                one.link.happened(denied(request))
            taken = await one.hear()
            assert taken == messages.Taken(
                1,
                "c1",
                "SSH-2.0-Test",
                "aes128-gcm@openssh.com",
                messages.Negotiated(cipher_out="aes128-gcm@openssh.com"),
            )
            assert await one.hear_events(3) == (["written", "read", "also read"], [])
            one.link.crashed("c1", "Traceback")
            crash = await one.hear()
            assert crash == messages.Crashed(5, "c1", "Traceback")
            await one.log(2)
            one.end.close()
            await one.ended.wait()
            one.link.happened(denied("meanwhile"))
            one.begin()
            again = await one.hear()
            assert isinstance(again, Happened)
            assert (again.first, len(again.events)) == (3, 2)
            assert await one.hear() == crash
            assert await one.hear_events(1) == (["meanwhile"], [])
            assert one.heard == 6
            await one.log()
            assert one.link.has_told_all
            one.begin()
            with pytest.raises(BlockingIOError):
                one.end.recv(1)

    asyncio.run(go())


def test_what_was_not_sent_is_not_in_the_log() -> None:
    """Protects the log from a faulty monitor: one that claims to have what it never got is left."""

    async def go() -> None:
        async with monitor() as one:
            one.link.happened(denied("only this"))
            await one.hear()
            one.say(Logged(2))
            assert "was not sent" in await one.nonsense.get()

    asyncio.run(go())


# -- a client that waits for the log ------------------------------------------------------------------------------


class Client:
    """A client whose session's end was reported; `knows` once it may be told."""

    def __init__(self, link: MonitorLink) -> None:
        self.knows = asyncio.Event()
        link.happened(ended())
        link.once_logged(self.knows.set)


def test_a_client_waits_for_the_log() -> None:
    """Protects the log: nobody is told of an end before the log has it; what is there already, nobody waits for."""

    async def go() -> None:
        async with monitor() as one:
            first, second = Client(one.link), Client(one.link)
            await one.hear()
            await one.hear()
            await one.log(1)
            assert first.knows.is_set()
            assert not second.knows.is_set()
            await one.log(2)
            assert second.knows.is_set()
            known = asyncio.Event()
            one.link.once_logged(known.set)
            assert known.is_set()

    asyncio.run(go())


def test_a_client_does_not_wait_for_the_next_monitor() -> None:
    """Protects clients: when the monitor dies, its end waits for the next one, and the client does not."""

    async def go() -> None:
        async with monitor() as one:
            waiting = Client(one.link)
            await one.hear()
            one.end.close()
            await one.ended.wait()
            assert waiting.knows.is_set()
            assert Client(one.link).knows.is_set()
            one.begin()
            message = await one.hear()
            assert isinstance(message, Happened)
            assert message.first == 1
            assert len(message.events) == 2

    asyncio.run(go())


def test_a_client_is_told_nothing_that_nobody_will_log() -> None:
    """Protects the log at the server's end: without a next monitor, a client loses its connection instead."""

    async def go() -> None:
        async with monitor() as one:
            one.link.is_last = True
            waiting = Client(one.link)
            await one.hear()
            one.end.close()
            await one.ended.wait()
            assert not Client(one.link).knows.is_set()
            assert not waiting.knows.is_set()

    asyncio.run(go())


def test_a_client_does_not_wait_for_a_monitor_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects clients: one waits for a limited time, the next ones not at all, until the monitor answers again."""

    async def go() -> None:
        async with monitor() as one:
            first = Client(one.link)
            await first.knows.wait()
            assert Client(one.link).knows.is_set()
            await one.hear()
            await one.hear()
            await one.log(1)
            third = Client(one.link)
            assert not third.knows.is_set()
            await one.hear()
            await one.log(3)
            assert third.knows.is_set()

    monkeypatch.setattr(monitor_link, "LOGGED_SECONDS", 0.05)
    asyncio.run(go())


def test_what_a_dying_monitor_said_last_counts() -> None:
    """Protects an order that a monitor sent just before its death, even though it had not read everything."""

    async def go() -> None:
        async with monitor() as one:
            one.link.happened(denied("unread"))
            assert not one.link.has_told_all
            one.say(messages.Leave())
            one.end.close()
            assert await one.orders.get() == (messages.Leave(), [])
            await one.ended.wait()

    asyncio.run(go())


def test_signatures_and_proofs() -> None:
    """Protects rekeying: each request gets its own answer, in any order of arrival, and a refusal is reported."""

    async def go() -> None:
        async with monitor() as one, asyncio.TaskGroup() as tasks:
            signing = tasks.create_task(one.link.sign("c1", b"ssh-ed25519", HASH))
            proving = tasks.create_task(one.link.prove("c2", (b"key",), b"rsa-sha2-512"))
            refused = asyncio.ensure_future(one.link.sign("c3", b"ssh-ed25519", HASH))
            first, second, third = await one.hear(), await one.hear(), await one.hear()
            assert first == messages.Sign(1, "c1", b"ssh-ed25519", HASH)
            assert second == messages.Prove(2, "c2", (b"key",), b"rsa-sha2-512")
            assert isinstance(third, messages.Sign)
            one.say(messages.Signed(third.id, None))
            one.say(messages.Proved(2, b"proof"))
            one.say(messages.Signed(99, b"for nobody"))
            one.say(messages.Signed(1, b"signature"))
            assert (await signing, await proving) == (b"signature", b"proof")
            with pytest.raises(Unanswered, match="does not sign"):
                await refused

    asyncio.run(go())


def test_an_answer_of_another_kind() -> None:
    """Protects the client from a proof sent instead of a signature."""

    async def go() -> None:
        async with monitor() as one:
            signing = asyncio.ensure_future(one.link.sign("c1", b"ssh-ed25519", HASH))
            await one.hear()
            one.say(messages.Proved(1, b"proof"))
            with pytest.raises(Unanswered, match="unexpected"):
                await signing

    asyncio.run(go())


def test_a_signature_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects a client from a monitor that is stopped: its rekey fails at a deadline."""

    async def go() -> None:
        async with monitor() as one:
            with pytest.raises(Unanswered, match="no answer"):
                await one.link.sign("c1", b"ssh-ed25519", HASH)
            one.say(messages.Signed(1, b"late"))
            one.say(messages.Leave())
            assert (await one.orders.get())[0] == messages.Leave()

    monkeypatch.setattr(monitor_link, "ANSWER_SECONDS", 0.02)
    asyncio.run(go())


def test_a_question_goes_to_the_next_monitor() -> None:
    """Protects a rekey during which the monitor dies: the next one is asked, once, and signs."""

    async def go() -> None:
        async with monitor() as one:
            read = asyncio.ensure_future(one.link.sign("c1", b"ssh-ed25519", HASH))
            await one.hear()
            one.end.close()
            await one.ended.wait()
            waiting = asyncio.ensure_future(one.link.sign("c2", b"ssh-ed25519", HASH))
            await asyncio.sleep(0)
            one.begin()
            asked = [await one.hear(), await one.hear()]
            assert sorted(message.conn for message in asked if isinstance(message, messages.Sign)) == ["c1", "c2"]
            for message in asked:
                assert isinstance(message, messages.Sign)
                one.say(messages.Signed(message.id, message.conn.encode()))
            assert (await read, await waiting) == (b"c1", b"c2")
            with pytest.raises(BlockingIOError):
                one.end.recv(1)

    asyncio.run(go())


def test_the_end_fails_what_is_asked() -> None:
    """Protects a request for a signature when the whole server is gone: it fails."""

    async def go() -> None:
        async with monitor() as one:
            signing = asyncio.ensure_future(one.link.sign("c1", b"ssh-ed25519", HASH))
            await one.hear()
            one.link.close()
            with pytest.raises(Unanswered, match="gone"):
                await signing

    asyncio.run(go())


def test_orders_come_with_their_descriptors() -> None:
    """Protects the client's socket: it arrives with its order."""

    async def go() -> None:
        async with monitor() as one:
            reader, writer = os.pipe()
            one.say(messages.Leave(), reader)
            order, descriptors = await one.orders.get()
            assert order == messages.Leave()
            os.write(writer, b"x")
            assert os.read(descriptors[0], 1) == b"x"
            close_all([reader, writer, *descriptors])

    asyncio.run(go())


@pytest.mark.parametrize("is_message", [True, False], ids=["wrong", "malformed"])
def test_nonsense_is_told(is_message: bool) -> None:
    """Protects the account from a faulty monitor: nothing is read after its error, and descriptors are closed."""

    async def go() -> None:
        async with monitor() as one:
            one.is_order = False
            reader, writer = os.pipe()
            packet = messages.encode(messages.Leave()) if is_message else b"\xc1nonsense"
            socket.send_fds(one.end, [packet], [reader])
            os.close(reader)
            assert await one.nonsense.get()
            assert not one.link.is_connected
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            os.close(writer)
            assert one.end.recv(1) == b""
            assert not one.ended.is_set()

    asyncio.run(go())


def test_an_answer_has_no_descriptors() -> None:
    """Protects our descriptors: an answer with descriptors ends the link."""

    async def go() -> None:
        async with monitor() as one:
            reader, writer = os.pipe()
            one.say(messages.Signed(1, b""), reader)
            assert "descriptors" in await one.nonsense.get()
            close_all([reader])
            with pytest.raises(BrokenPipeError):
                os.write(writer, b"x")
            close_all([writer])

    asyncio.run(go())


def test_all_that_is_told_can_be_read() -> None:
    """Protects the batches: for any sizes of events, the monitor can decode each message."""

    async def go() -> None:
        async with monitor() as one:
            sizes = [*range(0, 120_000, 3000), 0, 1, 2]
            for size in sizes:
                one.link.happened(
                    FileOperation(
                        conn="c1", session="c1.1", user="", operation="file.closed", path="y" * size, target="",
                        detail="", bytes_read=0, bytes_written=0, outcome="ok",
                    )
                )  # fmt: skip
            heard: list[int] = []
            while len(heard) < len(sizes):
                message = await one.hear()
                assert isinstance(message, Happened)
                for event in map(messages.unpack, message.events):
                    assert isinstance(event, FileOperation)
                    heard.append(len(event.path))
            assert heard == sizes

    asyncio.run(go())
