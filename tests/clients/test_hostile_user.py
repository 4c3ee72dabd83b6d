"""A user who stops, floods and fills all that is theirs, and a bystander of another account who must not notice.

The hostile account is made for this test alone: it signals every process that it may.
"""

import asyncio
import os
import pwd
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import asyncssh
import pytest

from pyssh_gateway.spawner.processes.signalling import HELPERS_PER_ACCOUNT
from tests.conftest import KeyPair
from tests.support import processes
from tests.support.account import other_account
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve two accounts")

STOP_ALL = "echo on; while :; do kill -STOP -1; done"
"""Stops every process of the account but the one that says it, for ever (kill(2), -1)."""

FLOOD = 160
"""Processes that are asked for at once: three connections' worth."""


@pytest.fixture
def hostile() -> Iterator[pwd.struct_passwd]:
    """An account that nobody but this test has."""
    with other_account("hostile") as entry:
        yield entry


@pytest.fixture
def serving(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, hostile: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Server]:
    """A server for the bystander, whose login is the tests' own, and for the hostile account."""
    keys = [f"file:{user_key.public}"]
    logins = [{"user": user, "keys": keys} for user in (account.pw_name, hostile.pw_name)]
    settings = {"login": logins, "stop": {"drain": "1s"}}
    server = Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=keys, settings=settings)
    with server:
        yield server


async def true_takes(client: Client) -> float:
    """How long a new login of the bystander's and a command take together, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with client.connect() as connection:
        assert (await connection.run("true", check=True)).exit_status == 0
    return loop.time() - began


async def signals_for_ever(process: "asyncssh.SSHClientProcess[str]") -> None:
    """Ask for signals to `process`, as fast as the connection takes them."""
    while True:
        with suppress(OSError):  # its connection is closed
            for name in ("USR1", "USR2", "TERM"):
                process.send_signal(name)
        await asyncio.sleep(0)


async def starts_for_ever(connection: asyncssh.SSHClientConnection) -> None:
    """Ask for processes, which are stopped on their way or after."""
    while True:
        with suppress(asyncssh.Error, TimeoutError):
            async with asyncio.timeout(1):
                await connection.create_process("sleep 1000")
        await asyncio.sleep(0)  # of a connection that is closed it is refused at once


def test_a_user_who_stops_all_that_is_theirs_stops_nobody_else(
    serving: Server, hostile: pwd.struct_passwd, user_key: KeyPair
) -> None:
    """Protects everybody from the process that a signal is sent by, and from those on their way: nobody waits for them.

    Other accounts log in meanwhile, and the server still stops when it is asked to.
    """
    bystander = Client(serving, user_key.private)

    async def scenario() -> None:
        async with AsyncExitStack() as open_ones:
            first, second, third = [
                await open_ones.enter_async_context(bystander.connect(username=hostile.pw_name)) for _ in range(3)
            ]
            target = await second.create_process("trap '' USR1 USR2 TERM; sleep 1000")
            stopper = await first.create_process(STOP_ALL)
            assert await stopper.stdout.readline() == "on\n"
            async with asyncio.TaskGroup() as tasks:
                busy = [tasks.create_task(signals_for_ever(target)), tasks.create_task(starts_for_ever(third))]
                for _ in range(10):
                    assert await true_takes(bystander) < AT_ONCE
                serving.signal(signal.SIGTERM)
                async with asyncio.timeout(PATIENCE):
                    await first.wait_closed()
                for task in busy:
                    task.cancel()

    asyncio.run(scenario())
    assert serving.wait() == 0


def test_helpers_that_are_stopped_do_not_pile_up(
    serving: Server, hostile: pwd.struct_passwd, user_key: KeyPair
) -> None:
    """Protects memory and the process table: an account has so many helpers at a time, and those that hang end."""
    bystander = Client(serving, user_key.private)

    def helpers() -> int:
        """Children of the spawner that are the account's and lead no group of their own, as sessions do."""
        return sum(
            process.parent == serving.pid and process.group != process.pid and owner(process.pid) == hostile.pw_uid
            for process in processes.descendants(serving.pid)
        )

    async def scenario() -> None:
        async with AsyncExitStack() as open_ones:
            first, second = [
                await open_ones.enter_async_context(bystander.connect(username=hostile.pw_name)) for _ in range(2)
            ]
            targets = [await second.create_process("trap '' USR1 USR2 TERM; sleep 1000") for _ in range(12)]
            stopper = await first.create_process(STOP_ALL)
            assert await stopper.stdout.readline() == "on\n"
            async with asyncio.TaskGroup() as tasks:
                busy = [tasks.create_task(signals_for_ever(target)) for target in targets]
                most = 0
                for _ in range(10):
                    await true_takes(bystander)
                    most = max(most, helpers())
                assert most <= HELPERS_PER_ACCOUNT
                for task in busy:
                    task.cancel()
            stopper.kill()

    asyncio.run(scenario())
    subprocess.run(["pkill", "-KILL", "-u", str(hostile.pw_uid)], check=True, timeout=PATIENCE)
    until(lambda: helpers() == 0, what="end of the helpers")


def owner(pid: int) -> int:
    """The account of a process; -1 if it has gone."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except FileNotFoundError:
        return -1


def test_a_flood_of_processes_is_its_own_accounts_affair(
    serving: Server, hostile: pwd.struct_passwd, user_key: KeyPair
) -> None:
    """Protects a bystander's `true` from those that another account has asked for before: accounts take turns."""
    bystander = Client(serving, user_key.private)
    started = 0
    first = asyncio.Event()

    async def start(connection: asyncssh.SSHClientConnection) -> None:
        nonlocal started
        await connection.create_process("exec sleep 1000")
        started += 1
        first.set()

    async def scenario() -> None:
        async with AsyncExitStack() as open_ones:
            quiet = await open_ones.enter_async_context(bystander.connect())
            floods = [
                await open_ones.enter_async_context(bystander.connect(username=hostile.pw_name)) for _ in range(4)
            ]
            async with asyncio.TaskGroup() as tasks:
                for number in range(FLOOD):
                    tasks.create_task(start(floods[number % len(floods)]))
                await first.wait()
                before = started
                assert (await quiet.run("true", check=True)).exit_status == 0
                assert started - before < FLOOD / 2
            assert started == FLOOD

    asyncio.run(scenario())
