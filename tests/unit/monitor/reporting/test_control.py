"""monitor.reporting.control: who asks, what they may ask, and that nobody can keep others from asking."""

import asyncio
import contextlib
import os
import pwd
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.core import control
from pyssh_gateway.core.control import (
    AcceptAccount,
    AcceptedReply,
    AnyReply,
    AnyRequest,
    HeldReply,
    HoldReport,
    IdleReport,
    KeysReply,
    LoginReport,
    RefusedReply,
    ReleasedReply,
    SessionsReply,
    Status,
    StatusReply,
    TryKey,
    Verdict,
    VerdictsReply,
    WhyReply,
)
from pyssh_gateway.events import AnyEvent, ControlRequest, InternalError
from pyssh_gateway.monitor.reporting import control as server
from pyssh_gateway.monitor.reporting.control import Asker, ControlServer, Handlers, Unanswerable
from pyssh_gateway.system.accounts import name_of
from tests.support.waiting import PATIENCE

NOBODY = 65534
NOBODYS_NAME = name_of(NOBODY) or str(NOBODY)
REFUSAL = "this is for root and the account that started the server"

STATUS = StatusReply("0.1.0", 7, 1.0, "::", 22, (), (), 0, IdleReport(None, False, None), ())
KEYS = KeysReply((LoginReport("amos", ()),), ())
HOLD = HoldReport("2e1068", "amos", "training run", 1.0, 61.0, 0)
WHY = WhyReply(1.0, "", "It stops.", IdleReport(60.0, True, None), (HOLD,), ())
SESSIONS = SessionsReply(())
CONFIG = control.ConfigReply(b'{"path": "\\u001b"}', "ab12", 7)
ANSWERS: list[tuple[AnyRequest, AnyReply]] = [
    (control.Configuration(), CONFIG),
    (Status(), STATUS),
    (control.Keys(), KEYS),
    (control.RefreshKeys(), KEYS),
    (TryKey(b"blob", user="amos"), VerdictsReply((Verdict("amos", False, "no\\x1b"),))),
    (AcceptAccount("github:example"), AcceptedReply("accepted github:example")),
    (control.Sessions(), SESSIONS),
    (control.Why(), WHY),
    (control.HoldUp(60.0, "training run"), HeldReply(HOLD)),
    (control.Release("2e1068"), ReleasedReply((HOLD,))),
]
FOR_LOGINS = {"status", "sessions", "why", "hold", "release"}
"""The requests that login accounts may make, by their names in the log."""
ASK_STATUS = control.encode_request(Status())

DAEMON = pwd.getpwnam("daemon")
"""Another account, which exists on every machine."""

Scenario = Callable[["Asking"], Awaitable[None]]


async def _status(_asker: Asker) -> StatusReply:
    return STATUS


async def _sessions(_asker: Asker) -> SessionsReply:
    return SESSIONS


async def _refresh() -> KeysReply:
    return KEYS


async def _accept(source: str) -> AcceptedReply:
    return AcceptedReply(f"accepted {source}")


async def _try_key(request: TryKey) -> VerdictsReply:
    return VerdictsReply((Verdict(request.user, False, "no\x1b"),))


HANDLERS = Handlers(
    configuration=lambda: CONFIG,
    status=_status,
    keys=lambda: KEYS,
    refresh_keys=_refresh,
    try_key=_try_key,
    accept_account=_accept,
    sessions=_sessions,
    why=lambda: WHY,
    hold=lambda _request, _asker: HeldReply(HOLD),
    release=lambda _request, _asker: ReleasedReply((HOLD,)),
)


class Asking:
    """A running server at `path`, and its published events."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events: list[AnyEvent] = []
        self.told = asyncio.Event()

    def publish(self, event: AnyEvent) -> None:
        """Record an event for the log."""
        self.events.append(event)
        self.told.set()

    async def connect(self, *, as_stranger: bool = False, uid: int = NOBODY) -> socket.socket:
        """A connection from an account that may ask, or with `as_stranger` from the account `uid`."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        # The kernel notes the uid at connect(2), which takes no time while the queue has room.
        with acting_as(uid) if as_stranger else contextlib.nullcontext():
            await asyncio.get_running_loop().sock_connect(sock, self.path)
        return sock

    async def ask(self, line: bytes, *, as_stranger: bool = False) -> AnyReply:
        """The reply to a line."""
        sock = await self.connect(as_stranger=as_stranger)
        with sock:
            await asyncio.get_running_loop().sock_sendall(sock, line)
            return control.decode_reply(await read_all(sock))

    def outcomes(self) -> list[tuple[str, str]]:
        """The command and outcome of each logged request."""
        return [(event.command, event.outcome) for event in self.events if isinstance(event, ControlRequest)]


