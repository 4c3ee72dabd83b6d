"""`hold` and `release`: keep the machine up for a time, or while a command runs, and stop doing so.

It is typed in front of other commands, so it has to start fast and imports as little as it can: no msgspec, and of the
configuration only the socket's path. Its requests and replies are those of `core.control`.

`hold -- make` becomes `make`: the server watches this process, and exec(2) keeps its pid. So there is no parent process
that has to pass signals on, or that could be killed while the command goes on.
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, Refused, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.cli.server_socket import Server, converse, reach
from pyssh_gateway.config.source import quoted
from pyssh_gateway.core.plain_json import with_texts

CANNOT_RUN, NOT_FOUND = 126, 127
"""As in env(1) and nohup(1), since the command's own codes pass through. Earlier errors end with 125 (the table)."""

ANSWER_SECONDS = 10.0
"""How long the server may take to answer; its loop is never busy for longer than a moment."""

MAX_REPLY_BYTES = 1024 * 1024
"""The largest reply: it has at most 128 holds, each with a reason of 200 characters."""

DAY_SECONDS = 86400

MAX_DIGITS = 7
"""Of a pid: the kernel's largest is 4194304 (PID_MAX_LIMIT)."""

STAT_BYTES = 1024
"""More bytes than a line of /proc/PID/stat has."""


def hold(given: Given, context: Context) -> int:
    """Keep the machine up; with a command, become that command."""
    command: list[str] | None = None if given.command is None else list(given.command)
    if command == []:
        raise WrongUsage("a command is missing behind --")
    if command is not None and given.pid is not None:
        raise WrongUsage("--pid is for a process that runs already: give it or a command")
    if command is None and given.pid is None and given.length is None:
        raise WrongUsage("for how long?")
    seconds, reason = _length_and_reason(given)
    pid, started, name = (0, 0, "") if given.pid is None else _process(given.pid)
    reason = reason or (shlex.join(command) if command else name)
    own = command is not None
    request = {"request": "hold", "seconds": seconds, "reason": reason, "process": own, "pid": pid, "started": started}
    if not pid:  # a server that was started before an update does not know these
        del request["pid"], request["started"]
    reply, server = _ask(request, "held", context)
    held = reply["hold"]
    for remark in (server.remark, reply.get("remark")):
        if remark:
            printing.remark(remark)
    if command:
        if sys.stderr is not None and sys.stderr.isatty():
            printing.remark(f"this machine stays up while {command[0]} runs, until {_at(held['until'])} at most")
        _become(command)
    if given.json:
        printing.json_object(reply, server)
    else:
        from pyssh_gateway.config.values import format_duration  # late: `hold -- make` needs it not

        length = format_duration(seconds or round(held["until"] - held["since"]))
        until = _at(held["until"])
        how = f"while process {pid} runs, until {until} at most" if pid else f"for {length}, until {until}"
        printing.lines([f"hold {held['hold']} keeps this machine up {how}: {held['reason']}"])
    return FINE


def release(given: Given, context: Context) -> int:
    """End a hold, or all of them."""
    if given.hold is not None and given.every:
        raise WrongUsage("one hold, or --all")
    request = {"request": "release", "hold": given.hold or "", "every": given.every}
    reply, server = _ask(request, "released", context)
    if server.remark:
        printing.remark(server.remark)
    if given.json:
        printing.json_object(reply, server)
    elif not reply["holds"]:
        printing.lines(["there was no hold"])
    else:
        printing.lines(f"hold {one['hold']} is released: {one['reason']}" for one in reply["holds"])
    return FINE


def _length_and_reason(given: Given) -> tuple[float | None, str]:
    """The length of the hold in seconds (None: without an end), and the reason."""
    if given.length is None:
        return None, ""
    from pyssh_gateway.core.idle import hold_length  # late: `hold -- make` needs it not

    try:
        seconds, reason = hold_length.split((given.length, *given.reason))
    except hold_length.NoLength as error:
        raise WrongUsage(str(error)) from None
    return seconds, " ".join(reason)


def _process(text: str) -> tuple[int, int, str]:
    """The process with the number `text`: its pid, its start in clock ticks since the boot, and its program's name."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise WrongUsage(f"{quoted(text)} is not the number of a process")
    pid = int(text)
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            line = os.read(descriptor, STAT_BYTES)
        finally:
            os.close(descriptor)
        # proc_pid_stat(5): the name is in parentheses and may contain any character; the start is the 22nd field.
        head, _, tail = line.rpartition(b")")
        return pid, int(tail.split()[19]), head.partition(b"(")[2].decode(errors="replace")
    except (OSError, ValueError, IndexError):
        raise Failed(f"there is no process {pid}") from None


def _ask(request: Mapping[str, object], kind: str, context: Context) -> tuple[dict[str, Any], Server]:
    """The server's reply, safe to print, and the server that gave it. Raises Failed."""
    try:
        question = json.dumps(request, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        raise Failed("what is asked is not UTF-8 text") from None
    sock, server = reach(context.places)
    answer = converse(sock, question, seconds=ANSWER_SECONDS, limit=MAX_REPLY_BYTES).decode("utf-8", "replace")
    try:
        reply = json.loads(answer)
        told = reply["reply"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Failed("the server answered what this command does not understand") from None
    if told == "refused":
        raise Refused(str(reply.get("reason")))
    if told != kind:
        raise Failed(f"the server answered {printing.visible(str(told))}, which is not what it was asked for")
    return cast(dict[str, Any], with_texts(reply, printing.visible)), server


def _become(command: list[str]) -> NoReturn:
    """Replace this process by the command. Signals that Python ignores are reset: exec(2) would keep them ignored."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    printing.flush()
    try:
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:  # ValueError: an empty name
        printing.remark(f"{command[0]}: {getattr(error, 'strerror', None) or error}")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN)


def _at(when: float) -> str:
    """A time on the machine's clock: with the date if it is more than a day away."""
    form = "%H:%M:%S %Z" if when - time.time() < DAY_SECONDS / 2 else "%a %b %d %H:%M %Z"
    return time.strftime(form, time.localtime(when))
