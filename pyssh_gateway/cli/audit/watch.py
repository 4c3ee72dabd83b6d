"""`audit watch`: shows a session while it goes on. Nothing that is typed reaches it."""

import sys
import time
from collections.abc import Iterator

from pyssh_gateway.audit.recordings.ending import Ending
from pyssh_gateway.audit.recordings.reading import Recording
from pyssh_gateway.cli.audit.place import readable
from pyssh_gateway.cli.audit.replay import lister, printing_bytes
from pyssh_gateway.cli.audit.stage import Stage
from pyssh_gateway.cli.context import Context
from pyssh_gateway.cli.exit_codes import FINE, Failed
from pyssh_gateway.cli.output import printing, raw_terminal
from pyssh_gateway.cli.output.raw_terminal import RawTerminal
from pyssh_gateway.cli.reference.parsing import Given
from pyssh_gateway.core.printable import printable
from pyssh_gateway.core.recordings.asciicast import Code, Event
from pyssh_gateway.core.recordings.terminal_filter import TerminalFilter

POLL_SECONDS = 0.2
"""How often the file is looked at. What happens is in it after a second."""

BEGIN_SECONDS = 10.0
"""How long a new file may be empty: the recorder writes its beginning within a second, on a busy machine a few."""


def watch(given: Given, context: Context) -> int:
    """Show what is there, and then what comes, until the session ends."""
    with readable():
        list_files = lister(given, context)
        found = list_files()
        following = None if given.session.endswith((".cast", ".zst")) else list_files
        with Recording(found, following) as recording:
            late = time.monotonic() + BEGIN_SECONDS
            while not recording.has_begun():
                if time.monotonic() > late:
                    raise Failed(f"nothing has been written to {printable(str(found[0]))}: its recorder may have died")
                time.sleep(POLL_SECONDS)  # as below
            ending = Ending(found[0], recording.header.timestamp)
            if sys.stdout is not None and sys.stdout.isatty():
                keys = sys.stdin.fileno() if sys.stdin else -1
                with raw_terminal.raw_terminal(keys, sys.stdout.fileno()) as terminal:
                    ended = _show(recording, ending, terminal, given.session)
            else:
                ended = _print(recording, ending)
    if ended:
        printing.remark(f"by the log, the session's recording has ended: {printable(ended)}")
    return FINE


def _show(recording: Recording, ending: Ending, terminal: RawTerminal, session: str) -> str | None:
    """Returns why it has ended, if the log says so and not the recording."""
    stage = Stage(terminal, recording.header)
    try:
        stage.draw(_now(recording))
        while not recording.exited:
            line = (f"watching {printable(session)}", stage.too_small, "q quits")
            stage.say("  ".join(each for each in line if each), cover=False)
            if terminal.key(POLL_SECONDS) in {"Q", "\x03", "\x04", raw_terminal.QUIT}:
                return None
            if terminal.resized:
                terminal.resized = False
                stage.redraw()
            ended = ending.look()
            stage.show(_now(recording))
            if ended is not None and not recording.exited:
                return ended
    finally:
        stage.leave()
    return None


def _now(recording: Recording) -> Iterator[Event]:
    """What has been written since the last time."""
    while (events := recording.read()) is not None:
        yield from events


def _print(recording: Recording, ending: Ending) -> str | None:
    to = TerminalFilter()
    ended: str | None = None
    with printing_bytes() as write:
        while True:
            events = recording.read()
            if events:
                write("".join(to.feed(event.data) for event in events if event.code == Code.OUTPUT))
                sys.stdout.flush()
            elif events is None:
                if recording.exited:
                    return None
                if ended is not None:  # and everything was read after that
                    return ended
                if (ended := ending.look()) is None:
                    time.sleep(POLL_SECONDS)  # a file on any file system has no event for this
