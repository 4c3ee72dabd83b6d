"""What a recording has, at a glance: how long it is, and the places to jump to."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from pyssh_gateway.audit.recordings.reading import events
from pyssh_gateway.core.recordings.asciicast import Code
from pyssh_gateway.core.recordings.command_marks import Command, CommandMarks


class Place(msgspec.Struct, frozen=True, order=True):
    """A marker, or a command that begins; `label` is not safe to print."""

    at: float
    label: str


class Outline(msgspec.Struct, frozen=True):
    """A recording as far as it goes now; `seconds` is the time of its last event."""

    seconds: float
    places: tuple[Place, ...]


def outline(files: Sequence[Path]) -> Outline:
    """Read the whole recording. Raises NoRecording."""
    marks, last = CommandMarks(), 0.0
    places: list[Place] = []
    commands: list[Command] = []
    for event in events(files):
        last = event.at
        commands += marks.feed(event)
        if event.code == Code.MARKER:
            places.append(Place(event.at, event.data))
    commands += marks.end()
    places += [Place(command.at, f"$ {command.text}") for command in commands]
    return Outline(last, tuple(sorted(places)))
