"""Receives clients that come back after a stop, and remembers them across it; `core.idle.probation` decides."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeGuard

import msgspec

from pyssh_gateway.core.idle.probation import MAX_ABSENT, Absent, Probation, Return
from pyssh_gateway.events import AnyEvent, ClientUsed, ConnectionClosed, Identity, MachineResumed, Record, SessionOpened
from pyssh_gateway.monitor.connected.registry import Registry
from pyssh_gateway.monitor.state_file import read_state, write_state

STATE_FILE = Path("absent.json")
"""In the working directory, which is the server's own."""

MAX_STATE_BYTES = 1024 * MAX_ABSENT
"""Size limit of the file: an entry is an account, a fingerprint and a few numbers, a fifth of this."""


class Returning:
    """Asks and feeds a `Probation`, whose state is in the file `state`.

    `in_use` says whether the machine is needed, and `client_idle` after how long without use a client counts as unused
    (None: never). `publish` gets `ClientUsed` when a client opens a terminal or SFTP; `soon` calls a function in the
    next turn of the loop.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        in_use: Callable[[], bool],
        client_idle: Callable[[], float | None],
        publish: Callable[[AnyEvent], None],
        soon: Callable[[Callable[[], None]], object],
        clock: Callable[[], float],
        state: Path = STATE_FILE,
    ) -> None:
        self._registry = registry
        self._in_use = in_use
        self._client_idle = client_idle
        self._publish = publish
        self._soon = soon
        self._clock = clock
        self._state = state
        kept: list[Absent] = []
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kept = msgspec.json.decode(read_state(state, MAX_STATE_BYTES), type=list[Absent])
        self._returned = ""
        self._followed = client_idle()
        self._probation = Probation(kept[-MAX_ABSENT:])
        self._stored = self._probation.absent

    @property
    def on_probation(self) -> frozenset[str]:
        """The connections that may have come back by themselves."""
        return self._probation.on

    @property
    def returned(self) -> str:
        """The person whose client has come back by itself since the machine woke, and was not used; empty for none."""
        return self._returned

    def receive(self, user: str, identity: Identity) -> Return | None:
        """A client is being let in: how it is received; None: like any other."""
        client_idle = self._client_idle()
        if client_idle is None:
            return None
        now, in_use = self._clock(), self._in_use()
        received = self._probation.receive(user, identity, now=now, longest=client_idle, in_use=in_use)
        self._returned = self._returned if received is None else identity.person
        self._store()
        return received

    def reconfigured(self) -> None:
        """There are other settings. If unused clients are told by another rule now, all clients count as used."""
        before, self._followed = self._followed, self._client_idle()
        if self._followed != before:
            for conn, user in self._probation.accounts.items():
                self._publish(ClientUsed(conn=conn, user=user))

    def observe(self, record: Record) -> None:
        """Take note of an event, and write down what it has changed."""
        event = record.event
        if _is_sign(event) and event.conn in self._probation.on:
            used = ClientUsed(conn=event.conn, user=event.user, identity=event.identity)
            self._soon(lambda: self._used(used))  # later, so that the log has both events in order
        was_on = self._probation.on
        self._probation.observe(event, self._clock())
        if isinstance(event, ConnectionClosed) and event.conn in was_on and event.identity is not None:
            gone = ClientUsed(conn=event.conn, user=event.user, identity=event.identity)
            if not self._probation.is_absent(event.user, event.identity):
                self._soon(lambda: self._publish(gone))
        if isinstance(event, ClientUsed | MachineResumed):
            self._returned = ""
        if isinstance(event, ClientUsed):
            self._registry.count_as_used(self._probation.on)
        self._store()

    def _used(self, event: ClientUsed) -> None:
        if event.conn in self._probation.on:
            self._publish(event)

    def _store(self) -> None:
        absent = self._probation.absent
        if absent != self._stored:
            self._stored = absent
            with suppress(OSError):  # a full disk must not keep anybody out
                write_state(self._state, msgspec.json.encode(absent))


def _is_sign(event: AnyEvent) -> TypeGuard[SessionOpened]:
    """Whether it shows a person: an editor that comes back by itself opens neither a terminal nor SFTP."""
    return isinstance(event, SessionOpened) and bool(event.tty or event.kind == "subsystem")
