"""The findings of the checks, and what to do about them."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """The severity of a finding: a problem keeps the server from starting, or a user from logging in."""

    OK = "ok"
    NOTE = "note"
    UNKNOWN = "unknown"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(msgspec.Struct, frozen=True):
    """The result of one check. `hint` says what to do; it is empty if nothing has to be done."""

    topic: str
    level: Level
    text: str
    hint: str = ""


def ok(topic: str, text: str) -> Finding:
    """A finding that all is well."""
    return Finding(topic, Level.OK, text)


def note(topic: str, text: str, hint: str = "") -> Finding:
    """A finding that is useful to know."""
    return Finding(topic, Level.NOTE, text, hint)


def unknown(topic: str, text: str, hint: str) -> Finding:
    """A finding that the check was not possible."""
    return Finding(topic, Level.UNKNOWN, text, hint)


def warning(topic: str, text: str, hint: str) -> Finding:
    """A finding that something is wrong, or soon will be, but keeps nobody out now."""
    return Finding(topic, Level.WARNING, text, hint)


def problem(topic: str, text: str, hint: str) -> Finding:
    """A finding that keeps the server from starting, or a user from logging in."""
    return Finding(topic, Level.PROBLEM, text, hint)


def count(findings: Iterable[Finding], level: Level) -> int:
    """The number of findings of `level`."""
    return sum(finding.level is level for finding in findings)
