"""A warning before a stop, as commands and webhooks get it: its facts, their form, and their names in the log. Pure."""

import json
import re

import msgspec

WEB = ("https://", "http://")
"""An entry of `stop.warn` that begins so is a web address, and any other one a command."""

MAX_PEOPLE = 32
MAX_NAME = 256
"""The most people that a warning names, and how long a name may be: one line of the environment for each."""

_HOST = re.compile(r"(https?://)([^/?#@]*)(?:[/?#].*)?", re.DOTALL)


class StopWarning(msgspec.Struct, frozen=True):
    """The machine stops in `seconds` if nothing happens; `people` are on, but have not used their clients."""

    machine: str
    seconds: int
    people: tuple[str, ...]


KEEP_UP = "To keep it up, press a key in one of its terminals, or run there: pyssh-gateway hold 1h"
"""For a reader who may be anywhere, and does not know the program."""


def webhook_body(warning: StopWarning) -> bytes:
    """The JSON for webhooks. `text` is what Slack, Mattermost and Google Chat show."""
    seconds, machine = warning.seconds, warning.machine
    fields = {
        "event": "stop.warning",
        "machine": machine,
        "reason": "idle",
        "stops_in": seconds,
        "people": list(warning.people),
        "keep_up": KEEP_UP,
        "text": f"Nobody is using {machine}; it stops in {seconds} s. {KEEP_UP}",
    }
    return json.dumps(fields).encode()


def environment(seconds: int, people: tuple[str, ...]) -> dict[str, str]:
    """The variables that a command gets. `people` are a line each, in visible characters."""
    lines = ["".join(char if char.isprintable() else "?" for char in person[:MAX_NAME]) for person in people]
    return {
        "PYSSH_STOPS_IN": str(seconds),
        "PYSSH_STOP_REASON": "idle",
        "PYSSH_PEOPLE": "\n".join(lines[:MAX_PEOPLE]),
    }


def name_of(entry: str) -> str:
    """An entry of `stop.warn` in the log: scheme and host of a web address, whose path may be a secret, or a program.

    Of a command it is the first word: other words, and variables before it, may be secrets.
    """
    if entry.startswith(WEB):
        match = _HOST.fullmatch(entry)
        return match[1] + match[2] if match is not None else "a web address"
    return next((word for word in entry.split() if "=" not in word), "a command")
