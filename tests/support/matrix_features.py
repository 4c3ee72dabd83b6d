"""The client matrix: the tests of each feature, column by column, for all clients.

Each class here gives a client some of the features; it needs the client's own means (`run`, `copy_in`,
`while_forwarding` ...) and does the rest.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NamedTuple

from tests.support.client import Result
from tests.support.forwards import Address, Target, socks5
from tests.support.matrix import (
    BULK,
    BULK_DIGEST,
    FORWARDED,
    WINDOW,
    Driver,
    assert_bulk,
    background,
    connected,
    digest_of,
    exchange,
    free_address,
    is_listening,
    mirror,
)
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE, listens, until


class Forward(NamedTuple):
    """A forward: its listening address and its target, both on this machine. Paths are unix sockets."""

    listen: Address
    target: Address


class Commands(Driver):
    """A client that runs commands."""

    def run(self, command: str, given: bytes = b"") -> Result:
        """Run `command` with `given` on its standard input."""
        raise NotImplementedError

    def exec(self) -> None:
        """Both outputs arrive separately, and the command runs as the account."""
        result = self.run("printf 'I am %s' \"$(id -un)\"; printf problem >&2")
        assert result == (0, f"I am {self.world.account.pw_name}".encode(), b"problem")

    def status(self) -> None:
        """The client exits with the command's exit status."""
        assert self.run("exit 37").status == 37

    def stdin(self) -> None:
        """A long input arrives whole, and so does its end."""
        result = self.run("sha256sum", BULK)
        assert (result.status, result.stdout.split()[:1]) == (0, [BULK_DIGEST]), result

    def stdout(self) -> None:
        """A long output arrives whole, followed by the exit status."""
        path = self.world.scratch / "bulk"
        path.write_bytes(BULK)
        result = self.run(f"cat {path}; exit 3")
        assert (result.status, digest_of(result.stdout)) == (3, digest_of(BULK)), result.stderr


class Signals(Commands):
    """A client that notices when a command was killed by a signal."""

    signalled: ClassVar[int]
    """The status that `run` returns if the signal was SIGTERM."""

    def signal(self) -> None:
        """A command that was killed does not count as successful."""
        result = self.run("kill -TERM $$")
        assert result.status == self.signalled, result


class Files(Driver):
    """A client that copies files."""

    def copy_in(self, local: Path, remote: Path) -> None:
        """Copy a file to the server."""
        raise NotImplementedError

    def copy_out(self, remote: Path, local: Path) -> None:
        """Copy a file from the server."""
        raise NotImplementedError

    def put(self) -> None:
        """A file arrives whole, and the account owns it."""
        local, remote = self.world.home / "local", self.world.scratch / "remote"
        local.write_bytes(BULK)
        self.copy_in(local, remote)
        assert_bulk(remote)
        assert remote.stat().st_uid == self.world.account.pw_uid

    def get(self) -> None:
        """A file is fetched whole."""
        local, remote = self.world.home / "local", self.world.scratch / "remote"
        remote.write_bytes(BULK)
        self.copy_out(remote, local)
        assert_bulk(local)


class Windows(Driver):
    """A client that has terminals."""

    def window(self, command: str, typed: str) -> bytes:
        """Run `command` in a terminal of the size `WINDOW`, and type `typed` when it prints READY; all its output."""
        raise NotImplementedError

    def pty(self) -> None:
        """The command gets a terminal of the window's size, and typed input arrives."""
        seen = self.window('tty; stty size; echo READY; read -r line; echo "<$line>"', "hello\n")
        assert b"/dev/pts/" in seen
        assert b"33 101" in seen
        assert b"<hello>" in seen


class Forwards(Driver):
    """A client that forwards connections. A subclass offers the kinds whose mix-ins it has."""

    def while_forwarding(self, option: str, forward: Forward, use: Callable[[], None]) -> None:
        """Call `use` while the client forwards; `option` is OpenSSH's letter: L, R or D."""
        raise NotImplementedError

    def _carry(self, option: str, forward: Forward) -> None:
        self.while_forwarding(option, forward, lambda: exchange(connected(forward.listen)))


class CommandLineForwards(Forwards):
    """A client that takes forwards as options, `-L listen:target` and the like."""

    def forwarding_argv(self, option: str, rule: str) -> list[str]:
        """The command line for one forward and nothing else."""
        raise NotImplementedError

    def while_forwarding(self, option: str, forward: Forward, use: Callable[[], None]) -> None:
        """See `Forwards`."""
        listen = forward.listen if isinstance(forward.listen, str) else str(forward.listen[1])
        target = forward.target if isinstance(forward.target, str) else "{}:{}".format(*forward.target)
        rule = listen if option == "D" else f"{listen}:{target}"
        with background(self.forwarding_argv(option, rule), self.environment()):
            use()


