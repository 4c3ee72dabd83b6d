"""The commands that a recording's shell has marked; see `core.recordings.command_marks` for what that is worth."""

from collections.abc import Iterator
from pathlib import Path

from pyssh_gateway.audit.recordings.reading import events
from pyssh_gateway.core.recordings.command_marks import Command, CommandMarks


def commands(*files: Path) -> Iterator[Command]:
    """The commands in a recording, `files` being its parts, in the order of their ends. Raises NoRecording.

    Their text is as the user typed it, and not safe to print.
    """
    marks = CommandMarks()
    for event in events(files):
        yield from marks.feed(event)
    yield from marks.end()
