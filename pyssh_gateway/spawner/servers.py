"""The preauth and postauth processes: started, killed and reaped for the monitor; and the postauth processes' requests.

Each postauth process has a socket of its own. One request of each is served in a turn of the loop, and none is read
while many of its account's processes are starting, so that one account's flood waits in its own socket. Nothing here
waits. This module does not know why the monitor wants a process.
"""

import os
import pwd
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial

from pyssh_gateway.core.recordings.rules import Recording
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.account_requests import AccountRequests
from pyssh_gateway.spawner.child import Inherited
from pyssh_gateway.spawner.links.guard import guarded
from pyssh_gateway.spawner.links.link import Link
from pyssh_gateway.spawner.links.outbox import STUCK_SECONDS
from pyssh_gateway.spawner.processes import process, server_process
from pyssh_gateway.spawner.processes.children import Report, exited
from pyssh_gateway.spawner.processes.forked_ahead import Forked, ForkedAhead
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.process import SpawnError
from pyssh_gateway.spawner.processes.server_process import LastWords, ServerProcesses
from pyssh_gateway.spawner.processes.session_child import SessionChildren
from pyssh_gateway.spawner.processes.user_servers import UserServers
from pyssh_gateway.spawner.recorder_process import Recorder
from pyssh_gateway.spawner.server_kinds import Postauth, Server
from pyssh_gateway.system.signals import unix_name

MAX_PREAUTH = 40
"""The maximum of preauth processes. The monitor uses 16 and a spare; others have been killed or are about to end."""

KILLED_SECONDS = 1.0
"""How long a process may take to end after SIGKILL. One that takes longer hangs in the kernel, and is given up."""

LOGIN_AGAIN_SECONDS = 0.1
"""How long after an account's first login a process is forked for another account's. A login takes about as long, and
should not have to share the processors with that fork."""

SESSION_AGAIN_SECONDS = 0.02
"""The same after the start of a session: a command that does almost nothing takes about as long."""

NOBODYS = -1
"""The request number of a process that no monitor knows: real request numbers are never negative."""

Say = Callable[[str], None]
Watched = tuple[int, int, Callable[[int], None]]
"""A descriptor to poll, the events to poll for, and the function to call with the events that have happened."""


