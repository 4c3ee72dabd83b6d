"""VS Code's steps in each of its modes, with the programs that it runs (see docs of Remote-SSH and its logs)."""

import asyncio
import base64
import hashlib
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import asyncssh
import pytest

from tests.conftest import KeyPair, MakeServer
from tests.support import processes
from tests.support.client import Client, client_environment
from tests.support.forwards import dial, exchange_at_once, free_port, socks5
from tests.support.server import Server
from tests.support.vscode import ALIVE, SERVER, Connection, install_script
from tests.support.waiting import PATIENCE, listens, until

CHANNELS = 50
SIZE = 200_000
MARKER = "5f1c2e6a-0000-4000-8000-3c9d5a7b1e42"


def port_of(connection: Connection) -> int:
    """The port that the script reports."""
    return int(connection.expect(r"listeningOn==127\.0\.0\.1:(\d+)=="))


def use(proxy: int, port: int) -> None:
    """Many channels at once through the SOCKS proxy to the server, with checksums."""
    exchange_at_once(partial(socks5, proxy, b"127.0.0.1", port), CHANNELS, SIZE)


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_script_on_standard_input(client: Client, started: Path, tmp_path: Path, shell: str) -> None:
    """Protects `script | ssh -T -D port host bash`: the channel outlives its input, and 50 channels work."""
    proxy = free_port()
    with Connection(client, tmp_path, shell, "-T", "-D", str(proxy), "-o", "ConnectTimeout=15") as ssh:
        ssh.send(install_script(MARKER, started) + ALIVE)
        ssh.end_input()
        ssh.expect(f"{MARKER}: start\n")
        port = port_of(ssh)
        ssh.expect(f"osReleaseId==Linux==\npid==[0-9]+==\n{MARKER}: end\n")
        use(proxy, port)
        ssh.expect("  +")  # the server lives, and its output arrives as it is written
        assert ssh.process.poll() is None


def test_shell_without_a_command(client: Client, started: Path, tmp_path: Path) -> None:
    """Protects `ssh -v -T -D port host`: a login shell on pipes, without prompt or echo, runs line after line."""
    proxy = free_port()
    with Connection(client, tmp_path, None, "-v", "-T", "-D", str(proxy)) as ssh:
        ssh.send(f'echo "ready: {MARKER}"\n')
        ssh.expect(f"ready: {MARKER}\n")
        before = len(ssh.received)
        ssh.send("uname -rsv\n")
        ssh.expect("^Linux .*\n" if not before else "Linux .*\n")
        ssh.send('echo "$SHELL"; case $- in *i*) echo interactive;; *) echo plain;; esac; test -t 0 || echo pipes\n')
        ssh.expect("/bin/bash\nplain\npipes\n")
        ssh.send("sh\n")  # which reads on from the same input
        ssh.send("echo pid==$$==\n")
        shell = int(ssh.expect(r"pid==(\d+)=="))
        assert processes.is_running(shell)
        ssh.send(install_script(MARKER, started))
        ssh.expect(f"{MARKER}: start\n")
        port = port_of(ssh)
        ssh.expect(f"{MARKER}: end\n")
        use(proxy, port)
        # Everything after the first answer is output: no echo and no prompt.
        text = ssh.received[before:].decode()
        assert "echo" not in text
        assert "$" not in text
        assert "-bash" not in text


def test_exec_server(client: Client, started: Path, tmp_path: Path) -> None:
    """Protects exec server: a background process reports its port on the channel, and a second connection uses it."""
    proxies = [free_port(), free_port()]
    with (
        Connection(client, tmp_path, "sh", "-T", "-D", str(proxies[0])) as first,
        Connection(client, tmp_path, "sh", "-T", "-D", str(proxies[1])) as second,
    ):
        first.send(
            f"cd {started}; cat >server.pl <<'END'\n{SERVER}\nEND\n"
            f"perl server.pl --parent-process-id=$$ </dev/null &\necho $! >pid; echo {MARKER}: running\nwait\n"
        )
        port = port_of(first)
        second.send(f"echo {MARKER}: running; cat\n")
        second.expect(f"{MARKER}: running\n")
        for proxy in proxies:
            use(proxy, port)
        second.kill()
        use(proxies[0], port)


