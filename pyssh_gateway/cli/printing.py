"""What commands write to standard output: lines for people, or a reply as JSON for programs."""

import sys
from collections.abc import Iterable

import msgspec

from pyssh_gateway.core import control
from pyssh_gateway.core.printable import printable


def flush() -> None:
    """Have what was printed arrive. Raises BrokenPipeError if nobody reads it."""
    sys.stdout.flush()


def lines(text: Iterable[str]) -> None:
    """Print lines; what is in them has been made safe where it came from, and is again where it was not."""
    for line in text:
        print(visible(line))


def json(report: msgspec.Struct) -> None:
    """Print a report on one line."""
    sys.stdout.write(control.encode_clean(report, visible).decode("utf-8"))


def remark(text: str) -> None:
    """Say something that is no part of the answer."""
    print(f"pyssh-gateway: {visible(text)}", file=sys.stderr)


def visible(text: str) -> str:
    """`text`, with whatever a terminal would act on escaped; what is safe already stays as it is."""
    return text if text.isprintable() else printable(text)
