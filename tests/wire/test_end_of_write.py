"""`eow@openssh.com` (OpenSSH's PROTOCOL section 2.1), received in every state of a session, and sent."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import KeyPair
from tests.support import processes
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_EOF,
    CHANNEL_FAILURE,
    CHANNEL_REQUEST,
    EXTENDED_DATA,
    GLOBAL_REQUEST,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    WINDOW_ADJUST,
    RawClient,
    play,
    pty,
    u32,
)

EOW = b"eow@openssh.com"
WRITES_ON = b"trap '' PIPE; while echo x; do :; done 2>&-; echo refused >&2; read line; echo $line >&2; exit 3"
"""Writes until nothing reads its output, and reports the outcome on standard error."""


async def ended(client: RawClient, channel: int, *, close: bool = True) -> tuple[bytes, list[bytes]]:
    """Standard error up to the channel's close, and the names of the requests and EOFs before that."""
    errors, heard = bytearray(), []
    while True:
        pkttype, payload = await client.hear(EXTENDED_DATA, CHANNEL_REQUEST, CHANNEL_EOF, CHANNEL_CLOSE)
        if pkttype == EXTENDED_DATA:
            errors += payload[12:]
        elif pkttype == CHANNEL_REQUEST:
            name, rest = payload[8 : 8 + payload[7]], payload[9 + payload[7] :]
            heard.append(name + b" %d" % rest[-1] if name == b"exit-status" else name)
        elif pkttype == CHANNEL_EOF:
            heard.append(b"EOF")
        else:
            if close:
                client.say(CHANNEL_CLOSE, u32(channel))
            return bytes(errors), heard


async def answered(client: RawClient) -> None:
    """Return when the server has handled everything that was sent. Its messages meanwhile stay in the queue."""
    client.say(GLOBAL_REQUEST, text(b"keepalive@openssh.com"), b"\1")
    meanwhile = []
    async with asyncio.timeout(PATIENCE):
        while (packet := await client.connection.heard.get())[0] not in {REQUEST_SUCCESS, REQUEST_FAILURE}:
            meanwhile.append(packet)
    for packet in meanwhile:
        client.connection.heard.put_nowait(packet)


def until_there(path: Path) -> bytes:
    """A shell command that waits for a file."""
    return b"until test -e %s; do sleep 0.02; done; " % bytes(path)


def eow(client: RawClient, channel: int) -> None:
    """Send `eow@openssh.com` as OpenSSH does."""
    client.request(channel, EOW, reply=False)


def test_the_writer_is_stopped_and_the_rest_goes_on(server: Server, user_key: KeyPair) -> None:
    """A client that refuses output stops the command's writing; input, errors and exit status go on as before."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(WRITES_ON)
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        await client.hear(EXTENDED_DATA)
        eow(client, channel)
        client.say(CHANNEL_DATA, u32(channel), text(b"more\n"))
        assert await ended(client, channel) == (b"more\n", [b"exit-status 3"])

    play(server, user_key, scenario)


def test_who_writes_dies_of_the_signal(server: Server, user_key: KeyPair) -> None:
    """A command with default signal handling dies of SIGPIPE, which the client is told as by sshd, without an EOF."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"exec yes")
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        assert await ended(client, channel) == (b"", [b"exit-signal"])

    play(server, user_key, scenario)


def test_a_full_window_is_no_obstacle(server: Server, user_key: KeyPair) -> None:
    """Output that waits for room in the window is dropped, and does not delay what comes after it."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(WRITES_ON, window=1)
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        client.say(CHANNEL_DATA, u32(channel), text(b"more\n"))
        client.say(WINDOW_ADJUST, u32(channel), u32(100))
        assert await ended(client, channel) == (b"refused\nmore\n", [b"exit-status 3"])

    play(server, user_key, scenario)


def test_before_the_start(server: Server, user_key: KeyPair) -> None:
    """A client may refuse the output of a command before its start: none of the output is sent."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        eow(client, channel)
        client.request(channel, b"exec", text(WRITES_ON), reply=False)
        client.say(CHANNEL_DATA, u32(channel), text(b"more\n"))
        pkttype, _ = await client.hear(CHANNEL_DATA, EXTENDED_DATA)
        assert pkttype == EXTENDED_DATA
        assert (await ended(client, channel))[1] == [b"exit-status 3"]

    play(server, user_key, scenario)


def test_an_answer_is_no(server: Server, user_key: KeyPair) -> None:
    """If the client wants a reply it gets a failure, as from sshd, and the writer is stopped all the same."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"exec yes")
        client.request(channel, EOW)
        await client.hear(CHANNEL_FAILURE)
        assert (await ended(client, channel))[1] == [b"exit-signal"]

    play(server, user_key, scenario)


def test_after_our_eof(server: Server, user_key: KeyPair) -> None:
    """The request has no effect once all output has ended."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"exec >&- 2>&-; read line; exit 4")
        await client.hear(CHANNEL_EOF)
        eow(client, channel)
        client.say(CHANNEL_DATA, u32(channel), text(b"more\n"))
        assert await ended(client, channel) == (b"", [b"exit-status 4"])

    play(server, user_key, scenario)