@pytest.mark.parametrize("where", ["tcp", "socket"])
def test_server_survives_and_is_found_again(
    client: Client, server: Server, started: Path, tmp_path: Path, where: str
) -> None:
    """Protects an open window from a lost connection: the server survives, and the next login finds and uses it."""
    path = f"{started}/code.sock"
    script = install_script(MARKER, started, path if where == "socket" else "tcp")

    def open_window(proxy: int) -> Connection:
        forward = ("-L", f"127.0.0.1:{proxy}:{path}") if where == "socket" else ("-D", str(proxy))
        ssh = Connection(client, tmp_path, "bash", "-T", *forward)
        ssh.send(script + ALIVE)
        ssh.end_input()
        return ssh

    def use_window(ssh: Connection, proxy: int) -> str:
        place = ssh.expect("listeningOn==(.*)==")
        if where == "socket":
            assert place == path
            exchange_at_once(partial(dial, ("127.0.0.1", proxy)), CHANNELS, SIZE)
        else:
            use(proxy, int(place.rpartition(":")[2]))
        pid = ssh.expect("pid==([0-9]+)==")
        ssh.expect(f"{MARKER}: end\n")
        return pid

    proxies = [free_port(), free_port(), free_port()]
    since = server.mark()
    with open_window(proxies[0]) as ssh:
        pid = use_window(ssh, proxies[0])
    server.wait_for("connection.closed", since=since)
    with open_window(proxies[1]) as stalled:
        stalled.expect("found==yes==")
        assert use_window(stalled, proxies[1]) == pid
        # The network disappears silently, and the same window comes back by another connection.
        stalled.process.send_signal(signal.SIGSTOP)
        with open_window(proxies[2]) as again:
            again.expect("found==yes==")
            assert use_window(again, proxies[2]) == pid
        assert processes.is_running(int(pid))


def test_server_on_a_socket(client: Client, started: Path, tmp_path: Path) -> None:
    """Protects `ssh -T -L 127.0.0.1:port:/tmp/sock host sh`: the socket is made after the forward; 50 channels work."""
    port, path = free_port(), f"{started}/code-{MARKER}"
    with Connection(client, tmp_path, "sh", "-T", "-L", f"127.0.0.1:{port}:{path}") as ssh:
        ssh.send(install_script(MARKER, started, path))
        ssh.expect(f"listeningOn=={path}==")
        ssh.expect(f"{MARKER}: end\n")
        exchange_at_once(partial(dial, ("127.0.0.1", port)), CHANNELS, SIZE)


def test_window_is_closed(client: Client, server: Server, started: Path, tmp_path: Path) -> None:
    """Protects the end of a window: the script and its channel end with their input, the server stays."""
    proxy = free_port()
    with Connection(client, tmp_path, "sh", "-T", "-D", str(proxy)) as ssh:
        ssh.send(install_script(MARKER, started))
        use(proxy, port_of(ssh))
        pid = int(ssh.expect("pid==([0-9]+)=="))
        ssh.expect(f"{MARKER}: end\n")
        ssh.end_input()
        assert ssh.process.wait(PATIENCE) == 0
    assert processes.is_running(pid)


@pytest.mark.parametrize("files", ["one", "with its marker"])
def test_client_side_install(client: Client, scratch: Path, tmp_path: Path, files: str) -> None:
    """Protects the install by scp, for machines without a network: the archive arrives whole and scp succeeds."""
    names = ["server.tar.gz"] if files == "one" else ["server.tar.gz", "server.tar.gz.done"]
    for name in names:
        (tmp_path / name).write_bytes(os.urandom(3_000_000))
    far = f"scp://{client.server.login}@127.0.0.1:{client.server.port}/{scratch}"
    argv = ["scp", *client.options(), "-o", "ConnectTimeout=15", *(str(tmp_path / name) for name in names), far]
    done = subprocess.run(argv, capture_output=True, check=False, env=client_environment(), timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, b"")
    for name in names:
        sums = [hashlib.sha256((place / name).read_bytes()).digest() for place in (tmp_path, scratch)]
        assert sums[0] == sums[1]


