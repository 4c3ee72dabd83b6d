"""Rows of the client matrix: OpenSSH's programs, and those that run `ssh` for their transport."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.client import Result
from tests.support.matrix import BULK, WINDOW, Driver, assert_bulk
from tests.support.matrix_features import (
    CommandLineForwards,
    Files,
    LocalForwards,
    LocalUnixForwards,
    Program,
    RemoteForwards,
    RemoteUnixForwards,
    Signals,
    SocksForwards,
    Windows,
)
from tests.support.terminal import Terminal


class Ssh(Program, Signals, LocalUnixForwards, RemoteUnixForwards, SocksForwards):
    """OpenSSH's client."""

    name = "ssh"
    programs = ("ssh",)
    signalled = 255  # ssh has no other status for a death by signal

    def argv(self, command: str | None, *options: str) -> list[str]:
        """See `Program`."""
        return self.world.client.argv(command, *options)

    def run_with_agent(self, command: str, agent: Path) -> Result:
        """See `Agents`."""
        # The tests' clients otherwise run without an agent.
        return self.call(self.argv(command, "-A", "-o", f"IdentityAgent={agent}"))


class Sftp(Files):
    """OpenSSH's sftp."""

    name = "sftp"
    programs = ("sftp",)

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._batch(f"put -p {local} {remote}")

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._batch(f"get -p {remote} {local}")

    def _batch(self, command: str) -> None:
        argv = ["sftp", "-b", "-", *self.world.client.options(), f"{self.world.server.login}@127.0.0.1"]
        result = self.run_process(argv, command.encode(), {})
        assert result.status == 0, result


class Scp(Files):
    """OpenSSH's scp, by SFTP."""

    name = "scp"
    programs = ("scp",)
    options: tuple[str, ...] = ()

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._copy(str(local), self._on_server(remote))

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._copy(self._on_server(remote), str(local))

    def _on_server(self, path: Path) -> str:
        return f"{self.world.server.login}@127.0.0.1:{path}"

    def _copy(self, source: str, destination: str) -> None:
        result = self.succeed(["scp", "-p", *self.options, *self.world.client.options(), source, destination])
        assert result.stderr == b""


class LegacyScp(Scp):
    """OpenSSH's scp by its old protocol, which needs an scp on the server's machine."""

    name = "scp -O"
    options = ("-O",)


class Rsync(Files):
    """rsync over ssh."""

    name = "rsync"
    programs = ("rsync",)

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._copy(local, f"127.0.0.1:{remote}")

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._copy(f"127.0.0.1:{remote}", local)

    def _copy(self, source: object, destination: object) -> None:
        ssh = shlex.join(["ssh", *self.world.client.options(), "-l", self.world.server.login])
        # --checksum: rsync compares contents, so success means that the file is equal, not only its size and time.
        self.succeed(["rsync", "-t", "--checksum", "-e", ssh, str(source), str(destination)])


class Git(Driver):
    """git, pushing to and cloning from a repository that the account owns."""

    name = "git"
    programs = ("git",)

    def put(self) -> None:
        """Commits are pushed, and the account owns the objects."""
        repository = self._repository()
        (self.world.home / "work").mkdir()
        self._git("init", "--quiet", "--initial-branch=main", "work")
        (self.world.home / "work" / "bulk").write_bytes(BULK)
        self._git("-C", "work", "add", "bulk")
        self._git("-C", "work", "commit", "--quiet", "--message=bulk")
        self._git("-C", "work", "push", "--quiet", self._url(repository), "main")
        assert {path.stat().st_uid for path in repository.rglob("*")} == {self.world.account.pw_uid}
        head = self._git("-C", "work", "rev-parse", "main")
        assert self.world.client.output(f"git -C {repository} rev-parse main").strip() == head

    def get(self) -> None:
        """A repository is cloned."""
        repository = self._repository()
        (self.world.scratch / "bulk").write_bytes(BULK)
        self.world.client.output(
            f"cd {self.world.scratch} && export GIT_DIR={repository} GIT_WORK_TREE=. && git add bulk"
            " && git -c user.name=example -c user.email=example commit --quiet --message=bulk"
        )
        self._git("clone", "--quiet", self._url(repository), "cloned")
        assert_bulk(self.world.home / "cloned" / "bulk")

    def _repository(self) -> Path:
        repository = self.world.scratch / "repository.git"
        self.world.client.output(f"git init --quiet --bare --initial-branch=main {repository}")
        return repository

    def _url(self, repository: Path) -> str:
        return f"ssh://{self.world.server.login}@127.0.0.1:{self.world.server.port}{repository}"

    def _git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=example", "-c", "user.email=example"]
        # Random bytes can't be compressed, and trying takes longer than all the rest.
        argv = ["git", *identity, "-c", "core.compression=0", *arguments]
        ssh = shlex.join(["ssh", *self.world.client.options()])
        return self.succeed(argv, GIT_SSH_COMMAND=ssh, GIT_CONFIG_NOSYSTEM="1").stdout.decode().strip()


class Autossh(CommandLineForwards, LocalForwards, RemoteForwards, SocksForwards):
    """autossh, which keeps an ssh with forwards alive."""

    name = "autossh"
    programs = ("autossh",)

    def forwarding_argv(self, option: str, rule: str) -> list[str]:
        """See `CommandLineForwards`."""
        # -M 0: without its monitoring ports, which are not needed since ssh has its own keepalives.
        ssh = self.world.client.argv(None, "-N", f"-{option}", rule)
        return ["autossh", "-M", "0", *ssh[1:]]


class Sshfs(Files):
    """A file system over SFTP."""

    name = "sshfs"
    programs = ("sshfs", "fusermount3")

    @classmethod
    def absence(cls) -> str:
        """See `Driver`."""
        return super().absence() or (
            "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse is not there, or not for us"
        )

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        with self._mounted() as mount:
            (mount / remote.name).write_bytes(local.read_bytes())

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        with self._mounted() as mount:
            local.write_bytes((mount / remote.name).read_bytes())

    @contextlib.contextmanager
    def _mounted(self) -> Iterator[Path]:
        mount = self.world.home / "mount"
        mount.mkdir()
        remote = f"{self.world.server.login}@127.0.0.1:{self.world.scratch}"
        self._mount(["sshfs", *self.world.client.options()[2:], remote, str(mount)])
        try:
            yield mount
        finally:
            self.succeed(["fusermount3", "-u", mount])

    def _mount(self, argv: list[str]) -> None:
        # sshfs returns when the mount is there, and goes on in the background.
        result = self.call(argv)
        if b"Operation not permitted" in result.stderr:
            pytest.skip("this machine does not let us mount")
        assert result.status == 0, result


class Mosh(Windows):
    """mosh: its server is started over ssh, outlives that connection, and talks UDP with the client."""

    name = "mosh"
    programs = ("mosh", "mosh-server", "mosh-client")

    def window(self, command: str, typed: str) -> bytes:
        """See `Windows`."""
        ssh = shlex.join(["ssh", *self.world.client.options()])
        argv = ["mosh", f"--ssh={ssh}", f"{self.world.server.login}@127.0.0.1", "--", "sh", "-c", command]
        with Terminal(argv, self.environment() | {"LANG": "C.UTF-8"}, size=WINDOW) as terminal:
            terminal.expect("READY")
            terminal.send(typed)
            assert terminal.wait() == 0, terminal.screen
            return terminal.screen
