"""What keeps the machine up and what does not, with real clients: heartbeats, use, a closed laptop."""

import itertools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support.client import Client, client_environment
from tests.support.commands import as_root
from tests.support.forwards import Master
from tests.support.idle_stop import stops_after
from tests.support.reloads import Config
from tests.support.waiting import PATIENCE

BEAT_SECONDS = 0.3
"""Seconds between two heartbeats: several fit in a window with the short times of these tests."""

BEAT = b"\x09" + b"\0" * 12
"""VS Code's keepalive message: 13 bytes, a type and three numbers."""


@contextmanager
def beating(ssh: subprocess.Popen[bytes], data: bytes = BEAT) -> Iterator[None]:
    """Write `data` to a program's input again and again, and discard its output."""
    assert ssh.stdin is not None
    assert ssh.stdout is not None
    stdin, stdout = ssh.stdin, ssh.stdout
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT_SECONDS):
            try:
                os.write(stdin.fileno(), data)
            except OSError:
                return

    def listen() -> None:
        while os.read(stdout.fileno(), 65536):
            pass

    threads = [threading.Thread(target=beat), threading.Thread(target=listen)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        ssh.kill()
        ssh.wait()
        for thread in threads:
            thread.join()
        for stream in (stdin, stdout, ssh.stderr):
            assert stream is not None
            stream.close()


def test_heartbeats_do_not_keep_the_machine(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the bill from an editor that was left open: its heartbeats are not use, and the machine stops."""
    server = make_server({"idle": {"timeout": "1s", "boot_grace": "1m", "client_idle": "2s"}})
    with beating(Client(server, user_key.private).popen("cat")):
        server.wait_for("session.opened")
        assert server.wait() == 0
    (quiet,) = server.find("client.quiet")
    assert quiet["seconds"] >= 2
    assert quiet["identity"]["person"].startswith("file:")
    assert server.find("idle.reached", outcome="stop")
    assert server.find("server.stopping", reason="idle")


def test_work_keeps_the_machine(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a running copy from `client_idle`: more bytes than a trickle are use."""
    idle = {"timeout": "1s", "boot_grace": "1m", "client_idle": "2s", "lost_client_grace": "0s"}
    server = make_server({"idle": idle})
    with beating(Client(server, user_key.private).popen("cat"), b"x" * 8192):
        server.wait_for("session.opened")
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(seconds=4)
        assert not server.find("client.quiet")
    assert server.wait() == 0


def test_looking_at_files_keeps_the_machine(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects a person who browses with `sftp`: each request is use, however few bytes it has."""
    idle = {"timeout": "1s", "boot_grace": "1m", "client_idle": "2s", "lost_client_grace": "0s"}
    server = make_server({"idle": idle})
    client = Client(server, user_key.private)
    sftp = subprocess.Popen(
        ["sftp", "-q", "-b", "-", *client.options(), f"{server.login}@127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=client_environment(),
    )
    with beating(sftp, f"-ls {tmp_path}/none\n".encode()):
        server.wait_for("session.opened")
        with pytest.raises(subprocess.TimeoutExpired):
            server.wait(seconds=4)
        assert not server.find("client.quiet")
    assert server.wait() == 0


def test_short_commands_keep_the_machine(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects people who run `ssh host command` over a shared connection: each command is use, however short."""
    server = make_server({"idle": {"timeout": "1m", "client_idle": "1s"}})
    with Master(Client(server, user_key.private), tmp_path) as shared:
        mark = 0
        for _ in range(2):
            server.wait_for("client.quiet", since=mark)
            mark = server.mark()
            assert shared.run("true").status == 0
            server.wait_for("client.used", since=mark)


def test_use_is_seen_after_a_reload(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects active users from a stop: a client that was quiet before a reload counts again once it is used."""
    server = make_server({"idle": {"timeout": "1m", "client_idle": "1s"}})
    with Master(Client(server, user_key.private), tmp_path) as shared:
        server.wait_for("client.quiet")
        Config(server).reload({"idle": {"timeout": "2m"}})
        assert shared.run("true").status == 0
        server.wait_for("client.used")


def test_a_terminal_on_a_quiet_connection_is_warned(make_server: MakeServer, user_key: KeyPair, tmp_path: Path) -> None:
    """Protects a person who opens a terminal on a quiet connection: the idle time and its warnings begin anew."""
    server = make_server({"idle": {"timeout": "4s", "boot_grace": "1m", "client_idle": "1s", "lost_client_grace": 0}})
    with Master(Client(server, user_key.private), tmp_path) as shared:
        server.wait_for("client.quiet")
        mark = server.mark()
        with shared.terminal() as terminal:
            server.wait_for("client.used", since=mark)
            terminal.expect(r"nobody is using this machine; it stops in \d s\.")
            assert stops_after(server, "client.quiet", seconds=4)
            terminal.wait()


def test_a_quiet_client_that_is_used_again_counts_again(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects a person who comes back from a break: one more key, and the machine stays up."""
    server = make_server({"idle": {"timeout": "20s", "client_idle": "1s"}})
    client = Client(server, user_key.private)
    with client.terminal() as terminal:
        server.wait_for("client.quiet")
        person = server.find("client.quiet")[0]["identity"]["person"]
        idle = json.loads(as_root(client, "why", "--json").stdout)["idle"]
        assert (idle["in_use"], idle["reasons"]) == (False, [])
        assert idle["quiet"] == [f"{person} is on as {server.login} from 127.0.0.1"]
        terminal.send("\n")
        server.wait_for("client.used")
        assert server.find("client.quiet")[0]["conn"] == server.find("client.used")[0]["conn"]


def test_a_killed_client_is_waited_for(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the session of a client that crashed: the machine waits for it, but not for one that disconnected."""
    server = make_server({"idle": {"timeout": "1s", "boot_grace": "1m", "lost_client_grace": "4s"}})
    ssh = Client(server, user_key.private).popen("sleep 60")
    server.wait_for("session.opened")
    ssh.send_signal(signal.SIGKILL)
    ssh.communicate()
    assert server.wait_for("connection.closed")["goodbye"] is False
    assert stops_after(server, seconds=4)


def test_a_goodbye_is_not_waited_after(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects the bill: the machine does not wait for a client that disconnected properly."""
    server = make_server({"idle": {"timeout": "1s", "boot_grace": "1m", "lost_client_grace": "1m"}})
    assert Client(server, user_key.private).run("exit 3").status == 3
    assert server.wait_for("connection.closed")["goodbye"] is True
    assert stops_after(server, seconds=1)


_numbers = itertools.count(1)


@contextmanager
def away() -> Iterator[tuple[str, str, str]]:
    """A network namespace, joined to this one by a veth pair: its name, our interface, and our address on it."""
    number = next(_numbers)
    name = f"ps{os.getpid()}-{number}"  # an interface's name has 15 characters at most
    here, there = f"{name}a", f"{name}b"
    address, theirs = f"192.0.2.{4 * number + 1}", f"192.0.2.{4 * number + 2}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE)

    ip("netns", "add", name)
    try:
        ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        ip("addr", "add", f"{address}/30", "dev", here)
        ip("link", "set", here, "up")
        ip("-n", name, "addr", "add", f"{theirs}/30", "dev", there)
        ip("-n", name, "link", "set", there, "up")
        yield name, here, address
    finally:
        ip("netns", "del", name)


def test_a_closed_lid_is_waited_for_and_not_for_ever(make_server: MakeServer, user_key: KeyPair, is_root: bool) -> None:
    """Protects the session and the bill: a sleeping laptop keeps the machine up for the grace time, and no longer."""
    if not is_root:
        pytest.skip("only root can make another host")
    server = make_server(
        {
            "listen": {"address": "0.0.0.0"},
            "idle": {"timeout": "1s", "boot_grace": "1m", "lost_client_grace": "3s"},
            "session": {"keepalive": "500ms", "keepalive_misses": 2},
        }
    )
    with away() as (host, cable, address):
        client = Client(server, user_key.private)
        argv = [address if word == "127.0.0.1" else word for word in client.argv("sleep 60")]
        server.known_hosts.write_text(server.known_hosts.read_text().replace("127.0.0.1", address))
        ssh = subprocess.Popen(
            ["ip", "netns", "exec", host, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            server.wait_for("session.opened")
            subprocess.run(["ip", "link", "set", cable, "down"], check=True, timeout=PATIENCE)
        finally:
            ssh.kill()
            ssh.wait()
        assert server.wait_for("connection.closed")["goodbye"] is False
        assert stops_after(server, seconds=3)


def test_whom_a_crash_cut_off_is_waited_for(make_server: MakeServer, user_key: KeyPair) -> None:
    """Protects clients that a crash of the server cut off: the machine waits for them as after a network failure."""
    server = make_server({"idle": {"timeout": "1s", "boot_grace": "1m", "lost_client_grace": "4s"}})
    with Client(server, user_key.private).terminal() as terminal:
        server.wait_for("session.opened")
        os.kill(server.postauth_pid, signal.SIGKILL)
        assert terminal.wait() == 255
    assert stops_after(server, seconds=4)
    assert server.find("server.stopping")[0]["detail"].startswith("idle for ")
