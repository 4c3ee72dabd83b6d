"""The files of checkpoints and of the public key, beside the log; and what lines with checkpoints look like."""

import re

EVENT = "log.checkpoint"
"""What a line with a checkpoint is called. It is no event: it has no number, and is not in the log itself."""

CHECKPOINTS_NAME = "checkpoints.jsonl"
"""The newest checkpoints, a JSON object a line."""

SEALED_CHECKPOINTS = re.compile(r"checkpoints-([0-9]{12,19})\.jsonl", re.ASCII)
"""Older ones, which were written beside the file of the log that begins at this line."""

KEY_NAME = "audit_key.vkey"
"""The public keys that verify checkpoints, a line each, the newest last."""


def sealed_checkpoints_name(first: int) -> str:
    """The name of the checkpoints beside the file of the log that begins at the line `first`."""
    return f"checkpoints-{first:012}.jsonl"


def for_people(note: str) -> str:
    """The checkpoint in `note`, signed once, as a line for people has it: nothing is left out."""
    origin, size, root, _, signature = note.removesuffix("\n").split("\n")
    return f"checkpoint {origin} {size} {root} {signature.rpartition(' ')[2]}"
