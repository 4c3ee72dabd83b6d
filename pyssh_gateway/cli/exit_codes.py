"""How a command ends: its exit codes, and the errors that end it. `reference.program` explains the codes to people."""

FINE = 0
NO = 1
"""The answer is no, or the command failed."""

WRONG_USAGE = 2
"""The command line or the configuration can't be used."""

NOBODY = 3
"""There is no running server to ask."""

INTERRUPTED = 130
"""Ctrl-C, as in shells: 128 plus the number of the signal."""


class Failed(Exception):
    """The command failed; one line for each reason.

    `kind` is a stable word for programs (`--json`), whatever the reasons say. `code` is the exit code.
    """

    kind = "failed"
    code = NO

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


class Refused(Failed):
    """The server answered that it refuses, or can't."""

    kind = "refused"


class WrongUsage(Failed):
    """The command line can't be understood; `hint` suggests what was meant."""

    kind = "usage"
    code = WRONG_USAGE

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
