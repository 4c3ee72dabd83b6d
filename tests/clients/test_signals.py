"""Signals both ways: what a process died of, and what a client sends it. asyncssh says what OpenSSH's client can't."""

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
    """What `talk` returns, given a connection."""

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
        # dash, because bash keeps some signals for itself; no core file, wherever the machine puts them.
        result = await connection.run(f"ulimit -c 0; exec sh -c 'kill -{name} $$; sleep 5'", timeout=PATIENCE)
        return result.exit_signal

    signal = converse(client, talk)
    assert signal is not None
    assert signal[0] == name


# 35 is a real-time signal: Python has no name for it.
@pytest.mark.parametrize("name", ["XCPU", "35", "64"])
def test_other_signals_are_reported_too(client: Client, name: str) -> None:
    """Protects a death by a signal that RFC 4254 has no name for: it gets one in sshd's form, and is no exit."""

    async def talk(connection: asyncssh.SSHClientConnection) -> ExitSignal | None:
        result = await connection.run(f"exec sh -c 'kill -{name} $$; sleep 5'", timeout=PATIENCE)
        return result.exit_signal

    signal = converse(client, talk)
    assert signal is not None
    assert signal[0] == "SIG@openssh.com"


def test_client_ends_with_255_after_a_signal(client: Client) -> None:
    """Protects `ssh host 'kill -9 $$'`: OpenSSH's client then ends with 255, and the connection is not what failed."""
    result = client.run("kill -9 $$")
    assert (result.status, result.stdout, result.stderr) == (255, b"", b"")


def test_death_of_a_child_is_the_shells_business(client: Client) -> None:
    """Protects the difference between a process that was killed and a shell that says so by 128 + n."""
    assert client.run("sh -c 'kill -9 $$'; exit $?").status == 137


def test_death_by_signal_in_a_terminal(client: Client) -> None:
    """Protects the same with a pty, whose end is found out in another way."""
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
    """Protects the session from a signal name that there is not, or that would reach others."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("echo go; read line; exit 7")
        assert await process.stdout.readline() == "go\n"
        for name in ("STOP", "NOSUCH", "9", "", "SIGKILL"):
            process.send_signal(name)
        process.stdin.write("line\n")
        return (await process.wait(timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 7


def test_break_request_interrupts_a_terminal(client: Client) -> None:
    """Protects the `break` request (RFC 4335) from being an error: a pty has none, and the session goes on."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("echo go; read line; exit 6", term_type="xterm")
        assert (await process.stdout.readline()).strip() == "go"
        process.send_break(500)
        process.stdin.write("line\n")
        return (await process.wait(timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 6


def test_signal_after_the_end_is_harmless(client: Client) -> None:
    """Protects whoever has got the process's number next: a signal for what has ended goes nowhere."""

    async def talk(connection: asyncssh.SSHClientConnection) -> int | None:
        process = await connection.create_process("exit 0")
        await process.wait(timeout=PATIENCE)
        with contextlib.suppress(OSError):  # the channel is closed already, which is how it should be
            process.send_signal("KILL")
        return (await connection.run("exit 5", timeout=PATIENCE)).exit_status

    assert converse(client, talk) == 5


def test_exit_status_comes_before_the_close(client: Client) -> None:
    """Protects clients that look at the exit status when the channel closes: a hundred short commands all have one."""

    async def talk(connection: asyncssh.SSHClientConnection) -> list[int | None]:
        return [(await connection.run(f"exit {number}", timeout=PATIENCE)).exit_status for number in range(100)]

    assert converse(client, talk) == list(range(100))


def test_many_sessions_at_once(client: Client) -> None:
    """Protects Zed and VS Code, which open sessions side by side: 40 at once on one connection, nothing mixed up."""

    async def talk(connection: asyncssh.SSHClientConnection) -> list[str]:
        results = await asyncio.gather(
            *(
                connection.run(f"echo {number}; sleep 0.2; cat", input=f"in {number}", timeout=PATIENCE)
                for number in range(40)
            )
        )
        return [str(result.stdout) for result in results]

    assert converse(client, talk) == [f"{number}\nin {number}" for number in range(40)]
