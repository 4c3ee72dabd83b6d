"""`status`: the server, its keys, who is on, and when it stops."""

import argparse
import time
from collections.abc import Sequence

from pyssh_gateway.cli import printing, text
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.request import ask_at
from pyssh_gateway.core.control import (
    ConnectionReport,
    HoldReport,
    HostKeyReport,
    IdleReport,
    SessionReport,
    Status,
    StatusReply,
)


def status(given: argparse.Namespace, places: Sequence[str]) -> int:
    """Ask the running server how it is."""
    reply = ask_at(places, Status(), StatusReply)
    if given.json:
        printing.json(reply)
    else:
        printing.lines(_lines(reply, time.time()))
    return FINE


def _lines(reply: StatusReply, now: float) -> list[str]:
    running = text.time_span(max(0.0, now - reply.since))
    where = ", ".join(reply.addresses) or f"{reply.address}:{reply.port}"
    lines = [f"pyssh-gateway {reply.version} listens on {where}, pid {reply.pid}, for {running}"]
    lines += [_host_key(key) for key in reply.host_keys]
    lines.append("")
    for one in reply.connections:
        lines += connection(one, now)
    on = "nobody is on" if not reply.connections else f"{text.number(len(reply.connections), 'connection')}"
    coming = f", {reply.authenticating} not logged in yet" if reply.authenticating else ""
    lines += [f"{on}{coming}; {next_stop(reply.idle)}", *reasons(reply.idle)]
    if reply.sources:
        lines += ["", "sources with problems:", *text.sources(reply.sources)]
    if reply.certificates:
        lines += ["", *text.host_certificates(reply.certificates)]
    if reply.revoked:
        lines += ["", *text.revoked_lists(reply.revoked)]
    return lines


def _host_key(key: HostKeyReport) -> str:
    return f"  host key {text.host_key(key)}"


def connection(report: ConnectionReport, now: float) -> list[str]:
    """Somebody who is on, and what runs there."""
    since = text.time_span(max(0.0, now - report.since))
    who = text.who(report.identity)
    moved = f"{text.size(report.bytes_in)} in, {text.size(report.bytes_out)} out"
    lines = [f"{report.user}  {who}  from {report.peer} for {since}  {moved}  ({report.conn})"]
    return lines + [_session(session, report.conn) for session in report.sessions] + [""]


def _session(session: SessionReport, conn: str) -> str:
    name = session.session.removeprefix(conn)
    terminal = f" on {session.tty}" if session.tty else ""
    moved = f"{text.size(session.bytes_in)} in, {text.size(session.bytes_out)} out"
    command = f"  {session.command}" if session.command else ""
    return f"  {name}  {session.kind}{terminal} for {text.time_span(session.seconds)}  {moved}{command}"


def next_stop(idle: IdleReport) -> str:
    """When the machine stops."""
    if idle.timeout is None:
        return "does not stop by itself"
    if idle.stops_in is None:
        return f"stops {text.time_span(idle.timeout)} after what keeps it up has ended"
    unless = "if nothing else comes up" if idle.in_use else "unless somebody logs in"
    if idle.quiet and not idle.in_use:
        unless += " or uses what is open"
    return f"stops in {text.time_span(idle.stops_in)} {unless}"


def reasons(idle: IdleReport, holds: Sequence[HoldReport] = (), now: float = 0.0) -> list[str]:
    """What keeps the machine up, what it waits for, and what it does not, a line each.

    With `holds` they are told with their names.
    """
    lines = []
    for reason in idle.reasons:
        left = "" if reason.ends_in is None else f", for {text.time_span(reason.ends_in)} more"
        if not holds or reason.kind != "hold":
            lines.append(f"  {reason.text}{left}")
    for hold in holds:
        left = text.time_span(max(0.0, hold.until - now))
        process = f", while process {hold.pid} runs" if hold.pid else ""
        lines.append(f"  hold {hold.hold} of {hold.user}, for {left} more{process}: {hold.reason}")
    if lines:
        lines.insert(0, "kept up by" if idle.in_use else "waits, because")
    elif idle.timeout is not None:
        lines.append("nothing keeps it up")
    if idle.quiet:
        lines += ["not kept up by, for want of use", *(f"  {client}" for client in idle.quiet)]
    return lines
