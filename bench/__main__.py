"""The command line: which figures, how thoroughly, and what to do with them."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import files, interrupts, machine
from bench.bulk import download, terminal, upload
from bench.client import ClientFailed
from bench.distance import distance
from bench.echo import echo
from bench.figures import Figure, promises_broken, table
from bench.floods import every_flood, floods
from bench.forward import forward
from bench.memory import memory
from bench.processes import Deadline
from bench.recording import recording
from bench.rig import FULL, QUICK, Effort, Rig, assembled
from bench.servers import CannotBench
from bench.starts import accept, first_command, login, parallel, shared

FIGURES: dict[str, Callable[[Rig], list[Figure]]] = {
    "accept": accept,
    "first": first_command,
    "login": login,
    "parallel": parallel,
    "shared": shared,
    "download": download,
    "upload": upload,
    "terminal": terminal,
    "forward": forward,
    "sftp": files.large,
    "small-files": files.small,
    "echo": echo,
    "recording": recording,
    "distance": distance,
    "memory": memory,
    "floods": floods,
}
MORE: dict[str, Callable[[Rig], list[Figure]]] = {"every-flood": every_flood}
"""Figures that take too long to be measured by default: only on request."""

PROMISED = ("accept", "first")

BROKEN = 1
FAILED = 2
INTERRUPTED = 130


class Run(NamedTuple):
    """The results of a run so far, reported even if it ends early. `notes` are warnings about the figures."""

    facts: dict[str, str]
    notes: list[str]
    figures: list[Figure]


def main(arguments: list[str]) -> int:
    """Measure, print, and return the exit code."""
    options = _options(arguments)
    interrupts.install()
    run = Run({}, [], [])
    code = 0
    try:
        _prepare(run)
        names = options.only or (PROMISED if options.check else tuple(FIGURES))
        _measure(run, names, QUICK if options.quick else FULL)
    except KeyboardInterrupt:
        print("bench: interrupted; what has been measured so far:", file=sys.stderr)
        code = INTERRUPTED
    except (CannotBench, ClientFailed, Deadline, subprocess.TimeoutExpired) as error:
        print(f"bench: {error}", file=sys.stderr)
        code = FAILED
    _report(run)
    if options.json is not None:
        _write(options.json, run)
    if options.check and code == 0:
        for broken in promises_broken(run.figures):
            print(f"promise broken: {broken}", file=sys.stderr)
            code = BROKEN
    return code


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="pyssh-gateway beside OpenSSH's sshd.")
    parser.add_argument("--quick", action="store_true", help="few repetitions: under a minute")
    parser.add_argument(
        "--only", action="append", choices=[*FIGURES, *MORE], help="this one; may be given several times"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample to this file, too")
    parser.add_argument(
        "--check",
        action="store_true",
        help=f"exit with {BROKEN} if a start takes longer than promised; measures {' and '.join(PROMISED)} unless told",
    )
    return parser.parse_args(arguments)


def _prepare(run: Run) -> None:
    """Collect the facts about the machine before measuring, and the reasons to doubt the figures."""
    run.facts.update(machine.facts())
    run.notes.extend(machine.caveats())
    if not machine.compile_bytecode():
        run.notes.append("The package can't be compiled in place by this account: if it isn't, starts take longer.")


def _measure(run: Run, names: Sequence[str], effort: Effort) -> None:
    """Measure `names` in the given order; before each of them, see how busy the machine is with other work."""
    busy = 0.0
    with assembled(effort, run.notes) as rig:
        for name, measure in (FIGURES | MORE).items():
            if name in names:
                busy = max(busy, machine.busy_percent())
                run.facts["otherwise busy"] = f"{busy:.0f} % at most"
                print(f"bench: {name} ...", file=sys.stderr)
                run.figures.extend(measure(rig))
    if busy > machine.NOISY_PERCENT:
        rig.note(f"The machine was up to {busy:.0f} % busy with other things: compare ratios, not figures.")


def _report(run: Run) -> None:
    width = max(map(len, run.facts), default=0)
    for name, value in run.facts.items():
        print(f"{name.ljust(width)}  {value}")
    for note in run.notes:
        print(f"! {note}")
    if run.figures:
        print(f"\n{table(run.figures)}\n\nMedians, quartiles in parentheses; ratio: ours to sshd's, less is better.")
    sys.stdout.flush()


def _write(path: Path, run: Run) -> None:
    content = run._asdict() | {"figures": [figure._asdict() | {"ratio": figure.ratio} for figure in run.figures]}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
