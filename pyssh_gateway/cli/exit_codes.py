"""How a command ends: its exit codes, and the two ways of not going on."""

FINE = 0
NO = 1
"""The answer is no, or the request was refused, or there is nobody to ask."""

WRONG_USAGE = 2
"""The command line or the configuration can't be used."""


class Failed(Exception):
    """The command can't do what it was asked for; one line for each reason."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons
