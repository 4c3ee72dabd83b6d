"""Clients that were connected but not used when the machine stopped, and come back: by themselves, or with a person?

An editor whose connection breaks tries again for hours. Each of its connections would wake the machine that it was
asleep for. So such a client is on probation when it comes back: its connection and the sessions that it opens are no
reason to stay up, and the machine waits for it only for a leash. What a person does ends the probation at once
(`core.idle.usage` knows it), and makes the connection a full reason. A client that goes by itself once its commands
have ended (`ssh host make`, git, rsync) was no window that waits, so it has used the machine like any other.

A client that comes back within `CHAIN_SECONDS` of the stop, or of its own last connection, has most likely come by
itself. It is refused, because a refused editor gives up and shows its window's person a button, where one that is let
in and loses its connection again would begin its attempts anew. These rules never keep a person out for longer than
one attempt:

- A refused client may still open a terminal or SFTP: editors come back without either.
- The attempt after a refusal is let in, on probation.
- Only after `MAX_RETURNS` returns in vain, in a chain without a pause of `CHAIN_SECONDS`, are all attempts refused that
  keep the pace of a loop: the pauses of editors and scripts stay the same, or grow. An attempt that comes sooner is let
  in, because a person made it, in the middle of the loop of their own window; and so is one after such a pause.

A client is an account and a key, because nothing else is the same across a stop. Pure: events and Unix time come in.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

from pyssh_gateway.events import (
    AnyEvent,
    ClientQuiet,
    ClientUsed,
    ConnectionAuthenticated,
    ConnectionClosed,
    Identity,
    ServerStopping,
    SessionClosed,
    SessionOpened,
    StopStep,
)

LEASH_SECONDS = 60.0
"""How long the machine waits for a sign of a person at the first return. It can be short, because a connection that is
ended comes back, and the next use is noticed within 20 s (`usage.PROOF_WINDOWS`)."""

SHORTEST_LEASH_SECONDS = 25.0
"""The leash is halved with each return in vain, down to this: long enough to notice a person who edits a file."""

REFUSED_SECONDS = 5.0
"""How long a refused client may stay connected: time for it to ask for a session and to show the answer, or for a
person's terminal to open, over a slow line. One that opens nothing (`ssh -N`) stays so long."""

CHAIN_SECONDS = 120.0
"""The pause that tells a person from a loop: the longest between two attempts of an editor is half a minute (VS Code's
`remoteAgentConnection.ts`), and a machine may take a minute to start."""

MAX_RETURNS = 3
"""How often a client in a loop is let in again without a sign of a person. With leashes of 60, 30 and 25 s an editor
that is left open costs two minutes for this."""

ASLEEP = "this machine sleeps, because nobody was using it; connect again to wake it"
ASLEEP_IN_LOOP = "this machine sleeps, because nobody was using it; connect again at once, or open a terminal"
"""What a refused client is told."""

PACE = 0.7
"""An attempt after less than this share of the pause before the last one does not keep the pace of a loop. A loop's
pauses differ by what a start of the machine takes, a second or two of half a minute."""

SHORTEST_PACE_SECONDS = 5.0
"""The pace of a loop that has been refused only once so far: VS Code waits so long at least after a failed attempt. So
a person who connects again at once is let in, whatever their window does."""

PROMPT_SECONDS = 1.5
"""A person takes longer to read the answer and to connect again. An attempt that comes sooner is another window of
theirs, whose connection was lost at the same moment, or Zed's, which makes three without a pause. It sets no pace."""

MAX_ABSENT = 256
"""How many clients are remembered, the latest; more than a machine has users."""

ABSENT_SECONDS = 7 * 86400.0
"""After so long a client is forgotten, and counts as a new one."""

MAX_TEXT = 256
"""Characters kept of a person's name and an account's."""


