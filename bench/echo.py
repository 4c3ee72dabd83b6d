"""The latency of typing: the time from a key to its echo, alone and beside bulk downloads from the same server."""

import os
import subprocess
import time
from contextlib import ExitStack

from bench.client import CLIENT_SECONDS, read, read_until
from bench.figures import Figure, percentile
from bench.processes import wait_for, written_bytes
from bench.rig import Rig
from bench.servers import Server

PAUSE_SECONDS = 0.005
"""The pause between two keys. Nobody types that fast, but all processes are asleep again by then."""

DOWNLOADS = 4
FLOWING_BYTES = 16 * 1024 * 1024
"""Bytes after which a download counts as under way."""

MILLISECONDS = 1000

# The terminal is raw and a process echoes, as a shell with line editing does.
ECHO = "stty raw -echo; echo ready; exec cat"


def echo(rig: Rig) -> list[Figure]:
    """One byte to a pty and back; the 50th and the 99th percentile of each block of keys."""
    figures = []
    with rig.running():
        compare = rig.sshd_gives_terminals()
        for downloads, name in (
            (0, "echo on a pty, idle"),
            (DOWNLOADS, f"echo on a pty, beside {DOWNLOADS} downloads"),
        ):

            def measure(server: Server, downloads: int = downloads) -> list[float]:
                return _block(rig, server, downloads)

            ours, sshd = rig.in_turns(rig.effort.blocks, measure, compare=compare)
            figures += [
                Figure(
                    f"{name}: p{percent}",
                    "ms",
                    tuple(percentile(block, percent) for block in ours),
                    tuple(percentile(block, percent) for block in sshd),
                )
                for percent in (50, 99)
            ]
    return figures


def _block(rig: Rig, server: Server, downloads: int) -> list[float]:
    with ExitStack() as stack:
        terminal = stack.enter_context(rig.client.session(server, ECHO, "-tt"))
        read_until(terminal, b"ready")
        for _ in range(downloads):
            session = rig.client.session(server, "cat /dev/zero", stdout=subprocess.DEVNULL)
            _wait_until_flowing(stack.enter_context(session))
        return [key_seconds(terminal) * MILLISECONDS for _ in range(rig.effort.keystrokes)]


def _wait_until_flowing(download: subprocess.Popen[bytes]) -> None:
    wait_for(lambda: written_bytes(download.pid) > FLOWING_BYTES, CLIENT_SECONDS, "flowing download")


def key_seconds(terminal: subprocess.Popen[bytes]) -> float:
    """Seconds from a key to its echo."""
    time.sleep(PAUSE_SECONDS)  # else the processes are still awake from the key before, and the echo is too quick
    assert terminal.stdin is not None
    begun = time.perf_counter()
    os.write(terminal.stdin.fileno(), b"x")
    read(terminal)
    return time.perf_counter() - begun
