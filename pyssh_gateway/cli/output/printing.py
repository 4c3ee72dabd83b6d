"""Writes the output of commands: lines for people or one line of JSON for programs, and remarks on standard error.

Few imports, because `hold` has to start fast. A failure to write is an `OutputFailed`, never an OSError, which could
come from anywhere.
"""

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from json import dumps

from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.output import streams
from pyssh_gateway.cli.reference.program import PROGRAM
from pyssh_gateway.core.plain_json import with_texts, with_times
from pyssh_gateway.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import msgspec

    from pyssh_gateway.cli.server_socket import Server

TIMES = frozenset({"since", "until", "time", "valid_after", "valid_before"})
"""The fields of answers that are points in time. All other fields in seconds are durations."""


class OutputFailed(Failed):
    """Writing to standard output failed. `is_gone`: its reader has closed it, as head(1) does."""

    kind = "output"

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {os.strerror(error.errno or errno.EIO)}")
        self.is_gone = error.errno == errno.EPIPE


def write(text: str) -> None:
    """Write `text` as it is. Raises OutputFailed, also for a standard output that was closed from the start."""
    if sys.stdout is None:
        raise OutputFailed(OSError(errno.EBADF, ""))
    try:
        sys.stdout.write(text)
    except OSError as error:
        raise OutputFailed(error) from None


def flush() -> None:
    """Flush standard output. Raises OutputFailed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise OutputFailed(error) from None


def lines(text: Iterable[str]) -> None:
    """Print lines. Their text was made safe at its source; whatever was not is escaped here."""
    for line in text:
        write(f"{visible(line)}\n")


def json(answer: "msgspec.Struct", server: "Server | None" = None) -> None:
    """Print an answer as JSON, and which server gave it."""
    import msgspec  # late: `hold` is fast because it does without

    json_object(msgspec.to_builtins(answer), server)


def json_object(answer: Mapping[str, object], server: "Server | None" = None) -> None:
    """Print an object on one line, with times as in the log, and which server gave it."""
    from pyssh_gateway.core.timestamps import timestamp  # late: only needed for programs

    plain = dict(answer)
    if server is not None:
        plain["server"] = {"socket": server.path, "pid": server.pid, "uid": server.uid}
    clean = with_times(with_texts(plain, visible), TIMES, timestamp)
    write(dumps(clean, ensure_ascii=False, separators=(",", ":")) + "\n")


def error_object(kind: str, problems: Sequence[str]) -> None:
    """Print what went wrong as JSON; `kind` is one of the words that docs/command-line.md lists."""
    json_object({"error": {"code": kind, "problems": list(problems)}})


def remark(text: str) -> None:
    """Write a line on standard error that is no part of the answer; a failure to write it is ignored."""
    aside([f"{PROGRAM}: {text}"])


def aside(text: Iterable[str]) -> None:
    """As `remark`, for several lines."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write("".join(f"{visible(line)}\n" for line in text))
        sys.stderr.flush()
    except OSError:
        streams.give_up(sys.stderr)


def visible(text: str) -> str:
    """`text` with control characters escaped; text that is safe already stays as it is."""
    return text if text.isprintable() else printable(text)