async def read_all(sock: socket.socket) -> bytes:
    """Read until the server closes."""
    data = b""
    while received := await asyncio.get_running_loop().sock_recv(sock, 65536):
        data += received
    return data


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Act as that account, as far as the kernel tells other processes."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def play() -> Iterator[Callable[..., list[AnyEvent]]]:
    """Runs a scenario with a server: `play(scenario)`; `handlers`, `owner` and `users` are the server's."""
    # Not in pytest's directory, which other accounts can't enter.
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        path = Path(directory, "control.sock")
        listening.bind(str(path))
        path.parent.chmod(0o755)
        path.chmod(0o666)
        listening.listen(64)

        @contextlib.asynccontextmanager
        async def serving(
            handlers: Handlers, owner: int, users: tuple[str, ...], refusal_seconds: float
        ) -> AsyncIterator[Asking]:
            asking = Asking(str(path))
            one = ControlServer(
                listening,
                handlers=handlers,
                owner=owner,
                users=users,
                publish=asking.publish,
                refusal_seconds=refusal_seconds,
            )
            task = asyncio.get_running_loop().create_task(one.run())
            try:
                async with asyncio.timeout(PATIENCE):
                    yield asking
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

        def run(
            scenario: Scenario,
            handlers: Handlers = HANDLERS,
            owner: int | None = None,
            refusal_seconds: float = 0.0,
            users: tuple[str, ...] = (),
        ) -> list[AnyEvent]:
            async def whole() -> list[AnyEvent]:
                started_by = os.geteuid() if owner is None else owner
                async with serving(handlers, started_by, users, refusal_seconds) as asking:
                    await scenario(asking)
                    return asking.events

            return asyncio.run(whole())

        yield run


Play = Callable[..., list[AnyEvent]]


