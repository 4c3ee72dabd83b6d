"""How sizes are written: what is accepted, what is refused, and how they are shown."""

import pytest

from pyssh_gateway.config import sizes
from pyssh_gateway.config.sizes import Size, format_size
from pyssh_gateway.config.values import UnfitError


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("64KiB", 65536),
        ("1GiB", 2**30),
        ("1G", 2**30),
        ("2M", 2**21),
        ("1TiB", 2**40),
        ("70000", 70000),
        (70000, 70000),
    ],
)
def test_sizes_are_read_as_people_write_them(written: object, size: int) -> None:
    """The documentation's notations, and sshd's, give the right number of bytes."""
    read = sizes.size(1, 2**40)(written)
    assert read == size
    assert isinstance(read, Size)


@pytest.mark.parametrize(
    "written", ["", "1 GiB", "1GB", "1g", "KiB", "1.5GiB", "-1", "1GiB\n", "9" * 5000, 0, 2**41, 1.0, True, None, []]
)
def test_what_is_no_size_is_refused(written: object) -> None:
    """Nothing is guessed: GB is not taken for GiB, and a size outside the limits is refused with the limits."""
    with pytest.raises(UnfitError, match=r"^a size from 1 to 1TiB, such as 512MiB$"):
        sizes.size(1, 2**40)(written)


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0"), (1000, "1000"), (1536, "1536"), (65536, "64KiB"), (2**30, "1GiB")]
)
def test_sizes_are_shown_as_they_are_written(size: int, shown: str) -> None:
    """Sizes are shown in a form that the file accepts."""
    assert format_size(size) == shown
