"""Session channels and the requests on them: malformed, repeated, too many, too early, too late."""

import asyncio

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.server import Server
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_FAILURE,
    CHANNEL_OPEN,
    CHANNEL_REQUEST,
    CHANNEL_SUCCESS,
    CLOSED,
    GLOBAL_REQUEST,
    OPEN_CONFIRMATION,
    OPEN_FAILURE,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    WINDOW_ADJUST,
    RawClient,
    play,
    pty,
    u32,
)

UNKNOWN_CHANNEL_TYPE = 3
SESSIONS = 64
"""The default of limits.sessions_per_connection."""

LEAVES_THE_TTY = b"exec </dev/null >/dev/null 2>&1; sleep 20"
"""A process that lives on although no process has its terminal open any more."""


@pytest.mark.parametrize(
    "kind", [b"nonsense", b"", b"channel", b"global", b"packet", b"x11", b"auth-agent@openssh.com", b"tun@openssh.com"]
)
def test_unknown_channel_types_fail_and_nothing_else(server: Server, user_key: KeyPair, kind: bytes) -> None:
    """An unknown channel type is answered with a failure; other sessions on the connection go on."""

    async def scenario(client: RawClient) -> None:
        client.say(CHANNEL_OPEN, text(kind), u32(9, 1000, 1000, 1, 2))
        pkttype, payload = await client.hear(OPEN_FAILURE, OPEN_CONFIRMATION)
        assert pkttype == OPEN_FAILURE
        assert payload[:4] == u32(9)
        assert await client.is_alive()

    play(server, user_key, scenario)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (b"nonsense", b""),
        (b"", b""),
        (b"start", b""),
        (b"x11-req", b"\0" + text(b"MIT-MAGIC-COOKIE-1") + text(b"00ff") + u32(0)),
        (b"eow@openssh.com", b""),
        (b"keepalive@openssh.com", b""),
        (b"exit-status", u32(0)),
        (b"exit-signal", text(b"TERM") + b"\0" + text(b"") + text(b"")),
        (b"xon-xoff", b"\1"),
        (b"signal", text(b"TERM")),
        (b"signal", text(b"\xff")),
        (b"break", u32(0)),
        (b"env", text(b"LD_PRELOAD") + text(b"/tmp/x.so")),
        (b"env", text(b"PATH") + text(b"/tmp")),
        (b"env", text(b"BASH_ENV") + text(b"/tmp/x")),
        (b"env", text(b"LC_ALL\xff") + text(b"C")),
        (b"env", text(b"LANG") + text(b"C\0LD_PRELOAD=x")),
        (b"env", text(b"") + text(b"")),
        (b"subsystem", text(b"nonsense")),
        (b"subsystem", text(b"")),
        (b"subsystem", text(b"\xff")),
        (b"subsystem", text(b"/bin/sh")),
    ],
)
def test_requests_that_are_not_served_fail(server: Server, user_key: KeyPair, name: bytes, fields: bytes) -> None:
    """Unknown requests get a failure, and never do something else (start a shell, for example)."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert not await client.granted(channel, name, fields)
        assert await client.is_alive()

    mark = server.mark()
    play(server, user_key, scenario)
    assert [event["command"] for event in server.find("session.opened", mark)] == ["echo alive"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (b"pty-req", b""),
        (b"pty-req", pty()[:-1]),
        (b"pty-req", pty() + b"more"),
        (b"exec", b""),
        (b"exec", b"\xff\xff\xff\xff"),
        (b"shell", b"more"),
        (b"env", text(b"LANG")),
        (b"window-change", u32(1)),
        (b"signal", b""),
        (b"break", b""),
    ],
)
def test_malformed_requests_are_the_peers_error(server: Server, user_key: KeyPair, name: bytes, fields: bytes) -> None:
    """A request that can't be parsed fails or ends the connection, as with sshd; it is not logged as a bug of ours."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        client.request(channel, name, fields)
        assert (await client.hear(CLOSED, CHANNEL_FAILURE, CHANNEL_SUCCESS))[0] != CHANNEL_SUCCESS

    play(server, user_key, scenario)


