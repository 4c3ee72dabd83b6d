"""The two servers: how each is configured, started, and ended with all processes that it has forked."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bench.interrupts import held_back
from bench.processes import is_listening, tree, wait_for

OURS = "pyssh-gateway"
SSHD = "sshd"

CHECKOUT = Path(__file__).parents[1]

START_SECONDS = 20.0
"""Seconds until the port accepts. It takes a thirtieth of a second, and longer on a loaded machine."""

STOP_SECONDS = 10.0
"""Seconds until a server that was told to stop has ended: the gateway's own drain time is 4 s."""

TIGHT_POLL_SECONDS = 0.0002
"""How often a starting server is polled: well below the milliseconds that are measured."""

OUR_FAMILY = "pyssh-"
"""pyssh-monitor, pyssh-preauth, pyssh-postauth. OpenSSH's are sshd and, from 9.8 on, sshd-session and sshd-auth."""

LOGIN_KEYS = "logins"
"""The directory of users' keys in the run's directory; each key is named after its account."""

KEYS = "keys"
"""The gateway's directory of keys, in the run's directory."""

HOST_KEY = "ssh_host_ed25519_key"

PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Of Debian and its descendants; other builds have one in their package."""

SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
"""Of Debian, whose configuration names it; upstream's configuration names the built-in server."""

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_LAST_WORDS = 2000


class CannotBench(Exception):
    """Something that a run needs is missing; the text says what to do."""


class Server:
    """A server that can be started again and again, always on the same port. Its host key is known by its `name`.

    `family` is the prefix of the names of the processes that it forks for itself, not for users (proc_pid_comm(5)).
    """

    def __init__(
        self, name: str, argv: list[str], port: int, environ: dict[str, str], log: Path, *, family: str
    ) -> None:
        self.name = name
        self.family = family
        self.port = port
        self._argv = argv
        self._environ = environ
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    def exec(self) -> None:
        """Start the process; wait for nothing."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env=self._environ,
                start_new_session=True,
            )

    def wait_until_listening(self) -> None:
        """Return as soon as a connection would be accepted, without making one."""
        wait_for(self._is_listening, START_SECONDS, f"listening {self.name}", poll=TIGHT_POLL_SECONDS)

    def _is_listening(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise CannotBench(f"{self.name} has ended by itself.\n{self.last_words()}")
        return is_listening(self.port)

    def stop(self) -> None:
        """End it and all processes that it has forked, whatever state it is in."""
        if self._process is not None:
            with held_back():
                self._end(self._process)
            self._process = None

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        family = _handles(tree(process.pid)[1:])
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        for handle in family:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)

    @contextmanager
    def running(self) -> Iterator["Server"]:
        """Started and listening, until the context ends."""
        try:
            self.exec()
            self.wait_until_listening()
            yield self
        finally:
            self.stop()

    def output(self) -> str:
        """What it has written so far."""
        try:
            return self._log.read_text(errors="backslashreplace")
        except FileNotFoundError:
            return ""

    def last_words(self) -> str:
        """The end of its output, to explain a failure."""
        return f"{self.name}'s output ends with:\n{self.output()[-_LAST_WORDS:]}"


class Login(NamedTuple):
    """A login: an account, and the two halves of its one key."""

    user: str
    key: Path

    @property
    def public_key(self) -> Path:
        """The file that the servers read."""
        return Path(f"{self.key}.pub")


def make_login(directory: Path, user: str) -> Login:
    """A login of `user` with a new key, in the place where servers of `directory` look for it."""
    keys = directory / LOGIN_KEYS
    keys.mkdir(mode=0o755, exist_ok=True)
    login = Login(user, make_key(keys / user))
    login.public_key.chmod(0o644)
    return login


def openssh(directory: Path, port: int) -> Server:
    """The installed sshd with its defaults, except for what a private one needs and what would be unfair to it."""
    path = sshd_path()
    host_key = make_key(directory / HOST_KEY)
    config = directory / "sshd_config"
    config.write_text(
        f"""\
ListenAddress 127.0.0.1
HostKey {host_key}
PidFile none
AuthorizedKeysFile {directory / LOGIN_KEYS}/%u.pub
# The key file lies in a temporary directory.
StrictModes no
# PAM would make it slower, by what this machine happens to have configured.
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
# Many logins at once are part of the measurement.
MaxStartups 100
# So are as many sessions on one connection as our default is.
MaxSessions 64
Subsystem sftp {_sftp_server()}
"""
    )
    argv = [path, "-D", "-e", "-f", str(config), "-p", str(port)]
    return Server(
        SSHD, argv, port, {"PATH": os.environ.get("PATH", "") + ":" + _SBIN}, directory / "sshd.log", family=SSHD
    )


def gateway(directory: Path, logins: Sequence[Login], port: int, *, name: str = OURS, settings: str = "") -> Server:
    """pyssh-gateway from this checkout, with its defaults, as `make run` and the image start it, and with `settings`.

    As root, the account `preauth_account` of the first login's user has to exist.
    """
    keys = directory / KEYS
    keys.mkdir(mode=0o700)
    make_key(keys / HOST_KEY)  # as after an earlier start: the first start would make one
    config = directory / "config.toml"
    config.write_text(
        f"""\
preauth_account = "{preauth_account(logins[0].user)}"
keys_dir = "{keys}"
audit_dir = "{directory}/audit"
listen.address = "127.0.0.1"
idle.timeout = "off"
log.format = "json"
# Many logins at once are part of the measurement.
limits.unauthenticated_per_source = 100
{settings}
{"".join(map(_login_table, logins))}"""
    )
    argv = [sys.executable, "-m", "pyssh_gateway", "serve", "--config", str(config), "--port", str(port)]
    return Server(name, argv, port, gateway_environ(), directory / "pyssh-gateway.log", family=OUR_FAMILY)


def _login_table(login: Login) -> str:
    return f'[[login]]\nuser = "{login.user}"\nkeys = ["file:{login.public_key}"]\n'


def preauth_account(user: str) -> str:
    """The account that the gateway's preauth runs as, if root starts it for logins to `user`."""
    return f"{user}-preauth"


def gateway_environ() -> dict[str, str]:
    """The environment without the variables that change how Python starts, or how the server is configured."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYSSH_GATEWAY_"))}


def host_key(directory: Path) -> Path:
    """The public half of the host key in `directory`."""
    return directory / f"{HOST_KEY}.pub"


def make_key(path: Path) -> Path:
    """An ed25519 key pair without a passphrase, made at `path`."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=30)
    return path


@contextmanager
def privilege_separation_directory() -> Iterator[None]:
    """The empty directory that sshd wants when root starts it; its package leaves it to the service manager."""
    missing = os.geteuid() == 0 and not PRIVILEGE_SEPARATION.exists()
    if missing:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755)
    try:
        yield
    finally:
        if missing:
            PRIVILEGE_SEPARATION.rmdir()


def _sftp_server() -> str:
    """The SFTP server of sshd: the program that its package configures, or the built-in one."""
    return str(SFTP_SERVER) if SFTP_SERVER.exists() else "internal-sftp"


def _handles(pids: list[int]) -> list[int]:
    """Descriptors (pidfds) of those processes that still run. Unlike a pid, one never means another process later."""
    handles = []
    for pid in pids:
        with suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    return handles


def sshd_path() -> str:
    """The path of sshd, which has to be started by its full path."""
    path = shutil.which("sshd", path=os.environ.get("PATH", "") + ":" + _SBIN)
    if path is None:
        raise CannotBench("there is no sshd to compare with: sudo apt-get install openssh-server")
    return path
