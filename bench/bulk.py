"""Much data through a session: into a command, out of one, and out of a terminal."""

import subprocess
from collections.abc import Callable

from bench.cost import Moved, command_seconds, metered
from bench.figures import Figure
from bench.rig import Rig
from bench.servers import Server

SIZE = 512 * 1024 * 1024

TERMINAL_SIZE = 64 * 1024 * 1024
"""The data that is written to a terminal: a thousand times a long build's output. A pty gives at most 4 KiB a read."""

CIPHERS = (("client's own cipher", ()), ("aes128-gcm", ("-c", "aes128-gcm@openssh.com")))

# `times` reports the CPU time of the command, which runs in the server's control group but is not part of the server.
DOWNLOAD = f"exec sh -c 'head -c {SIZE} /dev/zero && times >&2'"
UPLOAD = "exec sh -c 'cat >/dev/null && times >&2'"

# A terminal carries standard output and standard error together, so the CPU time of `head` can't be separated here;
# it is the same with both servers.
FLOOD = f"stty raw; exec head -c {TERMINAL_SIZE} /dev/zero"

Transfer = Callable[[Server, tuple[str, ...]], tuple[float, bytes]]


def download(rig: Rig) -> list[Figure]:
    """512 MiB from a command to the client's /dev/null."""

    def transfer(server: Server, options: tuple[str, ...]) -> tuple[float, bytes]:
        return rig.client.run(server, DOWNLOAD, *options)

    return _with_each_cipher(rig, "download", transfer)


def upload(rig: Rig) -> list[Figure]:
    """512 MiB from the client's standard input to a command."""

    def transfer(server: Server, options: tuple[str, ...]) -> tuple[float, bytes]:
        with subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as source:
            return rig.client.run(server, UPLOAD, *options, stdin=source.stdout)

    return _with_each_cipher(rig, "upload", transfer)


def terminal(rig: Rig) -> list[Figure]:
    """64 MiB from a command on a terminal to the client's /dev/null."""

    def move(server: Server) -> Moved:
        wall, _ = rig.client.run(server, FLOOD, "-tt")
        return Moved(wall)

    with metered(rig) as cost:
        if not rig.sshd_gives_terminals():
            return []
        return cost.figures(f"pty flood {TERMINAL_SIZE >> 20} MiB", move)


def _with_each_cipher(rig: Rig, direction: str, transfer: Transfer) -> list[Figure]:
    figures = []
    with metered(rig) as cost:
        for cipher, options in CIPHERS:

            def move(server: Server, options: tuple[str, ...] = options) -> Moved:
                wall, times = transfer(server, options)
                return Moved(wall, command_seconds(times))

            figures += cost.figures(f"{direction} {SIZE >> 20} MiB, {cipher}", move)
    return figures
