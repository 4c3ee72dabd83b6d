"""The listener, as the parts that open and close it for clients see it."""

from typing import Protocol


class Door(Protocol):
    """What a stop needs of the listener."""

    @property
    def unauthenticated(self) -> int:
        """How many connections there are on which nobody has authenticated yet."""

    def stop(self) -> None:
        """Let nobody in any more."""

    def resume(self) -> None:
        """Let clients in again."""
