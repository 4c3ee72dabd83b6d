"""Preauth and postauth processes under a real supervisor: their rights, and what they may request."""

import os
import pwd
import resource
import signal
from pathlib import Path

import msgspec
import pytest

from pyssh_gateway.core.idle.background import Sample
from pyssh_gateway.ipc import log_files
from pyssh_gateway.ipc import spawner as protocol
from pyssh_gateway.spawner.monitor_process import REGISTRY_BYTES
from pyssh_gateway.spawner.processes import session_child
from pyssh_gateway.spawner.servers import MAX_PREAUTH
from tests.support import processes
from tests.support.supervising import OTHER, POSTAUTH, USER, Obedient, Serve, plan, serve, start
from tests.support.waiting import until

__all__ = ["serve", "start"]

IS_ROOT = os.geteuid() == 0

# -- their rights ----------------------------------------------------------------------------------------------------


def test_a_postauth_process_is_its_account_and_has_two_sockets(serve: Serve) -> None:
    """A user's process has nothing of the server's: no right, no descriptor, no terminal."""
    server = serve(postauth="looks")
    pid = server.serve()
    who, facts, _ = server.hear()
    assert who == USER.pw_name
    assert (facts["pid"], facts["session"], facts["directory"]) == (pid, pid, "/")
    assert facts["uids"] == [str(USER.pw_uid)] * 4
    assert facts["gids"] == [str(USER.pw_gid)] * 4
    assert facts["groups"] == sorted(set(os.getgrouplist(USER.pw_name, USER.pw_gid) if IS_ROOT else os.getgroups()))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert facts["files"] == [hard, hard]
    kinds = sorted(target.partition(":")[0] for target in facts["descriptors"] if not target.startswith("/proc/"))
    assert kinds == ["/dev/null", "/dev/null", "/memfd", "socket", "socket"]
    assert "registry" not in str(facts["descriptors"])
    assert server.end() == ([], "", 0)


def test_a_preauth_process_has_one_socket(serve: Serve) -> None:
    """A stranger's process has a socket to the monitor only, and its standard error is not the server's."""
    server = serve()
    server.do("ask", protocol.StartPreauth(1))
    who, report, count = server.hear()
    assert (who, report["type"], report["id"], report["tty"], count) == ("spawner", "spawned", 1, "", 1)
    found = processes.descriptors(report["pid"])
    until(lambda: len(processes.descriptors(report["pid"])) == 4, what=f"its own descriptors, not {found}")
    kinds = sorted(target.partition(":")[0] for target in processes.descriptors(report["pid"]))
    assert kinds == ["/dev/null", "/dev/null", "/memfd", "socket"]
    assert server.end() == ([], "", 0)


def test_only_monitors_have_the_registry_and_the_next_one_finds_it(serve: Serve) -> None:
    """Only monitors have the registry of connected clients, and the next monitor reads it; no account can write it."""
    server = serve()
    server.serve()
    session = server.spawn(1, plan("exec sleep 1000"))
    server.do("note", "amos is on")
    server.do("descriptors")
    _, found = server.hear()
    assert any("registry" in target for target in found)
    assert not any("registry" in target for target in processes.descriptors(session))
    os.kill(server.monitor, signal.SIGKILL)
    assert server.started() == 2
    server.hear()
    server.do("noted")
    assert server.hear() == ["noted", "amos is on"]
    (link,) = [each for each in Path(f"/proc/{server.monitor}/fd").iterdir() if "registry" in str(each.readlink())]
    memory = os.open(link, os.O_RDWR)
    try:
        assert os.fstat(memory).st_size == REGISTRY_BYTES
        for size in (0, 2 * REGISTRY_BYTES):
            with pytest.raises(PermissionError):
                os.ftruncate(memory, size)
    finally:
        os.close(memory)


def test_a_bug_of_theirs_is_said_and_is_not_the_servers_line(serve: Serve) -> None:
    """After the process's end its traceback is printed line by line, with the process's name."""
    server = serve(postauth="fails")
    pid = server.serve()
    _, report, _ = server.hear()
    assert (report["type"], report["id"], report["status"]) == ("exited", POSTAUTH, 1)
    _, err, _ = server.end()
    name = f"pyssh-gateway: the postauth process of {USER.pw_name} (pid {pid})"
    assert err.startswith(f"{name} ended with exit code 1\n{name}: Traceback")
    assert err.endswith(f"{name}: RuntimeError: a bug of the test's\n")


def test_the_monitor_is_told_of_sessions_and_of_nothing_of_the_servers(serve: Serve) -> None:
    """Only sessions are reported: a busy monitor, preauth or postauth process is not a user's work."""
    server = serve()
    server.serve()
    server.do("ask", protocol.StartPreauth(1))
    server.hear()
    session = server.spawn(2, plan("sleep 1000; :"))
    until(lambda: len(processes.descendants(session)) == 1, what="the session's child")
    server.do("ask", protocol.SampleActivity(3))
    _, report, _ = server.hear()
    told = msgspec.convert(report["sample"], Sample).processes
    assert {process.pid for process in told} == {session, *(child.pid for child in processes.descendants(session))}


