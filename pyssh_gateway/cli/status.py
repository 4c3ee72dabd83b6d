"""`status`: the server, its keys, its connections, and when it stops."""

import time
from collections.abc import Sequence

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing, tables, text
from pyssh_gateway.cli.output.columns import terminal_width
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.request import ask
from pyssh_gateway.cli.server_socket import Server
from pyssh_gateway.config.values import format_duration
from pyssh_gateway.core.control import (
    ForNobodyReport,
    HoldReport,
    IdleReport,
    LogReport,
    SourceOfWakesReport,
    Status,
    StatusReply,
)
from pyssh_gateway.core.idle.explain import countdown
from pyssh_gateway.system.accounts import shown_name


def status(given: Given, context: Context) -> int:
    """Ask the running server how it is."""
    reply, server = ask(context.checked_places, Status(), StatusReply)
    if given.json:
        printing.json(reply, server)
    else:
        printing.lines(_lines(reply, server, time.time(), terminal_width()))
    return FINE


def _lines(reply: StatusReply, server: Server, now: float, width: int | None) -> list[str]:
    running = text.time_span(max(0.0, now - reply.since))
    where = ", ".join(reply.addresses) or f"{reply.address}:{reply.port}"
    lines = [
        f"pyssh-gateway {reply.version} of {shown_name(server.uid)}, pid {reply.pid}, for {running}",
        f"  listens on {where}",
        f"  answers at {server.path}",
    ]
    for key in reply.host_keys:
        first, *remarks = text.host_key(key)
        lines += [f"  host key {first}", *(f"  {line}" for line in remarks)]
    lines.append("")
    if reply.connections:
        lines += [*tables.connections(reply.connections, now, width), ""]
    if any(connection.sessions for connection in reply.connections):
        lines += [*tables.sessions(reply.connections, now, width), ""]
    on = "nobody is on" if not reply.connections else f"{text.number(len(reply.connections), 'connection')}"
    coming = f", {reply.authenticating} not logged in yet" if reply.authenticating else ""
    lines += [f"{on}{coming}; {next_stop(reply.idle)}", *reasons(reply.idle)]
    lines += for_nobody(reply.for_nobody)
    lines += log(reply.log)
    if reply.sources:
        lines += ["", "sources with problems:", *text.sources(reply.sources)]
    if reply.certificates:
        lines += ["", *text.host_certificates(reply.certificates)]
    if reply.revoked:
        lines += ["", *text.revoked_lists(reply.revoked)]
    return lines


def log(report: LogReport | None) -> list[str]:
    """What is wrong with the log, and what that means for people; nothing if nothing is."""
    if report is None:
        return []
    lost = f"lost for the log since the start: {text.number(report.lost, 'event')}" if report.lost else ""
    if report.trouble is None:
        return ["", lost]
    then = "nobody gets in, but by break_glass" if report.required else "nobody is kept out"
    lines = [
        f"the log can't be written: {report.trouble}",
        f"  {then}; {text.number(report.waiting, 'event')} in memory",
    ]
    return ["", *lines, *([f"  {lost}"] if lost else [])]


def next_stop(idle: IdleReport) -> str:
    """When the machine stops."""
    if idle.timeout is None:
        return "does not stop by itself"
    if idle.stops_in is None:
        return f"stops {format_duration(idle.timeout)} after what keeps it up has ended"
    unless = "if nothing else comes up" if idle.in_use else "unless somebody logs in"
    if idle.quiet and not idle.in_use:
        unless += " or uses what is open"
    return f"stops in {countdown(idle.stops_in)} {unless}"


def reasons(idle: IdleReport, holds: Sequence[HoldReport] = (), now: float = 0.0) -> list[str]:
    """The reasons that keep the machine up, what it waits for, and what it does not wait for, a line each.

    With `holds`, these are listed by name.
    """
    lines = []
    for reason in idle.reasons:
        left = "" if reason.ends_in is None else f", for {countdown(reason.ends_in)} more"
        if not holds or reason.kind != "hold":
            lines.append(f"  {reason.text}{left}")
    for hold in holds:
        left = countdown(max(0.0, hold.until - now))
        process = f", while process {hold.pid} runs" if hold.pid else ""
        lines.append(f"  hold {hold.hold} of {hold.user}, for {left} more{process}: {hold.reason}")
    if lines:
        lines.insert(0, "kept up by" if idle.in_use else "waits, because")
    elif idle.timeout is not None:
        lines.append("nothing keeps it up")
    if idle.quiet:
        lines += ["not kept up by, for want of use", *(f"  {client}" for client in idle.quiet)]
    return lines


def for_nobody(report: ForNobodyReport | None) -> list[str]:
    """How often the machine was awake for nobody, and what woke it most, in a line; nothing if it never was."""
    if report is None or report.count == 0:
        return []
    line = f"awake for nobody in the last {report.days} days: {_times(report.count, report.seconds)} in all"
    if report.sources:
        first = report.sources[0]
        is_all = first.count == report.count
        line += f"; all {_by(first)}" if is_all else f"; most {_by(first)} ({_times(first.count, first.seconds)})"
    return [line]


def _times(count: int, seconds: float) -> str:
    return f"{text.number(count, 'time')}, {text.time_span(seconds)}"


def _by(source: SourceOfWakesReport) -> str:
    match source.kind:
        case "start":
            return "after a start by hand or by a deploy"
        case "person":
            return f"by a client of {source.source} that came back by itself"
        case _:
            return f"by {source.source}"
