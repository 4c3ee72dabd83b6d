"""Terminal modes in the encoding of RFC 4254 section 8."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyssh_gateway.postauth.channel import parse_modes


def encoded(*modes: tuple[int, int]) -> bytes:
    """Modes as a client sends them, without the final TTY_OP_END."""
    return b"".join(bytes([opcode]) + value.to_bytes(4, "big") for opcode, value in modes)


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        (b"", ()),
        (b"\0", ()),
        (encoded((1, 3), (53, 1)) + b"\0", ((1, 3), (53, 1))),
        (encoded((1, 3), (53, 1)), ((1, 3), (53, 1))),
        (encoded((53, 1)) + b"\0" + encoded((53, 0)), ((53, 1),)),
        (encoded((53, 1), (160, 5), (53, 0)), ((53, 1),)),
        (encoded((53, 1), (255, 5)), ((53, 1),)),
        (encoded((53, 1)) + b"\x35\0\0", ((53, 1),)),
        (b"\x35", ()),
        (encoded((159, 0xFFFFFFFF)), ((159, 0xFFFFFFFF),)),
        (encoded((53, 0), (53, 1)), ((53, 0), (53, 1))),
    ],
)
def test_modes_are_read_up_to_where_they_make_sense(text: bytes, modes: tuple[tuple[int, int], ...]) -> None:
    """Modes are read up to the end, an opcode without a defined argument, or a truncated mode."""
    assert parse_modes(text) == modes


@given(st.binary(max_size=200))
def test_nothing_breaks_it(text: bytes) -> None:
    """Any bytes decode to modes, each within its range."""
    for opcode, value in parse_modes(text):
        assert 0 < opcode < 160
        assert 0 <= value < 2**32


@given(st.lists(st.tuples(st.integers(1, 159), st.integers(0, 2**32 - 1)), max_size=40))
def test_what_was_sent_is_read(modes: list[tuple[int, int]]) -> None:
    """Any modes that a client may send are decoded, in their order."""
    assert parse_modes(encoded(*modes) + b"\0") == tuple(modes)
