"""Puts a configuration that was read again in force, and reports the outcome."""

import asyncio
from collections.abc import Awaitable, Callable

from pyssh_gateway.config.types import Config
from pyssh_gateway.events import AnyEvent, ConfigRejected, ConfigReloaded
from pyssh_gateway.ipc.reread import Reread
from pyssh_gateway.ipc.spawner_client import SpawnRefused


class Reloading:
    """Waits for the spawner to have read the configuration again: for `due`.

    `take` gets the outcome; `apply` puts a configuration in force; `ask_keys` has every source of keys asked;
    `reopen_log` reopens the log. A SIGHUP asks for all of these.
    """

    def __init__(
        self,
        due: asyncio.Event,
        *,
        take: Callable[[], Awaitable[Reread]],
        apply: Callable[[Config], None],
        ask_keys: Callable[[], None],
        reopen_log: Callable[[], Awaitable[None]],
        publish: Callable[[AnyEvent], None],
    ) -> None:
        self._take = take
        self._apply = apply
        self._ask_keys = ask_keys
        self._reopen_log = reopen_log
        self._publish = publish
        self._due = due

    async def run(self) -> None:
        """Put in force what the spawner has read, each time, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            await self._reopen_log()
            try:
                outcome = await self._take()
            except SpawnRefused as error:
                outcome = Reread(None, problems=(str(error),))
            if outcome.config is None:
                self._publish(ConfigRejected(problems=outcome.problems))
            else:
                self._apply(outcome.config)
                users = tuple(login.user for login in outcome.config.login)
                self._publish(ConfigReloaded(changed=outcome.changed, restart=outcome.restart, users=users))
            self._ask_keys()
