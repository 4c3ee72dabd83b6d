"""`hold` and `release`: keep the machine up for a time, or while a command runs, and stop doing so.

It stands before other people's commands, so it imports as little as it can: no argparse, no msgspec, no configuration
beyond the place of the socket. The lines that it speaks are those of `core.control`.

`hold -- make` becomes `make`: the server watches this process, and exec(2) keeps its number. So there is nobody in
between to pass signals on, and nobody who could be killed while the command goes on.
"""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

from pyssh_gateway.cli import streams
from pyssh_gateway.cli.exit_codes import FINE, NO, WRONG_USAGE, Failed
from pyssh_gateway.cli.server_socket import converse, places, reach, read_config
from pyssh_gateway.config import source
from pyssh_gateway.core.plain_json import with_texts

USAGE = """\
usage: pyssh-gateway hold DURATION [REASON...] [--json] [--config FILE]
       pyssh-gateway hold [DURATION] [REASON...] [--config FILE] -- COMMAND [ARGUMENT...]
       pyssh-gateway release [HOLD | --all] [--json] [--config FILE]

  DURATION   such as 30m, 2h or 1h30m; without one, a command holds for as long as the server allows at most
  COMMAND    holds while it runs
  HOLD       as hold and why show it; not needed if there is only one of yours
"""

CANNOT_HOLD, CANNOT_RUN, NOT_FOUND = 125, 126, 127
"""Exit codes before a command runs: those of timeout(1), env(1) and nohup(1), since the command's own come through."""

ANSWER_SECONDS = 10.0
"""How long the server may take; its loop is never busy for longer than a moment."""

MAX_REPLY_BYTES = 1024 * 1024
"""A reply to these requests has 128 holds at most, with 200 characters of reason each."""

DAY_SECONDS = 86400


class _WrongUsage(Exception):
    """The command line can't be understood; the message says why."""


class _Given:
    """A command line: the words before `--`, the command behind it (None: there is no `--`), and the options."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.words: list[str] = []
        self.command: list[str] | None = None
        self.json = self.every = self.help = False
        self.config: str | None = None
        rest = iter(arguments)
        for argument in rest:
            name, equals, value = argument.partition("=")
            if argument == "--":
                self.command = list(rest)
            elif argument in {"-h", "--help"}:
                self.help = True
            elif argument == "--json":
                self.json = True
            elif argument == "--all":
                self.every = True
            elif name == "--config":
                self.config = value if equals else next(rest, None)
                if self.config is None:
                    raise _WrongUsage("--config needs a value")
            elif argument.startswith("-"):
                raise _WrongUsage(f"unknown option {argument}")
            else:
                self.words.append(argument)


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `hold` or `release`, the first of `arguments`; returns the exit code, unless a command takes our place."""
    streams.prepare()
    failure = CANNOT_HOLD if "--" in arguments else NO
    try:
        given = _Given(arguments[1:])
        if given.help:
            sys.stdout.write(USAGE)
            return FINE
        code = _hold(given, environ) if arguments[0] == "hold" else _release(given, environ)
        sys.stdout.flush()
    except _WrongUsage as error:
        sys.stderr.write(f"pyssh-gateway: {_visible(str(error))}\n\n{USAGE}")
        return CANNOT_HOLD if failure == CANNOT_HOLD else WRONG_USAGE
    except (Failed, source.ConfigError) as error:
        for reason in error.reasons if isinstance(error, Failed) else error.problems:
            _remark(reason)
        return failure
    except BrokenPipeError:
        streams.give_up()
        return NO
    return code


def _hold(given: _Given, environ: Mapping[str, str]) -> int:
    if given.every:
        raise _WrongUsage("--all goes with release")
    if given.command == [] or (given.command is None and not given.words):
        raise _WrongUsage("a command is missing" if given.command == [] else "for how long?")
    seconds = _seconds(given.words[0]) if given.words else None
    reason = " ".join(given.words[1:])
    if given.command and not reason:
        reason = shlex.join(given.command)
    request = {"request": "hold", "seconds": seconds, "reason": reason, "process": given.command is not None}
    reply, line = _ask(request, "held", given, environ)
    hold = reply["hold"]
    if reply.get("remark"):
        _remark(reply["remark"])
    if given.command:
        if sys.stderr.isatty():
            _remark(f"this machine stays up while {given.command[0]} runs, until {_at(hold['until'])} at most")
        _become(given.command)
    if given.json:
        sys.stdout.write(line)
    else:
        sys.stdout.write(f"hold {hold['hold']} keeps this machine up until {_at(hold['until'])}: {hold['reason']}\n")
    return FINE


def _release(given: _Given, environ: Mapping[str, str]) -> int:
    if given.command is not None or len(given.words) + given.every > 1:
        raise _WrongUsage("one hold, or --all")
    request = {"request": "release", "hold": "".join(given.words), "every": given.every}
    reply, line = _ask(request, "released", given, environ)
    if given.json:
        sys.stdout.write(line)
    elif not reply["holds"]:
        sys.stdout.write("there was no hold\n")
    else:
        for hold in reply["holds"]:
            sys.stdout.write(f"hold {hold['hold']} is released: {hold['reason']}\n")
    return FINE


def _ask(
    request: Mapping[str, object], kind: str, given: _Given, environ: Mapping[str, str]
) -> tuple[dict[str, Any], str]:
    """The server's reply, with its line, safe to print. Raises Failed."""
    try:
        question = json.dumps(request, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        raise Failed("what is asked is not UTF-8 text") from None
    answer = converse(
        reach(places(read_config(given.config, environ), given.config, environ)),
        question,
        seconds=ANSWER_SECONDS,
        limit=MAX_REPLY_BYTES,
    ).decode("utf-8", "replace")
    try:
        reply = json.loads(answer)
        told = reply["reply"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Failed("the server answered what this command does not understand") from None
    if told == "refused":
        raise Failed(_visible(str(reply.get("reason"))))
    if told != kind:
        raise Failed(f"the server answered {_visible(str(told))}, which is not what it was asked for")
    # A line of JSON is printed as it came; the server has made all text in it visible.
    return cast(dict[str, Any], with_texts(reply, _visible)), _visible(answer.rstrip("\n")) + "\n"


def _become(command: list[str]) -> NoReturn:
    """Let the command take our place. What Python ignores, exec(2) would have it ignore, too."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except (OSError, ValueError) as error:  # ValueError: an empty name
        _remark(f"{command[0]}: {getattr(error, 'strerror', None) or error}")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN)


def _seconds(text: str) -> float:
    from pyssh_gateway.config import values  # late: `hold -- make` needs it not

    try:
        return float(values.duration(values.SECOND, values.YEAR)(text))
    except values.UnfitError as unfit:
        raise _WrongUsage(f"expected {unfit}, got {values.shown(text)}") from None


def _at(when: float) -> str:
    """A time on the machine's clock: with the day if it is not within one."""
    form = "%H:%M:%S %Z" if when - time.time() < DAY_SECONDS / 2 else "%a %b %d %H:%M %Z"
    return time.strftime(form, time.localtime(when))


def _remark(text: str) -> None:
    sys.stderr.write(f"pyssh-gateway: {_visible(text)}\n")


def _visible(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
