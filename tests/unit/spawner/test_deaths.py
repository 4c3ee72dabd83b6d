"""Which processes survive which: monitor, preauth and postauth end, stop or flood, under a real supervisor."""

import os
import signal
import time

import pytest

from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.links.outbox import STUCK_SECONDS
from tests.support import processes
from tests.support.supervising import OTHER, POSTAUTH, USER, Serve, plan, serve, start
from tests.support.waiting import AT_ONCE, until

__all__ = ["serve", "start"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve two accounts")


def gone(pid: int) -> None:
    """Wait for the end of a process."""
    until(lambda: not processes.is_running(pid), what=f"end of {pid}")


@pytest.mark.parametrize("kind", ["preauth", "postauth"])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_kill_ends_what_does_not_answer(serve: Serve, kind: str, stopped: bool) -> None:
    """Even a process that its user has stopped is killed, and the monitor gets the number of its start request."""
    server = serve()
    server.do("ask", protocol.StartPreauth(5) if kind == "preauth" else protocol.StartPostauth(5, USER.pw_name))
    pid = server.hear()[1]["pid"]
    if stopped:
        os.kill(pid, signal.SIGSTOP)
        until(lambda: (found := processes.find(pid)) is not None and found.state == "T", what="its stop")
    server.do("ask", protocol.Kill(6, 4))  # a number that no process has
    server.do("ask", protocol.Kill(7, 5))
    assert server.hear()[1] == {"type": "exited", "id": 5, "status": None, "signal": 9, "core_dumped": False}
    assert server.end() == ([], "", 0)


def test_a_preauth_process_that_dies_is_reported_and_that_is_all(serve: Serve) -> None:
    """A stranger's process that dies is reported, and affects no other process."""
    server = serve()
    server.serve()
    session = server.spawn(1, plan("exec sleep 1000"))
    server.do("ask", protocol.StartPreauth(2))
    pid = server.hear()[1]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert server.hear()[1] == {"type": "exited", "id": 2, "status": None, "signal": 9, "core_dumped": False}
    assert processes.is_running(session)


@needs_root
def test_a_postauth_process_that_dies_takes_its_own_sessions_along(serve: Serve) -> None:
    """As at a hang-up, its terminals are hung up, sessions without one continue, and other accounts notice nothing."""
    server = serve(users=f"{USER.pw_name} {OTHER}")
    pid, others = server.serve(), server.serve(OTHER, 1001)
    ended = server.spawn(1, plan("sleep 1000", terminal=True))
    kept = server.spawn(2, plan("exec sleep 1000"))
    bystander = server.spawn(3, plan("sleep 1000", user=OTHER, terminal=True))
    os.kill(pid, signal.SIGKILL)
    assert server.hear()[1] == {"type": "exited", "id": POSTAUTH, "status": None, "signal": 9, "core_dumped": False}
    gone(ended)
    assert all(processes.is_running(each) for each in (kept, bystander, others))
    server.spawn(4, plan("exec sleep 1000", user=OTHER))
    _, err, _ = server.end()
    assert err.splitlines()[0] == (
        f"pyssh-gateway: the postauth process of {USER.pw_name} (pid {pid}) ended with SIGKILL; ending its 2 sessions"
    )


def test_sessions_outlive_the_monitor(serve: Serve) -> None:
    """A crash of the monitor only ends logins in progress: the next one takes over sessions and postauth processes."""
    server = serve()
    postauth = server.serve()
    sessions = [server.spawn(1, plan("sleep 1000", terminal=True)), server.spawn(2, plan("exec sleep 1000"))]
    server.do("ask", protocol.StartPreauth(3))
    stranger = server.hear()[1]["pid"]
    for generation in (2, 3):
        os.kill(server.monitor, signal.SIGKILL)
        assert server.started() == generation
        # The hand-overs come before all other reports.
        took_over = {"type": "take-over", "id": POSTAUTH, "user": USER.pw_name, "pid": postauth}
        assert server.hear() == ["spawner", took_over, 0]
        sessions.append(server.spawn(generation + 1, plan("sleep 1000")))
    gone(stranger)
    assert all(processes.is_running(each) for each in (postauth, *sessions))
    server.do("ask", protocol.Kill(2000, POSTAUTH))
    assert server.hear()[1]["id"] == POSTAUTH
    gone(sessions[0])


def test_a_monitor_hears_nothing_of_the_strangers_of_the_one_before(serve: Serve) -> None:
    """The old monitor's strangers are not reported, as the new monitor uses the same numbers for other requests."""
    server = serve()
    server.do("ask", protocol.StartPreauth(1))
    stranger = server.hear()[1]["pid"]
    os.kill(stranger, signal.SIGSTOP)
    os.kill(server.monitor, signal.SIGKILL)
    assert server.started() == 2
    gone(stranger)
    server.do("ask", protocol.AwaitAccount(1, USER.pw_name))
    assert server.hear()[1] == {"type": "account-ready", "id": 1, "closed": ""}


def test_the_end_of_the_monitor_is_everybodys(serve: Serve) -> None:
    """At a stop postauth and preauth processes end with the monitor; users' commands without a pty continue."""
    server = serve()
    postauth = server.serve()
    with_terminal, without = (
        server.spawn(1, plan("sleep 1000", terminal=True)),
        server.spawn(2, plan("exec sleep 1000")),
    )
    server.do("ask", protocol.StartPreauth(3))
    stranger = server.hear()[1]["pid"]
    try:
        assert server.end() == ([], "", 0)
        assert not any(processes.is_running(each) for each in (postauth, stranger))
        gone(with_terminal)
        assert processes.is_running(without)
    finally:
        os.kill(without, signal.SIGKILL)


@pytest.mark.slow
def test_an_end_does_not_wait_for_a_postauth_process_that_is_stopped(serve: Serve) -> None:
    """A postauth process that its user has stopped is killed after a margin, and the server ends."""
    server = serve()
    postauth = server.serve()
    os.kill(postauth, signal.SIGSTOP)
    _, err, code = server.end()
    assert code == 0
    assert err == (
        f"pyssh-gateway: killing the postauth process of {USER.pw_name} (pid {postauth}): it did not leave in time\n"
    )


def test_without_the_spawner_everybody_sees_their_ends_closed(serve: Serve) -> None:
    """No process has copies of others' sockets: if the spawner is killed, none of the server's processes is left."""
    server = serve()
    postauth = server.serve()
    session = server.spawn(1, plan("exec sleep 1000"))
    server.do("ask", protocol.StartPreauth(3))
    stranger = server.hear()[1]["pid"]
    server.process.kill()
    for each in (server.monitor, postauth, stranger):
        gone(each)
    os.kill(session, signal.SIGKILL)


# -- one account beside another --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_postauth_process_that_reads_no_reports_is_killed(serve: Serve) -> None:
    """Such a process fills only its own queue, and until it is killed all other requests are answered."""
    server = serve(postauth="reads_no_reports")
    pid = server.serve()
    server.do("ask", protocol.AwaitAccount(1, USER.pw_name))
    assert server.hear()[1]["type"] == "account-ready"
    assert server.hear()[1] == {"type": "exited", "id": POSTAUTH, "status": None, "signal": 9, "core_dumped": False}
    _, err, _ = server.end()
    assert err == (
        f"pyssh-gateway: killing the postauth process of {USER.pw_name} (pid {pid}): "
        f"it has not read a report for {STUCK_SECONDS:.0f} s\n"
    )


@needs_root
def test_one_accounts_flood_delays_nobody_elses_process(serve: Serve) -> None:
    """Thousands of requests wait in the flooder's own socket; another account's request is served in the next turn."""
    server = serve(users=f"{USER.pw_name} {OTHER}", postauth="floods")
    server.serve(OTHER, 1001)
    server.serve()
    assert server.hear() == [USER.pw_name, "flooding", 0]
    begun = time.monotonic()
    for number in range(5):
        server.do("tell", OTHER, protocol.Spawn(number, plan("true", user=OTHER)))
        who, (report, _), _ = server.hear()
        assert (who, report["type"], report["id"]) == (OTHER, "spawned", number)
        assert server.hear()[1][0]["type"] == "exited"
    assert time.monotonic() - begun < AT_ONCE
    server.do("ask", protocol.Kill(9, POSTAUTH))
    assert server.hear()[1]["type"] == "exited"
    assert server.end()[2] == 0
