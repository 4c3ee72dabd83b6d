"""core.access.wire: values of RFC 4251 are read as they were written, and never beyond their end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.core.access.wire import MalformedError, Reader, mpint, string


@given(st.binary(max_size=40), st.integers(0, 2**600), st.integers(0, 2**32 - 1), st.binary(max_size=5))
def test_what_was_written_is_read(text: bytes, number: int, fixed: int, after: bytes) -> None:
    """Values are read one after the other, with what remains."""
    reader = Reader(string(text) + mpint(number) + fixed.to_bytes(4, "big") + after)
    assert (reader.string(), reader.mpint(), reader.number(4)) == (text, number, fixed)
    assert reader.is_at_end == (not after)
    assert reader.take(len(after)) == after
    reader.end()


@given(st.binary(max_size=20))
def test_what_is_cut_off_is_malformed(data: bytes) -> None:
    """Protects the reader of keys and signatures: it reads nothing beyond the end, and raises nothing else."""
    with pytest.raises(MalformedError):
        Reader(string(data)[:-1]).string()
    with pytest.raises(MalformedError):
        Reader(data + b"\0").end()


@pytest.mark.parametrize(
    ("number", "encoded"),
    [
        (0, b"\0\0\0\0"),
        (0x9A378F9B2E332A7, b"\0\0\0\x08\x09\xa3\x78\xf9\xb2\xe3\x32\xa7"),
        (0x80, b"\0\0\0\x02\0\x80"),
    ],
)
def test_numbers_are_those_of_the_document(number: int, encoded: bytes) -> None:
    """These are the examples of RFC 4251 section 5."""
    assert mpint(number) == encoded
    assert Reader(encoded).mpint() == number


def test_negative_numbers_are_read() -> None:
    """Negative numbers are read as such, since a key with one must be refused for it."""
    assert Reader(b"\0\0\0\x02\xed\xcc").mpint() == -0x1234
