"""Tests of the names of recordings."""

import pytest

from pyssh_gateway.core.recordings.names import file_name, is_of, parsed


@pytest.mark.parametrize(
    ("session", "part", "name"), [("c12.1", 1, "c12.1.cast.zst"), ("c12.1", 2, "c12.1.2.cast.zst")]
)
def test_names(session: str, part: int, name: str) -> None:
    """The name of a file says which part of which session it is."""
    assert file_name(session, part) == name
    assert parsed(name) == (session, part)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "c12.cast.zst",
        "c12.1.cast",
        "c12.1.2.3.cast.zst",
        "c12.1.x.cast.zst",
        "12.1.cast.zst",
        "x12.1.cast.zst",
        "c1.1.cast.zst\n",
    ],
)
def test_other_files(name: str) -> None:
    """Anything else is no recording."""
    assert parsed(name) is None


def test_a_session_is_one_of_its_connection() -> None:
    """By its whole name: the connection's, a point and a number in ASCII."""
    assert is_of("c5.1", "c5")
    assert not any(is_of(session, "c5") for session in ("c55.1", "c6.1", "c5", "c5.", "c5.1.2", "c5.x", "c5.²", ""))
