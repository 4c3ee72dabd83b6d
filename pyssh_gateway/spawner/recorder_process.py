"""The recorder's life as the spawner sees it: forked when something may be recorded, started again when it has died.

Each postauth process whose account may be recorded is connected to it by a socket pair: when it starts, when another
recorder does, and when a reload has its account recorded. The spawner says which account that is, and the recorder
believes nobody else. This module does not know what is recorded.
"""

import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from pyssh_gateway.core.recordings.rules import Recording
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.links.outbox import STUCK_SECONDS, Outbox
from pyssh_gateway.spawner.processes import server_process
from pyssh_gateway.spawner.processes.server_process import LastWords, ServerProcesses
from pyssh_gateway.system.descriptors import close_all
from pyssh_gateway.system.signals import unix_name

PAUSES_SECONDS = (0.0, 1.0, 5.0, 30.0)
"""How long after the death of a recorder the next one is started, the last of these again and again."""

LIVED_SECONDS = 60.0
"""A recorder that has lived for so long is replaced at once."""

Watched = tuple[int, int, Callable[[int], None]]


class Recorder:
    """Runs one recorder after the other. Times are `time.monotonic()`'s.

    `postauths` gives the running postauth processes, with their accounts. `end` kills that of an account, and says why.
    """

    def __init__(
        self,
        processes: ServerProcesses,
        inherited: Inherited,
        postauths: Callable[[], Iterable[tuple[str, Link[protocol.PostauthRequest]]]],
        end: Callable[[str, str], None],
        say: Callable[[str], None],
    ) -> None:
        self._processes = processes
        self._inherited = inherited
        self._postauths = postauths
        self._end = end
        self._say = say
        self._recording: Recording | None = None
        self._pid = 0
        self._words: LastWords | None = None
        self._control: socket.socket | None = None
        self._outbox: Outbox | None = None
        self._numbers: dict[int, str] = {}
        self._last_number = 0
        self._start_at: float | None = None
        self._started = 0.0
        self._deaths = 0
        self._leaving = False

    # -- who is recorded ----------------------------------------------------------------------------------------------

    def permit(self, recording: Recording, now: float) -> None:
        """Record these accounts from now on. Those whose recordings have begun stay connected."""
        self._recording = recording
        if self._outbox is not None:
            self._send_bounds(self._outbox, now)
            self._introduce_all()
        elif recording.accounts and not self._pid and self._start_at is None:
            self._start_at = now

    def introduce(self, user: str, link: Link[protocol.PostauthRequest]) -> None:
        """Connect a postauth process to the recorder, if its account may be recorded and is not connected yet."""
        recording, outbox = self._recording, self._outbox
        if outbox is None or recording is None or user not in recording.accounts or user in self._numbers.values():
            return
        try:
            ours, theirs = protocol.socket_pair()
        except OSError as error:
            self._say(f"{user} can't be recorded: {error.strerror}")
            return
        self._last_number += 1
        self._numbers[self._last_number] = user
        order = messages.encode(messages.RecordAccount(self._last_number, user))
        outbox.send(order, [ours.detach()], time.monotonic())
        link.report(protocol.NewRecorder(), [theirs.detach()])

    def forget(self, user: str) -> None:
        """The account's postauth process has ended; the next one gets a socket of its own."""
        self._numbers = {number: name for number, name in self._numbers.items() if name != user}

    def _introduce_all(self) -> None:
        for user, link in self._postauths():
            self.introduce(user, link)

    def _send_bounds(self, outbox: Outbox, now: float) -> None:
        if self._recording is not None:
            outbox.send(messages.encode(messages.RecordWithin(self._recording.bounds)), [], now)

    # -- its life -----------------------------------------------------------------------------------------------------

    @property
    def pids(self) -> set[int]:
        """Its process, if it runs."""
        return {self._pid} - {0}

    def watched(self) -> Iterator[Watched]:
        """What to poll."""
        if self._control is not None and self._outbox is not None:
            events = select.POLLIN | (select.POLLOUT if self._outbox.waiting else 0)
            yield self._control.fileno(), events, partial(self._happened, self._control, self._outbox)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        stuck_at = None if self._outbox is None else self._outbox.stuck_at
        return min((at for at in (self._start_at, stuck_at) if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            self._start(now)
        if self._outbox is not None and self._outbox.stuck_at is not None and now >= self._outbox.stuck_at:
            self._outbox.close()
            self._say(f"killing the recorder: it has not read an order for {STUCK_SECONDS:.0f} s")
            self.kill()

    def _start(self, now: float) -> None:
        if self._leaving or self._recording is None or not self._recording.accounts:
            return
        words = LastWords()
        try:
            ours, theirs = protocol.socket_pair()
            with theirs:
                try:
                    self._pid = server_process.start_recorder(self._processes, theirs, words, self._inherited)
                except BaseException:
                    ours.close()
                    raise
        except OSError as error:
            words.close()
            self._say(f"can't start the recorder: {error.strerror}")
            self._start_later(now)
            return
        ours.setblocking(False)
        self._words, self._control, self._outbox, self._started = words, ours, Outbox(ours), now
        self._send_bounds(self._outbox, now)
        self._introduce_all()

    def _start_later(self, now: float) -> None:
        self._start_at = now + PAUSES_SECONDS[min(self._deaths, len(PAUSES_SECONDS) - 1)]
        self._deaths += 1

    def _happened(self, control: socket.socket, outbox: Outbox, happened: int) -> None:
        if happened & select.POLLOUT:
            outbox.flush(time.monotonic())
        if not happened & ~select.POLLOUT:
            return
        try:
            packet, descriptors = protocol.receive(control)
            close_all(descriptors)
            complaint = messages.decode_misbehaved(packet) if packet else None
        except BlockingIOError:
            return
        except (OSError, protocol.DescriptorsLost, protocol.ProtocolError):
            complaint = None
        if complaint is None:
            self._disconnect()
            self.kill()  # it has ended, or sends what it may not
        elif (user := self._numbers.pop(complaint.id, None)) is not None:
            self._end(user, f"it has sent the recorder what it may not: {complaint.reason:.200}")

    def _disconnect(self) -> None:
        if self._outbox is not None and self._control is not None:
            self._outbox.close()
            self._control.close()
        self._outbox = self._control = None
        self._numbers.clear()

    def reaped(self, pid: int, status: int, now: float) -> bool:
        """The child `pid` has ended with `status` (of waitpid(2)); returns whether it was the recorder."""
        if pid != self._pid:
            return False
        self._pid = 0
        self._disconnect()
        code = os.waitstatus_to_exitcode(status)
        if not self._leaving:
            cause = f"exit code {code}" if code >= 0 else unix_name(-code)
            self._say(f"the recorder (pid {pid}) ended with {cause}; sessions go on")
            if now - self._started >= LIVED_SECONDS:
                self._deaths = 0
            self._start_later(now)
        for line in self._words.take() if self._words is not None else ():
            self._say(f"the recorder (pid {pid}): {line}")
        self._words = None
        return True

    # -- the server's end ---------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """The accounts' processes are gone: it has to end, too, when it has written everything."""
        self._leaving = True
        self._start_at = None
        self._disconnect()

    def kill(self) -> None:
        """Kill it."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def give_up(self) -> None:
        """Forget it: it hangs in the kernel."""
        self._leaving, self._pid = True, 0
        self._disconnect()
        if self._words is not None:
            self._words.close()
            self._words = None
