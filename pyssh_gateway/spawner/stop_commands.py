"""Commands of a stop: the configuration's commands, and the request to Fly's API, both with the spawner's own rights.

The monitor asks for them by number and can't choose their content. Their output goes into a pipe whose other end is the
monitor's. The spawner reads none of it, and an answer from the network is copied by a process of its own.
"""

import os
import socket
from collections.abc import Mapping
from typing import NoReturn

import msgspec

from pyssh_gateway.core.idle.warnings import environment
from pyssh_gateway.spawner import child
from pyssh_gateway.spawner.child import NULL, Inherited, Setup, Work
from pyssh_gateway.spawner.processes.process import Child, SpawnError, Starting
from pyssh_gateway.system.privileges import become

SHELL = "/bin/sh"

CANNOT_RUN = 126
"""Exit status when a command can't be run at all, as in a shell."""

ANSWER_SECONDS = 30
"""Timeout for the API's answer, which also ends the process if the monitor that asked is gone."""

ANSWER_BYTES = 64 * 1024
"""How much of an answer is copied."""

NOBODY = 65534
"""The uid and gid of nobody (the kernel's overflowuid), which own nothing, whether the account exists or not."""


class StopCommands(msgspec.Struct, frozen=True):
    """What can be run: `commands` are the hooks and then `stop.command`, with the environment `environ`.

    `warnings` are the entries of `stop.warn`; those that are web addresses are empty, and are not run.
    `api` is the path of the socket of Fly's API and `request` is sent there. `request` is empty if a suspend is
    impossible, for the reason `no_suspend`.
    """

    commands: tuple[str, ...] = ()
    environ: Mapping[str, str] = {}
    api: str = ""
    request: bytes = b""
    no_suspend: str = "it was not set up"
    warnings: tuple[str, ...] = ()


def start_command(stop: StopCommands, index: int, *, inherited: Inherited) -> Starting:
    """Start the command `index`; its one descriptor is a pipe with its output and errors. Raises SpawnError."""
    if not 0 <= index < len(stop.commands):
        raise SpawnError(f"the configuration has no command {index} for a stop")
    return _start_shell(stop.commands[index], stop.environ, inherited)


def start_warning(
    stop: StopCommands, index: int, seconds: int, people: tuple[str, ...], *, inherited: Inherited
) -> Starting:
    """Start the command of a warning: the machine stops in `seconds`. As `start_command`.

    The monitor can't choose the command, nor the names of the variables; their values are visible characters, which no
    shell parses unless the command asks for that.
    """
    if not 0 <= index < len(stop.warnings) or not stop.warnings[index]:
        raise SpawnError(f"the configuration has no command {index} for a warning")
    return _start_shell(stop.warnings[index], {**stop.environ, **environment(seconds, people)}, inherited)


def _start_shell(command: str, environ: Mapping[str, str], inherited: Inherited) -> Starting:
    argv = [SHELL, "-c", command]

    def work() -> NoReturn:
        os.execve(SHELL, argv, dict(environ))

    return _start(work, inherited)


def start_suspend(stop: StopCommands, *, inherited: Inherited) -> Starting:
    """Send the request; the one descriptor is a pipe with the answer as it came, or a line with the error."""
    if not stop.request:
        raise SpawnError(stop.no_suspend)

    def work() -> int:
        _send(stop.api, stop.request)
        return 0

    return _start(work, inherited)


def _start(work: Work, inherited: Inherited) -> Starting:
    """Fork a child that does `work` with its output in a pipe. It is ready when it leads its process group."""
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
    """Connect with the spawner's rights, give them up, send `request` and copy the answer.

    The monitor gets the answer's bytes, not the connection: with that it could ask for the machine's identity
    (`/v1/tokens/oidc`) or for other machines.
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
        except ConnectionError:  # closed without an answer, or after it: the reader sees which
            pass
