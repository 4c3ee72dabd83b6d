"""Rows of the client matrix: libraries, used in the way that programs built on them use them."""

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import paramiko
import pytest

from tests.support.client import Result
from tests.support.forwards import Target, dial
from tests.support.matrix import WINDOW, exchange, mirror
from tests.support.matrix_features import (
    Agents,
    Files,
    Forward,
    LocalForwards,
    LocalUnixForwards,
    RemoteForwards,
    RemoteUnixForwards,
    Signals,
    SocksForwards,
    StdioForwards,
    Windows,
)
from tests.support.waiting import PATIENCE


class Paramiko(Signals, Windows, Files, Agents):
    """paramiko. It opens channels, but no listeners, so its forwards are used without local ports."""

    name = "paramiko"
    signalled = -1  # for any signal

    def run(self, command: str, given: bytes = b"") -> Result:
        """See `Commands`."""
        with self._connected() as client:
            stdin, stdout, stderr = client.exec_command(command, timeout=PATIENCE)
            with stdin, stdout, stderr:
                stdin.write(given)
                stdin.channel.shutdown_write()
                out, err = stdout.read(), stderr.read()
                return Result(stdout.channel.recv_exit_status(), out, err)

    def window(self, command: str, typed: str) -> bytes:
        """See `Windows`."""
        rows, columns = WINDOW
        with self._connected() as client, self._session(client) as channel:
            channel.get_pty("xterm", width=columns, height=rows)
            channel.exec_command(command)
            seen = b""
            while b"READY" not in seen:
                received = channel.recv(4096)
                assert received, seen
                seen += received
            channel.sendall(typed.encode())
            seen += b"".join(iter(lambda: channel.recv(4096), b""))
            assert channel.recv_exit_status() == 0
            return seen

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        with self._connected() as client, client.open_sftp() as sftp:
            sftp.put(str(local), str(remote))

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        with self._connected() as client, client.open_sftp() as sftp:
            sftp.get(str(remote), str(local))

    def run_with_agent(self, command: str, agent: Path) -> Result:
        """See `Agents`."""
        with pytest.MonkeyPatch.context() as patch, self._connected() as client, self._session(client) as channel:
            patch.setenv("SSH_AUTH_SOCK", str(agent))
            handler = paramiko.agent.AgentRequestHandler(channel)
            channel.exec_command(command)
            out = b"".join(iter(lambda: channel.recv(4096), b""))
            status = channel.recv_exit_status()
            handler.close()
            return Result(status, out, b"")

    def local(self) -> None:
        """A channel leads to a port on the server's machine."""
        with self._connected() as client, Target(mirror) as target:
            channel = _transport(client).open_channel("direct-tcpip", ("127.0.0.1", target.port), ("127.0.0.1", 0))
            exchange(channel)

    def remote(self) -> None:
        """A port on the server's machine leads to a channel, which the server announces to the client."""
        with self._connected() as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
            transport = _transport(client)
            port = transport.request_port_forward("127.0.0.1", 0)
            sent = pool.submit(lambda: exchange(dial(("127.0.0.1", port))))
            channel = transport.accept(PATIENCE)
            assert channel is not None
            with channel:
                mirror(channel)
            sent.result()

    @contextmanager
    def _connected(self) -> Iterator[paramiko.SSHClient]:
        server = self.world.server
        with paramiko.SSHClient() as client:
            client.load_host_keys(str(server.known_hosts))
            client.connect(
                "127.0.0.1",
                server.port,
                server.login,
                key_filename=str(self.world.key),
                allow_agent=False,
                look_for_keys=False,
                timeout=PATIENCE,
            )
            transport = _transport(client)
            yield client
        transport.join(PATIENCE)

    def _session(self, client: paramiko.SSHClient) -> paramiko.Channel:
        channel = _transport(client).open_session(timeout=PATIENCE)
        channel.settimeout(PATIENCE)
        return channel


def _transport(client: paramiko.SSHClient) -> paramiko.Transport:
    transport = client.get_transport()
    assert transport is not None
    return transport


class Asyncssh(
    Signals,
    Windows,
    Files,
    LocalForwards,
    LocalUnixForwards,
    RemoteForwards,
    RemoteUnixForwards,
    SocksForwards,
    StdioForwards,
    Agents,
):
    """asyncssh's client."""

    name = "asyncssh"
    signalled = -15  # the convention of subprocess

    def run(self, command: str, given: bytes = b"") -> Result:
        """See `Commands`."""
        return asyncio.run(self._run(command, given))

    def run_with_agent(self, command: str, agent: Path) -> Result:
        """See `Agents`."""
        return asyncio.run(self._run(command, b"", agent_path=str(agent), agent_forwarding=True))

    async def _run(self, command: str, given: bytes, **options: object) -> Result:
        async with self.world.client.connect(**options) as connection:
            done = await connection.run(command, input=given, encoding=None, timeout=PATIENCE)
            assert isinstance(done.stdout, bytes)
            assert isinstance(done.stderr, bytes)
            return Result(done.returncode or 0, done.stdout, done.stderr)

    def window(self, command: str, typed: str) -> bytes:
        """See `Windows`."""
        return asyncio.run(self._window(command, typed)).encode()

    async def _window(self, command: str, typed: str) -> str:
        rows, columns = WINDOW
        async with (
            asyncio.timeout(PATIENCE),
            self.world.client.connect() as connection,
            connection.create_process(command, term_type="xterm", term_size=(columns, rows)) as process,
        ):
            seen: str = await process.stdout.readuntil("READY")
            process.stdin.write(typed)
            seen += await process.stdout.read()
            return seen

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        asyncio.run(self._sftp(lambda sftp: sftp.put(str(local), str(remote))))

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        asyncio.run(self._sftp(lambda sftp: sftp.get(str(remote), str(local))))

    async def _sftp(self, copy: Callable[[asyncssh.SFTPClient], Awaitable[None]]) -> None:
        async with self.world.client.connect() as connection, connection.start_sftp_client() as sftp:
            await copy(sftp)

    def while_forwarding(self, option: str, forward: Forward, use: Callable[[], None]) -> None:
        """See `Forwards`."""
        asyncio.run(self._while_forwarding(option, forward, use))

    async def _while_forwarding(self, option: str, forward: Forward, use: Callable[[], None]) -> None:
        async with self.world.client.connect() as connection:
            match option, forward.listen, forward.target:
                case "L", (str(host), int(port)), str(path):
                    listener = await connection.forward_local_port_to_path(host, port, path)
                case "L", (str(host), int(port)), (str(target), int(target_port)):
                    listener = await connection.forward_local_port(host, port, target, target_port)
                case "R", str(path), (str(target), int(target_port)):
                    listener = await connection.forward_remote_path_to_port(path, target, target_port)
                case "R", (str(host), int(port)), (str(target), int(target_port)):
                    listener = await connection.forward_remote_port(host, port, target, target_port)
                case "D", (str(host), int(port)), _:
                    listener = await connection.forward_socks(host, port)
                case _:
                    raise AssertionError((option, forward))
            async with listener:
                await asyncio.to_thread(use)

    def run_stdio(self, port: int, given: bytes) -> Result:
        """See `StdioForwards`."""
        return Result(0, asyncio.run(self._stdio(port, given)), b"")

    async def _stdio(self, port: int, given: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE), self.world.client.connect() as connection:
            reader, writer = await connection.open_connection("127.0.0.1", port, encoding=None)
            writer.write(given)
            writer.write_eof()
            received: bytes = await reader.read()
            return received