def test_after_the_exit(server: Server, user_key: KeyPair) -> None:
    """A client that has not seen the close yet may still refuse the output; the connection goes on."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"echo x")
        await client.hear(CHANNEL_CLOSE)
        eow(client, channel)
        client.say(CHANNEL_CLOSE, u32(channel))
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_after_the_exit_with_output_left(server: Server, user_key: KeyPair) -> None:
    """A session that has only output left to send ends when the client refuses that output."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"echo x; exec sleep 0", window=1)
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        assert (await ended(client, channel))[1] == [b"exit-status 0"]

    play(server, user_key, scenario)


def test_a_terminal_stays(server: Server, user_key: KeyPair) -> None:
    """A terminal's output is no longer read, but its input is: the session ends with its process."""

    async def scenario(client: RawClient) -> None:
        channel = await client.open_session()
        assert await client.granted(channel, b"pty-req", pty())
        assert await client.granted(channel, b"exec", text(b"echo ready; read line; echo $line; exit 7"))
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        client.say(CHANNEL_DATA, u32(channel), text(b"more\r"))
        assert await ended(client, channel) == (b"", [b"exit-status 7"])

    play(server, user_key, scenario)


def test_closing_afterwards_waits_for_the_exit(server: Server, user_key: KeyPair) -> None:
    """A client that refuses output and then closes the channel gets the exit status first; all its input arrives."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"echo x; sleep 0.1; cat | wc -c >&2; exit 6")
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        for _ in range(50):
            client.say(CHANNEL_DATA, u32(channel), text(b"x" * 32768))
        client.say(CHANNEL_EOF, u32(channel))
        client.say(CHANNEL_CLOSE, u32(channel))
        errors, heard = await ended(client, channel, close=False)
        assert heard == [b"exit-status 6"]
        assert errors in {b"", b"%d\n" % (50 * 32768)}  # everything, if that came before the close
        assert await client.is_alive()

    play(server, user_key, scenario)


def test_sftp_ends_quietly(server: Server, user_key: KeyPair) -> None:
    """The SFTP server treats the request as the client's end, and exits without an error."""

    def has_processes_at_hand() -> bool:
        """Whether nothing is forked while the session begins: a fork has copies of its pipes until it closes them."""
        names = {process.name for process in processes.descendants(server.pid)}
        return {"pyssh-preauth", "pyssh-spare"} <= names

    async def scenario(client: RawClient) -> None:
        await asyncio.to_thread(until, has_processes_at_hand, what="processes for the next stranger and session")
        channel = await client.open_session()
        assert await client.granted(channel, b"subsystem", text(b"sftp"))
        eow(client, channel)
        client.say(CHANNEL_DATA, u32(channel), text(text(b"\1" + u32(3))))
        for number in range(
            20
        ):  # the first reply may have found a fork of the spawner that had not closed the pipe yet
            await answered(client)
            client.say(CHANNEL_DATA, u32(channel), text(text(b"\x10" + u32(number) + text(b"."))))
        assert await ended(client, channel) == (b"", [b"exit-status 0"])

    play(server, user_key, scenario)


@pytest.mark.parametrize("version", ["OpenSSH_9.2p1 Debian-2", "OpenSSH_4.3", "PuTTY_Release_0.83"])
def test_a_client_is_told_that_nobody_reads(server: Server, user_key: KeyPair, scratch: Path, version: str) -> None:
    """A client whose input nobody reads is told once, if it is an OpenSSH that knows the request; others are not."""
    go = scratch / "go"

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"exec <&-; echo ready; " + until_there(go) + b"exit 4")
        await client.hear(CHANNEL_DATA)
        for _ in range(3):
            client.say(CHANNEL_DATA, u32(channel), text(b"x"))
        await answered(client)
        go.touch()
        said = [EOW] if version.startswith("OpenSSH_9") else []
        assert (await ended(client, channel))[1] == [*said, b"exit-status 4", b"EOF"]

    play(server, user_key, scenario, version=version)


def test_nothing_is_said_after_a_close(server: Server, user_key: KeyPair, scratch: Path) -> None:
    """A client that has closed the channel, and only waits for the exit status, is not told that nobody reads."""
    go = scratch / "go"

    async def scenario(client: RawClient) -> None:
        channel = await client.started(b"echo ready; " + until_there(go) + b"exec <&-; sleep 0.1; exit 5")
        await client.hear(CHANNEL_DATA)
        eow(client, channel)
        # More than a pipe holds, so that the rest has to wait, and fails when the input is closed.
        for _ in range(60):
            client.say(CHANNEL_DATA, u32(channel), text(b"x" * 32767 + b"\n"))
        client.say(CHANNEL_CLOSE, u32(channel))
        await answered(client)
        go.touch()
        assert (await ended(client, channel, close=False))[1] == [b"exit-status 5"]

    play(server, user_key, scenario, version="OpenSSH_9.2")