class Servers:
    """All preauth and postauth processes. Times are `time.monotonic()`'s.

    `report` goes to the monitor; `on_spawn` is called after each request for a session's process, with whether the
    user is greeted.
    """

    def __init__(
        self,
        processes: ServerProcesses,
        user_servers: UserServers,
        inherited: Inherited,
        *,
        report: Report,
        records: LoginRecorder,
        say: Say,
        on_spawn: Callable[[bool], None],
    ) -> None:
        self._processes = processes
        self._inherited = inherited
        self._report = report
        self._records = records
        self._say = say
        self._on_spawn = on_spawn
        self._users: frozenset[str] = frozenset()
        self._chroots: Mapping[str, str] = {}
        self._accounts = ForkedAhead(partial(server_process.start_postauth, processes, inherited))
        self._sessions = SessionChildren(inherited, user_servers)
        self._recorder = Recorder(
            processes, inherited, lambda: ((one.user, one.link) for one in self._postauth.values()), self._end_user, say
        )
        self._preauth: dict[int, Server] = {}
        self._postauth: dict[int, Postauth] = {}
        # -- at the stop
        self._leaving = False
        self._kill_at: float | None = None
        self._give_up_at: float | None = None

    # -- requests of the monitor --------------------------------------------------------------------------------------

    def permit(self, users: frozenset[str], chroots: Mapping[str, str], recording: Recording | None = None) -> None:
        """Processes may run as these accounts only from now on; `chroots` are root directories of some of them.

        `recording` says which of them may be recorded.
        """
        self._users = users
        self._chroots = chroots
        if recording is not None:
            self._recorder.permit(recording, time.monotonic())

    def start_preauth(self, request: protocol.StartPreauth) -> None:
        """Start a preauth process, which serves one connection before login."""
        if len(self._preauth) >= MAX_PREAUTH:
            self._refuse(request.id, "too many preauth processes are running")
            return
        with ExitStack() as undo:
            try:
                words = LastWords()
                undo.callback(words.close)
                ours, theirs = protocol.socket_pair()
                with theirs:
                    undo.callback(ours.close)
                    pid = server_process.start_preauth(self._processes, theirs, words, self._inherited)
            except OSError as error:
                self._refuse(request.id, f"can't start a process: {error.strerror}")
                return
            undo.pop_all()
        self._preauth[pid] = Server("preauth process", request.id, pid, words)
        self._report(protocol.Spawned(request.id, pid, ""), [ours.detach()])
        self._expect()

    def start_postauth(self, request: protocol.StartPostauth) -> None:
        """Start the process that serves the connections of an account."""
        user = request.user
        if user not in self._users:
            self._refuse(request.id, f"{user:.{process.SHOWN}} is not an account that may log in")
            return
        if any(one.user == user for one in self._postauth.values()):
            self._refuse(request.id, f"{user} has a postauth process already")
            return
        with ExitStack() as undo:
            try:
                account = process.find_account(user)
                ours, monitors = protocol.socket_pair()
                undo.callback(ours.close)
                with monitors:
                    control, spawners = protocol.socket_pair()
                    undo.callback(control.close)
                    with spawners:
                        forked = self._assign(account, monitors, spawners)
            except SpawnError as error:
                self._refuse(request.id, str(error))
                return
            except OSError as error:
                self._refuse(request.id, f"can't start a process: {error.strerror}")
                return
            undo.pop_all()
        forked.link.close()
        server = Server(f"postauth process of {user}", request.id, forked.pid, forked.words)
        link = Link(control, protocol.decode_postauth_request)
        requests = AccountRequests(
            user,
            account,
            self._sessions.begin,
            may_log_in=lambda name: name in self._users,
            chroot_of=lambda name: self._chroots.get(name, ""),
            report=link.report,
            records=self._records,
        )
        self._postauth[forked.pid] = Postauth(server, user, link, requests)
        self._recorder.introduce(user, link)
        self._report(protocol.Spawned(request.id, forked.pid, ""), [ours.detach()])
        self._expect(login_after=LOGIN_AGAIN_SECONDS)

    def _assign(self, account: pwd.struct_passwd, monitors: socket.socket, spawners: socket.socket) -> Forked:
        """Assign `account` and the sockets to a process. Raises OSError."""
        order = protocol.encode(protocol.BeAccount(account.pw_name, account.pw_uid, account.pw_gid))
        return self._accounts.tell(order, [monitors.fileno(), spawners.fileno()])

    def _expect(self, login_after: float = 0.0) -> None:
        """Logins and sessions are likely: have spare processes for them."""
        if self._leaving:
            return
        now = time.monotonic()
        if self._users - {one.user for one in self._postauth.values()}:
            self._accounts.expect(now, login_after)
        if self._postauth:
            self._sessions.ahead.expect(now)

    def kill(self, number: int) -> None:
        """Kill the process that was started by the monitor's request `number`, if it runs."""
        for server in self._all():
            if server.number == number:
                server.kill()

    def _refuse(self, number: int, reason: str) -> None:
        self._report(protocol.Refused(number, reason), [])

    # -- requests of postauth processes -------------------------------------------------------------------------------

    def _happened(self, one: Postauth, happened: int) -> None:
        """Handle the events `happened` on a postauth process's link."""
        if happened & select.POLLOUT:
            one.link.send_more()
        if not happened & ~select.POLLOUT or not one.events & select.POLLIN:
            return
        try:
            request = one.link.take()
        except protocol.ProtocolError as error:
            self._end(one, str(error))
            return
        if request is not None:
            guarded(request, one.requests.answer, one.link.report, self._say)
            self._on_spawn(request.plan.greet)

    def _is_ready(self, one: Postauth, descriptor: int, _happened: int) -> None:
        """A session's process is ready: report it, and fork the next one.

        Not before: a fork has copies of the session's pipes until it closes them, and would be a reader of its output
        although the client has said that it does not read any more.
        """
        one.requests.children.ready(descriptor)
        self._sessions.ahead.expect(time.monotonic(), SESSION_AGAIN_SECONDS)

    def _end(self, one: Postauth, why: str) -> None:
        self._say(f"killing {one.server.name}: {why}")
        one.server.kill()
        one.link.close()

    def _end_user(self, user: str, why: str) -> None:
        for one in self._postauth.values():
            if one.user == user:
                self._end(one, why)

    # -- for the loop -----------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether any of them runs."""
        return bool(self.pids)

    @property
    def pids(self) -> set[int]:
        """The pids of all of them, without the processes that were started for sessions."""
        ours = {server.pid for server in self._all()} | self._recorder.pids
        return ours | self._accounts.pids | self._sessions.ahead.pids

    def watched(self) -> Iterator[Watched]:
        """What to poll. A link without `events` is left out: poll(2) always reports a closed link (POLLHUP)."""
        yield from self._recorder.watched()
        for one in self._postauth.values():
            for descriptor in one.requests.children.pending:
                yield descriptor, select.POLLIN, partial(self._is_ready, one, descriptor)
            if one.events:
                yield one.link.fileno(), one.events, partial(self._happened, one)

    def next_at(self) -> float | None:
        """When to call `tick`, if nothing happens before."""
        times = [self._kill_at, self._give_up_at, self._recorder.next_at(), *(ahead.next_at() for ahead in self._ahead)]
        for one in self._postauth.values():
            times += [one.link.stuck_at, one.requests.children.next_at()]
        return min((at for at in times if at is not None), default=None)

    def tick(self, now: float) -> None:
        """Do what is due at `now`."""
        for part in (*self._ahead, self._recorder):
            part.tick(now)
        if self._leaving and not self._postauth:
            self._recorder.leave()
        for one in self._postauth.values():
            one.requests.children.tick(now)
            if one.link.stuck_at is not None and now >= one.link.stuck_at:
                self._end(one, f"it has not read a report for {STUCK_SECONDS:.0f} s")
        if self._kill_at is not None and now >= self._kill_at:
            self.kill_all(now)
        if self._give_up_at is not None and now >= self._give_up_at:
            self._give_up_at = None
            self._preauth.clear()
            self._postauth.clear()
            for part in (*self._ahead, self._recorder):
                part.give_up()

    def reaped(self, pid: int, status: int) -> bool:
        """The child `pid` has ended with `status` (of waitpid(2)); returns whether it is one of these or of theirs."""
        if pid in self._preauth:
            self._ended(self._preauth.pop(pid), status, "")
            return True
        for ahead in self._ahead:
            words = ahead.ended(pid)
            if words is not None:
                self._ended(Server("process that was forked ahead", NOBODYS, pid, words), status, "")
                return True
        if self._recorder.reaped(pid, status, time.monotonic()):
            return True
        if pid not in self._postauth:
            return any(one.requests.children.reaped(pid, status) for one in self._postauth.values())
        one = self._postauth.pop(pid)
        sessions = one.requests.children.sessions_of_a_crash()
        one.requests.children.forget(hang_up=not self._leaving)
        one.link.close()
        self._recorder.forget(one.user)
        self._ended(one.server, status, f"; ending its {sessions} sessions" if sessions else "")
        return True

    def _ended(self, server: Server, status: int, then: str) -> None:
        """Print how a process ended, and report it to the monitor, if that knows the process."""
        code = os.waitstatus_to_exitcode(status)
        if code != 0 and not server.killed:
            self._say(f"{server.name} ended with {_cause(code)}{then}")
        for line in server.words.take():
            self._say(f"{server.name}: {line}")
        if server.number != NOBODYS:
            self._report(exited(server.number, status), [])

    def _all(self) -> list[Server]:
        return [*self._preauth.values(), *(one.server for one in self._postauth.values())]

    @property
    def _ahead(self) -> tuple[ForkedAhead, ForkedAhead]:
        return self._accounts, self._sessions.ahead

    # -- when a monitor has ended, or the server does -----------------------------------------------------------------

    def monitor_gone(self) -> None:
        """The monitor has died: kill the preauth processes. The postauth processes wait for the next monitor."""
        for server in self._preauth.values():
            server.number = NOBODYS
            server.kill()

    def introduce(self) -> None:
        """Connect a new monitor to every postauth process that runs."""
        for one in self._postauth.values():
            server = one.server
            if not one.link.is_open and not server.killed:
                self._end(one, "it does not listen any more")
            if server.killed:
                server.number = NOBODYS
                continue
            try:
                monitors, theirs = protocol.socket_pair()
            except OSError as error:
                self._end(one, f"there is no socket for the new monitor: {error.strerror}")
                server.number = NOBODYS
                continue
            self._report(protocol.TakeOver(server.number, one.user, server.pid), [monitors.detach()])
            one.link.report(protocol.NewMonitor(), [theirs.detach()])

    def leave(self, now: float, within: float) -> None:
        """The server ends, and there is no monitor any more: close all links. The processes have `within` s to end."""
        if self._leaving:
            return
        self._leaving = True
        self._kill_at = now + within
        for ahead in self._ahead:
            ahead.drop()
        self.monitor_gone()
        for one in self._postauth.values():
            one.link.close()

    def kill_all(self, now: float) -> None:
        """Kill them now."""
        self._leaving = True
        self._kill_at, self._give_up_at = None, now + KILLED_SECONDS
        for server in self._all():
            if not server.killed:
                self._say(f"killing {server.name}: it did not leave in time")
            server.kill()
        for part in (*self._ahead, self._recorder):
            part.kill()


def _cause(code: int) -> str:
    return f"exit code {code}" if code > 0 else unix_name(-code)
