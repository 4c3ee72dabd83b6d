"""What moving much data costs: wall time, and the CPU time of the server."""

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from typing import NamedTuple

from bench.cpu import CpuMeter, cpu_meter
from bench.figures import Figure
from bench.rig import Rig
from bench.servers import Server

SIZE = 512 * 1024 * 1024

CIPHERS = (("client's own cipher", ()), ("aes128-gcm", ("-c", "aes128-gcm@openssh.com")))

# `times` reports the CPU time of the command itself, which runs in the server's control group but isn't the server's.
DOWNLOAD = f"exec sh -c 'head -c {SIZE} /dev/zero && times >&2'"
UPLOAD = "exec sh -c 'cat >/dev/null && times >&2'"

Transfer = Callable[[Server, tuple[str, ...]], tuple[float, bytes]]


class Cost(NamedTuple):
    """Seconds by the clock, and CPU seconds of the server."""

    wall: float
    cpu: float


NO_CONTROL_GROUP = (
    "No control group can be made here, so our CPU time is from /proc, and sshd's can't be known: its processes end "
    "without being waited for. Run as root to see it."
)


def download(rig: Rig) -> list[Figure]:
    """512 MiB from a command to the client's /dev/null."""

    def transfer(server: Server, options: tuple[str, ...]) -> tuple[float, bytes]:
        return rig.client.run(server, DOWNLOAD, *options)

    return _measure(rig, "download", transfer)


def upload(rig: Rig) -> list[Figure]:
    """512 MiB from the client's standard input to a command."""

    def transfer(server: Server, options: tuple[str, ...]) -> tuple[float, bytes]:
        with subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as source:
            return rig.client.run(server, UPLOAD, *options, stdin=source.stdout)

    return _measure(rig, "upload", transfer)


def command_seconds(times: bytes) -> float:
    """The CPU seconds that the shell's `times` has reported: of the shell and its children, user and system."""
    return sum(60 * int(minutes) + float(seconds) for minutes, seconds in re.findall(rb"(\d+)m([\d.]+)s", times))


def _measure(rig: Rig, direction: str, transfer: Transfer) -> list[Figure]:
    figures = []
    with ExitStack() as stack:
        meters: dict[str, CpuMeter] = {
            server.name: stack.enter_context(cpu_meter(f"pyssh-bench-{os.getpid()}-{server.name}"))
            for server in (rig.ours, rig.sshd)
        }
        stack.enter_context(rig.running())
        for server in (rig.ours, rig.sshd):
            meters[server.name].add(server.pid)
        exact = all(meter.is_exact for meter in meters.values())
        if not exact:
            rig.note(NO_CONTROL_GROUP)
        for cipher, options in CIPHERS:

            def measure(server: Server, options: tuple[str, ...] = options) -> Cost:
                meter = meters[server.name]
                before = meter.seconds()
                wall, times = transfer(server, options)
                return Cost(wall, meter.seconds() - before - command_seconds(times))

            ours, sshd = rig.in_turns(rig.effort.transfers, measure)
            name = f"{direction} {SIZE >> 20} MiB, {cipher}"
            cpu = tuple(cost.cpu for cost in ours), tuple(cost.cpu for cost in sshd) if exact else ()
            figures += [
                Figure(f"{name}: wall", "s", tuple(cost.wall for cost in ours), tuple(cost.wall for cost in sshd)),
                Figure(f"{name}: server CPU", "s", *cpu),
            ]
    return figures
