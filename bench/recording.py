"""The cost of recording sessions: the CPU time of the process that serves an account, with recording on and off.

Both servers are ours. Each figure is a ratio of a measurement with recording to the one just before it without, so that
noise hits both. The recorder's own CPU time is a figure of its own, since it is another process.
"""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import servers
from bench.bulk import TERMINAL_SIZE
from bench.client import CLIENT_SECONDS, read, read_until
from bench.echo import ECHO, key_seconds
from bench.figures import Figure
from bench.machine import free_port
from bench.processes import tree, wait_for
from bench.rig import Rig
from bench.servers import Server
from pyssh_gateway.postauth.recording.feed import TOGETHER_SECONDS

RECORDED = "pyssh-gateway-recording"

SETTINGS = """\
audit.record = "pty"
audit.record_session_size = "1TiB"
audit.record_keep_size = "1TiB"
"""
"""All of the flood is recorded, far beyond the default bound of a session."""

FLOOD = f"stty raw -echo; echo ready; read line; exec head -c {TERMINAL_SIZE} /dev/zero"

ENDED = '"event":"recording.ended"'
MISSING = '"missing":'

EVENT_SECONDS = 10.0

NANOSECONDS = 1e9


class _Cost(NamedTuple):
    """CPU seconds of one measurement: of the process that serves the account, and of the recorder."""

    postauth: float
    recorder: float


def recording(rig: Rig) -> list[Figure]:
    """A flood of a terminal, and typing, with recording and without."""
    times = 3 * rig.effort.transfers
    with _both(rig) as (plain, recorded):
        figures = []
        for name, measure in (("pty flood", _flood), ("echo on a pty", _echo)):
            off, on = [], []
            for _ in range(times):
                off.append(measure(rig, plain))
                on.append(measure(rig, recorded))
            figures += [
                Figure(f"{name}: postauth CPU, not recorded", "s", tuple(cost.postauth for cost in off), ()),
                Figure(f"{name}: postauth CPU, recorded", "s", tuple(cost.postauth for cost in on), ()),
                Figure(
                    f"{name}: postauth CPU, recorded to not",
                    "times",
                    tuple(now.postauth / before.postauth for before, now in zip(off, on, strict=True)),
                    (),
                ),
                Figure(f"{name}: recorder CPU", "s", tuple(cost.recorder for cost in on), ()),
            ]
        figures.append(Figure("recording: bytes missing", "B", _missing(recorded, 2 * times), ()))
    return figures


@contextmanager
def _both(rig: Rig) -> Iterator[tuple[Server, Server]]:
    """Ours, and another one of ours that records, both running and with one login behind them."""
    directory = rig.directory / "recording"
    directory.mkdir()
    login = servers.Login(rig.client.user, rig.client.key)
    recorded = servers.gateway(directory, [login], free_port(), name=RECORDED, settings=SETTINGS)
    known = rig.directory / "known_hosts"
    with known.open("a") as hosts:
        hosts.write(f"{RECORDED} {servers.host_key(directory / servers.KEYS).read_text()}")
    with ExitStack() as stack:
        for server in (rig.ours, recorded):
            stack.enter_context(server.running())
            rig.client.run(server, "true")
        yield rig.ours, recorded


@contextmanager
def _metered(server: Server, costs: list[_Cost]) -> Iterator[None]:
    """Add what the block has cost to `costs`."""
    before = _cpu(server)
    yield
    after = _cpu(server)
    costs.append(_Cost(after.postauth - before.postauth, after.recorder - before.recorder))


def _flood(rig: Rig, server: Server) -> _Cost:
    costs: list[_Cost] = []
    with rig.client.session(server, FLOOD, "-tt") as terminal:
        read_until(terminal, b"ready")
        assert terminal.stdin is not None
        with _metered(server, costs):
            os.write(terminal.stdin.fileno(), b"\n")
            left = TERMINAL_SIZE
            while left > 0:
                left -= len(read(terminal))
        terminal.wait(CLIENT_SECONDS)
    return costs[0]


def _echo(rig: Rig, server: Server) -> _Cost:
    costs: list[_Cost] = []
    with rig.client.session(server, ECHO, "-tt") as terminal:
        read_until(terminal, b"ready")
        for _ in range(20):
            key_seconds(terminal)
        with _metered(server, costs):
            for _ in range(2 * rig.effort.keystrokes):
                key_seconds(terminal)
            time.sleep(2 * TOGETHER_SECONDS)  # the last batch is sent late, and its cost has to be in the figure
    return costs[0]


def _cpu(server: Server) -> _Cost:
    """CPU seconds so far, to the nanosecond (the kernel's Documentation/scheduler/sched-stats.rst)."""
    seconds = {"pyssh-postauth": 0.0, "pyssh-recorder": 0.0}
    for pid in tree(server.pid)[1:]:
        name = Path(f"/proc/{pid}/comm").read_text().rstrip()
        if name in seconds:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                seconds[name] += int((thread / "schedstat").read_text().split()[0]) / NANOSECONDS
    return _Cost(seconds["pyssh-postauth"], seconds["pyssh-recorder"])


def _missing(server: Server, recordings: int) -> tuple[float, ...]:
    """How many bytes are missing in each recording, as the log says."""

    def ended() -> list[str]:
        return [line for line in server.output().splitlines() if ENDED in line]

    wait_for(lambda: len(ended()) >= recordings, EVENT_SECONDS, f"end of {recordings} recordings")
    return tuple(float(line.partition(MISSING)[2].partition(",")[0]) for line in ended())
