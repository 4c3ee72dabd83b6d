"""`idle what-if`: replays the log under the settings in force, and under changed ones, and shows both side by side."""

import math
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pyssh_gateway.audit.segments import NoLog, file_lines, log_lines
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.output.columns import aligned
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.config import values
from pyssh_gateway.config.parser import parse
from pyssh_gateway.config.source import read
from pyssh_gateway.config.types import Config, Idle
from pyssh_gateway.core.idle.replay.server import rules_of
from pyssh_gateway.core.idle.what_if.history import History
from pyssh_gateway.core.idle.what_if.reading import read as read_history
from pyssh_gateway.core.idle.what_if.replaying import Figures, recorded, replayed

UNKNOWN = frozenset({"background_cpu", "hold_max"})
"""Settings of [idle] whose effect the log can't tell: it has neither the use of the processor, nor refused holds."""

MOST_SECONDS = 100 * values.YEAR
"""The longest --since, which is longer than any log."""

HOUR = 3600.0

LIMITS = (
    "The log can't know who would have come back at another time, or which clients would have connected again.",
    'Work in the background is known only where the log has it: above all with background = "cpu".',
)
"""What the figures can't contain, whatever the log has."""


class Column(msgspec.Struct, frozen=True):
    """A way in which the time could have gone: `settings` are those of [idle] that can be changed here.

    `awake` is in seconds. `found_asleep`, `killed` and `cost` are None where they are not known.
    """

    settings: dict[str, object] | None
    awake: float
    starts: int
    found_asleep: int | None
    killed: int | None
    cost: float | None


class Answer(msgspec.Struct, frozen=True):
    """The answer. `changed` is None without a setting. `limits` say what the figures can't contain."""

    since: float
    until: float
    lines: int
    damaged: int
    recorded: Column
    in_force: Column
    changed: Column | None
    limits: tuple[str, ...]


def what_if(given: Given, context: Context) -> int:
    """Replay the log. No server is asked."""
    price = price_of(given.price)
    seconds = _since(given.since)
    changes = _changes(given.setting)
    in_force = _config(context, {})
    changed = _config(context, changes) if changes else None
    now = time.time()
    log = Path(given.log or in_force.audit_dir)
    try:
        lines = file_lines(log) if given.log else log_lines(log)
        history = read_history(lines, since=now - seconds, now=now)
    except NoLog as error:
        raise Failed(str(error)) from None
    if history.ended <= history.begun:
        raise Failed(f"{log} has no events of the last {values.format_duration(seconds)}")
    answer = Answer(
        since=history.begun,
        until=history.ended,
        lines=history.lines,
        damaged=history.damaged,
        recorded=_column(None, recorded(history), price),
        in_force=_column(in_force, _replay(history, in_force), price),
        changed=None if changed is None else _column(changed, _replay(history, changed), price),
        limits=(*LIMITS, *_limits(history)),
    )
    if given.json:
        printing.json(answer)
    else:
        printing.lines(_lines(answer, changes))
    return FINE


# -- what is asked ----------------------------------------------------------------------------------------------


def allowed() -> tuple[str, ...]:
    """The settings that can be changed here."""
    return (*(name for name in Idle.__struct_fields__ if name not in UNKNOWN), "stop.action")


def _changes(words: tuple[str, ...]) -> dict[str, str]:
    """The settings by their whole names. Raises WrongUsage."""
    changes: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.removeprefix("idle.")
        if not equals:
            raise WrongUsage(f"{values.shown(word)} is no setting", "settings are NAME=VALUE, such as client_idle=15m")
        if name not in allowed():
            raise WrongUsage(f"{values.shown(name)} can't be changed here", f"there is {', '.join(allowed())}")
        whole = name if "." in name else f"idle.{name}"
        if whole in changes:
            raise WrongUsage(f"{name} is set twice")
        changes[whole] = value
    return changes


def _config(context: Context, changes: Mapping[str, str]) -> Config:
    """The configuration with the changes. Raises ConfigError.

    As everywhere, one that was not named and can't be read counts as missing: the log's readers need not be root.
    """
    if not changes:
        return parse(context.raw)
    with_changes = read(context.path, context.environ, changes, context.raw.path or "")
    return parse(with_changes)


def price_of(word: str | None) -> float | None:
    """What an hour awake costs, as `--price` has it. Raises WrongUsage."""
    if word is None:
        return None
    try:
        price = float(word)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise WrongUsage(f"--price takes what an hour costs, such as 0.20, not {values.shown(word)}")
    return price


def _since(word: str) -> float:
    try:
        return values.duration(1, MOST_SECONDS)(word)
    except values.UnfitError:
        raise WrongUsage(f"--since takes a duration such as 30d or 12h, not {values.shown(word)}") from None


# -- what comes of it ---------------------------------------------------------------------------------------------


def _replay(history: History, config: Config) -> Figures:
    return replayed(history, rules_of(config.idle), suspends=config.stop.action == "suspend")


def _column(config: Config | None, figures: Figures, price: float | None) -> Column:
    settings = None
    if config is not None:
        idle = msgspec.structs.asdict(config.idle)
        settings = {name: _plain(idle[name]) for name in allowed() if name in idle}
        settings["stop.action"] = config.stop.action
    cost = None if price is None else round(figures.awake / HOUR * price, 2)
    return Column(settings, round(figures.awake, 1), figures.starts, figures.found_asleep, figures.killed, cost)


def _plain(value: object) -> object:
    return float(value) if isinstance(value, values.Duration) else value


def _limits(history: History) -> tuple[str, ...]:
    limits = []
    unrecorded = sum(one.login is not None and one.uses is None for one in history.connections)
    if unrecorded:
        count = text.number(unrecorded, "connection")
        limits.append(f"{count} without a record of use (short ones, or an older server's) count as used to their end.")
    if history.left_out:
        limits.append(f"{text.number(history.left_out, 'connection')} more than can be kept are left out.")
    return tuple(limits)


def _lines(answer: Answer, changes: Mapping[str, str]) -> list[str]:
    columns = [("RECORDED", answer.recorded), ("IN FORCE", answer.in_force)]
    if answer.changed is not None:
        columns.append(("CHANGED", answer.changed))
    rows = [
        ("hours awake", *(f"{one.awake / HOUR:.1f}" for _, one in columns)),
        ("starts", *(str(one.starts) for _, one in columns)),
        ("people who found it asleep", *(_count(one.found_asleep) for _, one in columns)),
        ("builds killed", *(_count(one.killed) for _, one in columns)),
    ]
    if answer.recorded.cost is not None:
        rows.append(("cost", *("-" if one.cost is None else f"{one.cost:.2f}" for _, one in columns)))
    names = [name for name, _ in columns]
    span = f"{text.moment(answer.since)} to {text.moment(answer.until)}"
    damaged = f", {answer.damaged} of them passed over" if answer.damaged else ""
    found = [f"{span}: {text.number(answer.lines, 'line')} of the log{damaged}"]
    if changes:
        found.append(f"changed: {', '.join(f'{name} = {value}' for name, value in changes.items())}")
    return [
        *found,
        "",
        *aligned(("", *names), rows, width=None, numbers=names),
        "",
        "People who found it asleep came back within 5 minutes of leaving, and had to wait for a start.",
        *answer.limits,
    ]


def _count(count: int | None) -> str:
    return "-" if count is None else str(count)
