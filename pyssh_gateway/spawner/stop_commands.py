"""What is run at a stop: the configuration's commands, and the request to Fly's API; with the spawner's own rights.

The monitor asks for these by number and never says what they are. What comes out of them goes into a pipe whose other
end is the monitor's; the spawner reads none of it, and an answer from the network is copied by a process of its own.
"""

import os
import socket
from collections.abc import Mapping
from typing import NoReturn

import msgspec

from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup, Work
from pyssh_gateway.spawner.processes.process import Child, SpawnError, Starting
from pyssh_gateway.system.privileges import become

SHELL = "/bin/sh"

CANNOT_RUN = 126
"""Exit status when a command can't be run at all: the shell's."""

ANSWER_SECONDS = 30
"""When nobody waits for the API's answer any more, whatever has become of the monitor that asked."""

ANSWER_BYTES = 64 * 1024
"""More than this of an answer is not copied."""

NOBODY = 65534
"""The ids of nobody, whether the account exists or not (the kernel's overflowuid): they own nothing."""


class StopCommands(msgspec.Struct, frozen=True):
    """What there is to run: `commands` are the hooks and then `stop.command`, in the environment `environ`.

    `api` is the path of the socket of Fly's API and `request` what is sent there; empty if it can't be, for the reason
    `no_suspend`.
    """

    commands: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}
    api: str = ""
    request: bytes = b""
    no_suspend: str = "it was not set up"


def start_command(stop: StopCommands, index: int, *, inherited: Inherited) -> Starting:
    """Start the command of that index; its one descriptor has its output and its errors. Raises SpawnError."""
    if not 0 <= index < len(stop.commands):
        raise SpawnError(f"the configuration has no command {index} for a stop")
    argv = [SHELL, "-c", stop.commands[index]]

    def work() -> NoReturn:
        os.execve(SHELL, argv, dict(stop.environ))

    return _start(work, inherited)


def start_suspend(stop: StopCommands, *, inherited: Inherited) -> Starting:
    """Send the request; the one descriptor has the answer as it came, or a line that says what failed."""
    if not stop.request:
        raise SpawnError(stop.no_suspend)

    def work() -> int:
        _send(stop.api, stop.request)
        return 0

    return _start(work, inherited)


def _start(work: Work, inherited: Inherited) -> Starting:
    """Fork a process group that does `work` with its output in a pipe. It is ready when it leads that group."""
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        setup = Setup(
            descriptors=(NULL, writer, writer),
            inherited=inherited,
            failed=CANNOT_RUN,
            complain=child.on_standard_error(""),
        )
        try:
            pid, ready = child.begin(setup, work)
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
    except OSError as error:
        raise SpawnError(f"can't start a process: {error.strerror}") from error
    return Starting(Child(pid, "", os.geteuid(), "", [reader]), ready)


def _send(path: str, request: bytes) -> None:
    """Connect with the rights that there are, give them up, send `request` and copy what is answered.

    The monitor gets bytes and no connection: by that it could ask for the machine's identity (`/v1/tokens/oidc`) or for
    other machines.
    """
    with socket.socket(socket.AF_UNIX) as api:
        api.settimeout(ANSWER_SECONDS)
        try:
            api.connect(path)
        except OSError as error:
            raise OSError(f"can't connect to {path}: {error.strerror or error}") from None
        if os.geteuid() == 0:
            os.setgroups([])
            become(NOBODY, NOBODY)
        left = ANSWER_BYTES
        try:
            api.sendall(request)
            while left > 0 and (chunk := api.recv(min(left, 4096))):
                os.write(1, chunk)
                left -= len(chunk)
        except ConnectionError:  # closed without an answer, or after it: whoever reads it sees which
            pass