# -- processes that are forked ahead -----------------------------------------------------------------------------------


def ahead_of(server: Obedient, *known: int, sessions: int = 0) -> int:
    """The process forked for a later account, once it waits for its instructions; not the one for a session."""

    def look() -> int | None:
        others = [each for each in processes.descendants(server.process.pid) if each.pid not in known]
        found = [each.pid for each in others if each.name != session_child.NAME]
        if (len(found), len(others)) != (1, 1 + sessions) or len(processes.descriptors(found[0])) != OWN_DESCRIPTORS:
            return None
        return found[0]

    return until(look, what="a process that was forked ahead") or 0


OWN_DESCRIPTORS = 4
"""Null twice, its last words, and the socket for its instructions."""


def stranger(server: Obedient, number: int) -> int:
    """Start a process for a stranger; returns its pid."""
    server.do("ask", protocol.StartPreauth(number))
    return int(server.hear()[1]["pid"])


def test_a_first_login_gets_what_was_forked_for_the_stranger_that_it_was(serve: Serve) -> None:
    """The fork was made when the stranger came; after the login the process is the account's and has nothing else."""
    server = serve(postauth="looks")
    preauth = stranger(server, 1)
    ahead = ahead_of(server, server.monitor, preauth)
    kinds = sorted(target.partition(":")[0] for target in processes.descriptors(ahead))
    assert kinds == ["/dev/null", "/dev/null", "/memfd", "socket"]
    assert processes.owner(ahead) == os.geteuid()
    assert server.serve() == ahead
    _, facts, _ = server.hear()
    assert facts["uids"] == [str(USER.pw_uid)] * 4
    assert facts["gids"] == [str(USER.pw_gid)] * 4
    kinds = sorted(target.partition(":")[0] for target in facts["descriptors"] if not target.startswith("/proc/"))
    assert kinds == ["/dev/null", "/dev/null", "/memfd", "socket", "socket"]
    assert server.end() == ([], "", 0)


def test_a_machine_with_one_account_keeps_none_for_another(serve: Serve) -> None:
    """While every account has a postauth process, one spare is kept for the next session, none for a first login."""
    server = serve()
    postauth = server.serve()
    known = {server.monitor, postauth, *(stranger(server, number) for number in range(3))}

    def others() -> list[str]:
        return [each.name for each in processes.descendants(server.process.pid) if each.pid not in known]

    until(lambda: others() == [session_child.NAME], what="one process for a session")
    known.add(server.spawn(9, plan("exec sleep 1000")))
    until(lambda: others() == [session_child.NAME], what="the next one")
    assert server.end() == ([], "", 0)


def test_another_account_finds_one_again(serve: Serve) -> None:
    """When one account has taken the spare process, another is forked for the next account."""
    server = serve(users=f"{USER.pw_name} {OTHER}", postauth="looks")
    preauth = stranger(server, 1)
    first = ahead_of(server, server.monitor, preauth)
    assert server.serve() == first
    server.hear()
    second = ahead_of(server, server.monitor, preauth, first, sessions=1)
    if IS_ROOT:
        assert server.serve(OTHER, 2) == second
        _, facts, _ = server.hear()
        assert facts["uids"] == [str(pwd.getpwnam(OTHER).pw_uid)] * 4
    assert server.end() == ([], "", 0)


def test_a_login_does_not_depend_on_it(serve: Serve) -> None:
    """A spare process that was killed is reported, and the login gets another one."""
    server = serve()
    preauth = stranger(server, 1)
    ahead = ahead_of(server, server.monitor, preauth)
    os.kill(ahead, signal.SIGSTOP)
    os.kill(ahead, signal.SIGKILL)
    until(lambda: not processes.is_running(ahead), what="its end")
    assert server.serve() not in {ahead, 0}
    said, err, code = server.end()
    assert (said, code) == ([], 0)
    assert err == f"pyssh-gateway: the process that was forked ahead (pid {ahead}) ended with SIGKILL\n"


def test_it_ends_with_a_server_that_is_killed(serve: Serve) -> None:
    """A spare process, which has root's rights, ends even if the server is killed."""
    server = serve()
    preauth = stranger(server, 1)
    ahead = ahead_of(server, server.monitor, preauth)
    server.process.kill()
    until(lambda: not processes.is_running(ahead), what="its end")


# -- what they may request -------------------------------------------------------------------------------------------

OWN = protocol.Spawn(1, plan("true"))

WRONG_FOR_AN_ACCOUNT: tuple[protocol.Request, ...] = (
    protocol.StartPreauth(1),
    protocol.StartPostauth(1, USER.pw_name),
    protocol.Kill(1, POSTAUTH),
    protocol.AwaitAccount(1, USER.pw_name),
    protocol.ReadKeys(1, "/etc/shadow"),
    protocol.RunHook(1, 0),
    protocol.RunWarning(1, 0, 60),
    protocol.Suspend(1),
    protocol.SampleActivity(1),
    protocol.AwaitSocket(1, "control"),
    protocol.StopServices(1),
    protocol.Reload(1),
    protocol.TakeConfig(1),
    log_files.OpenLog(1),
    log_files.SealLog(1, 0, 1),
    log_files.TidyLog(1),
)


