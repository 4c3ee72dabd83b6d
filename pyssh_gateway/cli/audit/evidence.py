"""The keys and checkpoints that `audit verify`, `prove`, `checkpoint` and `key` go by."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import msgspec

from pyssh_gateway.audit.proving.checkpoints import Judged, Place, given_notes, judge, local_notes, public_keys
from pyssh_gateway.audit.proving.names import KEY_NAME
from pyssh_gateway.audit.segments import NoLog, open_regular
from pyssh_gateway.cli.exit_codes import Failed, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.core.transparency.signed_note import NoteError, VerifierKey, parse_key


def keys(words: Sequence[str], directory: Path) -> list[VerifierKey]:
    """The keys that were named, or else those beside the log. Raises WrongUsage, NoLog, Failed."""
    found = []
    for word in words:
        try:
            found.append(parse_key(word.strip()))
        except NoteError as error:
            raise WrongUsage(f"{word!a} is no key of a log: {error}", "audit key shows it") from None
    return found or own_keys(directory)


def own_keys(directory: Path) -> list[VerifierKey]:
    """The keys beside the log, the newest last. Raises NoLog, Failed."""
    try:
        found = public_keys(directory)
    except NoteError as error:
        raise Failed(f"{directory / KEY_NAME} can't be used: {error}") from None
    if not found:
        raise Failed(f"there is no {KEY_NAME} in {directory}: no server has signed the log there")
    return found


def checkpoints(directory: Path, files: Sequence[str], found: Sequence[VerifierKey], *, sole: bool) -> Judged:
    """The checkpoints beside the log, and those in files; `sole` as for `judge`. Raises NoLog, WrongUsage."""
    return judge(chain(local_notes(directory), _given(files)), found, sole=sole)


def print_exactly(answer: msgspec.Struct) -> None:
    """Print an answer as JSON, with its texts as they are: escaping them would change what was signed.

    The characters that affect a terminal are escaped in the log's lines, and not allowed in notes.
    """
    printing.write(msgspec.json.encode(answer).decode() + "\n")


def _given(files: Iterable[str]) -> Iterator[tuple[Place, str]]:
    for name in files:
        at_all = False
        try:
            with open(0 if name == "-" else open_regular(Path(name)), "rb", closefd=name != "-") as file:
                for found in given_notes("standard input" if name == "-" else name, file):
                    at_all = True
                    yield found
        except NoLog as error:
            raise WrongUsage(f"{name} can't be read", str(error)) from None
        except OSError as error:
            raise WrongUsage(f"{name} can't be read: {error.strerror}") from None
        if not at_all:
            raise WrongUsage(f"{name} has no checkpoint")
