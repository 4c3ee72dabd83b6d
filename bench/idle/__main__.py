"""The command line: whose rules are simulated, and the tables of what came of it."""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing import Pool
from multiprocessing.pool import Pool as Processes
from pathlib import Path
from typing import NamedTuple

from bench.idle import table
from bench.idle.agents import Manner
from bench.idle.peers import PEERS, Peer
from bench.idle.runs import NIGHTLY, TRACES, WEEKS, Run, mean, night, scanned, simulate
from bench.idle.settings import Action, Settings, parse
from pyssh_gateway.config.source import ConfigError

SEEDS = 10

SCANNER = 1800.0
"""Seconds between two scanners: one every half hour."""

SCANNERS = {"minute": 60.0, "10 minutes": 600.0, "half hour": 1800.0, "hour": 3600.0, "day": 86400.0}


EDITORS = ("editor", "laptop", "wifi")


class Line(NamedTuple):
    """A line of the main table, before it is simulated. `manner` matters to traces with an editor."""

    subject: Settings | Peer
    trace: str
    action: Action
    manner: Manner


def main(arguments: list[str]) -> int:
    """Simulate, print, and return the exit code."""
    options = _options(arguments)
    try:
        ours = [parse(text) for text in options.settings or [""]]
    except (ConfigError, ValueError) as error:
        print(f"bench.idle: {error}", file=sys.stderr)
        return 2
    subjects: list[Settings | Peer] = [*ours, *(() if options.no_peers else PEERS)]
    with Pool() as pool:
        figures = _main_table(pool, _lines(subjects, options.only or list(TRACES)), options.scanner, options.seeds)
        if not options.only:
            _nights(subjects)
            _scanners(pool, subjects)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("settings", nargs="*", help='lines of settings: "timeout=5m client_idle=30m action=suspend"')
    parser.add_argument("--only", action="append", choices=list(TRACES), help="only this trace; may be repeated")
    parser.add_argument("--no-peers", action="store_true", help="only our rules")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many times, each with other traces")
    parser.add_argument("--scanner", type=float, default=SCANNER, metavar="SECONDS", help="between scanners; 0: none")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the means of the main table to a file")
    return parser.parse_args(arguments)


def _lines(subjects: Sequence[Settings | Peer], names: Sequence[str]) -> list[Line]:
    """The lines of the main table. An editor has both manners with our rules; nobody else refuses it."""
    lines = []
    for trace in names:
        for subject in subjects:
            ours = isinstance(subject, Settings)
            manners: tuple[Manner, ...] = ("gives up", "never") if ours and trace in EDITORS else ("gives up",)
            for action in subject.actions if isinstance(subject, Settings) else ("exit",):
                lines += [Line(subject, trace, action, manner) for manner in manners]
    return lines


def _main_table(pool: Processes, lines: Sequence[Line], every: float, seeds: int) -> list[dict[str, object]]:
    runs = [Run(*line, every, seed) for line in lines for seed in range(seeds)]
    results = pool.map(simulate, runs, chunksize=1)
    means = [mean(results[number * seeds : (number + 1) * seeds]) for number in range(len(lines))]
    rows = [
        [line.trace, line.action, line.manner if isinstance(line.subject, Settings) else "", line.subject.name]
        for line in lines
    ]
    headings = ("trace", "stop by", "refused", "rules", *table.HEADINGS)
    cells = [row + table.figures_row(figures) for row, figures in zip(rows, means, strict=True)]
    print(table.text(headings, cells, left=4), end="\n\n")
    return [
        {
            "trace": line.trace,
            "action": line.action,
            "manner": line.manner,
            "rules": line.subject.name,
            **figures._asdict(),
        }
        for line, figures in zip(lines, means, strict=True)
    ]


def _nights(subjects: Sequence[Settings | Peer]) -> None:
    """What a client costs that is left on at night: minutes to the first stop, and awake after it."""
    rows = []
    for subject in subjects:
        for action in subject.actions if isinstance(subject, Settings) else ("exit",):
            nights = [table.night_cell(night(subject, action, client)) for client in NIGHTLY]
            rows.append([subject.name, action, *nights])
    print("A night with a client that is left on: minutes until the first stop + awake after it until 9:00")
    print(table.text(("rules", "stop by", *NIGHTLY), rows, left=2), end="\n\n")


def _scanners(pool: Processes, subjects: Sequence[Settings | Peer]) -> None:
    """What scanners cost a machine that nobody uses: hours a week."""
    rows = []
    for subject in subjects:
        for action in subject.actions if isinstance(subject, Settings) else ("exit",):
            awake = pool.map(partial(scanned, subject, action), SCANNERS.values())
            rows.append([subject.name, action, *(f"{seconds / 3600 / WEEKS:.2f}" for seconds in awake)])
    print("A machine that nobody uses, with a scanner every so often: hours awake a week")
    print(table.text(("rules", "stop by", *SCANNERS), rows, left=2))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
