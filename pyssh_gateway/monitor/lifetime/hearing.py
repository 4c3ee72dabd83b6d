"""Hears every process before a stop, so that none comes under the hands of a client that is used.

This module asks; it does not know what the answers say.
"""

from collections.abc import Awaitable, Callable

ANSWER_SECONDS = 40.0
"""How long a stop waits for every process to say whether its clients are used: longer than a process that its user has
stopped stays silent before it is killed, and its connections with it (`postauth_client.SILENT_SECONDS`)."""

PROMPT_SECONDS = 0.01
LAST_ROUNDS = 5
"""The last question to all processes is repeated until the answers take no longer than this, so that no key of one
client is missed while another client's process is slow; and so many times at most, because a machine that is slow for
hours has to stop, too. As often is a stop put off for a process that takes longer for the last question than all wait,
although it has answered the question before."""


async def heard_at_once(look: Callable[[], Awaitable[frozenset[str]]], now: Callable[[], float]) -> bool:
    """Ask all processes until they answer at once. False: some have not answered in time. `now` is the loop's clock."""
    for _ in range(LAST_ROUNDS):
        began = now()
        if await look():
            return False
        if now() - began <= PROMPT_SECONDS:
            break
    return True
