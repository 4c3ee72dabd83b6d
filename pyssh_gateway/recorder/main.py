"""The recorder: it writes what the terminals of recorded sessions show, and nothing else.

A fork of the spawner. It opens the directory of recordings with the rights that it was forked with; then the directory
becomes its root, and the process the monitor's account, without a network and without any program. Each turn of its
loop takes one packet of each account, or a part of one: a flood waits in the socket of its own account.
"""

import os
import pwd
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core.recordings.rules import Bounds
from pyssh_gateway.ipc import recorder as messages
from pyssh_gateway.ipc.crash import UNUSABLE
from pyssh_gateway.ipc.spawner import DescriptorsLost, ProtocolError, receive
from pyssh_gateway.recorder.account import CROWDED, LEFT, Account, DirectoryGone
from pyssh_gateway.recorder.files import DIRECTORY, Files, open_directory
from pyssh_gateway.recorder.recording import ROOM_TAKEN, Times
from pyssh_gateway.system import privileges
from pyssh_gateway.system.accounts import monitor_account
from pyssh_gateway.system.confinement import NO_BOUNDS, attempt, confine
from pyssh_gateway.system.descriptors import close_all, closing
from pyssh_gateway.system.heap import keep_free_memory
from pyssh_gateway.system.process_name import name_process
from pyssh_gateway.system.syscalls import seccomp
from pyssh_gateway.system.syscalls.profiles import RECORDER

NAME = "pyssh-recorder"
"""What `ps` calls the process."""

FLUSH_SECONDS = 1.0
"""How much of a recording is lost at most when this process is killed, and how far behind somebody is who watches."""

KEEP_SECONDS = 600.0
"""How often old recordings are looked for, if nothing is written meanwhile that takes their room."""

GONE_SECONDS = 10.0
"""How long the accounts' processes may take to end their sessions when the spawner is gone."""

RECORDINGS_OF_DESCRIPTORS = 0.75
"""How much of the table of descriptors is for recordings. The rest is for the sockets of accounts."""

GONE = 1
"""The exit code when somebody has removed the directory: the next recorder makes it again."""

NOT_YET = Bounds(session_bytes=0, session_seconds=0.0, keep_seconds=float("inf"), keep_bytes=2**63)
"""Until the spawner has said which bounds there are, which it does at first, nothing is removed."""


def run_recorder(control: socket.socket, audit_dir: Path, account: str) -> int:
    """Record until the spawner has closed `control` and all accounts are done; returns the process's exit code.

    The process becomes the monitor's `account`, if the server is root's.
    """
    name_process(NAME)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the spawner decides in which order things end
        signal.signal(number, signal.SIG_IGN)
    # It is woken by each packet, and should not take the processor from the process that has sent it (sched(7)).
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.umask(0o027)
    entry = monitor_account(account) if os.geteuid() == 0 else None
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)  # not later: the confined process may not ask
    try:
        _enter(audit_dir, entry, most)
    except OSError as error:
        sys.stderr.write(f"nothing is recorded: {audit_dir / DIRECTORY}: {error.strerror or error}\n")
        return UNUSABLE
    times = Times(time.monotonic, time.time)
    return Recorder(control, times, most_recordings=int(most * RECORDINGS_OF_DESCRIPTORS)).run()


def _enter(audit_dir: Path, account: pwd.struct_passwd | None, descriptors: int) -> None:
    """Go where the recordings are, with room for so many descriptors, and give up everything else for good."""
    seccomp.prepare(RECORDER)
    keep_free_memory()
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    missing: list[str] = []
    with closing(open_directory(audit_dir, account)) as directory:
        os.fchdir(directory)
    if account is not None:
        os.chroot(".")
        attempt(missing, NO_BOUNDS, privileges.empty_bounding_set)
        os.setgroups([])
        privileges.become(account.pw_uid, account.pw_gid)
    for wall in missing + confine(RECORDER):
        sys.stderr.write(f"around the recorder: {wall}\n")
    sys.stderr.flush()


