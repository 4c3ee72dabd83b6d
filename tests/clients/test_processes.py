"""What happens to a session's processes at its end: hung up, left alone, or reaped, as sshd does it."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks, processes
from tests.support.client import Client
from tests.support.server import Server
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def survivors(client: Client) -> Iterator[list[int]]:
    """Ids of processes that a test expects to survive; they are killed when the test ends."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if processes.is_running(pid):
            os.kill(pid, signal.SIGKILL)


def assert_lives_on(client: Client, pid: int) -> None:
    """Fail if `pid` is gone after everything that the end of its session causes."""
    # A second login: when it is served, the server has handled the end of the first session.
    assert client.run("true").status == 0
    assert processes.is_running(pid)


def test_background_process_without_pty_survives(client: Client, survivors: list[int]) -> None:
    """Protects VS Code's server: without setsid or nohup it survives the end of its channel and its connection."""
    survivors.append(int(client.run("sleep 301 >/dev/null 2>&1 </dev/null & echo $!").stdout))
    assert_lives_on(client, survivors[0])


def test_background_process_in_a_nested_shell_survives(client: Client, survivors: list[int]) -> None:
    """Protects the same in the way that VS Code starts it: from a shell that reads its script and exits."""
    script = b"sh -c 'sleep 302 >/dev/null 2>&1 & echo $!'\n"
    survivors.append(int(client.run("sh", "-T", input=script).stdout))
    assert_lives_on(client, survivors[0])


def test_process_without_pty_survives_a_killed_client(client: Client, server: Server, survivors: list[int]) -> None:
    """Protects VS Code's server from a closed laptop: a lost connection closes pipes and signals nobody."""
    since = server.mark()
    ssh = client.popen("sleep 303 >/dev/null 2>&1 & echo $!; exec sleep 304")
    assert ssh.stdout is not None
    survivors.append(int(ssh.stdout.readline()))
    foreground = server.wait_for("session.opened", since=since)["pid"]
    survivors.append(foreground)
    ssh.kill()
    ssh.communicate(timeout=PATIENCE)
    server.wait_for("session.closed", since=since)
    assert_lives_on(client, survivors[0])
    # sshd does not signal the command itself either: the command only sees its pipes closed.
    assert processes.is_running(foreground)


def test_abandoned_process_is_reaped(client: Client, server: Server) -> None:
    """Protects against zombies: a process that outlives its connection is reaped when it ends."""
    since = server.mark()
    ssh = client.popen("exec sleep 305")
    pid = server.wait_for("session.opened", since=since)["pid"]
    ssh.kill()
    ssh.communicate(timeout=PATIENCE)
    server.wait_for("session.closed", since=since)
    os.kill(pid, signal.SIGKILL)
    until(lambda: processes.find(pid) is None, what="reaped process")


def test_writer_of_a_closed_channel_ends(client: Client, server: Server) -> None:
    """Protects the machine from a command that writes for ever to a client that has gone: SIGPIPE ends it."""
    since = server.mark()
    ssh = client.popen("exec yes")
    assert ssh.stdout is not None
    ssh.stdout.read(100_000)
    pid = server.wait_for("session.opened", since=since)["pid"]
    ssh.kill()
    ssh.communicate(timeout=PATIENCE)
    until(lambda: processes.find(pid) is None, what="end of yes")


def test_background_job_of_a_terminal_is_hung_up(client: Client) -> None:
    """Protects the usual behaviour: logging out of a terminal ends its background jobs."""
    with client.terminal("sh -c 'echo p=$$; exec sleep 306' & wait") as terminal:
        pid = int(terminal.expect(r"p=(\d+)")[1])
        terminal.process.send_signal(signal.SIGKILL)
    until(lambda: not processes.is_running(pid), what="end of the job")


@pytest.mark.parametrize("wrapper", ["nohup", "setsid"])
def test_detached_job_of_a_terminal_survives(client: Client, survivors: list[int], wrapper: str) -> None:
    """Protects nohup and setsid: a process that was started with them outlives the terminal."""
    command = f"{wrapper} sh -c 'echo p=$$ >&3; exec sleep 307' 3>&1 >/dev/null 2>&1 </dev/null & wait"
    with client.terminal(command) as terminal:
        survivors.append(int(terminal.expect(r"p=(\d+)")[1]))
        terminal.process.send_signal(signal.SIGKILL)
    assert_lives_on(client, survivors[0])


