"""What commands write to standard output: lines for people, or one line of JSON for programs. And remarks beside it.

Light: `hold` stands before other people's commands. What a stream can't take is `OutputFailed`, never an OSError, which
could come from anywhere.
"""

import errno
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from json import dumps

from pyssh_gateway.cli.exit_codes import Failed
from pyssh_gateway.cli.output import streams
from pyssh_gateway.cli.reference.commands import PROGRAM
from pyssh_gateway.core.plain_json import with_texts, with_times
from pyssh_gateway.core.printable import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import msgspec

    from pyssh_gateway.cli.server_socket import Server

TIMES = frozenset({"since", "until", "time", "valid_after", "valid_before"})
"""The fields of answers that are points in time. The others that are numbers of seconds are lengths."""


class OutputFailed(Failed):
    """Standard output does not take what is written to it. `is_gone`: whoever reads it has had enough, as head(1)."""

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
    """Have what was printed arrive. Raises OutputFailed."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise OutputFailed(error) from None


def lines(text: Iterable[str]) -> None:
    """Print lines; what is in them has been made safe where it came from, and is again where it was not."""
    for line in text:
        write(f"{visible(line)}\n")


def json(answer: "msgspec.Struct", server: "Server | None" = None) -> None:
    """Print an answer as JSON, and which server gave it."""
    import msgspec  # late: what makes `hold` quick is that it does without

    json_object(msgspec.to_builtins(answer), server)


def json_object(answer: Mapping[str, object], server: "Server | None" = None) -> None:
    """Print an object on one line, with times as in the log, and which server it is from."""
    from pyssh_gateway.core.timestamps import timestamp  # late: for programs only

    plain = dict(answer)
    if server is not None:
        plain["server"] = {"socket": server.path, "pid": server.pid, "uid": server.uid}
    clean = with_times(with_texts(plain, visible), TIMES, timestamp)
    write(dumps(clean, ensure_ascii=False, separators=(",", ":")) + "\n")


def error_object(kind: str, problems: Sequence[str]) -> None:
    """Print what went wrong as JSON; `kind` is one of the words that docs/command-line.md lists."""
    json_object({"error": {"code": kind, "problems": list(problems)}})


def remark(text: str) -> None:
    """Say something that is no part of the answer; if nobody can hear it, that is no error."""
    aside([f"{PROGRAM}: {text}"])


def aside(text: Iterable[str]) -> None:
    """The same, as lines."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write("".join(f"{visible(line)}\n" for line in text))
        sys.stderr.flush()
    except OSError:
        streams.give_up(sys.stderr)


def visible(text: str) -> str:
    """`text`, with whatever a terminal would act on escaped; what is safe already stays as it is."""
    return text if text.isprintable() else printable(text)
