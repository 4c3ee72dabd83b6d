"""Rows of the client matrix: other programs: PuTTY's, dropbear's, lftp, curl and Ansible."""

import shlex
import shutil
import subprocess
from pathlib import Path

from tests.support.client import Result
from tests.support.matrix import BULK, Driver, assert_bulk
from tests.support.matrix_features import Files, Program, Signals, SocksForwards


class Plink(Program, Signals, SocksForwards):
    """PuTTY's plink."""

    name = "plink"
    programs = ("plink", "puttygen")
    signalled = 128  # for any signal

    def argv(self, command: str | None, *options: str) -> list[str]:
        """See `Program`."""
        command_line = [] if command is None else [command]
        return ["plink", *options, *putty_options(self), "-l", self.world.server.login, "127.0.0.1", *command_line]

    def run_stdio(self, port: int, given: bytes) -> Result:
        """See `StdioForwards`."""
        return self.run_process(self.argv(None, "-nc", f"127.0.0.1:{port}"), given, {})


class Psftp(Files):
    """PuTTY's psftp."""

    name = "psftp"
    programs = ("psftp", "puttygen")

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._batch(f"put {local} {remote}")

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._batch(f"get {remote} {local}")

    def _batch(self, command: str) -> None:
        script = self.world.home / "batch"
        script.write_text(command + "\n")
        self.succeed(["psftp", *putty_options(self), "-l", self.world.server.login, "-b", str(script), "127.0.0.1"])


class Pscp(Files):
    """PuTTY's pscp, by SFTP."""

    name = "pscp"
    programs = ("pscp", "puttygen")
    mode = "-sftp"

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._copy(str(local), f"{self.world.server.login}@127.0.0.1:{remote}")

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._copy(f"{self.world.server.login}@127.0.0.1:{remote}", str(local))

    def _copy(self, source: str, destination: str) -> None:
        self.succeed(["pscp", self.mode, "-p", *putty_options(self), source, destination])


class LegacyPscp(Pscp):
    """PuTTY's pscp by the old protocol."""

    name = "pscp -scp"
    mode = "-scp"


def putty_options(driver: Driver) -> list[str]:
    """The command-line options for PuTTY's programs, which learn of keys in no other way."""
    fingerprint = driver.succeed(["ssh-keygen", "-lf", driver.world.server.keys_dir / "ssh_host_ed25519_key.pub"])
    key = driver.world.home / "key.ppk"
    if not key.exists():
        driver.succeed(["puttygen", driver.world.key, "-o", key])
    port = str(driver.world.server.port)
    return ["-batch", "-noagent", "-P", port, "-i", str(key), "-hostkey", fingerprint.stdout.decode().split()[1]]


class Dbclient(Program):
    """Dropbear's client. It reports a command that was killed by a signal as successful, whatever the server says."""

    name = "dbclient"
    programs = ("dbclient", "dropbearconvert")

    def argv(self, command: str | None, *options: str) -> list[str]:
        """See `Program`."""
        key = self.world.home / "key.dropbear"
        if not key.exists():
            self.succeed(["dropbearconvert", "openssh", "dropbear", self.world.key, key])
            # Dropbear looks hosts up without their port, and allows no comment after the key.
            _, host_key = self.world.server.known_hosts.read_text().split(" ", 1)
            (self.world.home / ".ssh").mkdir()
            (self.world.home / ".ssh" / "known_hosts").write_text(f"127.0.0.1 {host_key}")
        where = ["-i", str(key), "-p", str(self.world.server.port), "-l", self.world.server.login, "127.0.0.1"]
        return ["dbclient", *options, *where, *([] if command is None else [command])]

    def run_stdio(self, port: int, given: bytes) -> Result:
        """See `StdioForwards`. On a busy machine one run in a hundred hangs at the end, with sshd too: try again."""
        command = self.argv(None, "-B", f"127.0.0.1:{port}")
        try:
            return self.run_process(command, given, {})
        except subprocess.TimeoutExpired:
            return self.run_process(command, given, {})


