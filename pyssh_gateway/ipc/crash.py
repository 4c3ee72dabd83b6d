"""How an earlier monitor ended: the spawner tells the next monitor, which puts it into the log."""

import msgspec

UNUSABLE = 2
"""The exit code of a monitor that can't work for a reason that a restart does not fix."""


class Crash(msgspec.Struct, frozen=True):
    """How the monitor before this one ended, for the log. `sessions` are those that ended with it."""

    pid: int
    cause: str
    sessions: int
