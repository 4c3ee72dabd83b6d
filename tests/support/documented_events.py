"""The lines of docs/events.md, one of every event (test_human.py sees to it that they are true), and variants.

What reads lines is tested with them.
"""

import json
import re
from typing import Any

from tests.support.places import ROOT

VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("auth.attempt", {"result": "accepted"}),
    ("auth.attempt", {"result": "offered"}),
    ("connection.opened", {"peer": "2001:db8::7", "proxy": ""}),
    ("connection.opened", {"peer": "no address"}),
    ("connection.closed", {"user": "", "identity": None}),
    ("session.opened", {"kind": "subsystem", "command": "sftp", "tty": ""}),
    ("session.closed", {"exit_status": None, "exit_signal": "KILL"}),
    ("session.closed", {"exit_status": None}),
    ("session.closed", {"exit_status": 0}),
    ("sftp.operation", {"detail": "read", "outcome": "unfinished"}),
    ("sftp.operation", {"operation": "file.open_failed", "outcome": "ENOENT"}),
    ("sftp.operation", {"operation": "file.removed"}),
    ("sftp.operation", {"operation": "file.renamed", "target": "/home/amos/new"}),
    ("sftp.operation", {"operation": "directory.made", "path": "/"}),
    ("sftp.operation", {"operation": "directory.removed"}),
    ("sftp.operation", {"operation": "link.made", "target": "notes.txt", "detail": "symbolic"}),
    ("sftp.operation", {"operation": "attributes.set", "detail": "mode times"}),
    ("sftp.operation", {"operation": "events.lost", "path": "", "detail": "12"}),
    ("forward.opened", {"kind": "direct-streamlocal", "target": "/run/docker.sock"}),
    ("forward.opened", {"kind": "forwarded-tcpip", "target": "localhost:8080"}),
    ("forward.closed", {"target": "[2001:db8::1]:443"}),
    ("forward.closed", {"target": "host.example:99999"}),
    ("forward.closed", {"kind": "auth-agent", "target": ""}),
    ("forward.listening", {"kind": "forwarded-streamlocal", "target": "/tmp/here"}),
    ("keys.loaded", {"changed": False}),
    ("service.started", {"restarts": 0}),
    ("stop.step", {"result": "called_off"}),
)


def documented_events() -> dict[str, dict[str, Any]]:
    """One decoded line of each event, by its name."""
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in re.findall(r'^\{"ts":.*"seq":.*\}$', text, re.MULTILINE)]
    return {line["event"]: line for line in lines}


def corpus() -> dict[str, dict[str, Any]]:
    """The documented events, and the variants of them, each with a name for its test."""
    examples = documented_events()
    return examples | {f"{name}-{number}": examples[name] | more for number, (name, more) in enumerate(VARIANTS)}
