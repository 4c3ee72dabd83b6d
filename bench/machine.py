"""The machine that is measured on: facts about it, reasons to doubt the figures, and the account to log in to."""

import os
import platform
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata, util
from pathlib import Path

from bench.interrupts import held_back
from bench.processes import owned_by, wait_for
from bench.servers import CHECKOUT, CannotBench, gateway_environ, preauth_account, sshd_path

ADMIN_SECONDS = 30.0
"""How long useradd and the like may take."""

COMPILE_SECONDS = 120.0
"""How long compiling the package's bytecode may take."""

LOOK_SECONDS = 0.5
"""How long the machine is watched before each group of figures, to see how busy it is with other work."""

NOISY_PERCENT = 10.0
"""Percent of load from which on the figures come with a warning."""

PORTS = range(20000, 32000)
"""Where to look for free ports: below those that Linux gives to clients for a time (32768 and up)."""


@contextmanager
def login_account(home: Path) -> Iterator[pwd.struct_passwd]:
    """The account to log in to: root makes one for the run, with the empty directory `home`; others use their own.

    Root also makes the account that preauth runs as, `servers.preauth_account`.
    """
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid())
        return
    name = f"pyssh-bench-{os.getpid()}"
    try:
        with held_back():
            _create_account(name, home)
            _admin("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", preauth_account(name))
        yield pwd.getpwnam(name)
    finally:
        with held_back():
            _remove_account(name)
            _remove_account(preauth_account(name))


@contextmanager
def more_accounts(count: int, directory: Path) -> Iterator[list[str]]:
    """`count` further accounts to log in to, with homes below `directory`; none if we are not root."""
    if os.geteuid() != 0:
        yield []
        return
    names = [f"pyssh-bench-{os.getpid()}-{number}" for number in range(1, count + 1)]
    try:
        for name in names:
            with held_back():
                _create_account(name, directory / name)
        yield names
    finally:
        with held_back():
            for name in names:
                _remove_account(name)


def _create_account(name: str, home: Path) -> None:
    # No password matches "*". With useradd's own "!" sshd says that the account is locked.
    _admin("useradd", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/bash", "--password", "*", name)
    account = pwd.getpwnam(name)
    home.mkdir(mode=0o755)
    os.chown(home, account.pw_uid, account.pw_gid)


def _remove_account(name: str) -> None:
    try:
        uid = pwd.getpwnam(name).pw_uid
    except KeyError:  # it could not be made
        return
    wait_for(lambda: _ended(uid), ADMIN_SECONDS, f"end of the processes of {name}")
    _admin("userdel", name)


def _ended(uid: int) -> bool:
    left = owned_by(uid)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not left


def _admin(*command: str) -> None:
    environ = os.environ | {"PATH": os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=ADMIN_SECONDS, env=environ, check=False)
    if ended.returncode != 0:
        raise CannotBench(f"{' '.join(command)} failed: {ended.stderr.strip()}")


def free_port() -> int:
    """A port of 127.0.0.1 that is free now."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise CannotBench("there is no free port on 127.0.0.1")


def compile_bytecode() -> bool:
    """Compile the package where the server looks for bytecode, as an installation does; returns whether that worked."""
    ended = subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "pyssh_gateway"],
        cwd=CHECKOUT,
        env=gateway_environ(),
        stdout=subprocess.DEVNULL,
        timeout=COMPILE_SECONDS,
        check=False,
    )
    return ended.returncode == 0


def facts() -> dict[str, str]:
    """The facts about this machine that its figures depend on."""
    if shutil.which("ssh") is None:
        raise CannotBench("there is no ssh to measure with: sudo apt-get install openssh-client")
    cpu = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB",
        "kernel": platform.release(),
        "started by": "root, logging in to another account" if os.geteuid() == 0 else "an ordinary account, its own",
        "ssh": _openssh_version("ssh", "-V"),
        "sshd": _openssh_version(sshd_path(), "-V"),
        "python": platform.python_version(),
        "asyncssh": metadata.version("asyncssh"),
        "cryptography": metadata.version("cryptography"),
    }


def caveats() -> list[str]:
    """Reasons why this machine's figures are worse than a deployed server's."""
    found = []
    if util.find_spec("rich") is not None:
        found.append("rich is installed beside the server; structlog imports it, so starts take longer than deployed.")
    asyncssh = util.find_spec("asyncssh")
    modules = [Path(os.__file__), Path(__file__), *([Path(asyncssh.origin)] if asyncssh and asyncssh.origin else [])]
    if os.geteuid() == 0 and not _open_to_all(*modules):
        found.append(
            "This Python or checkout is closed to other accounts, so the server imports at its start what it would "
            "otherwise import when needed: starts take longer than deployed."
        )
    return found


def busy_percent() -> float:
    """How busy the machine's processors are just now."""
    first = _processor_ticks()
    time.sleep(LOOK_SECONDS)  # the stretch of time that is judged
    idle, total = (after - before for after, before in zip(_processor_ticks(), first, strict=True))
    return 100 * (1 - idle / total) if total else 0.0


def _processor_ticks() -> tuple[int, int]:
    """Idle ticks and all ticks since boot, from the first line of /proc/stat (proc(5))."""
    with Path("/proc/stat").open() as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def _open_to_all(*paths: Path) -> bool:
    """Whether every account may enter all of these directories."""
    return all(parent.stat().st_mode & 0o001 for path in paths for parent in path.resolve().parents)


def _openssh_version(*command: str) -> str:
    """The version that a program names. sshd before 9.3 doesn't know -V, but the error message has the version."""
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    found = re.search(r"OpenSSH_[^,\n]+", said.stderr)
    return found[0] if found else "unknown"