@pytest.mark.parametrize(("output", "linger"), [("log", "off"), ("channel", "1s")])
def test_open_remote_ssh(make_server: MakeServer, user_key: KeyPair, started: Path, output: str, linger: str) -> None:
    """Protects open-remote-ssh, which runs one exec after another: each channel closes although the server goes on."""
    client = Client(make_server({"session": {"linger": linger}}), user_key.private)
    encoded = base64.b64encode(install_script(MARKER, started, output=output).encode()).decode()

    async def go() -> None:
        async with client.connect() as connection, asyncio.timeout(60):
            assert (await connection.run("uname -s")).stdout == "Linux\n"
            installed = await connection.run(f"echo {encoded} | base64 -d | bash -l")
            assert (installed.exit_status, f"{MARKER}: end" in str(installed.stdout)) == (0, True)
            port = int(str(installed.stdout).partition("listeningOn==127.0.0.1:")[2].partition("==")[0])
            assert (started / "pid").read_text().strip() in str(installed.stdout)

            async def one() -> None:
                data = os.urandom(SIZE)
                reader, writer = await connection.open_connection("127.0.0.1", port, encoding=None)
                writer.write(data)
                writer.write_eof()
                assert await reader.read() == data
                writer.close()
                await writer.wait_closed()

            await asyncio.gather(*(one() for _ in range(CHANNELS)))

    asyncio.run(go())


def test_open_remote_ssh_on_a_socket(client: Client, started: Path) -> None:
    """Protects the same with `openssh_forwardOutStreamLocal`."""
    path = f"{started}/code.sock"
    encoded = base64.b64encode(install_script(MARKER, started, path).encode()).decode()

    async def go() -> None:
        async with client.connect() as connection, asyncio.timeout(60):
            installed = await connection.run(f"echo {encoded} | base64 -d | bash -l")
            assert f"listeningOn=={path}==" in str(installed.stdout)
            for _ in range(10):
                data = os.urandom(SIZE)
                reader, writer = await connection.open_unix_connection(path, encoding=None)
                writer.write(data)
                writer.write_eof()
                assert await reader.read() == data
                writer.close()
                await writer.wait_closed()

    asyncio.run(go())


def test_agent_keeper(client: Client, tmp_path: Path) -> None:
    """Protects open-remote-ssh's agent: `echo "$SSH_AUTH_SOCK"; exec cat` runs until its channel closes."""
    agent = str(tmp_path / "agent")
    command = ["ssh-agent", "-D", "-a", agent]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=client_environment())

    async def go() -> None:
        async with (
            client.connect(agent_path=agent, agent_forwarding=True) as connection,
            connection.create_process('echo "$SSH_AUTH_SOCK"; exec cat') as process,
        ):
            path = (await process.stdout.readline()).strip()
            assert path.startswith("/tmp/")
            listed = await connection.run("ssh-add -l")
            assert "no identities" in str(listed.stdout) + str(listed.stderr)
            process.stdin.write_eof()
            assert (await process.wait()).exit_status == 0

    try:
        until(lambda: listens(agent), what="agent")
        asyncio.run(go())
    finally:
        running.terminate()
        running.wait(PATIENCE)


def test_identification_suits_strict_clients(client: Client) -> None:
    """Protects npm's ssh2 and its users: ssh2 uses OpenSSH's extensions only if the server's version string matches."""

    async def version() -> str:
        async with client.connect() as connection:
            return str(connection.get_extra_info("server_version"))

    name = asyncio.run(version())
    assert name.startswith("SSH-2.0-OpenSSH_")
    assert int(name.removeprefix("SSH-2.0-OpenSSH_").partition(".")[0]) >= 5


def test_keepalive_of_the_client_is_answered(client: Client) -> None:
    """Protects windows that are left alone: the client's own keepalives get an answer of any kind."""

    async def ask() -> int:
        async with client.connect() as connection, asyncio.timeout(10):
            kind, _ = await connection._make_global_request(b"keepalive@openssh.com")  # noqa: SLF001 - it has no name
            return kind

    assert asyncio.run(ask()) in {asyncssh.constants.MSG_REQUEST_SUCCESS, asyncssh.constants.MSG_REQUEST_FAILURE}
