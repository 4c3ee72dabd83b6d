"""How a command ends: its exit codes, and the ways of not going on. `reference.commands` says the codes to people."""

FINE = 0
NO = 1
"""The answer is no, or what was asked could not be done."""

WRONG_USAGE = 2
"""The command line or the configuration can't be used."""

NOBODY = 3
"""No server runs that could be asked."""

INTERRUPTED = 130
"""Ctrl-C, as shells have it: 128 and the number of the signal."""


class Failed(Exception):
    """The command can't do what it was asked for; one line for each reason.

    `kind` is what programs are told (`--json`): a word that stays, whatever the reasons say. `code` is the exit code.
    """

    kind = "failed"
    code = NO

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons


class Refused(Failed):
    """The server has answered that it won't, or can't."""

    kind = "refused"


class WrongUsage(Failed):
    """The command line can't be understood; `hint` is what was meant, perhaps."""

    kind = "usage"
    code = WRONG_USAGE

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(f"{problem}; {hint}" if hint else problem)