@pytest.mark.parametrize(
    "packet",
    [
        *(protocol.encode(each) for each in WRONG_FOR_AN_ACCOUNT),
        b"\xff not a message",
        protocol.encode(protocol.Done(1)),
    ],
    ids=[*(type(each).__name__ for each in WRONG_FOR_AN_ACCOUNT), "nonsense", "a report"],
)
def test_an_account_that_asks_for_anything_else_is_ended(serve: Serve, packet: bytes) -> None:
    """It is killed before anything is done; the monitor continues and gets a report."""
    server = serve()
    pid = server.serve()
    server.do("say", USER.pw_name, packet.hex())
    _, report, _ = server.hear()
    assert report == {"type": "exited", "id": POSTAUTH, "status": None, "signal": 9, "core_dumped": False}
    said, err, code = server.end()
    assert (said, code) == ([], 0)
    assert err.startswith(f"pyssh-gateway: killing the postauth process of {USER.pw_name} (pid {pid}): bad request: ")
    assert err.count("\n") == 1


def test_a_monitor_that_asks_for_an_accounts_process_is_ended(serve: Serve) -> None:
    """A plan must come from its own account: a monitor that sends one is killed, and the next one takes over."""
    server = serve()
    server.do("send", protocol.encode(OWN).hex())
    assert server.started() == 2
    said, err, code = server.end()
    assert (said, code) == ([], 0)
    assert "killing the monitor: bad request: " in err


def raw_spawn(**changes: object) -> bytes:
    """A packet of a `Spawn` for a terminal, with changed values in its plan or its terminal."""
    whole = msgspec.to_builtins(protocol.Spawn(1, plan("true", terminal=True)))
    for name, value in changes.items():
        (whole["plan"]["terminal"] if name in whole["plan"]["terminal"] else whole["plan"])[name] = value
    return msgspec.msgpack.encode(whole)


@pytest.mark.parametrize(
    "changes", [{"columns": -1}, {"rows": 2**40}, {"modes": [[53, -1]]}, {"modes": [[300, 1]]}, {"user": None}]
)
def test_a_malformed_plan_costs_its_sender_and_nothing_else(serve: Serve, changes: dict[str, object]) -> None:
    """A plan with invalid values is a bad request, which kills its sender only."""
    server = serve()
    server.serve()
    server.do("say", USER.pw_name, raw_spawn(**changes).hex())
    _, report, _ = server.hear()
    assert (report["type"], report["id"], report["signal"]) == ("exited", POSTAUTH, 9)
    _, err, code = server.end()
    assert code == 0
    assert "bad request: Expected" in err
    assert "Traceback" not in err


def test_another_accounts_plan_is_refused(serve: Serve) -> None:
    """A compromised postauth process can only start processes of its own account."""
    server = serve(users=f"{USER.pw_name} {OTHER} root")
    server.serve()
    for number, user in enumerate((OTHER, "root", "no-such-user"), start=1):
        server.do("tell", USER.pw_name, protocol.Spawn(number, plan("true", user=user)))
        _, (report, count), _ = server.hear()
        assert (report["type"], report["id"], count) == ("refused", number, 0)
    server.spawn(9, plan("true"))
    assert server.hear()[1][0]["type"] == "exited"
    assert server.end() == ([], "", 0)


def test_an_account_has_one_postauth_process(serve: Serve) -> None:
    """A second process for the account is refused while the first one runs."""
    server = serve()
    first = server.serve()
    server.do("ask", protocol.StartPostauth(2, USER.pw_name))
    assert server.hear()[1]["reason"] == f"{USER.pw_name} has a postauth process already"
    server.do("ask", protocol.Kill(3, POSTAUTH))
    assert server.hear()[1]["type"] == "exited"
    assert server.serve(number=4) != first
    assert server.end() == ([], "", 0)


def test_there_is_a_bound_on_preauth_processes(serve: Serve) -> None:
    """A compromised monitor can't fill the process table; when a process ends its slot is free again."""
    server = serve()
    for number in range(MAX_PREAUTH):
        server.do("ask", protocol.StartPreauth(number))
        assert server.hear()[1]["type"] == "spawned"
    server.do("ask", protocol.StartPreauth(100))
    assert server.hear()[1]["reason"] == "too many preauth processes are running"
    server.do("ask", protocol.Kill(101, 0))
    assert server.hear()[1] == {"type": "exited", "id": 0, "status": None, "signal": 9, "core_dumped": False}
    server.do("ask", protocol.StartPreauth(102))
    assert server.hear()[1]["type"] == "spawned"
    assert server.end() == ([], "", 0)


def test_accounts_names_are_found_by_what_was_asked(serve: Serve) -> None:
    """A login account must be named as in the configuration; no other spelling gets a process."""
    server = serve()
    server.do("ask", protocol.StartPostauth(1, pwd.getpwuid(USER.pw_uid).pw_name.upper()))
    assert "is not an account that may log in" in server.hear()[1]["reason"]
    assert server.end() == ([], "", 0)
