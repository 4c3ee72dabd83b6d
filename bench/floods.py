"""The effect of one hostile user on others: keys and logins of a bystander while another account floods the server.

The attacker (`bench.flooder`) is a process on the same machine. It competes for the processors, which a remote attacker
would not, so sshd is flooded in the same way.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.client import CLIENT_SECONDS, read_until
from bench.echo import ECHO, MILLISECONDS, key_seconds
from bench.figures import Figure, percentile
from bench.interrupts import held_back
from bench.processes import Deadline
from bench.rig import Rig, crowd
from bench.servers import CHECKOUT, Server, gateway_environ

KEYS, LOGINS = 60, 3
"""Keys and logins during one flood; they take about a second."""

OWN_FLOOD = "Floods come from the bystander's own account. Run as root to see what another account's do."


def floods(rig: Rig) -> list[Figure]:
    """Keys and logins of a bystander during the floods that cost a server most, and without a flood."""
    return _measure(rig, USUAL)


def every_flood(rig: Rig) -> list[Figure]:
    """The same for each kind of flood."""
    return _measure(rig, tuple(NAMES))


def _measure(alone: Rig, kinds: tuple[str, ...]) -> list[Figure]:
    figures = []
    with crowd(alone, 1) as rig, rig.running():
        if not rig.others:
            rig.note(OWN_FLOOD)
        compare = rig.sshd_gives_terminals()
        for kind in (None, *kinds):

            def measure(server: Server, kind: str | None = kind) -> tuple[list[float], list[float]]:
                return _bystander(rig, server, kind)

            ours, sshd = rig.in_turns(rig.effort.floods, measure, compare=compare)
            name = "no flood" if kind is None else f"flood of {NAMES[kind]}"
            figures += [
                Figure(
                    f"{name}: echo p{percent}",
                    "ms",
                    tuple(percentile(keys, percent) for keys, _ in ours),
                    tuple(percentile(keys, percent) for keys, _ in sshd),
                )
                for percent in (50, 99)
            ]
            figures.append(
                Figure(
                    f"{name}: login",
                    "ms",
                    tuple(percentile(logins, 50) for _, logins in ours),
                    tuple(percentile(logins, 50) for _, logins in sshd),
                )
            )
    return figures


NAMES = {
    "ignore": "IGNOREs",
    "debug": "DEBUGs",
    "unimplemented": "UNIMPLEMENTEDs",
    "unknown": "unknown messages",
    "keepalive": "keepalives",
    "window-adjust": "window adjusts",
    "window-change": "window-change requests",
    "env": "env requests",
    "signal": "signal requests",
    "data": "single bytes",
    "nothing": "empty data",
    "connect": "connections to a closed port",
    "open": "channels opened and closed",
    "forwards": "1,000 forwards",
    "execs": "840 commands at a time",
    "split": "data in packets of one byte",
    "early": "packets before authentication",
}
"""The kinds of `bench.flooder`, and their names in the table."""

USUAL = ("ignore", "keepalive", "window-adjust", "signal", "split", "forwards", "execs", "early")
"""Of several kinds that cost a server the same, only one is in here."""


@contextmanager
def flooding(port: int, user: str, key: str, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A flood of `kind` that is under way, until the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.flooder", kind, str(port), user, key],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        cwd=CHECKOUT,
        env=gateway_environ(),
        start_new_session=True,
    )
    try:
        read_until(process, b"ready\n")
        assert process.stdin is not None
        process.stdin.write(b"\n")
        yield process
    finally:
        with held_back():
            process.kill()
            process.wait(CLIENT_SECONDS)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _bystander(rig: Rig, server: Server, kind: str | None) -> tuple[list[float], list[float]]:
    """Milliseconds of keys and of logins. Raises `Deadline` if the flood has ended before they have."""
    with rig.client.session(server, ECHO, "-tt") as terminal:
        read_until(terminal, b"ready")
        if kind is None:
            return _keys_and_logins(rig, server, terminal)
        flooder = rig.others[0] if rig.others else rig.client
        with flooding(server.port, flooder.user, str(flooder.key), kind) as process:
            measured = _keys_and_logins(rig, server, terminal)
            if process.poll() is not None:
                raise Deadline(f"{server.name} ended the flood of {NAMES[kind]} before it was measured")
            return measured


def _keys_and_logins(rig: Rig, server: Server, terminal: subprocess.Popen[bytes]) -> tuple[list[float], list[float]]:
    keys = [key_seconds(terminal) * MILLISECONDS for _ in range(KEYS)]
    return keys, [rig.client.run(server, "true")[0] * MILLISECONDS for _ in range(LOGINS)]