class Absent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A client that was not used when it was last here; `seen` is the Unix time of its last sign of life.

    `stopped`: the machine has stopped since it was last let in. `let_in`: it was let in since the last stop, so far in
    vain; `returns` counts the stops before which that was so, and `chain` those since it has last made a pause.
    `refused`: its last attempt was refused, `pace` seconds after one that was refused as well (0: none was).
    """

    user: str
    fingerprint: str
    seen: float
    stopped: bool = False
    let_in: bool = False
    returns: Annotated[int, msgspec.Meta(ge=0, le=MAX_RETURNS)] = 0
    chain: int = 0
    refused: bool = False
    pace: float = 0.0


class Return(msgspec.Struct, frozen=True):
    """How a client that comes back is received: the seconds that the machine waits for it, and why it is refused.

    `asleep` is empty if it is let in.
    """

    leash: float
    asleep: str = ""


class _On(msgspec.Struct):
    """A connected client."""

    key: tuple[str, str]
    quiet: bool
    on_probation: bool
    running: int = 0
    has_run: bool = False


class Probation:
    """Follows the events of clients, and says how one that comes back is received."""

    def __init__(self, absent: Iterable[Absent] = ()) -> None:
        self._absent = {(one.user, one.fingerprint): one for one in absent}
        self._on: dict[str, _On] = {}

    @property
    def absent(self) -> tuple[Absent, ...]:
        """The state to store whenever it changes."""
        return tuple(self._absent.values())

    @property
    def on(self) -> frozenset[str]:
        """The connections on probation."""
        return frozenset(conn for conn, one in self._on.items() if one.on_probation)

    @property
    def accounts(self) -> dict[str, str]:
        """The accounts of the connections on probation."""
        return {conn: self._on[conn].key[0] for conn in self.on}

    def is_absent(self, user: str, identity: Identity) -> bool:
        """Whether the client has not been used since it was last on probation, or was not used at the last stop."""
        return _key(user, identity) in self._absent

    def receive(self, user: str, identity: Identity, *, now: float, longest: float, in_use: bool) -> Return | None:
        """A client is being let in: how it is received; None: like any other.

        No leash is longer than `longest` seconds, after which a client would count as unused anyway
        (`idle.client_idle`). `in_use`: the machine is needed anyway, so nothing is gained by a refusal.
        """
        key = _key(user, identity)
        before = self._absent.pop(key, None)  # what is put back is the latest
        if before is None or not 0 <= now - before.seen <= ABSENT_SECONDS:
            return None
        in_chain = now - before.seen <= CHAIN_SECONDS
        pause = now - before.seen
        is_hasty = before.refused and PROMPT_SECONDS <= pause < PACE * (before.pace or SHORTEST_PACE_SECONDS)
        in_loop = before.chain >= MAX_RETURNS and not is_hasty
        refused = before.stopped and in_chain and (in_loop or not before.refused) and not in_use
        if refused:
            pace = (before.pace if pause < PROMPT_SECONDS else pause) if before.refused else 0.0
            self._absent[key] = msgspec.structs.replace(before, seen=now, refused=True, pace=pace)
            return Return(REFUSED_SECONDS, ASLEEP_IN_LOOP if in_loop else ASLEEP)
        self._absent[key] = msgspec.structs.replace(
            before, seen=now, refused=False, pace=0.0, stopped=False, let_in=True, chain=before.chain if in_chain else 0
        )
        leash = max(LEASH_SECONDS / 2**before.returns, SHORTEST_LEASH_SECONDS)
        return Return(min(leash, longest))

    def observe(self, event: AnyEvent, now: float) -> None:
        """Take note of `event`, which happens at `now`."""
        match event:
            case ConnectionAuthenticated(conn=conn, user=user, identity=identity, probation=seconds):
                is_back = seconds is not None
                self._on[conn] = _On(_key(user, identity), quiet=is_back, on_probation=is_back)
            case ClientQuiet(conn=conn) if conn in self._on:
                self._on[conn].quiet = True
            case ClientUsed(conn=conn) if conn in self._on:
                self._prove(self._on[conn].key)
            case SessionOpened(conn=conn) if conn in self._on:
                self._on[conn].running += 1
            case SessionClosed(conn=conn, exit_status=int()) if conn in self._on:
                self._on[conn].running -= 1
                self._on[conn].has_run = True
            case ConnectionClosed(conn=conn, goodbye=goodbye) if conn in self._on:
                one = self._on.pop(conn)
                before = self._absent.get(one.key)
                is_ended_by_us = before is not None and before.stopped  # the goodbye at a stop is ours
                if one.on_probation and goodbye and one.has_run and not one.running and not is_ended_by_us:
                    self._prove(one.key)
                else:
                    self._leave(one, now, lost=not goodbye)
            case ServerStopping(reason=reason):
                self._stop(now, is_idle=reason == "idle")
            case StopStep(step="suspend", result="called_off"):
                for key, before in self._absent.items():
                    self._absent[key] = msgspec.structs.replace(before, stopped=False)
            case _:
                pass

    def _prove(self, key: tuple[str, str]) -> None:
        """A person is there: this client counts like any other, on all of its connections."""
        self._absent.pop(key, None)
        for one in self._on.values():
            if one.key == key:
                one.on_probation = one.quiet = False

    def _leave(self, one: _On, now: float, *, lost: bool) -> None:
        """A connection is over. A client that was lost while it was not used may come back by itself, too."""
        if one.key in self._absent or (one.quiet and lost and not self._is_used(one.key)):
            self._seen(one.key, now)

    def _stop(self, now: float, *, is_idle: bool) -> None:
        """The server stops. If that is for want of use, no client uses the machine.

        After another stop, such as a deploy, nobody is refused.
        """
        for one in self._on.values():
            if is_idle or not self._is_used(one.key):
                self._seen(one.key, now)
        if not is_idle:
            return
        for key, before in self._absent.items():
            returns, chain = (min(count + before.let_in, MAX_RETURNS) for count in (before.returns, before.chain))
            self._absent[key] = msgspec.structs.replace(
                before, stopped=True, let_in=False, returns=returns, chain=chain
            )

    def _is_used(self, key: tuple[str, str]) -> bool:
        """Whether one of the client's connections is used: then a person is there, whatever the others do."""
        return any(one.key == key and not one.quiet for one in self._on.values())

    def _seen(self, key: tuple[str, str], now: float) -> None:
        before = self._absent.pop(key, None) or Absent(*key, seen=now)
        self._absent[key] = msgspec.structs.replace(before, seen=now)  # the latest last
        while len(self._absent) > MAX_ABSENT:
            del self._absent[next(iter(self._absent))]


def _key(user: str, identity: Identity) -> tuple[str, str]:
    return user[:MAX_TEXT], identity.fingerprint[:MAX_TEXT]
