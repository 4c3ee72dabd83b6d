"""The values of SSH's messages, keys and signatures (RFC 4251 section 5). Pure."""


class MalformedError(ValueError):
    """The bytes are not what was to be read. The message completes a sentence: "it is cut off"."""


class Reader:
    """Takes values off the front of `data`. Raises MalformedError where the data ends too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self.position == len(self.data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self.position + size
        if end > len(self.data):
            raise MalformedError("it is cut off")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def number(self, size: int) -> int:
        """An unsigned number of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """A string."""
        return self.take(self.number(4))

    def mpint(self) -> int:
        """A number of any size, which may be negative and have unnecessary leading bytes."""
        return int.from_bytes(self.string(), "big", signed=True)

    def end(self) -> None:
        """Raise MalformedError unless nothing is left."""
        if not self.is_at_end:
            raise MalformedError("it has bytes too many")


def string(data: bytes) -> bytes:
    """A string."""
    return len(data).to_bytes(4, "big") + data


def mpint(number: int) -> bytes:
    """A number that is not negative, in the fewest bytes."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")
