"""`status`: the server, its keys, who is on, and when it stops."""

import argparse
import time

from pyssh_gateway.cli import printing, text
from pyssh_gateway.cli.asking import ask
from pyssh_gateway.cli.outcome import FINE
from pyssh_gateway.config import Config
from pyssh_gateway.core.control import (
    ConnectionReport,
    HostKeyReport,
    IdleReport,
    SessionReport,
    Status,
    StatusReply,
)
from pyssh_gateway.core.randomart import short_name


def status(given: argparse.Namespace, config: Config) -> int:
    """Ask the running server how it is."""
    reply = ask(config, Status(), StatusReply)
    if given.json:
        printing.json(reply)
    else:
        printing.lines(_lines(reply, time.time()))
    return FINE


def _lines(reply: StatusReply, now: float) -> list[str]:
    running = text.time_span(max(0.0, now - reply.since))
    lines = [f"pyssh-gateway {reply.version} listens on {reply.address}:{reply.port}, pid {reply.pid}, for {running}"]
    lines += [_host_key(key) for key in reply.host_keys]
    lines.append("")
    for connection in reply.connections:
        lines += _connection(connection, now)
    on = "nobody is on" if not reply.connections else f"{text.number(len(reply.connections), 'connection')}"
    coming = f", {reply.authenticating} not logged in yet" if reply.authenticating else ""
    lines.append(f"{on}{coming}; {_idle(reply.idle)}")
    if reply.sources:
        lines += ["", "sources with problems:", *text.sources(reply.sources)]
    return lines


def _host_key(key: HostKeyReport) -> str:
    remark = "  announced, not in use yet" if key.next else ""
    return f"  host key {key.fingerprint}  {short_name(key.key_type)}{remark}"


def _connection(connection: ConnectionReport, now: float) -> list[str]:
    since = text.time_span(max(0.0, now - connection.since))
    who = text.who(connection.identity)
    lines = [f"{connection.user}  {who}  from {connection.peer} for {since}  ({connection.conn})"]
    return lines + [_session(session, connection.conn) for session in connection.sessions] + [""]


def _session(session: SessionReport, conn: str) -> str:
    name = session.session.removeprefix(conn)
    terminal = f" on {session.tty}" if session.tty else ""
    moved = f"{text.size(session.bytes_in)} in, {text.size(session.bytes_out)} out"
    command = f"  {session.command}" if session.command else ""
    return f"  {name}  {session.kind}{terminal}  {moved}{command}"


def _idle(idle: IdleReport) -> str:
    if idle.timeout is None:
        return "does not stop by itself"
    limit = text.time_span(idle.timeout)
    if idle.stops_in is None:
        return f"stops {limit} after the last one has gone"
    return f"stops in {text.time_span(idle.stops_in)} unless somebody logs in"