def test_terminal_modes_that_make_no_sense_cost_no_terminal(server: Server, user_key: KeyPair) -> None:
    """Modes are used as far as they can be read (RFC 4254 section 8); old and odd clients get their terminal."""
    cases = [
        b"",
        b"\0",
        b"\x35",
        b"\x35\0\0",
        b"\xff" * 7,
        b"\x35" + u32(0),
        bytes(1000),
        b"\x80" + u32(0xFFFFFFFF) + b"\x01",
    ]

    async def scenario(client: RawClient) -> None:
        for modes in cases:
            channel = await client.open_session()
            assert await client.granted(channel, b"pty-req", pty(modes=modes)), modes
            assert await client.granted(channel, b"exec", text(b"tty >/dev/null"))
            assert await client.finish(channel) == (b"", 0)

    play(server, user_key, scenario)


@pytest.mark.parametrize("term", [b"", b"\xff\xfe", b"x" * 10_000, b"a\0b", b"a=b\nc"])
def test_any_terminal_name_is_taken(server: Server, user_key: KeyPair, term: bytes) -> None:
    """The client chooses TERM, and no value of it breaks the session."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert await client.granted(channel, b"pty-req", pty(term=term))
        assert await client.granted(channel, b"exec", text(b"exit 5"))
        assert await client.finish(channel) == (b"", 5)

    play(server, user_key, scenario)


def test_sizes_reach_the_terminal_as_far_as_it_can_hold_them(server: Server, user_key: KeyPair) -> None:
    """Window sizes have 32 bits on the wire and 16 in the kernel; absurd ones are clipped: no overflow, no error."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert await client.granted(channel, b"pty-req", pty(columns=0xFFFFFFFF, rows=0))
        assert await client.granted(channel, b"exec", text(b"stty size; read line; stty size"))
        await client.hear(CHANNEL_DATA)
        for size in ((0, 0, 0, 0), (0x10000, 0x10001, 0xFFFFFFFF, 5), (132, 43, 0, 0)):
            assert await client.granted(channel, b"window-change", u32(*size))
        client.say(CHANNEL_DATA, u32(channel), text(b"\r"))
        output, _ = await client.finish(channel)
        assert output.split()[-2:] == [b"43", b"132"]

    play(server, user_key, scenario)


def test_a_resize_before_the_start_counts(server: Server, user_key: KeyPair) -> None:
    """A window that is resized between pty-req and shell has its new size when the shell starts."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert await client.granted(channel, b"pty-req", pty())
        client.request(channel, b"window-change", u32(100, 40, 0, 0), reply=False)
        assert await client.granted(channel, b"exec", text(b"stty size"))
        output, _ = await client.finish(channel)
        assert output.split() == [b"40", b"100"]

    play(server, user_key, scenario)


def test_a_resize_never_reaches_another_terminal(server: Server, user_key: KeyPair) -> None:
    """A resize for a terminal that no process has open must not reach another that reuses its descriptor's number."""

    async def scenario(client: RawClient) -> None:
        left = await client.started(LEAVES_THE_TTY, terminal=True)
        await client.hear(CHANNEL_EOF)
        other = await client.started(b"echo ready; read line; stty size", terminal=True)
        await client.hear(CHANNEL_DATA)
        client.request(left, b"break", u32(0), reply=False)
        assert await client.granted(left, b"window-change", u32(77, 33, 0, 0))
        client.say(CHANNEL_DATA, u32(other), text(b"\r"))
        output, status = await client.finish(other)
        assert (output.split()[-2:], status) == ([b"24", b"80"], 0)

    play(server, user_key, scenario)


def test_a_stop_survives_a_terminal_that_everybody_left(make_server: MakeServer, user_key: KeyPair) -> None:
    """A session that can't be told about the stop does not turn the stop into a crash."""
    server = make_server({"stop": {"drain": "1s"}})

    async def scenario(client: RawClient) -> None:
        await client.started(LEAVES_THE_TTY, terminal=True)
        await client.hear(CHANNEL_EOF)
        assert await asyncio.to_thread(server.stop) == 0

    play(server, user_key, scenario)
    assert server.find("server.stopped")


