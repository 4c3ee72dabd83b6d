"""From a child that runs as the user to the session's program: greeting, rc files, and exec or a built-in server.

Runs in a fork of the spawner (`spawner/processes/process.py`), with the user's rights and no others. Problems are
reported on the session's standard error, as with sshd.
"""

import fcntl
import os
import pwd
import shlex
import signal
import subprocess
import termios
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pyssh_gateway.core.launch import LaunchPlan
from pyssh_gateway.core.transfers import scp_command
from pyssh_gateway.core.transfers.sftp_options import NO_OPTIONS
from pyssh_gateway.spawner.processes import account_rules
from pyssh_gateway.spawner.processes.user_servers import UserServers
from pyssh_gateway.system import sftp_program

MOTD_FILES = ("/run/motd.dynamic", "/etc/motd")
"""The files that pam_motd shows at login on Debian and Ubuntu, in its order. `processes.motd` makes the first."""

MOTD_BYTES = 64 * 1024
"""How much of a message of the day is read."""

CANNOT_EXEC = 1
"""Exit status when the shell itself can't be run: sshd's (session.c, do_child)."""

XAUTH_SECONDS = 10
"""How long xauth may take. It waits this long for another xauth that has the file locked (xauth(1), -b)."""

RC_SECONDS = 60
"""How long a ~/.ssh/rc or /etc/ssh/sshrc may take. sshd waits for it without limit; but if it hangs, for example on a
network that is gone after the machine has slept, even somebody who wants to repair it can't get in. A minute is enough
for what is made there, such as an agent's socket or a mount, and clients do not give up before."""

USER_RC = b".ssh/rc"
SYSTEM_RC = b"/etc/ssh/sshrc"


def run(plan: LaunchPlan, entry: pwd.struct_passwd, tty: str, servers: UserServers) -> None:
    """Become the program of `plan`, or one of `servers`. The process is the user already."""
    if tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    _refuse_if_told(plan)
    _enter(plan.cwd)
    # If the home can't be entered, there is no .hushlogin.
    if plan.greet and not os.access(f"{entry.pw_dir}/.hushlogin", os.F_OK):
        _show_motd()
        os.write(1, plan.banner)
    env = plan.env | {b"SSH_TTY": tty.encode()} if tty else plan.env
    _prepare(plan, env)
    argv = plan.argv
    if plan.builtin == "sftp":
        if plan.sftp is not None:
            os._exit(servers.sftp(0, 1, 3, plan.sftp, entry))
        if account_rules.may_run_builtin(entry.pw_shell):
            os._exit(servers.sftp(0, 1, 3, NO_OPTIONS, entry))
        # The shell decides, as with sshd: it runs a server, does something else, or refuses with its own message. Close
        # the pipe for file events: such a server may not be ours, and must not write to the log.
        os.close(3)
        argv = (argv[0], b"-c", sftp_program.for_shell())
    copying = scp_command.parse(argv[2]) if _asks_for_scp(plan) else None
    if (
        copying is not None
        and _which(b"scp", plan.env.get(b"PATH", b"")) is None
        and account_rules.may_run_builtin(entry.pw_shell)
    ):
        os._exit(servers.scp(copying, 0, 1, 2))
    try:
        os.execve(plan.executable, argv, env)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the command
        complain(f"{os.fsdecode(plan.executable)}: {getattr(error, 'strerror', None) or error}")
        os._exit(CANNOT_EXEC)


def run_in_chroot(plan: LaunchPlan, entry: pwd.struct_passwd, servers: UserServers) -> None:
    """Become the SFTP server, in a root directory of its own. No program or file is needed inside it."""
    _refuse_if_told(plan)
    with suppress(OSError):  # as with sshd, the home directory need not exist
        os.chdir(plan.cwd)
    os._exit(servers.sftp(0, 1, 3, NO_OPTIONS if plan.sftp is None else plan.sftp, entry))


def _refuse_if_told(plan: LaunchPlan) -> None:
    if plan.refusal:
        os.write(2 if plan.builtin else 1, plan.refusal)
        os._exit(CANNOT_EXEC)


def _prepare(plan: LaunchPlan, env: Mapping[bytes, bytes]) -> None:
    """Run the user's rc file, or the machine's, or xauth before the session (session.c, do_rc_files).

    As with sshd, an rc file writes to the session's output, and reads the data of the X11 display from its input.
    """
    user_rc = plan.cwd + b"/" + USER_RC
    if plan.user_rc and _is_there(user_rc):
        # The path is quoted, unlike in sshd. The account's shell runs it, so a restricted shell can refuse it, too.
        command = b"/bin/sh " + os.fsencode(shlex.quote(os.fsdecode(user_rc)))
        _run_rc([plan.executable, b"-c", command], plan.rc_input, env, "~/.ssh/rc")
    elif _is_there(SYSTEM_RC):
        _run_rc([b"/bin/sh", SYSTEM_RC], plan.rc_input, env, os.fsdecode(SYSTEM_RC))
    elif plan.xauth:
        with suppress(OSError, subprocess.SubprocessError):  # then programs report that they can't open it
            xauth = ["xauth", "-q", "-"]
            subprocess.run(xauth, input=plan.xauth, env=env, stdout=2, timeout=XAUTH_SECONDS, check=False)


def _is_there(path: bytes) -> bool:
    return os.access(path, os.F_OK)


def _run_rc(command: list[bytes], told: bytes, env: Mapping[bytes, bytes], name: str) -> None:
    """Run an rc file. The session ignores its exit status; if it takes too long, it goes on in the background."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the rc file need not read its input; as sshd does here
    try:
        subprocess.Popen(command, stdin=subprocess.PIPE, env=env).communicate(told, RC_SECONDS)
    except subprocess.TimeoutExpired:
        complain(f"{name} has not ended within {RC_SECONDS} s: the session begins without it.")
    except (OSError, ValueError) as error:
        complain(f"Could not run {name}: {getattr(error, 'strerror', None) or error}")
    finally:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _asks_for_scp(plan: LaunchPlan) -> bool:
    return len(plan.argv) == 3 and plan.terminal is None and plan.argv[2].startswith(b"scp ")


def _which(program: bytes, path: bytes) -> bytes | None:
    """The path of the program, searched as the account would; None if it is not found."""
    for directory in path.split(b":"):
        candidate = (directory or b".") + b"/" + program
        if os.access(candidate, os.X_OK):
            return candidate
    return None


def _enter(directory: bytes) -> None:
    try:
        os.chdir(directory)
    except OSError as error:
        complain(f"Could not chdir to home directory {os.fsdecode(directory)}: {error.strerror}")
        os.chdir("/")


def _show_motd() -> None:
    seen = set()  # /etc/motd is a link to the other file on some machines
    for path in MOTD_FILES:
        with suppress(OSError), Path(path).open("rb") as file:
            found = os.fstat(file.fileno())
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            os.write(1, file.read(MOTD_BYTES).replace(b"\r\n", b"\n"))


def complain(text: str) -> None:
    """Report a problem where sshd does: on the session's standard error."""
    with suppress(OSError):
        os.write(2, text.encode(errors="surrogateescape") + b"\n")
