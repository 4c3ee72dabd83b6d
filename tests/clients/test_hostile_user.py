"""A user who stops, floods and fills everything of their own, and another account that must not notice.

The hostile account is made for this test alone: it signals every process that it may.
"""

import asyncio
import os
import pwd
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import asyncssh
import pytest

from tests.conftest import KeyPair
from tests.support import processes
from tests.support.account import other_account
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import AT_ONCE, PATIENCE, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve two accounts")

STOP_ALL = "echo on; read go; while :; do kill -STOP -1; done"
"""Once started, repeatedly stops every process of the account except itself (kill(2), -1)."""

FLOOD = 160
"""Processes that are requested at once, over three connections."""


@pytest.fixture
def hostile() -> Iterator[pwd.struct_passwd]:
    """An account that only this test uses."""
    with other_account("hostile") as entry:
        yield entry


@pytest.fixture
def serving(
    tmp_path_factory: pytest.TempPathFactory, account: pwd.struct_passwd, hostile: pwd.struct_passwd, user_key: KeyPair
) -> Iterator[Server]:
    """A server for the bystander, which is the tests' own account, and for the hostile account."""
    keys = [f"file:{user_key.public}"]
    logins = [{"user": user, "keys": keys} for user in (account.pw_name, hostile.pw_name)]
    settings = {"login": logins, "stop": {"drain": "1s"}}
    server = Server(tmp_path_factory.mktemp("server"), login=account.pw_name, keys=keys, settings=settings)
    with server:
        yield server


async def true_takes(client: Client) -> float:
    """How long a new login of the bystander and a command take together, in seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with client.connect() as connection:
        assert (await connection.run("true", check=True)).exit_status == 0
    return loop.time() - began


def state(pid: int) -> str:
    """The process's state letter (proc(5)); empty if it is gone."""
    process = processes.find(pid)
    return "" if process is None else process.state


async def starts_for_ever(connection: asyncssh.SSHClientConnection) -> None:
    """Request processes without end; they are stopped while they start or afterwards."""
    while True:
        with suppress(asyncssh.Error, TimeoutError):
            async with asyncio.timeout(1):
                await connection.create_process("sleep 1000")
        await asyncio.sleep(0)  # on a closed connection the request fails without a pause


def test_a_user_who_stops_all_that_is_theirs_stops_nobody_else(
    serving: Server, hostile: pwd.struct_passwd, user_key: KeyPair
) -> None:
    """Protects others from an account whose processes are all stopped: the one that serves it, and those being started.

    Other accounts log in meanwhile, and the server still stops when asked to.
    """
    bystander = Client(serving, user_key.private)

    def serves_hostile(process: processes.Process) -> bool:
        return process.name == "pyssh-postauth" and processes.owner(process.pid) == hostile.pw_uid

    async def scenario() -> None:
        async with AsyncExitStack() as open_ones:
            first, second = [
                await open_ones.enter_async_context(bystander.connect(username=hostile.pw_name)) for _ in range(2)
            ]
            (postauth,) = [each.pid for each in processes.descendants(serving.pid) if serves_hostile(each)]
            stopper = await first.create_process(STOP_ALL)
            assert await stopper.stdout.readline() == "on\n"
            async with asyncio.TaskGroup() as tasks:
                busy = tasks.create_task(starts_for_ever(second))
                stopper.stdin.write("\n")
                await asyncio.to_thread(until, lambda: state(postauth) == "T", what="stopped process")
                for _ in range(10):
                    assert await true_takes(bystander) < AT_ONCE
                serving.signal(signal.SIGTERM)
                async with asyncio.timeout(PATIENCE):
                    await first.wait_closed()
                busy.cancel()

    asyncio.run(scenario())
    assert serving.wait() == 0


def test_a_flood_of_processes_is_its_own_accounts_affair(
    serving: Server, hostile: pwd.struct_passwd, user_key: KeyPair
) -> None:
    """Protects a bystander's `true` from another account's earlier requests for processes: accounts take turns."""
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