def test_a_channel_runs_one_thing(server: Server, user_key: KeyPair) -> None:
    """A second shell or command, and a second or late terminal, are refused; the first goes on undisturbed."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert await client.granted(channel, b"pty-req", pty())
        assert not await client.granted(channel, b"pty-req", pty())
        assert await client.granted(channel, b"exec", text(b"read line; exit 4"))
        for name, fields in (
            (b"exec", text(b"true")),
            (b"shell", b""),
            (b"pty-req", pty()),
            (b"subsystem", text(b"x")),
        ):
            assert not await client.granted(channel, name, fields), name
        client.say(CHANNEL_DATA, u32(channel), text(b"\r"))
        assert (await client.finish(channel))[1] == 4

    mark = server.mark()
    play(server, user_key, scenario)
    assert len(server.find("session.opened", mark)) == 1


def test_requests_sent_ahead_are_answered_in_order(server: Server, user_key: KeyPair) -> None:
    """Clients send all requests of a session at once; each is answered in its turn, and the session works."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        client.request(channel, b"nonsense")
        client.request(channel, b"env", text(b"LANG") + text(b"C"))
        client.request(channel, b"exec", text(b'echo "$LANG"; cat'))
        client.request(channel, b"nonsense")
        client.request(channel, b"window-change", u32(1, 1, 0, 0))
        client.say(CHANNEL_DATA, u32(channel), text(b"input\n"))
        client.say(CHANNEL_EOF, u32(channel))
        answers = [(await client.hear(CHANNEL_SUCCESS, CHANNEL_FAILURE))[0] for _ in range(5)]
        assert answers == [CHANNEL_FAILURE, CHANNEL_SUCCESS, CHANNEL_SUCCESS, CHANNEL_FAILURE, CHANNEL_SUCCESS]

    play(server, user_key, scenario)


@pytest.mark.parametrize(
    ("command", "output", "status"),
    [
        pytest.param(b"printf %s \xff\xfe | od -An -tx1", b" ff fe\n", 0, id="not UTF-8"),
        pytest.param(b"", b"", 0, id="empty"),
        pytest.param(b"exit 255", b"", 255, id="255"),
        pytest.param(b"echo " + b"x" * 100_000 + b" | wc -c", b"100001\n", 0, id="100 KB"),
    ],
)
def test_commands_are_bytes(server: Server, user_key: KeyPair, command: bytes, output: bytes, status: int) -> None:
    """A command reaches the shell unchanged."""

    async def scenario(client: RawClient) -> None:
        assert await client.execute(command) == (output, status)

    play(server, user_key, scenario)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(b"echo a\0b", id="NUL"),
        pytest.param(b"echo " + b"x" * 200_000, id="200 KB"),
        pytest.param(b"echo " + b"x" * 250_000, id="250 KB"),
    ],
)
def test_commands_that_no_kernel_runs_fail_cleanly(server: Server, user_key: KeyPair, command: bytes) -> None:
    """execve(2) takes no NUL and no argument over 128 KiB: the session fails, with a reason, and all else goes on."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        if await client.granted(channel, b"exec", text(command)):
            output, status = await client.finish(channel)
            assert output
            assert status not in {0, -1}
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_a_flood_of_environment_is_bounded(server: Server, user_key: KeyPair) -> None:
    """A thousand variables and a megabyte of values are not stored; the session starts with those within the limit."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        for number in range(1000):
            client.request(channel, b"env", text(b"LC_%d" % number) + text(b"x"), reply=False)
        for number in range(40):
            client.request(channel, b"env", text(b"LC_BIG%d" % number) + text(b"x" * 30_000), reply=False)
        assert await client.granted(channel, b"exec", text(b"env | grep -c ^LC_"))
        output, _ = await client.finish(channel)
        assert 100 <= int(output) <= 128

    play(server, user_key, scenario)


