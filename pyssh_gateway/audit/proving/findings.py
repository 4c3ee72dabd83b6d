"""What a verification finds wrong."""

import msgspec

UNPROVED = frozenset({"gone", "no_checkpoint"})
"""The kinds that say that nothing proves the log, though nothing shows that it was changed."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong, in a sentence. `kind` is a stable word for programs (docs/audit.md).

    `files` are the files in which it is. The lines from `first` on and before `end` are affected, counted from 0 in the
    whole log; None if it is not about lines. `hints` are what is odd there.
    """

    kind: str
    text: str
    files: tuple[str, ...] = ()
    first: int | None = None
    end: int | None = None
    hints: tuple[str, ...] = ()
