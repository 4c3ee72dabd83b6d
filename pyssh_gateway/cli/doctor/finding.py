"""What was found, and what to do about it."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How much a finding matters: a problem keeps the server from starting, or somebody from logging in."""

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `hint` says what to do, and is there whenever something should be done."""

    topic: str
    level: Level
    text: str
    hint: str = ""


def ok(topic: str, text: str) -> Finding:
    """It is as it should be."""
    return Finding(topic, Level.OK, text)


def note(topic: str, text: str, hint: str = "") -> Finding:
    """It is good to know."""
    return Finding(topic, Level.NOTE, text, hint)


def unknown(topic: str, text: str, hint: str) -> Finding:
    """It could not be looked at."""
    return Finding(topic, Level.UNKNOWN, text, hint)


def warning(topic: str, text: str, hint: str) -> Finding:
    """It is wrong, or soon will be, and keeps nobody out now."""
    return Finding(topic, Level.WARNING, text, hint)


def problem(topic: str, text: str, hint: str) -> Finding:
    """It keeps the server from starting, or somebody from logging in."""
    return Finding(topic, Level.PROBLEM, text, hint)


def count(findings: Iterable[Finding], level: Level) -> int:
    """How many there are of a level."""
    return sum(finding.level is level for finding in findings)