def test_every_request_is_answered_by_its_handler(play: Play) -> None:
    """Protects the commands: each request gets its own answer, safe to print, and a log line with the asker."""

    async def scenario(asking: Asking) -> None:
        for request, reply in ANSWERS:
            assert await asking.ask(control.encode_request(request)) == reply
        assert asking.outcomes() == [(control.describe(request), "answered") for request, _ in ANSWERS]

    event = play(scenario)[0]
    assert isinstance(event, ControlRequest)
    assert (event.uid, event.pid) == (os.geteuid(), os.getpid())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_another_account_is_refused(play: Play) -> None:
    """Protects requests that only root and the server's account may make; another account's attempt is logged."""

    async def scenario(asking: Asking) -> None:
        for request, _ in ANSWERS:
            assert await asking.ask(control.encode_request(request), as_stranger=True) == RefusedReply(REFUSAL)
        assert asking.outcomes() == [(control.describe(request), f"refused: {REFUSAL}") for request, _ in ANSWERS]

    event = play(scenario, owner=12345)[0]
    assert isinstance(event, ControlRequest)
    assert event.uid == NOBODY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_an_account_that_can_log_in_may_hold_and_ask_why(play: Play) -> None:
    """Protects both sides: login users get only the answers meant for them, and handlers learn who asks."""
    seen: list[Asker] = []

    def hold(request: control.HoldUp, asker: Asker) -> HeldReply:
        seen.append(asker)
        return HeldReply(HOLD)

    async def scenario(asking: Asking) -> None:
        for request, reply in ANSWERS:
            expected = reply if control.describe(request).split()[0] in FOR_LOGINS else RefusedReply(REFUSAL)
            assert await asking.ask(control.encode_request(request), as_stranger=True) == expected

    play(scenario, msgspec.structs.replace(HANDLERS, hold=hold), owner=12345, users=("amos", NOBODYS_NAME))
    assert seen == [Asker(os.getpid(), NOBODY, NOBODYS_NAME, may_ask_everything=False)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_a_login_user_cannot_fill_the_log(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the disk: after an answer an account's slot stays taken for a while, which slows down loops."""

    async def scenario(asking: Asking) -> None:
        for _ in range(server.OTHERS_AT_ONCE):
            assert await asking.ask(ASK_STATUS, as_stranger=True) == STATUS
        with await asking.connect(as_stranger=True) as one_more:
            await asyncio.get_running_loop().sock_sendall(one_more, ASK_STATUS)
            assert await asking.ask(ASK_STATUS) == STATUS
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await read_all(one_more)

    monkeypatch.setattr(server, "OTHERS_PAUSE_SECONDS", 3600.0)
    play(scenario, owner=12345, users=(NOBODYS_NAME,))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_many_login_users_may_ask_at_once(play: Play) -> None:
    """Protects scripts that start many holds at the same time: requests above the limit wait for their turn."""

    async def scenario(asking: Asking) -> None:
        asked = [asyncio.create_task(asking.ask(ASK_STATUS, as_stranger=True)) for _ in range(server.MAX_OTHERS)]
        assert await asyncio.gather(*asked) == [STATUS] * server.MAX_OTHERS

    play(scenario, owner=12345, users=(NOBODYS_NAME,))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may ask every server")
def test_the_owner_is_who_started_it(play: Play) -> None:
    """Protects the same without root: an account that did not start the server is refused."""

    async def scenario(asking: Asking) -> None:
        assert await asking.ask(ASK_STATUS) == RefusedReply(REFUSAL)

    play(scenario, owner=os.geteuid() + 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_the_account_that_started_it_may_ask(play: Play) -> None:
    """Protects servers of ordinary accounts: the account that started one may ask it."""

    async def scenario(asking: Asking) -> None:
        assert await asking.ask(ASK_STATUS, as_stranger=True) == STATUS

    play(scenario, owner=NOBODY)


@pytest.mark.parametrize(
    "line", [b"\n", b"quit\n", b'{"request":"quit"}\n', b"\xff\xfe\n", b"x" * (control.MAX_REQUEST_BYTES + 1)]
)
def test_what_is_no_request_is_refused(play: Play, line: bytes) -> None:
    """Protects the server: anything else is refused and logged, but not quoted, however long it is."""

    async def scenario(asking: Asking) -> None:
        reply = await asking.ask(line)
        assert isinstance(reply, RefusedReply)
        assert reply.reason.startswith("not a request")
        ((command, outcome),) = asking.outcomes()
        assert command == "a line that is no request"
        assert outcome.startswith("refused: not a request")
        assert await asking.ask(ASK_STATUS) == STATUS

    play(scenario)


def test_a_refusal_takes_its_time(play: Play) -> None:
    """Protects the disk: each refusal is a log line, so refusals are delayed."""

    async def scenario(asking: Asking) -> None:
        with await asking.connect() as sock:
            await asyncio.get_running_loop().sock_sendall(sock, b"quit\n")
            await asking.told.wait()
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await read_all(sock)

    play(scenario, refusal_seconds=3600.0)


def test_an_answer_that_cannot_be_given_says_why(play: Play) -> None:
    """Protects the asker: a handler's reason for a failure is in the reply and in the log."""

    async def accept(source: str) -> AcceptedReply:
        raise Unanswerable(f"no login has {source}")

    async def scenario(asking: Asking) -> None:
        reply = await asking.ask(control.encode_request(AcceptAccount("github:example")))
        assert reply == RefusedReply("no login has github:example")
        assert asking.outcomes() == [("keys.accept github:example", "failed: no login has github:example")]

    play(scenario, msgspec.structs.replace(HANDLERS, accept_account=accept))


def test_a_bug_in_an_answer_ends_nothing(play: Play) -> None:
    """Protects all sessions: an exception in a handler is logged, and the next request is answered."""

    def keys() -> KeysReply:
        raise KeyError("a bug")

    async def scenario(asking: Asking) -> None:
        reply = await asking.ask(control.encode_request(control.Keys()))
        assert reply == RefusedReply("internal error; the server's log has more")
        assert await asking.ask(ASK_STATUS) == STATUS
        (bug,) = [event for event in asking.events if isinstance(event, InternalError)]
        assert "a bug" in bug.error

    play(scenario, msgspec.structs.replace(HANDLERS, keys=keys))


def test_an_answer_has_a_deadline(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects against requests that pile up behind an answer that never comes."""

    async def refresh() -> KeysReply:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def scenario(asking: Asking) -> None:
        reply = await asking.ask(control.encode_request(control.RefreshKeys()))
        assert reply == RefusedReply("no answer was found within 0 s")
        assert asking.outcomes() == [("keys.refresh", "failed: no answer within 0 s")]

    monkeypatch.setattr(server, "ANSWER_SECONDS", 0.05)
    play(scenario, msgspec.structs.replace(HANDLERS, refresh_keys=refresh))


def test_who_connects_and_says_nothing_is_cut_off(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects the slots: a client that sends no request in time is disconnected, so that others can ask."""

    async def scenario(asking: Asking) -> None:
        with await asking.connect() as sock:
            assert await read_all(sock) == b""
        assert asking.events == []
        assert await asking.ask(ASK_STATUS) == STATUS

    monkeypatch.setattr(server, "READ_SECONDS", 0.05)
    play(scenario)


def test_who_goes_before_the_answer_harms_nobody(play: Play) -> None:
    """Protects the server from clients that leave at any point."""

    async def scenario(asking: Asking) -> None:
        loop = asyncio.get_running_loop()
        for line in (b"", b'{"requ', ASK_STATUS):
            with await asking.connect() as sock:
                await loop.sock_sendall(sock, line)
        assert await asking.ask(ASK_STATUS) == STATUS

    play(scenario)


def test_only_so_many_ask_at_a_time(play: Play) -> None:
    """Protects descriptors and memory: a connection above the limit is closed, and a slot that becomes free is used."""

    async def scenario(asking: Asking) -> None:
        held = [await asking.connect() for _ in range(server.MAX_ASKERS)]
        with await asking.connect() as one_more:
            assert await read_all(one_more) == b""
        held.pop().close()
        for sock in held:
            await asyncio.get_running_loop().sock_sendall(sock, ASK_STATUS)
            assert control.decode_reply(await read_all(sock)) == STATUS
            sock.close()
        assert await asking.ask(ASK_STATUS) == STATUS

    play(scenario)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_others_cannot_take_the_places_of_those_who_may_ask(play: Play) -> None:
    """Protects root's commands from a login user who opens many connections and keeps them."""

    async def scenario(asking: Asking) -> None:
        held = [await asking.connect(as_stranger=True) for _ in range(server.MAX_ASKERS + server.MAX_OTHERS)]
        assert await asking.ask(ASK_STATUS) == STATUS
        async with asyncio.timeout(server.READ_SECONDS / 2):  # a connection with a slot stays until READ_SECONDS
            for one_too_many in held[server.MAX_OTHERS :]:
                assert await read_all(one_too_many) == b""
        for sock in held:
            sock.close()

    play(scenario, owner=12345, users=(NOBODYS_NAME,))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
@pytest.mark.parametrize("holder_may_log_in", [False, True])
def test_nobody_keeps_an_account_that_may_log_in_from_asking(
    play: Play, monkeypatch: pytest.MonkeyPatch, holder_may_log_in: bool
) -> None:
    """Protects `hold` and `status` from another account that opens many connections and sends nothing."""
    users = (DAEMON.pw_name, NOBODYS_NAME) if holder_may_log_in else (DAEMON.pw_name,)

    async def scenario(asking: Asking) -> None:
        idle = [await asking.connect(as_stranger=True) for _ in range(server.MAX_OTHERS + 10)]
        with await asking.connect(as_stranger=True, uid=DAEMON.pw_uid) as sock:
            await asyncio.get_running_loop().sock_sendall(sock, ASK_STATUS)
            assert control.decode_reply(await read_all(sock)) == STATUS
        for one in idle:
            one.close()

    for name in ("READ_SECONDS", "STRANGER_SECONDS"):  # so that silent connections stay open in this test
        monkeypatch.setattr(server, name, 3600.0)
    play(scenario, owner=12345, users=users)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another account")
def test_an_account_that_may_ask_nothing_has_one_place(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects descriptors: such an account's further connections are closed at once, and the first one soon after."""

    async def scenario(asking: Asking) -> None:
        first, *others = [await asking.connect(as_stranger=True) for _ in range(10)]
        for sock in others:
            assert await read_all(sock) == b""
            sock.close()
        assert await read_all(first) == b""
        first.close()
        assert asking.events == []
        assert await asking.ask(ASK_STATUS, as_stranger=True) == RefusedReply(REFUSAL)

    monkeypatch.setattr(server, "READ_SECONDS", 3600.0)
    play(scenario, owner=12345)