def test_terminal_closes_although_a_detached_job_holds_it(client: Client, survivors: list[int]) -> None:
    """Protects `exit` in a terminal from a background job that still has the tty open: the session ends at once."""
    with client.terminal("trap '' HUP; sleep 308 & echo p=$!") as terminal:
        survivors.append(int(terminal.expect(r"p=(\d+)")[1]))
        assert terminal.wait(5) == 0
    assert_lives_on(client, survivors[0])


def test_no_zombies_after_many_sessions(client: Client, server: Server) -> None:
    """Protects the process table: after 20 sessions the server has the same children as before."""

    def children() -> set[int]:  # without those of single connections, a few of which are started ahead
        return {process.pid for process in processes.descendants(server.pid) if process.name not in leaks.HELD_FOR}

    before = children()
    for number in range(20):
        assert client.run(f"exit {number}").status == number
    until(lambda: children() <= before, what="same children")


def test_session_leads_its_own_session(client: Client, server: Server) -> None:
    """Protects the server from signals that a command sends to its own group, and the other way round."""
    assert client.run("trap '' TERM; kill -TERM 0; exit 3").status == 3
    session = client.output("ps -o sid=,pgid=,pid= -p $$").split()
    assert len(set(session)) == 1
    assert processes.is_running(server.pid)


def named(server: Server, name: str) -> list[int]:
    """The server's processes of that name."""
    return [process.pid for process in processes.descendants(server.pid) if process.name == name]


def test_server_process_is_out_of_reach(client: Client, server: Server, is_root: bool) -> None:
    """Protects the server from the people on it: they can't signal or inspect the processes that serve others."""
    if not is_root:
        pytest.skip("an ordinary account's server is its own")
    for pid in (server.pid, server.gateway_pid, *named(server, "pyssh-preauth")):
        assert client.run(f"kill -0 {pid}").status != 0
        assert client.run(f"cat /proc/{pid}/environ").status != 0


def test_postauth_can_not_be_looked_into(client: Client, server: Server) -> None:
    """Protects the keys of an account's connections: postauth has its uid, but the account can't read it."""
    ssh = client.popen("echo on; cat")
    assert ssh.stdout is not None
    assert ssh.stdout.readline() == b"on\n"
    (pid,) = named(server, "pyssh-postauth")
    if os.geteuid() == 0:
        assert processes.owner(pid) == int(client.output("id -u"))
    assert client.run(f"kill -0 {pid}").status == 0
    if client.output("id -u") != "0\n":  # root reads everything
        assert client.run(f"cat /proc/{pid}/environ").status != 0
        assert client.run(f"cat /proc/{pid}/maps").status != 0
    ssh.communicate(timeout=PATIENCE)


def test_network_side_has_no_rights(client: Client, server: Server, is_root: bool) -> None:
    """Protects everybody's files from the monitor and the processes for strangers: no root, groups or capabilities."""
    if not is_root:
        pytest.skip("an ordinary account has no rights to give up")
    assert client.run("true").status == 0  # meanwhile a process for the next stranger is forked
    (preauth,) = until(lambda: named(server, "pyssh-preauth"), what="a process for the next stranger")
    until(lambda: rights(preauth)["NoNewPrivs"] == "1", what="its walls")
    for pid in (server.gateway_pid, preauth):
        status = rights(pid)
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert status["Groups"].split() == []
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}


def rights(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5))."""
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_process_that_stops_itself_is_hung_up(client: Client) -> None:
    """Protects against stopped jobs that nobody can wake: the terminal's hang-up continues and ends them."""
    with client.terminal("set -m; sh -c 'echo p=$$; kill -STOP $$; sleep 309' & wait; sleep 310") as terminal:
        pid = int(terminal.expect(r"p=(\d+)")[1])
        until(lambda: getattr(processes.find(pid), "state", "") == "T", what="stopped job")
        terminal.process.send_signal(signal.SIGKILL)
    until(lambda: not processes.is_running(pid), what="end of the stopped job")


def test_client_that_hangs_up_while_a_process_starts(client: Client, server: Server) -> None:
    """Protects against leaks between the request and the process: no descriptors or children are left."""
    for _ in range(10):
        ssh = client.popen("sleep 0.2")
        since = server.mark()
        server.wait_for("connection.authenticated", since=max(0, since - 3))
        ssh.kill()
        ssh.communicate(timeout=PATIENCE)
    assert client.run("true").status == 0
    # The fixture that looks for leaks finds what is left.
