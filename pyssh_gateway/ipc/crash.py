"""How an earlier monitor has ended: the spawner has seen it, and the next monitor puts it into the log."""

import msgspec

UNUSABLE = 2
"""The exit code of a monitor that can't do its work for a reason that a new start does not mend."""


class Crash(msgspec.Struct, frozen=True):
    """How the monitor before this one ended, for the log. `sessions` are those that ended with it."""

    pid: int
    cause: str
    sessions: int