class LocalForwards(Forwards):
    """Forwards that listen on the client's side."""

    def local(self) -> None:
        """A port at the client leads to a port at the server."""
        with Target(mirror) as target:
            self._carry("L", Forward(free_address(), ("127.0.0.1", target.port)))


class LocalUnixForwards(Forwards):
    """Forwards that listen on the client's side and lead to a unix socket."""

    def local_unix(self) -> None:
        """A port at the client leads to a unix socket on the server's machine, which the account opens."""
        path = str(self.world.scratch / "target")
        with Target(mirror, path) as target:
            self._carry("L", Forward(free_address(), path))
        assert target.peers == [self.world.account.pw_uid]


class RemoteForwards(Forwards):
    """Forwards that listen on the server's side."""

    def remote(self) -> None:
        """A port on the server's machine leads to a port at the client."""
        with Target(mirror) as target:
            self._carry("R", Forward(free_address(), ("127.0.0.1", target.port)))


class RemoteUnixForwards(Forwards):
    """Forwards that listen at a unix socket on the server's side."""

    def remote_unix(self) -> None:
        """A unix socket on the server's machine, which the account owns, leads to a port at the client."""
        path = self.world.scratch / "forwarded"

        def use() -> None:
            exchange(connected(str(path)))
            assert path.stat().st_uid == self.world.account.pw_uid

        with Target(mirror) as target:
            self.while_forwarding("R", Forward(str(path), ("127.0.0.1", target.port)), use)


class SocksForwards(Forwards):
    """A client that is a SOCKS proxy, as VS Code needs it."""

    def socks(self) -> None:
        """A SOCKS client reaches a port on the server's machine, by name."""
        proxy = free_address()
        with Target(mirror) as target:

            def use() -> None:
                until(lambda: is_listening(proxy[1]), what="SOCKS proxy")
                exchange(socks5(proxy[1], b"localhost", target.port))

            self.while_forwarding("D", Forward(proxy, ("127.0.0.1", target.port)), use)


class StdioForwards(Driver):
    """A client whose own input and output become a connection from the server, as for ProxyCommand."""

    def run_stdio(self, port: int, given: bytes) -> Result:
        """Connect to `port` on the server's machine."""
        raise NotImplementedError

    def stdio(self) -> None:
        """Input comes back as output, and the client ends with the connection."""
        with Target(mirror) as target:
            result = self.run_stdio(target.port, FORWARDED)
        assert digest_of(result.stdout) == digest_of(FORWARDED), result.stderr


class Agents(Driver):
    """A client that forwards its agent."""

    def run_with_agent(self, command: str, agent: Path) -> Result:
        """Run `command` with the agent at the socket `agent` forwarded."""
        raise NotImplementedError

    def agent(self) -> None:
        """A command on the server sees the client's agent and the key in it."""
        path = self.world.home / "agent"
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
        try:
            until(lambda: listens(path), what="agent")
            self.succeed(["ssh-add", "-q", self.world.key], SSH_AUTH_SOCK=str(path))
            result = self.run_with_agent("ssh-add -L", path)
        finally:
            agent.terminate()
            agent.wait(PATIENCE)
        public = self.world.key.with_name(self.world.key.name + ".pub").read_text().split()[1]
        assert (result.status, result.stdout.decode().split()[1:2]) == (0, [public]), result


class Program(Commands, Windows, CommandLineForwards, LocalForwards, RemoteForwards, StdioForwards, Agents):
    """A program like ssh, which takes options, a host and a command."""

    terminal_option: ClassVar[str] = "-t"

    def argv(self, command: str | None, *options: str) -> list[str]:
        """The command line."""
        raise NotImplementedError

    def run(self, command: str, given: bytes = b"") -> Result:
        """See `Commands`."""
        return self.run_process(self.argv(command), given, {})

    def window(self, command: str, typed: str) -> bytes:
        """See `Windows`."""
        argv = self.argv(command, self.terminal_option)
        with Terminal(argv, self.environment(), size=WINDOW) as terminal:
            terminal.expect("READY\r?\n")
            terminal.send(typed)
            assert terminal.wait() == 0, terminal.screen
            return terminal.screen

    def forwarding_argv(self, option: str, rule: str) -> list[str]:
        """See `CommandLineForwards`."""
        return self.argv(None, "-N", f"-{option}", rule)

    def run_stdio(self, port: int, given: bytes) -> Result:
        """See `StdioForwards`. The option is the same as OpenSSH's."""
        return self.run_process(self.argv(None, "-W", f"127.0.0.1:{port}"), given, {})

    def run_with_agent(self, command: str, agent: Path) -> Result:
        """See `Agents`."""
        return self.call(self.argv(command, "-A"), SSH_AUTH_SOCK=str(agent))