def test_sessions_on_a_connection_are_bounded(server: Server, user_key: KeyPair) -> None:
    """The 65th session is refused, and succeeds once another one has ended."""

    async def scenario(client: RawClient) -> None:
        channels = [await client.open_session() for _ in range(SESSIONS)]
        client.say(CHANNEL_OPEN, text(b"session"), u32(99, 1000, 1000))
        await client.hear(OPEN_FAILURE)
        client.say(CHANNEL_CLOSE, u32(channels[0]))
        await client.hear(CHANNEL_CLOSE)
        assert await client.is_alive()

    play(server, user_key, scenario)


@pytest.mark.parametrize("data", [b"", b"x"])
def test_channels_that_never_start_anything_are_forgotten(server: Server, user_key: KeyPair, data: bytes) -> None:
    """A closed channel is removed, also if it has input that nothing will ever read."""

    async def scenario(client: RawClient) -> None:
        for _ in range(SESSIONS + 6):
            channel = await client.open_session()
            client.say(CHANNEL_DATA, u32(channel), text(data))
            client.say(CHANNEL_CLOSE, u32(channel))
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_signals_reach_the_process_and_only_after_its_start(server: Server, user_key: KeyPair) -> None:
    """`signal` is granted once a process runs, and only for names of RFC 4254."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert not await client.granted(channel, b"signal", text(b"TERM"))
        assert await client.granted(
            channel, b"exec", text(b"trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done")
        )
        await client.hear(CHANNEL_DATA)
        for name in (b"", b"SIGUSR1", b"STOP", b"RTMIN", b"9", b"\xff", b"usr1"):
            assert not await client.granted(channel, b"signal", text(name)), name
        client.request(channel, b"signal", text(b"USR1"), reply=False)
        assert (await client.finish(channel))[1] == 9

    play(server, user_key, scenario)


def test_a_subsystem_is_not_signalled(server: Server, user_key: KeyPair) -> None:
    """As in sshd, only closing its channel ends a file transfer, and no signal does."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert await client.granted(channel, b"subsystem", text(b"sftp"))
        assert not await client.granted(channel, b"signal", text(b"KILL"))
        client.say(CHANNEL_EOF, u32(channel))
        assert (await client.finish(channel))[1] == 0

    play(server, user_key, scenario)


@pytest.mark.parametrize(
    ("pkttype", "payload"),
    [
        pytest.param(CHANNEL_DATA, text(b"x"), id="data"),
        pytest.param(CHANNEL_EOF, b"", id="EOF"),
        pytest.param(CHANNEL_CLOSE, b"", id="close"),
        pytest.param(CHANNEL_REQUEST, text(b"shell") + b"\1", id="request"),
        pytest.param(95, u32(1) + text(b"x"), id="extended data"),
        pytest.param(OPEN_CONFIRMATION, u32(0, 1000, 1000), id="confirmation"),
        pytest.param(OPEN_FAILURE, u32(1) + text(b"") + text(b""), id="failure"),
    ],
)
@pytest.mark.parametrize("closed", [False, True])
def test_packets_for_channels_that_are_not_there_end_the_connection(
    server: Server, user_key: KeyPair, pkttype: int, payload: bytes, closed: bool
) -> None:
    """As in sshd, a client that uses a channel that never existed, or that both sides closed, is disconnected."""

    async def scenario(client: RawClient) -> None:
        channel = 77
        if closed:
            channel = await client.started(b"true")
            await client.finish(channel)
            assert await client.is_alive()
        client.say(pkttype, u32(channel), payload)
        await client.is_cut_off()

    play(server, user_key, scenario)


def test_a_channel_that_is_still_being_opened_can_not_be_closed(server: Server, user_key: KeyPair) -> None:
    """A close before the answer to the channel's opening is the peer's error, as any other message would be.

    On a busy machine the channel may already be open then.
    """

    async def scenario(client: RawClient) -> None:
        first = await client.open_session()
        client.say(CHANNEL_OPEN, text(b"session"), u32(2, 1000, 1000))
        client.say(CHANNEL_CLOSE, u32(first + 1))
        heard, _ = await client.hear(CLOSED, OPEN_CONFIRMATION)
        if heard == OPEN_CONFIRMATION:
            await client.hear(CHANNEL_CLOSE)

    mark = server.mark()
    play(server, user_key, scenario)
    assert not server.find("internal.error", mark)


