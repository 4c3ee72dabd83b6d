"""The file of the times that the machine was awake for nobody (`core.idle.nobody`), which outlives its stops.

It is beside the reasons for the last stops. It only explains, so a damaged file is ignored.
"""

from pathlib import Path

import msgspec

from pyssh_gateway.core.idle.nobody import DAYS, MAX_NAME, MAX_SOURCES, Ledger
from pyssh_gateway.machine import state_file

FILE_NAME = "for-nobody.json"

_ENTRY_BYTES = 6 * MAX_NAME + 200
"""The largest entry: JSON writes a character in six bytes at most. The numbers and the names of fields are the rest."""

MAX_BYTES = DAYS * (MAX_SOURCES + 1) * _ENTRY_BYTES
"""More than any ledger takes. With addresses for names it is an eighth of it."""


def read(directory: Path) -> Ledger:
    """What was written last; empty if nothing was, or if the file is damaged. Raises OSError as `state_file` does."""
    try:
        return msgspec.json.decode(state_file.read(directory / FILE_NAME, MAX_BYTES), type=Ledger)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Ledger()


def write(directory: Path, ledger: Ledger) -> None:
    """Write it, durably. Raises OSError."""
    state_file.replace(directory / FILE_NAME, msgspec.json.encode(ledger))
