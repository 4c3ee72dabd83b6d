"""`why` and `sessions`: why the machine is up, when it stops, why it stopped before, and what runs in the sessions."""

import time

from pyssh_gateway.cli import status
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE
from pyssh_gateway.cli.output import printing, tables, text
from pyssh_gateway.cli.output.columns import terminal_width
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.request import ask
from pyssh_gateway.core.control import Sessions, SessionsReply, StopReport, Why, WhyReply


def why(given: Given, context: Context) -> int:
    """Ask the running server why it is up."""
    reply, server = ask(context.checked_places, Why(), WhyReply)
    if given.json:
        printing.json(reply, server)
    else:
        printing.lines(_lines(reply, time.time()))
    return FINE


def sessions(given: Given, context: Context) -> int:
    """Ask the running server for its sessions, and what runs in them."""
    reply, server = ask(context.checked_places, Sessions(), SessionsReply)
    if given.json:
        printing.json(reply, server)
    elif not reply.connections:
        printing.lines(["nobody is on"])
    else:
        printing.lines(tables.sessions(reply.connections, time.time(), terminal_width()))
    return FINE


def _lines(reply: WhyReply, now: float) -> list[str]:
    awake = text.time_span(max(0.0, now - reply.since))
    by = f", woken by {reply.woken_by}" if reply.woken_by else ""
    lines = [f"awake for {awake}{by}", *status.reasons(reply.idle, reply.holds, now), status.next_stop(reply.idle)]
    lines += [reply.policy, *status.for_nobody(reply.for_nobody)]
    if reply.stops:
        lines += ["", "stopped before", *(f"  {_stop(stop)}" for stop in reply.stops)]
    return lines


def _stop(stop: StopReport) -> str:
    return f"{text.moment(stop.time)}  after {text.time_span(stop.awake)}: {stop.why}"
