"""Background processes that hold a command's output open: as with sshd, no output is lost, and none is killed."""

import asyncio
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.server import Server
from tests.support.waiting import until
from tests.wire.plain import text
from tests.wire.raw import (
    CHANNEL_CLOSE,
    CHANNEL_DATA,
    CHANNEL_REQUEST,
    RawClient,
    play,
    u32,
)

MORE_THAN_A_PIPE = 3 * 1024 * 1024


def later(path: Path, what: bytes) -> bytes:
    """A command that leaves `what` running, which begins when `path` exists; the command ends with status 7."""
    return b"( until test -e %s; do sleep 0.02; done; %s ) & exit 7" % (bytes(path), what)


async def exit_status(client: RawClient) -> int:
    """The status of the next exit-status message."""
    while True:
        _, payload = await client.hear(CHANNEL_REQUEST)
        if payload[8:].startswith(b"exit-status\0"):
            return int.from_bytes(payload[-4:], "big")


def test_output_of_a_background_job_arrives(server: Server, user_key: KeyPair, scratch: Path) -> None:
    """Protects `ssh host '(make; echo done) & true'`: the exit is reported at once, and later output still comes."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(later(scratch / "go", b"seq 3; seq 4 >&2"))
        assert await exit_status(client) == 7
        (scratch / "go").touch()
        assert await client.finish(channel) == (b"1\n2\n3\n1\n2\n3\n4\n", -1)  # the exit is not reported twice

    play(server, user_key, scenario)


def test_input_ends_with_the_process(server: Server, user_key: KeyPair, scratch: Path) -> None:
    """A background job with the command's input gets its end, as with sshd, and no input that comes later."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(
            b"{ until test -e %s; do sleep 0.02; done; cat; echo end; } <&0 & exit 7" % bytes(scratch / "go")
        )
        assert await exit_status(client) == 7
        client.say(CHANNEL_DATA, u32(channel), text(b"late"))
        (scratch / "go").touch()
        assert await client.finish(channel) == (b"end\n", -1)

    play(server, user_key, scenario)


def test_a_client_that_closes_ends_the_writer(server: Server, user_key: KeyPair, scratch: Path) -> None:
    """Protects sshd's behaviour: a job whose client has closed the channel gets SIGPIPE when it writes."""

    async def scenario(client: RawClient) -> None:
        channel = await client.started(later(scratch / "go", b"seq 3; echo $? >%s" % bytes(scratch / "status")))
        assert await exit_status(client) == 7
        client.say(CHANNEL_CLOSE, u32(channel))
        await client.hear(CHANNEL_CLOSE)
        (scratch / "go").touch()
        status = await asyncio.to_thread(until, lambda: written(scratch / "status"))
        assert status == "141\n"

    play(server, user_key, scenario)


def written(path: Path) -> str:
    """The line in the file, once it is there."""
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("linger", ["1ms", "200ms"])
def test_nobody_dies_when_the_server_does_not_wait(
    make_server: MakeServer, user_key: KeyPair, scratch: Path, linger: str
) -> None:
    """Protects background jobs under `session.linger`: they write more than a pipe holds, and get no SIGPIPE."""
    server = make_server({"session": {"linger": linger}})

    async def scenario(client: RawClient) -> None:
        command = b"head -c %d /dev/zero; echo $? >%s" % (MORE_THAN_A_PIPE, bytes(scratch / "status"))
        channel = await client.started(later(scratch / "go", command))
        assert await client.finish(channel) == (b"", 7)
        closed = await asyncio.to_thread(server.wait_for, "session.closed")
        assert closed["reason"] == "exited, output left open"
        (scratch / "go").touch()
        assert await asyncio.to_thread(until, lambda: written(scratch / "status")) == "0\n"

    play(server, user_key, scenario)
