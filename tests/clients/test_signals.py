"""Signals in both directions: a death by signal, and a client's requests, which asyncssh sends but OpenSSH can't."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncssh
import pytest

from tests.support.client import Client
from tests.support.waiting import PATIENCE

T = TypeVar("T")
ExitSignal = tuple[str, bool, str, str]


def converse(client: Client, talk: Callable[[asyncssh.SSHClientConnection], Awaitable[T]]) -> T:
    """Run `talk` with a connection, and return its result."""

    async def run() -> T:
        async with asyncio.timeout(3 * PATIENCE), client.connect() as connection:
            return await talk(connection)

    return asyncio.run(run())


@pytest.mark.parametrize(
    "name", ["ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"]
)
def test_death_by_signal_is_reported_by_name(client: Client, name: str) -> None:
    """Protects exit-signal: every signal of RFC 4254 comes back under its own name, and without an exit status."""

    async def talk(connection: asyncssh.SSHClientConnection) -> ExitSignal | None:
        # dash, because bash handles some signals itself; no core file, wherever the machine would put it.
        result = await connection.run(f"ulimit -c 0; exec sh -c 'kill -{name} $$; sleep 5'", timeout=PATIENCE)
        return result.exit_signal

    signal = converse(client, talk)
    assert signal is not None
    assert signal[0] == name


# 35 is a real-time signal: Python has no name for it.
@pytest.mark.parametrize("name", ["XCPU", "35", "64"])
def test_other_signals_are_reported_too(client: Client, name: str) -> None:
    """Protects a death by a signal without a name in RFC 4254: it gets a name in sshd's form, and no exit status."""

    async def talk(connection: asyncssh.SSHClientConnection) -> ExitSignal | None:
        result = await connection.run(f"exec sh -c 'kill -{name} $$; sleep 5'", timeout=PATIENCE)
        return result.exit_signal

    signal = converse(client, talk)
    assert signal is not None
    assert signal[0] == "SIG@openssh.com"


def test_client_ends_with_255_after_a_signal(client: Client) -> None:
    """Protects `ssh host 'kill -9 $$'`: OpenSSH's client then ends with 255, though the connection did not fail."""
    result = client.run("kill -9 $$")
    assert (result.status, result.stdout, result.stderr) == (255, b"", b"")


def test_death_of_a_child_is_the_shells_business(client: Client) -> None:
    """Protects the difference between a process that was killed and a shell that reports it as status 128 + n."""
    assert client.run("sh -c 'kill -9 $$'; exit $?").status == 137


def test_death_by_signal_in_a_terminal(client: Client) -> None:
    """Protects the same with a pty, where the end is detected in another way."""
    assert client.run("kill -TERM $$", "-tt").status == 255


def test_signal_request_reaches_the_command(client: Client) -> None:
    """Protects the `signal` request: the command gets the signal and its trap decides."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("trap 'exit 9' USR1; echo go; while :; do sleep 0.05; done")
        assert await process.stdout.readline() == "go\n"
        process.send_signal("USR1")
        return (await process.wait(timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 9


def test_signal_request_reaches_the_whole_group(client: Client) -> None:
    """Protects pipelines: the signal ends the programs in them, and not the shell alone."""

    async def talk(connection: asyncssh.SSHClientConnection) -> ExitSignal | None:
        process = await connection.create_process("echo go; sleep 311 | sleep 312")
        assert await process.stdout.readline() == "go\n"
        process.terminate()
        return (await process.wait(timeout=PATIENCE)).exit_signal

    signal = converse(client, talk)
    assert signal is not None
    assert signal[0] == "TERM"


def test_unknown_signal_harms_nobody(client: Client) -> None:
    """Protects the session from unknown signal names, and from names that would reach other processes."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("echo go; read line; exit 7")
        assert await process.stdout.readline() == "go\n"
        for name in ("STOP", "NOSUCH", "9", "", "SIGKILL"):
            process.send_signal(name)
        process.stdin.write("line\n")
        return (await process.wait(timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 7


def test_break_request_interrupts_a_terminal(client: Client) -> None:
    """Protects the session from a `break` request (RFC 4335): a pty has no break, and the session goes on."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("echo go; read line; exit 6", term_type="xterm")
        assert (await process.stdout.readline()).strip() == "go"
        process.send_break(500)
        process.stdin.write("line\n")
        return (await process.wait(timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 6


def test_signal_after_the_end_is_harmless(client: Client) -> None:
    """Protects a process that reuses the number: a signal for a session that has ended reaches nobody."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("exit 0")
        await process.wait(timeout=PATIENCE)
        with contextlib.suppress(OSError):  # the channel is already closed, as it should be
            process.send_signal("KILL")
        return (await connection.run("exit 5", timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 5


def test_exit_status_comes_before_the_close(client: Client) -> None:
    """Protects clients that expect the exit status before the channel's close: a hundred short commands all get it."""

    async def talk(connection: asyncssh.SSHClientConnection) -> list[int | None]:
        return [(await connection.run(f"exit {number}", timeout=PATIENCE)).exit_status for number in range(100)]

    assert converse(client, talk) == list(range(100))


def test_many_sessions_at_once(client: Client) -> None:
    """Protects Zed and VS Code, which open sessions in parallel: 40 at once on one connection are not mixed up."""

    async def talk(connection: asyncssh.SSHClientConnection) -> list[str]:
        results = await asyncio.gather(
            *(
                connection.run(f"echo {number}; sleep 0.2; cat", input=f"in {number}", timeout=PATIENCE)
                for number in range(40)
            )
        )
        return [str(result.stdout) for result in results]

    assert converse(client, talk) == [f"{number}\nin {number}" for number in range(40)]
