"""A postauth process's requests: processes of its own account only, and those that are still starting."""

import os
import pwd
import select
import signal
import socket
import time

import msgspec
import pytest

from pyssh_gateway.core.launch import LaunchPlan, Terminal
from pyssh_gateway.core.transfers.sftp_options import NO_OPTIONS
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.account_requests import STARTING_PER_ACCOUNT, AccountRequests
from pyssh_gateway.spawner.processes import process
from pyssh_gateway.spawner.processes.login_recorder import LoginRecorder
from pyssh_gateway.spawner.processes.process import Begin, Child, Starting
from pyssh_gateway.spawner.processes.server_process import ServerProcesses
from pyssh_gateway.spawner.servers import Servers
from pyssh_gateway.system.descriptors import close_all
from tests.support import leaks
from tests.support.spawner_tables import PLAN, USER, Spawner, children_of, idle, never, plan, spawner
from tests.support.spawning import INHERITED, SERVERS, session_children
from tests.support.tiny_processes import once_assigned
from tests.support.waiting import until

__all__ = ["spawner"]


def test_a_plan_is_for_the_own_account_alone(spawner: Spawner) -> None:
    """Name and uid must be the account's own: another name with the same uid may have other groups."""
    other = "daemon" if USER.pw_name != "daemon" else "bin"
    spawner.ask(protocol.Spawn(1, msgspec.structs.replace(PLAN, user=other)))
    (refused,) = spawner.reports
    assert isinstance(refused, protocol.Refused)
    assert "another account" in refused.reason or "does not run as root" in refused.reason


