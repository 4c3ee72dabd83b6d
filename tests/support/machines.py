"""Machines for tests: a root file system and namespaces, as in a container, but without a container engine.

with Machine(directory, [layer, debian]) as machine:
    machine.run("id -un", user="amos")

A machine is an overlay over directories that it does not change, so one Debian serves them all. Its processes end with
it. With a network of its own it has only the loopback interface; without one it shares the test machine's ports.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE, until

INSTALL_SECONDS = 600.0
"""How long the download of packages may take on a slow day."""

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "xterm",
    "LANG": "C.UTF-8",
}
"""The environment of a root shell in a fresh container."""

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

_SET_UP = f"""\
set -e
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$PLACE/upper,workdir=$PLACE/work" "$PLACE/root"
cd "$PLACE/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -n "$OWN_NETWORK" ]; then
    ip link set lo up
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
mount -t tmpfs tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in {" ".join(_DEVICES)}; do
    touch "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
cp /etc/resolv.conf etc/resolv.conf
hostname machine
echo 127.0.0.1 localhost machine >etc/hosts
while [ "$1" != -- ]; do
    mkdir -p ".$2"
    mount --bind "$1" ".$2"
    shift 2
done
shift
exec chroot . env -i "$@"
"""
"""Run in the new namespaces: sets up the root file system, then runs its first process. /dev is as in containers."""

_INIT = ("/bin/sh", "-c", "while :; do sleep 1000 & wait; done")
"""A first process that only reaps children."""


class CannotMake(Exception):
    """This machine can't make others; the text says why."""


def look_whether_machines_can_be_made(directory: Path) -> None:
    """Try to make a machine in `directory`. Raises CannotMake."""
    if os.geteuid() != 0:
        raise CannotMake("only root can make a machine to test on")
    for program in ("debootstrap", "unshare", "nsenter", "setpriv", "ip"):
        if shutil.which(program) is None:
            raise CannotMake(f"there is no {program} on this machine")
    lower = directory / "lower"
    for path in (lower / "bin", directory / "upper", directory / "work", directory / "root"):
        path.mkdir(parents=True)
    options = f"lowerdir={lower},upperdir={directory}/upper,workdir={directory}/work"
    command = ["unshare", "--mount", "--pid", "--net", "--cgroup", "--fork"]
    command += ["mount", "-t", "overlay", "overlay", "-o", options, str(directory / "root")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    if result.returncode != 0:
        raise CannotMake(f"namespaces and overlays are not to be had: {result.stderr.strip()}")


class Machine:
    """A machine whose file system has `layers`, the first one on top, below its own changes; see above.

    Its changes are in `directory`/upper, which can be a layer of other machines after its end. `init` is its first
    process, with `environ`. `shared` are directories of the test machine, and their places in this one.
    """

    def __init__(
        self,
        directory: Path,
        layers: Sequence[Path],
        *,
        own_network: bool = False,
        init: Sequence[str] = _INIT,
        environ: Mapping[str, str] | None = None,
        shared: Mapping[Path, str] | None = None,
    ) -> None:
        self.directory = directory
        self.changed = directory / "upper"
        self._layers = layers
        self._own_network = own_network
        self._init = init
        self._environ = ENVIRONMENT | dict(environ or {})
        self._shared = shared or {}
        self._holder: subprocess.Popen[bytes] | None = None
        self._log = directory / "log"

    def __enter__(self) -> Self:
        for name in ("upper", "work", "root"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        kinds = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", *(["--net"] if self._own_network else [])]
        shared = [part for path, place in self._shared.items() for part in (str(path), place)]
        variables = [f"{name}={value}" for name, value in self._environ.items()]
        with self._log.open("ab") as log:
            self._holder = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),  # so that a killed test run leaves no machine behind
                    *("unshare", *kinds, "--fork", "--kill-child", "/bin/sh", "-c", _SET_UP, "sh", *shared, "--"),
                    *variables,
                    *self._init,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "PATH": ENVIRONMENT["PATH"],
                    "PLACE": str(self.directory),
                    "LOWER": ":".join(map(str, self._layers)),
                    "OWN_NETWORK": "yes" if self._own_network else "",
                },
            )
        try:
            until(self._is_set_up, what=f"machine in {self.directory}")
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    @property
    def said(self) -> str:
        """The output of its first process."""
        return self._log.read_text(errors="backslashreplace")

    @property
    def first_pid(self) -> int:
        """The pid of its first process on the test machine."""
        assert self._holder is not None
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        return int(children[0])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to its first process."""
        os.kill(self.first_pid, number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait until its first process has ended by itself; returns its exit code."""
        assert self._holder is not None
        return self._holder.wait(seconds)

    def end(self) -> None:
        """Kill everything that runs on it; its mounts go with it."""
        if self._holder is not None and self._holder.poll() is None:
            self._holder.send_signal(signal.SIGTERM)  # unshare ends, and thereby sends SIGKILL to its child
            try:
                self._holder.wait(AT_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._holder.kill()
                self._holder.wait()

    def command(self, command: str, user: str = "root") -> list[str]:
        """The words that run the shell command `command` on the machine, as a login of `user`."""
        spaces = ["--mount", "--pid", "--uts", "--ipc", "--cgroup", *(["--net"] if self._own_network else [])]
        entered = ["nsenter", "--target", str(self.first_pid), *spaces, "--root", "--wdns=/"]
        variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
        words = ["/bin/bash", "-c", f"cd\n{command}"] if user == "root" else ["su", "-", user, "-c", command]
        return [*entered, "env", "-i", *variables, *words]

    def attempt(
        self, command: str, *, user: str = "root", seconds: float = PATIENCE, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` in the home directory of `user`; returns the completed process."""
        return subprocess.run(
            self.command(command, user), input=stdin, capture_output=True, text=True, timeout=seconds, check=False
        )

    def run(self, command: str, *, user: str = "root", seconds: float = PATIENCE, stdin: str = "") -> str:
        """Like `attempt`, but the command has to succeed; returns its standard output."""
        result = self.attempt(command, user=user, seconds=seconds, stdin=stdin)
        assert result.returncode == 0, f"{command!r} ended with {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def start(self, command: str, *, user: str = "root") -> subprocess.Popen[str]:
        """`command`, running, with three pipes; its standard error goes to its output."""
        return subprocess.Popen(
            self.command(command, user),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _is_set_up(self) -> bool:
        assert self._holder is not None
        assert self._holder.poll() is None, f"the machine has ended: {self.said}"
        try:
            return not Path(f"/proc/{self.first_pid}/root/").samefile("/")  # `chroot` is the last step
        except (IndexError, OSError):
            return False


AT_END_SECONDS = 10.0
"""How long the kernel may take to end the processes of a machine."""


def make_debian(directory: Path, suite: str) -> None:
    """Fill `directory` with the smallest possible Debian. Raises CannotMake."""
    command = ["debootstrap", "--variant=minbase", suite, str(directory)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if result.returncode != 0:
        raise CannotMake(f"debootstrap can't make {suite}: {result.stdout.strip().splitlines()[-1:]}")
    certificates = os.environ.get("PIP_CERT")
    if certificates:  # this machine needs its own certificates to reach the package index
        place = directory / "usr/local/share/certificates-of-the-machine.pem"
        shutil.copy(certificates, place)
        (directory / "etc/pip.conf").write_text(f"[global]\ncert = /{place.relative_to(directory)}\n")