def test_what_crosses_with_the_end_of_a_channel_is_harmless(server: Server, user_key: KeyPair) -> None:
    """A window adjustment or a reply that crosses with the channel's close is no error, as in sshd."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"true")
        await client.finish(channel)
        for number in (channel, 77):
            client.say(WINDOW_ADJUST, u32(number, 1000))
            client.say(CHANNEL_SUCCESS, u32(number))
            client.say(CHANNEL_FAILURE, u32(number))
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_requests_after_the_end_are_harmless(server: Server, user_key: KeyPair) -> None:
    """A resize or a signal that crosses with the end of the process is no error."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"true", terminal=True)
        await client.hear(CHANNEL_CLOSE)
        client.request(channel, b"window-change", u32(100, 50, 0, 0))
        client.request(channel, b"signal", text(b"TERM"))
        client.request(channel, b"break", u32(5))
        client.say(CHANNEL_DATA, u32(channel), text(b"late"))
        client.say(CHANNEL_EOF, u32(channel))
        client.say(CHANNEL_CLOSE, u32(channel))
        assert await client.is_alive()

    play(server, user_key, scenario)


@pytest.mark.parametrize(
    ("name", "fields", "answer"),
    [
        (b"keepalive@openssh.com", b"", REQUEST_SUCCESS),
        (b"nonsense", b"", REQUEST_FAILURE),
        (b"", b"", REQUEST_FAILURE),
        (b"cancel-tcpip-forward", text(b"nowhere") + u32(9), REQUEST_FAILURE),
        (b"cancel-streamlocal-forward@openssh.com", text(b"/nowhere"), REQUEST_FAILURE),
    ],
)
def test_global_requests_are_answered(
    server: Server, user_key: KeyPair, name: bytes, fields: bytes, answer: int
) -> None:
    """Every request that wants a reply gets one; clients treat silence as a dead server."""

    async def scenario(client: RawClient) -> None:
        client.say(GLOBAL_REQUEST, text(name), b"\1", fields)
        assert (await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE))[0] == answer
        client.say(GLOBAL_REQUEST, text(name), b"\0", fields)
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_thousands_of_global_requests_behind_a_slow_one(server: Server, user_key: KeyPair) -> None:
    """All requests that wait for a slow one are answered, however many there are."""

    async def scenario(client: RawClient) -> None:
        client.say(GLOBAL_REQUEST, text(b"tcpip-forward"), b"\1", text(b"256.0.0.1") + u32(1))
        for _ in range(3000):
            client.say(GLOBAL_REQUEST, text(b"keepalive@openssh.com"), b"\1")
        for _ in range(3001):
            await client.hear(REQUEST_SUCCESS, REQUEST_FAILURE)
        assert await client.is_alive()

    play(server, user_key, scenario)


@pytest.mark.parametrize("pkttype", [CHANNEL_OPEN, GLOBAL_REQUEST])
def test_names_that_are_not_ascii_do_not_harm(server: Server, user_key: KeyPair, pkttype: int) -> None:
    """RFC 4251 section 6: names are ASCII. Other names fail, or end the connection that sent them."""
    fields = u32(9, 1000, 1000) if pkttype == CHANNEL_OPEN else b"\1"

    async def scenario(client: RawClient) -> None:
        client.say(pkttype, text(b"\xff\xfe"), fields)
        await client.hear(CLOSED, OPEN_FAILURE, REQUEST_FAILURE)

    play(server, user_key, scenario)


def test_unknown_packets_are_answered(server: Server, user_key: KeyPair) -> None:
    """RFC 4253 section 11.4: the answer is UNIMPLEMENTED, and the connection goes on."""

    async def scenario(client: RawClient) -> None:
        for pkttype in (194, 255, 83, 89):
            client.say(pkttype, b"whatever")
        assert await client.is_alive()

    play(server, user_key, scenario)
