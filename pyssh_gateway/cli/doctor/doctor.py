"""`doctor`: finds what would keep the server from starting or a user from logging in, and says what to do."""

from collections.abc import Iterator, Sequence

import msgspec

from pyssh_gateway.cli.configuration.lookup import Lookup, find
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.doctor.clock import look_at_clock
from pyssh_gateway.cli.doctor.collectors import look_at_collectors
from pyssh_gateway.cli.doctor.finding import Finding, Level, count, note, ok, problem
from pyssh_gateway.cli.doctor.logins import look_at_accounts, look_at_keys
from pyssh_gateway.cli.doctor.places import look_at_places
from pyssh_gateway.cli.doctor.ports import look_at_ports
from pyssh_gateway.cli.doctor.resources import look_at_resources
from pyssh_gateway.cli.doctor.server import look_at_server
from pyssh_gateway.cli.doctor.systemd import look_at_systemd
from pyssh_gateway.cli.exit_codes import FINE, NO
from pyssh_gateway.cli.output import printing, text
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.startup import state_lock

TOPIC = "configuration"

WIDTH = max(len(level) for level in Level)


class DoctorReport(msgspec.Struct, frozen=True):
    """All findings, and how many there are of each level."""

    problems: int
    warnings: int
    findings: tuple[Finding, ...]


def doctor(given: Given, context: Context) -> int:
    """Check everything; nothing is changed."""
    found = find(context)
    findings = tuple(_look(context, found))
    report = DoctorReport(count(findings, Level.PROBLEM), count(findings, Level.WARNING), findings)
    if given.json:
        printing.json(report, found.server)
    else:
        printing.lines(_lines(report))
    return NO if report.problems else FINE


def _look(context: Context, found: Lookup) -> Iterator[Finding]:
    yield from _configuration(found)
    own = frozenset({found.pid} - {0})
    if found.config is not None:
        own |= state_lock.holders(found.config)
        yield from look_at_ports(found.config, own)
        yield from look_at_accounts(found.config)
        yield from look_at_keys(found.config)
        yield from look_at_places(found.config, own)
        yield from look_at_clock(found.config)
        yield from look_at_collectors(found.config)
    yield from look_at_server(context, found, own)
    yield from look_at_systemd()
    yield from look_at_resources()


def _configuration(found: Lookup) -> Iterator[Finding]:
    for each in found.problems:
        yield problem(TOPIC, each, "correct it where it was set; docs/configuration.md has every key")
    if found.config is not None:
        yield ok(TOPIC, found.described)
    if found.remark:
        hint = "run this as root or as the account that started the server; an older server has to be restarted first"
        yield note(TOPIC, found.remark, hint)


def _lines(report: DoctorReport) -> list[str]:
    lines: list[str] = []
    topic = ""
    for finding in report.findings:
        if finding.topic != topic:
            topic = finding.topic
            lines += ["", topic] if lines else [topic]
        shown = finding.level.upper() if finding.level is Level.PROBLEM else finding.level
        lines.append(f"  {shown:<{WIDTH}}  {finding.text}")
        if finding.hint:
            lines.append(f"  {'':<{WIDTH}}  -> {finding.hint}")
    return [*lines, "", _summary(report.findings)]


def _summary(findings: Sequence[Finding]) -> str:
    counted = {level: count(findings, level) for level in (Level.PROBLEM, Level.WARNING)}
    told = [text.number(number, level) for level, number in counted.items() if number]
    unseen = count(findings, Level.UNKNOWN)
    more = f"; {text.number(unseen, 'thing')} could not be looked at" if unseen else ""
    return (", ".join(told) if told else "nothing is wrong") + more
