"""What holds a machine that its users have left, and what does not: a download, an editor's server, PYSSH_HOLD."""

import http.server
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pytest

from pyssh_gateway.core.idle.background import SLOW_BYTES_PER_SECOND
from tests.clients.test_background import leave
from tests.clients.test_background import left_behind as left_behind  # noqa: PLC0414 - a fixture
from tests.clients.test_holds import Machine, start
from tests.clients.test_holds import reachable as reachable  # noqa: PLC0414 - a fixture
from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client
from tests.support.idle_stop import stops_after
from tests.support.waiting import until

TIMEOUT_SECONDS = 3.0

DOWNLOAD = r"""
use IO::Socket::INET;
my ($port, $to) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port") or die;
print $socket "GET / HTTP/1.0\r\n\r\n";
open(my $file, ">", $to) or die;
while (sysread $socket, my $data, 16384) { syswrite $file, $data }
"""
"""A download as curl and wget make it. Perl, because every Debian has it, and the account can run it."""

EDITOR = r"""
use Time::HiRes qw(sleep);
my $directory = shift;
for my $number (1 .. 100) {
    next if fork;
    open(my $log, ">>", "$directory/log.$number");
    $log->autoflush(1);
    while (1) { sleep(0.2 + rand 0.2); for (1 .. 50_000) {} print $log "heartbeat " . ("." x 1000) . "\n" }
}
sleep 1000;
"""
"""A hundred processes that wake up now and then and write a line to a log: VS Code's server, watchers and language
servers. They wake up twenty times as often as those do, since the test's intervals are as much shorter."""


class Trickle(http.server.BaseHTTPRequestHandler):
    """Answers with bytes at 300 kB/s, until `enough` is set; then the download ends."""

    enough: ClassVar[threading.Event]

    def do_GET(self) -> None:
        """Serve the download."""
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # the client was killed
            while not self.enough.wait(0.02):
                self.wfile.write(b"x" * 6_000)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@contextmanager
def downloads() -> Iterator[tuple[int, threading.Event]]:
    """A web server that serves slowly: its port, and the event that ends its answers."""
    Trickle.enough = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickle) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port, Trickle.enough
        finally:
            Trickle.enough.set()
            server.shutdown()
            serving.join()


def serve(make_server: MakeServer, key: KeyPair, **idle: object) -> Client:
    """A machine that stops soon, and looks at what was left behind."""
    settings = {"timeout": TIMEOUT_SECONDS, "boot_grace": "1m", "background": "cpu", **idle}
    return Client(make_server({"idle": settings}), key.private)