class Lftp(Files):
    """lftp over SFTP."""

    name = "lftp sftp"
    programs = ("lftp",)
    protocol = "sftp"

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._command(f"put {local} -o {remote}")

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._command(f"get {remote} -o {local}")

    def _command(self, command: str) -> None:
        ssh = shlex.join(["ssh", "-a", "-x", *self.world.client.options()])
        where = f"open -u {self.world.server.login}, {self.protocol}://127.0.0.1:{self.world.server.port}"
        script = f'set cmd:fail-exit yes; set {self.protocol}:connect-program "{ssh}"; {where}; {command}'
        self.succeed(["lftp", "--norc", "-c", script])


class LftpFish(Lftp):
    """lftp by its own protocol, FISH: it types commands into a shell."""

    name = "lftp fish"
    protocol = "fish"


class Curl(Files):
    """curl, and thereby libssh2, over SFTP."""

    name = "curl sftp"
    programs = ("curl",)
    protocol = "sftp"

    @classmethod
    def absence(cls) -> str:
        """See `Driver`."""
        if reason := super().absence():
            return reason
        known = subprocess.run(["curl", "--version"], capture_output=True, check=True, text=True).stdout
        return "" if cls.protocol in known.split() else f"the curl of this machine knows no {cls.protocol}"

    def copy_in(self, local: Path, remote: Path) -> None:
        """See `Files`."""
        self._curl("--upload-file", str(local), self._url(remote))

    def copy_out(self, remote: Path, local: Path) -> None:
        """See `Files`."""
        self._curl("--output", str(local), self._url(remote))

    def _url(self, path: Path) -> str:
        return f"{self.protocol}://{self.world.server.login}@127.0.0.1:{self.world.server.port}{path}"

    def _curl(self, *arguments: str) -> None:
        # curl looks for the host's key here; libssh2 has no option for it.
        known_hosts = self.world.home / ".ssh" / "known_hosts"
        known_hosts.parent.mkdir()
        shutil.copy(self.world.server.known_hosts, known_hosts)
        keys = ["--key", str(self.world.key), "--pubkey", f"{self.world.key}.pub"]
        self.succeed(["curl", "--disable", "--silent", "--show-error", *keys, *arguments])


class CurlScp(Curl):
    """curl over scp."""

    name = "curl scp"
    protocol = "scp"


class Ansible(Driver):
    """Ansible, which copies its modules by SFTP and then runs them."""

    name = "ansible"
    programs = ("ansible",)
    pipelining = False

    def exec(self) -> None:
        """A module runs on the server's side."""
        assert b'"ping": "pong"' in self._module("ping")

    def put(self) -> None:
        """A file is copied, and the account owns it."""
        local, remote = self.world.home / "local", self.world.scratch / "remote"
        local.write_bytes(BULK)
        self._module("copy", f"src={local} dest={remote}")
        assert_bulk(remote)
        assert remote.stat().st_uid == self.world.account.pw_uid

    def get(self) -> None:
        """A file is fetched."""
        local, remote = self.world.home / "local", self.world.scratch / "remote"
        remote.write_bytes(BULK)
        self._module("fetch", f"src={remote} dest={local} flat=yes")
        assert_bulk(local)

    def _module(self, name: str, arguments: str = "") -> bytes:
        world = self.world
        control = [
            "-o",
            "ControlMaster=auto",
            "-o",
            "ControlPersist=60s",
            "-o",
            f"ControlPath={world.home / 'control'}",
        ]
        options = shlex.join([*control, *world.client.options()])
        argv = ["ansible", "all", "-i", "127.0.0.1,", "-u", world.server.login, "-m", name, "-a", arguments]
        environ = {
            "ANSIBLE_LOCAL_TEMP": str(world.home / "temporary"),
            "ANSIBLE_PIPELINING": str(self.pipelining),
            "ANSIBLE_SSH_ARGS": options,
            "LANG": "C.UTF-8",
        }
        try:
            return self.succeed(argv, **environ).stdout
        finally:
            # By default Ansible keeps the connection open for a minute for the next task; the tests do not wait.
            self.call(world.client.argv(None, *control, "-O", "exit"))


class AnsiblePipelining(Ansible):
    """Ansible, feeding modules to the interpreter's standard input."""

    name = "ansible pipelining"
    pipelining = True
