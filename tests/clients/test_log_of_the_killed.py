"""kill -9 of the server's processes at any moment: what a client was told about its session is in the log, and once."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyssh_gateway.audit import segments
from pyssh_gateway.core.launch import NOLOGIN_EXIT_STATUS
from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client, client_environment, terminate
from tests.support.server import Server
from tests.support.verified import verify
from tests.support.waiting import PATIENCE, until

UNTOLD = (255, NOLOGIN_EXIT_STATUS)
"""ssh's exit codes if it has lost its connection, and if there was no session: it has asked for one when the spawner
was dead already."""


def lines(server: Server) -> list[dict[str, Any]]:
    """The events in the log. A line that was cut off is no event; no line is missing, and no number is twice."""
    found, index = [], 0
    for segment in segments.segments(server.audit_dir):
        for line in segments.lines(segment):
            assert line.index == index, segment
            index += 1
            with suppress(ValueError):
                found.append(json.loads(line.data))
    numbers = [line["seq"] for line in found]
    assert numbers == sorted(set(numbers))
    return found


def exits(server: Server, command: str) -> list[int | None]:
    """The exit statuses that the log has for the sessions that ran a command."""
    log = lines(server)
    ran = {line["session"] for line in log if line["event"] == "session.opened" and line["command"] == command}
    return [line["exit_status"] for line in log if line["event"] == "session.closed" and line["session"] in ran]


@contextmanager
def master(client: Client, directory: Path) -> Iterator[str]:
    """A connection for several commands; its socket."""
    path = directory / "master"
    opened = client.popen(None, "-M", "-N", "-S", str(path))
    try:
        until(path.exists, what="the shared connection")
        yield str(path)
    finally:
        terminate(opened)
        opened.communicate()


@contextmanager
def killed_at(pid: int, call: str, number: int) -> Iterator[None]:
    """The process `pid` is killed at its `number`-th system call of this kind, before the kernel carries that out."""
    tracing = subprocess.Popen(
        ["strace", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"],
        stderr=subprocess.PIPE,
    )
    assert tracing.stderr is not None
    assert b"attached" in tracing.stderr.readline()
    try:
        yield
    finally:
        tracing.terminate()
        tracing.communicate()


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("strace") is None, reason="only root may trace the monitor")
@pytest.mark.parametrize("call", ["pwrite64", "write", "sendmsg"])
def test_a_monitor_that_is_killed_at_a_step_of_the_log(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path, call: str
) -> None:
    """A session's lines are in the log once: announced, written, stored as logged, acknowledged, or not yet."""
    server = make_server({})
    client = Client(server, user_key.private)
    with master(client, tmp_path) as shared:
        for number in range(1, 5):  # a fifth crash within a minute would end the server
            command = f": {call} {number}; exit 7"
            mark = server.rough_mark()
            with killed_at(server.gateway_pid, call, number):
                assert client.run(command, "-S", shared).status == 7
                with suppress(ProcessLookupError):  # it may have got by with fewer calls
                    os.kill(server.gateway_pid, signal.SIGKILL)
                server.gateway_pid = server.wait_for("server.started", since=mark)["pid"]
            # Standard output may lack the line that was written last, so this looks at the file.
            until(partial(exits, server, command), what="the end of the session")
            assert exits(server, command) == [7]
    closed = server.wait_for("connection.closed")
    assert [line["conn"] for line in lines(server) if line["event"] == "connection.closed"] == [closed["conn"]]


def test_a_client_does_not_wait_long_for_a_monitor_that_is_stopped(
    make_server: MakeServer, user_key: KeyPair, tmp_path: Path
) -> None:
    """A stopped monitor delays an exit by a second, and takes no line with it when it is killed."""
    server = make_server({})
    client = Client(server, user_key.private)
    with master(client, tmp_path) as shared:
        mark = server.mark()
        os.kill(server.gateway_pid, signal.SIGSTOP)
        assert client.run("exit 7", "-S", shared).status == 7
        assert client.run("exit 8", "-S", shared).status == 8
        assert exits(server, "exit 7") == []
        os.kill(server.gateway_pid, signal.SIGKILL)
        server.gateway_pid = server.wait_for("server.started", since=mark)["pid"]
        server.wait_for("session.closed", since=mark, count=2)
        assert (exits(server, "exit 7"), exits(server, "exit 8")) == ([7], [8])


# -- any process, at any moment -----------------------------------------------------------------------------------

KILLS = 50
VICTIMS = ("spawner", "pyssh-monitor", "pyssh-preauth", "pyssh-postauth", "pyssh-spare", "pyssh-recorder")


