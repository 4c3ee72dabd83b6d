"""`audit replay`: plays the recording of a session, or writes it as a file that asciinema plays."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pyssh_gateway.audit.index.place import Index
from pyssh_gateway.audit.index.queries import accounts_of
from pyssh_gateway.audit.recordings.files import NoRecording, accounts, parts
from pyssh_gateway.audit.recordings.outline import outline
from pyssh_gateway.audit.recordings.reading import Recording
from pyssh_gateway.audit.recordings.screen_text import shown
from pyssh_gateway.audit.segments import NoLog
from pyssh_gateway.cli.audit.place import audit_dir, readable
from pyssh_gateway.cli.audit.player import SPEEDS, Player
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed, WrongUsage
from pyssh_gateway.cli.output import printing
from pyssh_gateway.cli.output.raw_terminal import raw_terminal
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.config import values
from pyssh_gateway.config.source import quoted
from pyssh_gateway.core.printable import printable
from pyssh_gateway.core.recordings.asciicast import Code, Encoder
from pyssh_gateway.core.recordings.names import SESSION
from pyssh_gateway.core.recordings.terminal_filter import TerminalFilter

MAX_HITS = 10_000

HIT_SECONDS = 1.0
"""Hits that follow one another sooner are one: they are on one screen, where the next one would change nothing."""

_CLOCK = re.compile(r"(?:([0-9]{1,4}):)?([0-9]{1,4}):([0-5][0-9])", re.ASCII)
"""As the player shows a time: m:ss, or h:mm:ss."""

MINUTES = 60
"""Of an hour."""

FORMATS = {"v2": 2, "v3": 3}


def replay(given: Given, context: Context) -> int:
    """Play it, or export it."""
    speed, idle_limit, at = _speed(given.speed), _seconds("--idle-limit", given.idle_limit), moment(given.at)
    if given.output and not given.format:
        raise WrongUsage("--output is for a file in a --format")
    with readable():
        found = lister(given, context)()
        if given.format:
            _export(found, FORMATS[given.format], given.output)
            return FINE
        hits = hits_in(found, given.search) if given.search else []
        if sys.stdout is None or not sys.stdout.isatty():
            with printing_bytes() as write:
                for text in _all_of(found):
                    write(text)
            return FINE
        at = hits[0] if hits else at
        with raw_terminal(sys.stdin.fileno() if sys.stdin else -1, sys.stdout.fileno()) as terminal:
            once = partial(Recording, found)
            Player(terminal, once, outline(found), speed=speed, idle_limit=idle_limit, hits=hits).run(at)
    return FINE


def lister(given: Given, context: Context) -> Callable[[], list[Path]]:
    """Lists the files of the recording: those of a session, or the one that was named by its path.

    Raises NoRecording, and so does what it returns.
    """
    account, slash, session = given.session.rpartition("/")
    if not SESSION.fullmatch(session) or "/" in account or account in {".", ".."}:
        if not slash and not given.session.endswith((".cast", ".zst")):
            raise WrongUsage(f"{quoted(given.session)} is no session, such as c12.1, and no file")
        return lambda: [Path(given.session)]
    directory = audit_dir(given, context)
    return partial(parts, directory, account or _account(directory, session, context), session)


def _account(directory: Path, session: str, context: Context) -> str:
    """The account that had the session, by the log. Raises NoRecording.

    An account can only choose the names of its own recordings, so another one may have a recording of that name, too.
    """
    recorded = accounts(directory, session)
    try:
        with Index(directory, context.environ, printing.remark) as index:
            logged = index.ask(lambda database: accounts_of(database, session))
    except NoLog:  # recordings without their log, or one that may not be read
        logged = set()
    found = sorted(recorded & logged if logged else recorded)
    if len(found) == 1:
        if not logged:
            printing.remark(f"the log does not know {session}: this is a recording of the account {printable(*found)}")
        return found[0]
    named = ", ".join(f"{printable(account)}/{session}" for account in found or sorted(recorded))
    if found:
        raise NoRecording(f"several accounts have a recording of session {session}; name one of {named}")
    theirs = ", ".join(map(printable, sorted(logged)))
    raise NoRecording(
        f"by the log session {session} is one of {theirs}, which has no recording of it; others have one: {named}"
    )


@contextmanager
def printing_bytes() -> Iterator[Callable[[str], None]]:
    """Writes text in UTF-8 to standard output, whatever its encoding is."""
    if sys.stdout is None:
        printing.write("")  # raises

    def write(text: str) -> None:
        try:
            sys.stdout.buffer.write(text.encode("utf-8", "replace"))
        except OSError as error:
            raise printing.OutputFailed(error) from None

    yield write


def _all_of(found: list[Path]) -> Iterator[str]:
    """All output at once, as on a terminal: only what draws."""
    to = TerminalFilter()
    shown_any = False
    with Recording(found) as recording:
        _ = recording.header  # raises if there is none
        while (events := recording.read()) is not None:
            text = "".join(to.feed(event.data) for event in events if event.code == Code.OUTPUT)
            shown_any = shown_any or bool(text)
            yield text
    if not shown_any:
        printing.remark("nothing was shown in it")


def _export(found: list[Path], version: int, output: str | None) -> None:
    with _opened(output) as file, Recording(found) as recording:
        try:
            encoder = Encoder(version)
            file.write(encoder.header(recording.header))
            while (events := recording.read()) is not None:
                file.write(b"".join(map(encoder.event, events)))
            file.flush()
        except NoRecording:
            raise
        except OSError as error:
            if output is None:
                raise printing.OutputFailed(error) from None
            raise Failed(f"{output}: {error.strerror}") from None


@contextmanager
def _opened(output: str | None) -> Iterator[BinaryIO]:
    if output is None or output == "-":
        if sys.stdout is None:
            printing.write("")  # raises
        yield sys.stdout.buffer
        return
    try:
        # What a screen has shown may be secret: for its owner alone, as long as nobody decides otherwise.
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Failed(f"{output}: {error.strerror}") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file


def hits_in(found: list[Path], wanted: str) -> list[float]:
    """When something with that text was shown first."""
    folded = wanted.casefold()
    try:
        times = {each.time for each in shown(*found) if folded in each.text.casefold()}
    except ImportError:
        raise Failed('--search needs a terminal emulator: pip install "pyssh-gateway[audit]"') from None
    if not times:
        raise Failed(f"it has never shown {quoted(wanted)}")
    hits: list[float] = []
    for time in sorted(times):
        if not hits or time - hits[-1] >= HIT_SECONDS:
            hits.append(time)
    return hits[:MAX_HITS]


def _speed(given: str) -> float:
    try:
        speed = float(given)
    except ValueError:
        speed = 0.0
    if not SPEEDS[0] <= speed <= SPEEDS[-1]:
        raise WrongUsage(f"--speed is a number from {SPEEDS[0]:g} to {SPEEDS[-1]:g}, not {values.shown(given)}")
    return speed


def moment(given: str) -> float:
    """The time that --at names, in seconds: a length, or as the player shows it. Raises WrongUsage."""
    if (match := _CLOCK.fullmatch(given)) is not None and (not match[1] or int(match[2]) < MINUTES):
        hours, minutes, seconds = (int(each or 0) for each in match.groups())
        return float((hours * MINUTES + minutes) * 60 + seconds)
    try:
        return _seconds("--at", given)
    except WrongUsage as error:
        raise WrongUsage(f"{error}; or 1:30 or 1:02:30, as the player counts") from None


def _seconds(option: str, given: str) -> float:
    try:
        return float(values.duration(0, values.YEAR)(given))
    except values.UnfitError as error:
        raise WrongUsage(f"{option} is {error}, not {values.shown(given)}") from None