def write(directory: Path, name: str, text: str) -> Path:
    """A script for the account."""
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_slow_download_is_work(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects a download at 300 kB/s, which needs no processor: the machine stops after it, and not before."""
    client = serve(make_server, user_key)
    script = write(left_behind.parent, "download.pl", DOWNLOAD)
    with downloads() as (port, enough):
        leave(client.server, user_key, f"exec perl {script} {port} {left_behind.parent}/got", left_behind)
        work = client.server.wait_for("background.work")
        assert work["what"] == f"perl of {client.server.login}"
        client.server.wait_for("background.work", since=client.server.mark())  # it goes on: the hold is renewed
        assert not client.server.find("idle.reached")
        assert (left_behind.parent / "got").stat().st_size > SLOW_BYTES_PER_SECOND
        enough.set()
        client.server.wait_for("background.work", seconds=0)
    assert stops_after(client.server, "background.work", seconds=TIMEOUT_SECONDS)


def test_a_hundred_idle_processes_are_no_work(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill from the hundred processes of an editor's server that is left behind: they only wake up."""
    seconds = 2 * TIMEOUT_SECONDS
    # Together they use more than this share of a processor, and write more than a slow download does.
    client = serve(make_server, user_key, timeout=seconds, background_cpu=5)
    script = write(left_behind.parent, "editor.pl", EDITOR)
    leave(client.server, user_key, f"exec perl {script} {left_behind.parent}", left_behind)
    until(lambda: len(processes.descendants(int(left_behind.read_text()))) == 100, what="hundred processes")
    assert stops_after(client.server, seconds=seconds)
    assert not client.server.find("background.work")


# -- PYSSH_HOLD ----------------------------------------------------------------------------------------------------


def test_a_command_that_waits_holds_if_it_says_so(
    make_server: MakeServer, user_key: KeyPair, left_behind: Path
) -> None:
    """Protects an agent, debugger or training run that waits: with PYSSH_HOLD=1 it holds until it ends, and no longer.

    It needs no background work to be looked for. What it starts inherits the variable, and makes no hold of its own.
    """
    client = serve(make_server, user_key, background="ignore")
    leave(client.server, user_key, 'export PYSSH_HOLD=1; exec env sh -c "sleep 1000; :"', left_behind)
    held = client.server.wait_for("hold.started")
    assert (held["user"], held["reason"]) == (client.server.login, "sh (PYSSH_HOLD)")
    assert held["pid"] == int(left_behind.read_text())
    assert 0 < held["seconds"] <= 12 * 3600
    started = [process.pid for process in processes.descendants(held["pid"])]
    for pid in (held["pid"], *started):  # what is left behind would hold by itself, if it lived until the next look
        os.kill(pid, signal.SIGKILL)
    ended = client.server.wait_for("hold.ended", hold=held["hold"])
    assert ended["why"] == "the command has ended"
    assert stops_after(client.server, "hold.ended", seconds=TIMEOUT_SECONDS)
    assert len(client.server.find("hold.started")) == 1


@pytest.mark.parametrize("says", [True, False], ids=["says so", "says nothing"])
def test_an_agent_in_tmux_holds_only_if_it_says_so(
    make_server: MakeServer, user_key: KeyPair, left_behind: Path, says: bool
) -> None:
    """Protects work in a tmux that waits, which looks like a forgotten one: PYSSH_HOLD tells them apart.

    The command that is typed has ended by then; tmux's server has the variable from it, and holds.
    """
    client = serve(make_server, user_key, timeout=1.5)
    tmux = f"tmux -S {left_behind.parent}/tmux"
    pane = "while :; do printf 'thinking...\\r'; sleep 0.1; done"
    client.output(
        f'{"PYSSH_HOLD=1 " if says else ""}{tmux} new -d "{pane}"; {tmux} display -p "#{{pid}}" > {left_behind}'
    )
    if says:
        held = client.server.wait_for("hold.started", reason="tmux: server (PYSSH_HOLD)")
        assert held["pid"] == int(left_behind.read_text())
        assert client.output(f"{tmux} kill-server") == ""
        client.server.wait_for("hold.ended", hold=held["hold"], why="the command has ended")
    assert stops_after(client.server, seconds=1.5)
    assert len(client.server.find("hold.started")) == says
    assert not client.server.find("background.work")


def test_it_holds_for_as_long_as_it_says(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill: PYSSH_HOLD=2s ends two seconds after the process's start, and never begins again."""
    client = serve(make_server, user_key, timeout=1.5)
    leave(client.server, user_key, "PYSSH_HOLD=2s exec sleep 1000", left_behind)
    held = client.server.wait_for("hold.started")
    assert held["seconds"] <= 2
    client.server.wait_for("hold.ended", why="expired")
    assert stops_after(client.server, "hold.ended", seconds=1.5)
    assert len(client.server.find("hold.started")) == 1


def test_it_is_bounded(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill: everything that says PYSSH_HOLD=1 holds for idle.hold_max at most once everybody has gone."""
    client = serve(make_server, user_key, timeout=1.5, hold_max="2s")
    leave(client.server, user_key, "PYSSH_HOLD=1 sleep 1000 & PYSSH_HOLD=1 exec sleep 1000", left_behind)
    assert client.server.wait() == 0
    assert {event["why"] for event in client.server.find("hold.ended")} == {"expired"}
    assert max(event["seconds"] for event in client.server.find("hold.started")) < 2
    assert stops_after(client.server, "hold.ended", seconds=1.5)


def test_a_released_process_does_not_hold_again(
    make_server: MakeServer, user_key: KeyPair, reachable: Path, left_behind: Path
) -> None:
    """Protects a person who has changed their mind: a hold that they release does not come back while it runs."""
    machine = start(make_server, user_key, reachable, {"idle": {"timeout": "2s", "boot_grace": "1m"}})
    leave(machine.server, user_key, "PYSSH_HOLD=1 exec sleep 1000", left_behind)
    held = machine.server.wait_for("hold.started")
    assert f"hold {held['hold']} of {machine.server.login}" in machine.run("why")
    machine.run("release")
    machine.server.wait_for("hold.ended", why="released")
    assert stops_after(machine.server, seconds=2)
    assert len(machine.server.find("hold.started")) == 1


def test_what_asks_for_nothing_holds_nothing(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill from what only waits: tmux's server, a debugger, and a variable that says no, or nonsense."""
    client = serve(make_server, user_key)
    leave(client.server, user_key, "PYSSH_HOLD=0 sleep 1000 & PYSSH_HOLD=forever exec sleep 1000", left_behind)
    assert stops_after(client.server, seconds=TIMEOUT_SECONDS)
    assert not client.server.find("hold.started")


def test_a_client_can_not_set_it(make_server: MakeServer, user_key: KeyPair, left_behind: Path) -> None:
    """Protects the bill from a line in a client's configuration, by which all that any session leaves would hold."""
    server = make_server(
        {"idle": {"timeout": TIMEOUT_SECONDS, "boot_grace": "1m"}, "session": {"accept_env": ["PYSSH_*", "LANG"]}}
    )
    client = Client(server, user_key.private)
    command = f"nohup sleep 1000 >/dev/null 2>&1 </dev/null & echo $! > {left_behind}; env"
    told = client.run(command, "-o", "SetEnv=PYSSH_HOLD=1 LANG=C").stdout.decode()
    assert "LANG=C" in told
    assert "PYSSH_HOLD" not in told
    assert stops_after(server, seconds=TIMEOUT_SECONDS)


# -- hold --pid ----------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(make_server: MakeServer, user_key: KeyPair, reachable: Path) -> Machine:
    """A machine that stops 2 s after the last reason to stay up."""
    return start(make_server, user_key, reachable, {"idle": {"timeout": "2s", "boot_grace": "1m"}})


def test_a_process_that_runs_already_can_be_held(machine: Machine, user_key: KeyPair, left_behind: Path) -> None:
    """Protects a person who thinks of it later: `hold --pid` holds until that process ends, and no longer."""
    leave(machine.server, user_key, "exec sleep 1000", left_behind)
    pid = int(left_behind.read_text())
    said = machine.run(f"hold --pid {pid}")
    held = machine.server.wait_for("hold.started", pid=pid, reason="sleep")
    assert said.startswith(f"hold {held['hold']} keeps this machine up while process {pid} runs, until ")
    os.kill(pid, signal.SIGKILL)
    machine.server.wait_for("hold.ended", hold=held["hold"], why="the command has ended")
    assert stops_after(machine.server, "hold.ended", seconds=2)


def test_only_own_processes_can_be_held(machine: Machine, is_root: bool) -> None:
    """Protects the bill, and others' processes from questions: `hold --pid` takes those of the account only."""
    if not is_root:
        pytest.skip("only root has other accounts")
    refused = machine.client.run(f"{machine.program} hold --pid {os.getpid()}")
    reason = f"pyssh-gateway: process {os.getpid()} is not one of {machine.server.login}'s\n"
    assert (refused.status, refused.stdout, refused.stderr.decode()) == (1, b"", reason)
    gone = machine.client.run(f"{machine.program} hold --pid 4194305")
    assert (gone.status, gone.stderr) == (1, b"pyssh-gateway: there is no process 4194305\n")
    assert not machine.server.find("hold.started")