class Workers:
    """Clients that run commands one after the other: with a connection for each, or over one that they share.

    `told` has the exit statuses that they were told, by command.
    """

    def __init__(self, client: Client, directory: Path) -> None:
        self.told: dict[str, int] = {}
        self._client = client
        self._directory = directory
        self._ends = threading.Event()
        self._threads = [
            threading.Thread(target=work, args=(f"{number}",))
            for number, work in enumerate((self._alone, self._alone, self._shared, self._shared))
        ]

    def __enter__(self) -> "Workers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _alone(self, name: str) -> None:
        count = 0
        while not self._ends.is_set():
            count += 1
            self._run(f": worker {name} run {count}; exit {count % 7}")

    def _shared(self, name: str) -> None:
        count = 0
        while not self._ends.is_set():
            path = self._directory / f"master-{name}"
            path.unlink(missing_ok=True)
            opened = self._client.popen(None, "-M", "-N", "-S", str(path))
            try:
                while opened.poll() is None and not path.exists():
                    time.sleep(0.01)  # polls for a socket and a process, either of which may come first
                while opened.poll() is None and not self._ends.is_set():
                    count += 1
                    self._run(f": worker {name} run {count}; exit {count % 7}", "-S", str(path))
            finally:
                opened.kill()
                opened.communicate()

    def _run(self, command: str, *options: str) -> None:
        argv = self._client.argv(command, "-o", "ControlMaster=no", *options)
        ended = subprocess.run(argv, env=client_environment(), capture_output=True, timeout=PATIENCE, check=False)
        if ended.returncode not in UNTOLD:
            self.told[command] = ended.returncode


class Killer:
    """Kills one process after the other, and waits until the server serves again."""

    def __init__(self, server: Server, workers: Workers) -> None:
        self._server = server
        self._workers = workers
        self._crashes: list[float] = []
        self.killed: Counter[str] = Counter()

    def kill(self, name: str) -> None:
        """kill -9 of a process with this name, if there is one."""
        server = self._server
        if name == "spawner":
            self._restart()
        else:
            found = [each.pid for each in processes.descendants(server.pid) if each.name == name]
            if not found:
                return
            mark = server.rough_mark()
            with suppress(ProcessLookupError):
                os.kill(random.choice(found), signal.SIGKILL)
            if name == "pyssh-monitor":
                server.wait_for("server.started", since=mark)
                self._crashes.append(time.monotonic())
        self.killed[name] += 1
        told = len(self._workers.told)
        until(lambda: len(self._workers.told) > told + 4, what="clients that are served")
        if len(self._crashes) == 4:  # a fifth within a minute would end the server
            self._restart()

    def _restart(self) -> None:
        """kill -9 of the spawner; the others end by themselves, and another server is started."""
        server = self._server
        others = [each.pid for each in processes.descendants(server.pid) if each.name.startswith("pyssh-")]
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: not any(map(processes.is_running, others)), what="end of the server")
        server.wait()
        self._crashes.clear()
        server.start()


@pytest.mark.soak
@pytest.mark.skipif(os.geteuid() != 0, reason="a server of root's has all these processes, each with an account")
def test_what_a_client_was_told_is_in_the_log(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Whichever process is killed, and whenever: each exit status that a client has seen is in the log, once.

    The log proves itself afterwards, over all its files.
    """
    small = {"segment_size": "64KiB"}  # so the files of the log change, too
    server = make_server({"stop": {"drain": "1s"}, "audit": small})
    server.write_config({"listen": {"port": server.port}})
    with Workers(Client(server, user_key.private), tmp_path) as workers:
        killer = Killer(server, workers)
        for count in range(KILLS):
            time.sleep(random.uniform(0.0, 0.1))  # the kills have to come at any moment
            killer.kill(VICTIMS[count % len(VICTIMS)])
    server.stop()
    found = verify(server)
    assert found["intact"], found
    assert len(segments.segments(server.audit_dir)) > 4
    assert {"spawner", "pyssh-monitor", "pyssh-preauth", "pyssh-postauth"} <= set(killer.killed)
    log = lines(server)
    commands = {line["session"]: line["command"] for line in log if line["event"] == "session.opened"}
    assert len(commands) == sum(line["event"] == "session.opened" for line in log)
    closed = [(line["session"], line["exit_status"]) for line in log if line["event"] == "session.closed"]
    assert len({session for session, _ in closed}) == len(closed)
    statuses = {commands[session]: status for session, status in closed if session in commands}
    assert len(workers.told) > 4 * KILLS
    missing = {command: status for command, status in workers.told.items() if statuses.get(command) != status}
    assert not missing, f"of {len(workers.told)}, with {killer.killed}"