class Recorder:
    """The loop. `control` leads to the spawner. All accounts have at most `most_recordings` at a time."""

    def __init__(self, control: socket.socket, times: Times, *, most_recordings: int) -> None:
        control.setblocking(False)
        self._control: socket.socket | None = control
        self._times = times
        self._most_recordings = most_recordings
        self._bounds = NOT_YET
        self._files = Files(NOT_YET, times.wall)
        self._accounts: dict[int, tuple[int, Account]] = {}
        self._flush_at: float | None = None
        self._keep_at = 0.0
        self._leave_at: float | None = None
        self._poller = select.poll()
        self._poller.register(control, select.POLLIN)

    def run(self) -> int:
        """Serve until there is nobody left to serve."""
        self._files.look()
        while self._control is not None or self._accounts:
            try:
                self._turn()
            except DirectoryGone:
                _say("the directory of recordings was removed")
                return GONE
        return 0

    def _turn(self) -> None:
        with_entries = {descriptor for descriptor, (_, account) in self._accounts.items() if account.has_entries}
        ready = {descriptor for descriptor, _ in self._poller.poll(0 if with_entries else self._timeout())}
        for descriptor in ready | with_entries:
            if self._control is not None and descriptor == self._control.fileno():
                self._hear_spawner(self._control)
            elif descriptor in self._accounts:
                self._serve(descriptor)
        self._tick()

    def _timeout(self) -> float:
        times = [self._keep_at, *(at for at in (self._flush_at, self._leave_at) if at is not None)]
        return max(0.0, min(times) - self._times.steady()) * 1000

    def _tick(self) -> None:
        now = self._times.steady()
        if self._flush_at is not None and now >= self._flush_at:
            again = [account.flush() for _, account in self._accounts.values()]
            self._flush_at = now + FLUSH_SECONDS if any(again) else None
        if now >= self._keep_at or self._files.is_too_much:
            self._keep_at = now + KEEP_SECONDS
            self._make_room()
        if self._leave_at is not None and now >= self._leave_at:
            for descriptor in tuple(self._accounts):
                self._part(descriptor, "the server ended")

    def _make_room(self) -> None:
        while (name := self._files.remove_old()) is not None:
            if not any(account.cut(name, ROOM_TAKEN) for _, account in self._accounts.values()):
                return  # never: each file that is being written is one of these

    # -- the spawner ----------------------------------------------------------------------------------------------

    def _hear_spawner(self, control: socket.socket) -> None:
        try:
            packet, descriptors = receive(control)
        except BlockingIOError:
            return
        except DescriptorsLost as error:
            order = messages.decode_order(error.packet)
            if isinstance(order, messages.RecordAccount):  # only its socket is lost: the account's process is told
                _say(f"the sessions of {order.user} are not recorded: no descriptors are left")
            return
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            close_all(descriptors)
            self._poller.unregister(control)
            control.close()
            self._control = None
            self._leave_at = self._times.steady() + GONE_SECONDS
            return
        match messages.decode_order(packet):
            case messages.RecordWithin(bounds=bounds):
                self._bounds = bounds
                self._files.bound(bounds)
                self._keep_at = 0.0
            case messages.RecordAccount(id=number, user=user):
                sock = socket.socket(fileno=descriptors[0])
                account = Account(user, sock, self._files, lambda: self._bounds, self._times, has_place=self._has_place)
                self._accounts[sock.fileno()] = number, account
                self._poller.register(sock, select.POLLIN)

    # -- accounts -------------------------------------------------------------------------------------------------

    def _serve(self, descriptor: int) -> None:
        number, account = self._accounts[descriptor]
        try:
            is_there = account.serve()
        except ProtocolError as error:
            self._part(descriptor, f"{LEFT}: it broke the rules")
            self._complain(messages.Misbehaved(number, str(error)[:1024]))
            return
        if not is_there:
            self._part(descriptor, LEFT)
        elif self._flush_at is None:
            self._flush_at = self._times.steady() + FLUSH_SECONDS

    def _has_place(self, asking: Account) -> bool:
        """Whether `asking` may begin a recording. When all places are taken, the account with the most gives one up.

        So everybody has a share of them, whoever comes first.
        """
        accounts = [account for _, account in self._accounts.values()]
        if sum(map(len, accounts)) < self._most_recordings:
            return True
        most = max(accounts, key=len)
        if len(most) <= len(asking) + 1:
            return False
        most.cut_newest(CROWDED)
        return True

    def _part(self, descriptor: int, reason: str) -> None:
        _, account = self._accounts.pop(descriptor)
        self._poller.unregister(descriptor)
        account.close(reason)

    def _complain(self, complaint: messages.Misbehaved) -> None:
        if self._control is not None:
            try:
                self._control.send(messages.encode(complaint))
            except OSError:  # the spawner is gone, or busy: what has misbehaved has no socket any more
                return


def _say(text: str) -> None:
    with suppress(OSError):  # standard error is a file with an end
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