@pytest.mark.parametrize(
    ("asked", "found", "own"),
    [
        ("alias", {"pw_name": "alias"}, True),  # the name that it was started by, whatever the directory says
        ("other-alias", {"pw_name": USER.pw_name}, True),  # according to the directory it is the same account
        ("twin", {"pw_name": "twin"}, False),  # the same uid, with groups of its own
        ("alias", {"pw_name": "alias", "pw_uid": USER.pw_uid + 1}, False),  # the account was made anew since then
    ],
)
def test_aliases_of_an_account_are_that_account(
    asked: str, found: dict[str, object], own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directories may know an account by several names: the uid must match, and the name must lead to it."""
    fields = dict(
        zip(("pw_name", "pw_passwd", "pw_uid", "pw_gid", "pw_gecos", "pw_dir", "pw_shell"), USER, strict=True)
    )
    monkeypatch.setattr(process, "find_account", lambda _user: pwd.struct_passwd((fields | found).values()))
    started: list[int] = []
    reports: list[protocol.Report] = []
    requests = AccountRequests(
        "alias",
        USER,
        session_children().begin,
        may_log_in=lambda _user: True,
        chroot_of=lambda _user: "",
        report=lambda report, _descriptors: reports.append(report),
        records=LoginRecorder(pytest.fail),
    )
    monkeypatch.setattr(requests.children, "start", lambda number, _begin, _peer: started.append(number))
    requests.answer(protocol.Spawn(1, msgspec.structs.replace(PLAN, user=asked)))
    assert (started == [1], len(reports)) == (own, 0 if own else 1)


def test_an_account_that_may_not_log_in_any_more_gets_nothing(spawner: Spawner) -> None:
    """Protects a reload that removes a login: open connections can't start anything new."""
    reports: list[protocol.Report] = []
    requests = AccountRequests(
        USER.pw_name,
        USER,
        session_children().begin,
        may_log_in=lambda _user: False,
        chroot_of=lambda _user: "",
        report=lambda report, _descriptors: reports.append(report),
        records=LoginRecorder(pytest.fail),
    )
    requests.answer(protocol.Spawn(1, PLAN))
    assert reports == [protocol.Refused(1, f"{USER.pw_name} is not an account that may log in")]


# -- another root directory -----------------------------------------------------------------------------------------


def test_the_configuration_says_what_the_root_directory_is(spawner: Spawner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration's tokens stand for the account; the asker, who may be compromised, has no influence."""
    asked: list[bytes | None] = []

    def start(_plan: LaunchPlan, _account: pwd.struct_passwd, _begin: Begin, chroot: bytes | None) -> Starting:
        asked.append(chroot)
        raise process.SpawnError("not in this test")

    monkeypatch.setattr(process, "start", start)
    for spawner.chroot in ("", "/srv/%u/%U%%", "%h/in"):
        spawner.ask(protocol.Spawn(1, PLAN))
    expected = [None, f"/srv/{USER.pw_name}/{USER.pw_uid}%".encode(), os.fsencode(f"{USER.pw_dir}/in")]
    assert asked == expected


def test_nothing_but_sftp_runs_in_a_chroot(spawner: Spawner) -> None:
    """In a chroot a compromised process gets no shell, no SFTP by the account's shell, and no terminal."""
    spawner.chroot = "/run"
    sftp = msgspec.structs.replace(PLAN, builtin="sftp")
    for asked in (PLAN, sftp, msgspec.structs.replace(sftp, sftp=NO_OPTIONS, terminal=Terminal("x", 1, 1, 0, 0, ()))):
        spawner.ask(protocol.Spawn(1, asked))
    reasons = {report.reason for report in spawner.reports if isinstance(report, protocol.Refused)}
    assert len(spawner.reports) == 3
    assert reasons == {"nothing but SFTP is served to this account: log in again if that has changed"}


# -- processes that are starting -------------------------------------------------------------------------------------


def test_only_so_many_of_an_account_are_on_their_way(spawner: Spawner) -> None:
    """Protects other accounts: an account's next process is only begun when an earlier one is ready."""
    for number in range(3 * STARTING_PER_ACCOUNT):
        spawner.ask(protocol.Spawn(number, plan(b"exec sleep 1000")))
    assert len(spawner.pending) == STARTING_PER_ACCOUNT
    spawner.until(lambda: len(spawner.pids) == 3 * STARTING_PER_ACCOUNT, "start of all")


def test_a_process_that_dies_on_its_way_has_been_there(spawner: Spawner) -> None:
    """Protects the session: a process that dies while it starts is reported as started, and at once as ended."""
    spawner.ask(protocol.Spawn(1, plan(b"exec sleep 1000")))
    (pid,) = {child.pid for child in children_of(os.getpid())}
    os.kill(pid, signal.SIGKILL)
    spawner.until(lambda: len(spawner.reports) == 2, "reports")
    assert isinstance(spawner.reports[0], protocol.Spawned)
    assert spawner.reports[1] == protocol.Exited(1, None, signal.SIGKILL, core_dumped=False)


def test_a_process_that_does_not_get_ready_counts_as_started(spawner: Spawner) -> None:
    """Protects the account's other sessions from one that hangs while it starts: its slot is freed after a while."""
    spawner.ask(protocol.Spawn(1, plan(b"exec sleep 1000")))
    assert spawner.pending
    spawner.account.children.tick(time.monotonic() + process.READY_SECONDS)
    assert not spawner.pending
    assert isinstance(spawner.reports[0], protocol.Spawned)


def test_without_its_asker_nothing_on_its_way_is_kept(spawner: Spawner) -> None:
    """Protects descriptors: when the asker has crashed, its starting processes find their pipes closed."""
    spawner.ask(protocol.Spawn(1, plan(b"cat")))
    spawner.account.children.forget(hang_up=True)
    assert spawner.pending == []
    spawner.until(lambda: not children_of(os.getpid()), "end of the process")
    assert spawner.reports == []


def test_no_request_is_read_while_many_of_its_account_are_on_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Protects memory and other accounts: a flood waits in the flooder's own socket, and the spawner sleeps."""
    begun: list[int] = []
    stuck, never_ready = os.pipe()

    def hangs(_plan: LaunchPlan, account: pwd.struct_passwd, _begin: Begin, _chroot: bytes | None) -> Starting:
        begun.append(1)
        return Starting(Child(2**22 + len(begun), account.pw_name, account.pw_uid, "", []), os.dup(stuck))

    def floods(_monitor: socket.socket, control: socket.socket) -> int:
        for number in range(3 * STARTING_PER_ACCOUNT):
            control.send(protocol.encode(protocol.Spawn(number, PLAN)))
        signal.pause()
        return 0

    with leaks.nothing_left_open():
        servers = Servers(
            ServerProcesses(never, idle, once_assigned(floods), idle, lambda: None, frozenset),
            SERVERS,
            INHERITED,
            report=lambda _report, descriptors: close_all(descriptors),
            records=LoginRecorder(pytest.fail),
            say=pytest.fail,
            on_spawn=lambda _greets: None,
        )
        servers.permit(frozenset({USER.pw_name}), {})
        servers.start_postauth(protocol.StartPostauth(1, USER.pw_name))
        monkeypatch.setattr(process, "start", hangs)

        def turn() -> bool:
            poller = select.poll()
            acts = {}
            for descriptor, events, act in servers.watched():
                poller.register(descriptor, events)
                acts[descriptor] = act
            for descriptor, happened in poller.poll(10):
                acts[descriptor](happened)
            return len(acts) == len(begun) == STARTING_PER_ACCOUNT  # the link itself is no longer polled

        until(turn, what="a flood that waits")
        assert all(turn() for _ in range(5))
        (pid,) = servers.pids
        servers.kill(1)
        servers.reaped(*os.waitpid(pid, 0))
        os.close(never_ready)
        os.close(stuck)
